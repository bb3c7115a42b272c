"""Folders of pictures, NIfTI volumes and DICOM series load with the values, axes and spacing that other libraries find."""

import gzip

import nibabel
import numpy as np
import pytest
import tifffile
from cohort_folders import SPLITS, eight, series, slice_file, table
from PIL import Image

from rafmodel import cohort
from rafmodel.errors import InputError
from rafmodel.sources.scan import as_slice

RNG = np.random.default_rng(0)


def bytes_(*shape) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


# ---- pictures


@pytest.mark.parametrize("kind", ["png", "tif", "tiff"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_lossless_pictures_keep_their_bytes(tmp_path, kind, shape):
    pixels = [bytes_(*shape) for _ in range(8)]
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i}.{kind}")
    found = cohort.load(eight(tmp_path, [f"{i}.{kind}" for i in range(8)], site=list("AABBAABB")))
    assert (found.image.dtype, found.image.shape) == (np.uint8, (8, 9, 7, shape[2] if len(shape) == 3 else 1))
    np.testing.assert_array_equal(found.image.reshape(8, *shape), pixels)
    assert found.label.tolist() == [0, 1] * 4
    assert found.split.tolist() == SPLITS
    assert found.patient[3] == "p3"
    assert sorted(found.attributes) == ["site"]
    assert (found.spacing, found.unreadable, found.name) == (None, (), tmp_path.name)


def test_jpeg_is_what_pillow_decodes_and_its_orientation_tag_is_applied(tmp_path):
    ramp = np.add.outer(20 * np.arange(9), 5 * np.arange(7)).astype(np.uint8)  # smooth, as JPEG wants it
    turned = Image.Exif()
    turned[274] = 6  # rows run from the right of the scene: to be turned by 90 degrees
    for i in range(8):
        Image.fromarray(ramp).save(tmp_path / f"{i}.jpg", exif=turned, quality=95)
    found = cohort.load(eight(tmp_path, [f"{i}.jpg" for i in range(8)]))
    assert found.image.shape == (8, 7, 9, 1)
    error = found.image[0, ..., 0].astype(int) - np.rot90(ramp, -1).astype(int)
    assert abs(error).max() <= 6  # JPEG at quality 95; a wrong turn is off by up to 150


@pytest.mark.parametrize(("high", "scale"), [(900, 1023), (4000, 4095), (16000, 16383), (40000, 65535)])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_divided_by_the_fewest_bits_that_hold_them(tmp_path, high, scale, kind):
    pixels = RNG.integers(0, high, (8, 5, 6)).astype(np.uint16)
    pixels[3, 2, 2] = high
    for i, picture in enumerate(pixels):
        if kind == "png":
            Image.fromarray(picture).save(tmp_path / f"{i}.png")
        else:
            tifffile.imwrite(tmp_path / f"{i}.tif", picture)
    path = eight(tmp_path, [f"{i}.{kind}" for i in range(8)])
    found = cohort.load(path)
    np.testing.assert_allclose(found.image[..., 0], pixels / scale, atol=1e-6)
    assert f"divided by {scale}" in found.notes[0]
    found = cohort.load(path, window=(100, 500))
    np.testing.assert_allclose(found.image[..., 0], np.clip((pixels - 100.0) / 400, 0, 1), atol=1e-6)


def test_pages_of_a_tiff_are_a_volume_and_palettes_are_colours(tmp_path):
    volumes = [bytes_(4, 6, 5) for _ in range(8)]
    for i, volume in enumerate(volumes):
        tifffile.imwrite(tmp_path / f"{i}.tif", volume, photometric="minisblack")
    found = cohort.load(eight(tmp_path, [f"{i}.tif" for i in range(8)]))
    np.testing.assert_array_equal(found.image[..., 0], volumes)
    colours = [bytes_(6, 5, 3) // 64 * 64 for _ in range(8)]
    for i, picture in enumerate(colours):
        Image.fromarray(picture).quantize(256).save(tmp_path / f"{i}.png")
    found = cohort.load(eight(tmp_path, [f"{i}.png" for i in range(8)]))
    np.testing.assert_array_equal(found.image, colours)


def test_masks_come_along_as_classes_and_images_without_label_load(tmp_path):
    masks = [(bytes_(6, 5) > 127) for _ in range(8)]
    for i, mask in enumerate(masks):
        Image.fromarray(bytes_(6, 5)).save(tmp_path / f"{i}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / f"m{i}.png")
    rows = {"file": [f"{i}.png" for i in range(8)], "mask": [f"m{i}.png" for i in range(8)], "split": SPLITS}
    found = cohort.load(table(tmp_path, rows))
    np.testing.assert_array_equal(found.mask, masks)
    assert (found.contrast, set(found.label.tolist()), found.has_classes) == ("none: masks only", {-1}, False)
    assert "masks       classes 0, 1" in cohort.describe(found)
    rows["mask"][2] = ""
    found = cohort.load(table(tmp_path, rows))
    assert len(found.label) == 7
    assert "2.png: its mask" in found.unreadable[0]
    del rows["mask"]
    with pytest.raises(InputError, match="no column 'labels'"):
        cohort.load(table(tmp_path, rows))


def test_unequal_sizes_are_refused_or_averaged_when_asked(tmp_path):
    sides = [(8, 12), (16, 8), (8, 8), (24, 8)] * 2
    pixels = [np.full(side, 10 * i, np.uint8) for i, side in enumerate(sides)]
    pixels[1][:8] = 200  # the upper half of sixteen rows
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    path = eight(tmp_path, [f"{i}.png" for i in range(8)])
    for size in (None, 9):
        with pytest.raises(InputError, match=r"unequal sizes.*--size 8 or less"):
            cohort.load(path, size=size)
    found = cohort.load(path, size=4)
    assert found.image.shape == (8, 4, 4, 1)
    np.testing.assert_allclose(found.image[1, ..., 0] * 255, np.repeat([200, 200, 10, 10], 4).reshape(4, 4), atol=1e-4)
    np.testing.assert_allclose(found.image[5] * 255, 50, atol=1e-4)
    assert any("proportions are not kept" in note for note in found.notes)


# ---- NIfTI

LAS = np.diag([-2.0, 2.5, 3.0, 1.0])
OBLIQUE = np.array([[0.1, -2.0, 0, 10], [0, 0.2, 3, -5], [1.5, 0, 0.1, 7], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("affine", [LAS, OBLIQUE, np.diag([2.0, 2, 2, 1])])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_axes_scale_and_spacing_are_those_of_nibabel(tmp_path, affine, suffix, kind):
    for i in range(8):
        volume = kind(RNG.normal(40, 300, (5, 6, 7)), affine, dtype=np.int16)  # nibabel stores slope and intercept
        volume.to_filename(tmp_path / f"{i}{suffix}")
    theirs = [nibabel.as_closest_canonical(nibabel.load(tmp_path / f"{i}{suffix}")) for i in range(8)]
    assert float(nibabel.load(tmp_path / f"0{suffix}").dataobj.slope) != 1
    found = cohort.load(eight(tmp_path, [f"{i}{suffix}" for i in range(8)]), window=(-200, 400))
    expected = np.clip((np.stack([t.get_fdata() for t in theirs]) + 200) / 600, 0, 1)
    np.testing.assert_allclose(found.image[..., 0], expected, atol=2e-6)  # float32
    np.testing.assert_allclose(found.spacing, [t.header.get_zooms() for t in theirs], rtol=1e-6)
    assert found.oriented
    assert "spacing" in cohort.describe(found)


def test_percentiles_are_those_of_the_training_images(tmp_path):
    volumes = RNG.normal(0, 100, (8, 8, 8, 8)).astype(np.float32)
    volumes[6:] *= 5  # test images have a wider range, and no say
    for i, volume in enumerate(volumes):
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / f"{i}.nii")
    found = cohort.load(eight(tmp_path, [f"{i}.nii" for i in range(8)]))
    low, high = np.percentile(volumes[:4], [0.5, 99.5])
    np.testing.assert_allclose(found.image[..., 0], np.clip((volumes - low) / (high - low), 0, 1), atol=1e-5)
    assert "99.5th percentile of the training images" in found.notes[0]


def test_volumes_and_masks_shrink_with_their_spacing(tmp_path):
    block = RNG.uniform(size=(8, 4, 3, 2)).astype(np.float32)
    for i, volume in enumerate(block):
        fine = np.kron(volume, np.ones((2, 3, 4), np.float32))
        nibabel.Nifti1Image(fine, np.diag([1.0, 2, 3, 1])).to_filename(tmp_path / f"{i}.nii.gz")
        nibabel.Nifti1Image((fine > 0.5).astype(np.uint8), np.diag([1.0, 2, 3, 1])).to_filename(
            tmp_path / f"m{i}.nii.gz"
        )
    files, masks = [f"{i}.nii.gz" for i in range(8)], [f"m{i}.nii.gz" for i in range(8)]
    found = cohort.load(eight(tmp_path, files, mask=masks), window=(0, 1), size=8)  # 8, 9, 8 to 8, 8, 8
    assert found.image.shape == (8, 8, 8, 8, 1)
    np.testing.assert_allclose(found.spacing[0], [1, 2 * 9 / 8, 3], rtol=1e-6)
    np.testing.assert_array_equal(found.mask[:, 0, 0, 0], block[:, 0, 0, 0] > 0.5)
    np.testing.assert_allclose(found.image[:, 0, 0, 0, 0], block[:, 0, 0, 0], atol=1e-6)


def test_a_mask_of_another_place_is_refused(tmp_path):
    for i in range(8):
        volume = RNG.normal(size=(4, 5, 6)).astype(np.float32)
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / f"{i}.nii")
        place = np.diag([1.0, 1, 1, 1])
        place[2, 3] = 30.0 if i == 5 else 0.0
        nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), place).to_filename(tmp_path / f"m{i}.nii")
    path = eight(tmp_path, [f"{i}.nii" for i in range(8)], mask=[f"m{i}.nii" for i in range(8)])
    found = cohort.load(path)
    assert found.unreadable == ("5.nii: its mask lies 30 mm off the image",)


def test_a_slice_is_seen_as_radiologists_look_at_it(tmp_path):
    """Axes to right, front and head: front ends up above, and the patient's right on the left of the picture."""
    volume = np.zeros((5, 6, 1))
    volume[4, 5] = 7  # right and front
    assert as_slice(volume, 2)[0, 0] == 7
    found = np.zeros((1, 5, 6, 3, 1))
    found[0, 4, 5, 1] = 7
    picture = cohort.middle(found, True)
    assert picture.shape == (1, 6, 5, 1)
    assert picture[0, 0, 0, 0] == 7
    for i in range(8):
        nibabel.Nifti1Image(volume + RNG.normal(size=volume.shape), np.diag([-1.0, 1, 1, 1])).to_filename(
            tmp_path / f"{i}.nii"
        )
    flipped = cohort.load(
        eight(tmp_path, [f"{i}.nii" for i in range(8)])
    )  # stored to the left, so its bright corner is left
    assert flipped.image.shape == (8, 6, 5, 1)
    assert np.argmax(flipped.image[0]) == 4


# ---- DICOM


def test_a_series_is_sorted_rescaled_and_turned(tmp_path):
    volumes = RNG.integers(-200, 3000, (8, 4, 5, 6)).astype(np.int16)  # slice, row, column
    for i, volume in enumerate(volumes):
        series(tmp_path / f"s{i}", volume, RescaleSlope=2, RescaleIntercept=-1000)
    (tmp_path / "s1" / "readme.txt").write_text("not a slice")
    found = cohort.load(eight(tmp_path, [f"s{i}" for i in range(8)]), window=(-1024, 3071))
    hounsfield = 2.0 * volumes - 1000
    # columns run to the patient's left and rows to the back, so both are turned round
    expected = np.transpose(np.clip((hounsfield + 1024) / 4095, 0, 1), (0, 3, 2, 1))[:, ::-1, ::-1]
    np.testing.assert_allclose(found.image[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(found.spacing, [[0.75, 0.5, 2.0]] * 8)
    assert found.oriented


def test_a_sagittal_series_lands_on_the_same_axes(tmp_path):
    """Rows run down and columns to the back: positions grow to the left."""
    volumes = RNG.integers(0, 3000, (8, 4, 5, 6)).astype(np.int16)
    for i, volume in enumerate(volumes):
        series(tmp_path / f"s{i}", volume)
        for k, file in enumerate(sorted((tmp_path / f"s{i}").iterdir(), key=lambda f: pydicom_z(f))):
            slice_file(
                file,
                volume[k],
                SeriesInstanceUID="1.2.3",
                ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
                ImagePositionPatient=[3.0 * k, 0, 0],
                PixelSpacing=[0.5, 0.75],
            )
    found = cohort.load(eight(tmp_path, [f"s{i}" for i in range(8)]), window=(0, 3000))
    expected = np.transpose(volumes / 3000, (0, 1, 3, 2))[:, ::-1, ::-1, ::-1]  # left, back, down -> right, front, head
    np.testing.assert_allclose(found.image[..., 0], np.clip(expected, 0, 1), atol=1e-6)
    np.testing.assert_allclose(found.spacing[0], [3, 0.75, 0.5])


def pydicom_z(file) -> float:
    import pydicom

    return float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2])


def test_of_several_frames_the_middle_or_the_stated_one_is_read(tmp_path):
    frames = RNG.integers(0, 256, (8, 5, 4, 3), dtype=np.uint8)  # image, frame, row, column
    for i, of_one in enumerate(frames):
        slice_file(tmp_path / f"{i}.dcm", of_one.reshape(20, 3), Rows=4, NumberOfFrames=5)
    files = [f"{i}.dcm" for i in range(8)]
    found = cohort.load(eight(tmp_path, files))
    np.testing.assert_array_equal(found.image[..., 0], frames[:, 2])
    assert "the middle one is read" in " ".join(found.notes)
    found = cohort.load(eight(tmp_path, files, frame=["1", "5", "6", "two", "2", "3", "4", ""]))
    kept = [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal(found.image[..., 0], frames[kept, [0, 4, 1, 2, 3, 2]])
    assert [line.split(": ")[1] for line in found.unreadable] == [
        "has 5 frames, not a frame 6",
        "has 5 frames, not a frame 0",
    ]


def test_a_coding_that_nothing_here_decodes_is_told_with_what_to_install(tmp_path):
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    if pydicom.pixels.get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("it is decoded here")
    for i in range(8):
        slice_file(tmp_path / f"{i}.dcm", np.full((4, 5), 9 * i, np.uint8))
    data = pydicom.dcmread(tmp_path / "3.dcm")
    data.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    data.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "3.dcm")
    found = cohort.load(eight(tmp_path, [f"{i}.dcm" for i in range(8)]))
    [line] = found.unreadable
    assert line.startswith("3.dcm: is coded as JPEG Lossless")
    assert "pip install" in line
    assert "pylibjpeg" in line


def test_single_images_of_both_polarities(tmp_path):
    pixels = RNG.integers(0, 4096, (8, 6, 5)).astype(np.uint16)
    for i, picture in enumerate(pixels):
        kind = "MONOCHROME1" if i % 2 else "MONOCHROME2"
        slice_file(
            tmp_path / f"{i}.dcm",
            picture,
            PhotometricInterpretation=kind,
            BitsStored=12,
            HighBit=11,
            PixelSpacing=[0.2, 0.3],
            WindowCenter=2048,
            WindowWidth=4096,
        )
    path = eight(tmp_path, [f"{i}.dcm" for i in range(8)])
    found = cohort.load(path, window="file")
    shown = np.clip((pixels - 2047.5) / 4095 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    shown[1::2] = 1 - shown[1::2]
    np.testing.assert_allclose(found.image[..., 0], shown, atol=2e-4)
    np.testing.assert_allclose(found.spacing, [[0.2, 0.3]] * 8)
    assert any("4 of 8 images store white as their lowest value" in note for note in found.notes)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda files: files[3].unlink(), "gap of 4 mm after slice"),
        (lambda files: files[3].write_bytes(files[3].read_bytes()[:-20]), "dcm"),
        (lambda files: files[3].write_bytes(b"nothing"), "is no DICOM file"),
        (
            lambda files: (files[3].parent / "again.dcm").write_bytes(files[3].read_bytes()),
            "two slices at one position",
        ),
        (lambda files: slice_file(files[3], np.zeros((5, 6), np.int16), SeriesInstanceUID="1.2"), "SeriesInstanceUID"),
    ],
)
def test_a_series_with_a_missing_broken_or_alien_slice_is_left_out(tmp_path, harm, words):
    for i in range(8):
        series(tmp_path / f"s{i}", RNG.integers(0, 3000, (6, 5, 6)).astype(np.int16))
    harm(sorted((tmp_path / "s2").iterdir(), key=pydicom_z))
    found = cohort.load(eight(tmp_path, [f"s{i}" for i in range(8)]))
    assert len(found.label) == 7
    [line] = found.unreadable
    assert line.startswith("s2: ")
    assert words in line or "pixel" in line.lower()
    assert cohort.left_out(found).startswith("1 of 8 images cannot be used and are left out: s2: ")


def test_gzip_that_fails_its_sum_is_left_out(tmp_path):
    for i in range(8):
        nibabel.Nifti1Image(RNG.normal(size=(4, 5, 6)), np.eye(4)).to_filename(tmp_path / f"{i}.nii")
        content = bytearray(gzip.compress((tmp_path / f"{i}.nii").read_bytes()))
        content[-6] ^= i == 4  # within the sum
        (tmp_path / f"{i}.nii.gz").write_bytes(content)
    found = cohort.load(eight(tmp_path, [f"{i}.nii.gz" for i in range(8)]))
    assert len(found.label) == 7
    assert "CRC" in found.unreadable[0]
