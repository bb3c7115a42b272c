"""Small files of every kind, written by the libraries that clinics use, and folders of them with a table."""

import csv
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SPLITS = ["train", "train", "train", "train", "val", "val", "test", "test"]


def table(folder: Path, rows: dict[str, list], name: str = "cohort.csv") -> Path:
    """A table in CSV beside the files it names."""
    with (folder / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows)
        writer.writerows(zip(*rows.values(), strict=True))
    return folder / name


def eight(folder: Path, files: list[str], **columns: list) -> Path:
    """A table of eight images, four to train, two each to validate and to test, of both classes by turns."""
    rows = {"file": files, "labels": [0, 1] * 4, "patient": [f"p{i}" for i in range(8)], "split": SPLITS}
    return table(folder, rows | columns)


def slice_file(path: Path, pixels: np.ndarray, **fields) -> None:
    """One DICOM file with some attributes set."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    bits = 8 * pixels.dtype.itemsize
    plain = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    for name, value in (plain | fields).items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


def series(folder: Path, volume: np.ndarray, spacing=(2.0, 0.5, 0.75), origin=(-10.0, -20.0, 30.0), **fields) -> None:
    """An axial series (slice, row, column), its files named in an order that is not that of the slices.

    spacing  mm between slices, rows and columns
    """
    folder.mkdir()
    uid = generate_uid()
    for i, pixels in enumerate(volume):
        place = {
            "SeriesInstanceUID": uid,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [origin[0], origin[1], origin[2] + i * spacing[0]],
            "PixelSpacing": [spacing[1], spacing[2]],
        }
        slice_file(folder / f"{(7 * i) % 31:02d}.dcm", pixels, **(place | fields))
