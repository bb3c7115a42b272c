"""Hostile image files: lies, bombs, cuts, infinite slopes and path tricks are refused within limits; good files stay usable."""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from cohort_folders import SPLITS, eight, slice_file, table
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from rafmodel import artefact, cohort
from rafmodel.errors import InputError
from rafmodel.sources import dicom, nifti, pictures

pytestmark = pytest.mark.exhaustive

LIMIT = 2**24
RNG = np.random.default_rng(0)
READERS = {"png": pictures, "jpg": pictures, "tif": pictures, "nii": nifti, "nii.gz": nifti, "dcm": dicom}


# ---- bytes changed at random


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """A small sound file of every kind."""
    folder = tmp_path_factory.mktemp("sound")
    grey = RNG.integers(0, 256, (12, 10), dtype=np.uint8)
    for kind in ("png", "jpg"):
        Image.fromarray(grey).save(folder / f"one.{kind}")
    tifffile.imwrite(folder / "one.tif", np.stack([grey, grey]).astype(np.uint16), photometric="minisblack")
    volume = nibabel.Nifti1Image(RNG.normal(size=(4, 5, 6)), np.diag([-1.0, 2, 3, 1]), dtype=np.int16)
    for kind in ("nii", "nii.gz"):
        volume.to_filename(folder / f"one.{kind}")
    slice_file(folder / "one.dcm", grey.astype(np.int16), RescaleSlope=2, RescaleIntercept=-5, PixelSpacing=[1, 1])
    np.savez_compressed(
        folder / "one.npz", images=np.stack([grey] * 8), labels=[0, 1] * 4, split=SPLITS, sex=list("FMFMFFMM")
    )
    named = cohort.load(folder / "one.npz")
    named = replace(named, attributes={**named.attributes, "origin": named.patient}, mask=named.image[..., 0] // 128)
    (folder / "one.benchmark").write_bytes(artefact.archive(named))
    return {kind: (folder / f"one.{kind}").read_bytes() for kind in (*READERS, "npz", "benchmark")}


def harmed(content: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    """Bytes replaced at some shares of the length, early ones more often, and the end cut off."""
    found = bytearray(content)
    for where, value in changes:
        found[int(where**2 * (len(found) - 1))] = value
    return bytes(found[: int(len(found) * cut)])


CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)
CUTS = st.one_of(st.just(1.0), st.floats(0, 1))
FUZZ = settings(
    max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("kind", READERS)
@FUZZ
@given(changes=CHANGES, cut=CUTS)
@example(changes=[], cut=0.0)
@example(changes=[], cut=0.5)
@example(changes=[(0.1, 255), (0.11, 255), (0.12, 127)], cut=1.0)
def test_no_change_of_bytes_raises_anything_but_the_one_line(sound, tmp_path_factory, kind, changes, cut):
    path = tmp_path_factory.getbasetemp() / f"harmed.{kind}"
    path.write_bytes(harmed(sound[kind], changes, cut))
    for read in (READERS[kind].head, READERS[kind].scan, *([READERS[kind].mask] if kind != "dcm" else [])):
        try:
            found = read(path, LIMIT)
        except InputError as problem:
            assert "\n" not in str(problem)
        else:
            if read is READERS[kind].scan:
                assert np.isfinite(found.values).all()
                assert 4 * found.values.size <= LIMIT


@FUZZ
@given(changes=CHANGES, cut=CUTS)
@example(changes=[], cut=0.9)
def test_no_change_of_an_npz_does_either(sound, tmp_path_factory, changes, cut):
    path = tmp_path_factory.getbasetemp() / "harmed.npz"
    path.write_bytes(harmed(sound["npz"], changes, cut))
    try:
        assert len(cohort.load(path, limit_bytes=LIMIT).label) <= 8
    except InputError as problem:
        assert "\n" not in str(problem)


@FUZZ
@given(changes=CHANGES, cut=CUTS)
@example(changes=[], cut=1.0)
@example(changes=[], cut=0.9)
def test_no_change_of_a_part_of_a_benchmark_does_either(sound, tmp_path_factory, changes, cut):
    path = tmp_path_factory.getbasetemp() / "harmed-public.npz"
    path.write_bytes(harmed(sound["benchmark"], changes, cut))
    try:
        found = artefact.read(path, LIMIT)
    except InputError as problem:
        assert "\n" not in str(problem)
        assert changes or cut < 1
    else:
        assert len(found.label) == len(found.image) == 8
        assert set(found.split) <= {"train", "val", "test"}


@FUZZ
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(alphabet='file,split\n"labtr\0é0./', max_size=200).map(str.encode)
    )
)
@example(content=b"file,split\na.png")
@example(content=b"")
@example(content=b'file,split,labels\n"a.png,train,0\n')
@example(content=b"\xff\xfe")
def test_no_table_does_either(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "harmed.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as problem:
        cohort.load(path)
    assert "\n" not in str(problem.value)


# ---- lies and bombs, in a process that may not have the memory


def png(width: int, height: int) -> bytes:
    """A grey picture of zeros, in a thousandth of its size."""
    packer = zlib.compressobj(9)
    lines = b"".join(packer.compress(bytes(1 + width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", lines), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def gzipped(start: bytes, zeros: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(start) + b"".join(packer.compress(bytes(2**20)) for _ in range(zeros // 2**20))
    return body + packer.flush()


def volume_header(*sides: int, **fields) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_shape(sides)
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4)


def bombs(folder: Path) -> list[str]:
    """Small files that declare, or unpack to, far more than they should; their names."""
    files = {"zeros.png": png(9000, 9000), "lie.png": png(8, 8)}
    head = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    files["lie.png"] = (
        files["lie.png"][:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + files["lie.png"][33:]
    )
    content = io.BytesIO()
    Image.new("L", (16, 16)).save(content, "JPEG")
    start = content.getvalue().index(b"\xff\xc0")
    files["lie.jpg"] = content.getvalue()[: start + 5] + b"\xff\xf0\xff\xf0" + content.getvalue()[start + 9 :]
    content = io.BytesIO()
    tifffile.imwrite(content, np.zeros((16, 16), np.uint8))
    width = (
        content.getvalue().index(struct.pack("<HHI", 256, 4, 1)) if b"\x00\x01\x04\x00" in content.getvalue() else -1
    )
    width = width if width > 0 else content.getvalue().index(struct.pack("<HHI", 256, 3, 1))
    files["lie.tif"] = (
        content.getvalue()[:width] + struct.pack("<HHII", 256, 4, 1, 2**30) + content.getvalue()[width + 12 :]
    )
    files["zeros.nii.gz"] = gzipped(volume_header(512, 512, 400), 512 * 512 * 800)
    files["offset.nii"] = volume_header(4, 4, 4, vox_offset=2.0**33) + bytes(128)
    files["many.nii.gz"] = gzipped(volume_header(4, 4, 4, 30000), 2**21)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    slice_file(folder / "frames.dcm", np.zeros((16, 16), np.uint16), NumberOfFrames=2_000_000)
    slice_file(folder / "rows.dcm", np.zeros((16, 16), np.uint16), Rows=65535, Columns=65535)
    slice_file(folder / "deflated.dcm", np.zeros((18000, 20000), np.uint8), DeflatedExplicitVRLittleEndian)
    assert (folder / "deflated.dcm").stat().st_size < 2**20
    return [*files, "frames.dcm", "rows.dcm", "deflated.dcm"]


CHILD = """
import json, resource, sys
from pathlib import Path
import nibabel, pydicom
from rafmodel import cohort
from rafmodel.errors import InputError
from PIL import Image, PngImagePlugin, JpegImagePlugin, TiffImagePlugin
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
said = {}
for path in sys.argv[1:]:
    try:
        said[Path(path).stem] = cohort.load(path, limit_bytes=2**26).unreadable
    except InputError as problem:
        said[Path(path).stem] = [str(problem)]
print(json.dumps(said))
"""


def test_bombs_are_refused_from_their_headers_under_a_memory_limit(tmp_path):
    """The process may take 300 MiB more; any of these would want at least 320."""
    names = bombs(tmp_path)
    for i in range(8):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
    n = len(names)
    files = [f"{i}.png" for i in range(8)] + names
    rows = {"file": files, "labels": [0, 1] * 4 + [0] * n, "split": SPLITS + ["train"] * n}
    np.savez_compressed(tmp_path / "zeros.npz", images=np.zeros((100, 1000, 1000), np.uint8))
    paths = [table(tmp_path, rows), tmp_path / "zeros.npz"]
    quiet = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)], capture_output=True, text=True, check=False, env=quiet
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [line.split(":")[0] for line in said["cohort"]] == names
    assert not any("MemoryError" in line for line in said["cohort"])
    assert "100.0" in said["zeros"][0] or "GiB of memory" in said["zeros"][0]
    reasons = dict(line.split(": ", 1) for line in said["cohort"])
    for name in ("zeros.png", "zeros.nii.gz", "frames.dcm", "rows.dcm"):
        assert "GiB, above" in reasons[name], reasons[name]
    assert "deflated" in reasons["deflated.dcm"]
    assert "byte 8.58993e+09" in reasons["offset.nii"]


def test_what_lies_behind_the_declared_data_is_never_unpacked(tmp_path):
    for i in range(8):
        body = volume_header(4, 4, 4, scl_slope=1) + np.arange(64, dtype=np.int16).tobytes()
        (tmp_path / f"{i}.nii.gz").write_bytes(gzipped(body, 2**26 if i == 3 else 0))
    found = cohort.load(eight(tmp_path, [f"{i}.nii.gz" for i in range(8)]), limit_bytes=2**22)
    np.testing.assert_array_equal(found.image[3], found.image[0])


# ---- numbers that are none


@pytest.mark.parametrize("field", ["scl_slope", "scl_inter"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinite_slopes_and_values_that_are_none(tmp_path, field, value):
    for i in range(8):
        fields = {"scl_slope": 1.0} | ({field: value} if i == 2 else {})
        (tmp_path / f"{i}.nii").write_bytes(volume_header(4, 4, 4, **fields) + np.arange(64, dtype=np.int16).tobytes())
    found = cohort.load(eight(tmp_path, [f"{i}.nii" for i in range(8)]))
    assert len(found.label) == 7
    assert found.unreadable[0].startswith("2.nii: declares slope")


def test_infinite_rescale_and_values(tmp_path):
    for i in range(8):
        slice_file(tmp_path / f"{i}.dcm", RNG.integers(0, 99, (4, 5)).astype(np.int16))
    slice_file(tmp_path / "1.dcm", np.ones((4, 5), np.int16), RescaleSlope="1e999", RescaleIntercept=0)
    slice_file(tmp_path / "2.dcm", np.ones((4, 5), np.int16), RescaleSlope=0, RescaleIntercept=0)
    slice_file(tmp_path / "4.dcm", np.ones((4, 5), np.int16), RescaleSlope=1e38, RescaleIntercept="3e38")
    found = cohort.load(eight(tmp_path, [f"{i}.dcm" for i in range(8)]))
    assert [line.split(":")[0] for line in found.unreadable] == ["1.dcm", "2.dcm", "4.dcm"]
    assert "infinite" in found.unreadable[2]
    assert np.isfinite(found.image).all()
    volume = np.ones((4, 4, 4), np.float32)
    for i in range(8):
        volume[0, 0, 0], volume[1, 1, 1] = np.nan if i == 3 else 0, 2
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / f"{i}.nii")
    found = cohort.load(eight(tmp_path, [f"{i}.nii" for i in range(8)]))
    assert found.unreadable == ("3.nii: 1 values are nan or infinite",)


# ---- paths


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    home, secret = tmp_path / "home", tmp_path / "secret.png"
    home.mkdir()
    Image.new("L", (8, 8), 77).save(secret)
    for i in range(8):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(home / f"{i}.png")
    (home / "link.png").symlink_to(secret)
    (home / "inner.png").symlink_to(home / "3.png")
    os.mkfifo(home / "pipe.png")
    bad = ["../secret.png", str(secret), "C:\\secret.png", "a/../../secret.png", "\\\\host\\secret.png", "link.png"]
    bad += ["pipe.png", "", "none.png", "x" * 5000 + ".png", "cohort.csv"]
    n = len(bad)
    rows = {"file": [*(f"{i}.png" for i in range(8)), "inner.png", *bad]}
    rows |= {"labels": [0, 1] * 4 + [0] * (n + 1), "split": SPLITS + ["train"] * (n + 1)}
    found = cohort.load(table(home, rows))
    assert len(found.label) == 9
    assert found.image[8, 0, 0, 0] == 3
    assert not (found.image == 77).any()
    assert len(found.unreadable) == n
    for line in found.unreadable[:5]:
        assert "outside the folder" in line
    assert "link out of the folder" in found.unreadable[5]
    assert "neither a file nor a folder" in found.unreadable[6]
    assert cohort.left_out(found).count(".png") <= 4
    assert cohort.describe(found).count("left out") == n


def test_members_of_an_npz_are_never_written(tmp_path):
    path = tmp_path / "in" / "cohort.npz"
    path.parent.mkdir()
    np.savez(path, images=RNG.integers(0, 255, (8, 6, 6), dtype=np.uint8), labels=[0, 1] * 4, split=SPLITS)
    with zipfile.ZipFile(path, "a") as archive:
        content = io.BytesIO()
        np.save(content, np.arange(8) % 2)
        for name in ("../../evil.npy", "/evil.npy", "..\\evil.npy"):
            archive.writestr(name, content.getvalue())
    before = sorted(tmp_path.rglob("*"))
    assert len(cohort.load(path).label) == 8
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/evil.npy").exists()


def test_a_folder_without_one_usable_image(tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"none of 8 images can be used, first 0\.png"):
        cohort.load(eight(tmp_path, [f"{i}.png" for i in range(8)]))


def test_compressed_volumes_cut_short(tmp_path):
    for i in range(8):
        body = gzip.compress(volume_header(16, 16, 16, scl_slope=1) + RNG.bytes(2 * 16**3))
        (tmp_path / f"{i}.nii.gz").write_bytes(body[: len(body) // 2] if i == 1 else body)
    found = cohort.load(eight(tmp_path, [f"{i}.nii.gz" for i in range(8)]))
    assert len(found.unreadable) == 1
