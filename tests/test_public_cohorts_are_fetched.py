"""Public cohorts come with their checksum, go on after a cut, and say in one line what is wrong; the server is local."""

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from rafmodel import cohort, cohort_commands
from rafmodel.errors import InputError
from rafmodel.sources import catalogue


def small_set(flags: bool = False) -> bytes:
    """A set in the layout of the published files."""
    rng, content, parts = np.random.default_rng(0), io.BytesIO(), {}
    for split, n in (("train", 40), ("val", 10), ("test", 20)):
        parts[f"{split}_images"] = rng.integers(0, 255, (n, 28, 28), dtype=np.uint8)
        marks = np.arange(n)[:, None] // np.array([1, 2, 4]) % 2
        parts[f"{split}_labels"] = marks if flags else np.arange(n)[:, None] % 2
    np.savez(content, **parts)
    return content.getvalue()


@contextmanager
def server(content: bytes, *, cut: list[int] = [], ranges: bool = True, code: int = 200) -> Iterator[SimpleNamespace]:  # noqa: B006
    """A file server; ``cut`` are the bytes after which its first connections break."""
    asked, cuts = [], list(cut)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            if code != 200:
                return self.send_error(code)
            found = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") if ranges else None
            start = int(found[1]) if found else 0
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if found else 200)
            if found:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + cuts.pop(0)] if cuts else content[start:])

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(asked=asked, address=f"http://127.0.0.1:{running.server_port}/records/")
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@pytest.fixture
def fetching(tmp_path, monkeypatch):
    """``fetching(server, content)``: the entry of a catalogue whose file is this content, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RAFMODEL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def entry(address: str, content: bytes, name: str = "breastmnist", size: int = 28) -> catalogue.Entry:
        monkeypatch.setenv("RAFMODEL_MIRROR", address)
        facts = catalogue._facts()["sets"][name]["md5"]
        monkeypatch.setitem(facts, str(size), hashlib.md5(content).hexdigest())
        return catalogue.entry(name, size)

    return entry


def test_a_fetched_cohort_is_found_by_name_with_source_and_licence(fetching):
    content = small_set()
    with server(content) as files:
        wanted = fetching(files.address, content, size=64)
        path = catalogue.fetch(wanted)
        assert path.read_bytes() == content
        assert files.asked == [("/records/breastmnist_64.npz?download=1", None)]
        assert catalogue.fetch(wanted) == path
        assert len(files.asked) == 1  # the second time from the cache
    found = cohort.load("breastmnist_64")
    assert (len(found.label), found.licence) == (70, "CC BY 4.0")
    assert "Yang et al. 2023" in found.source
    assert [*path.parent.glob(".*")] == []  # no part is left


def test_a_cut_connection_goes_on_where_it_stopped(fetching):
    content = small_set()
    with server(content, cut=[1000, 5000]) as files:
        assert catalogue.fetch(fetching(files.address, content)).read_bytes() == content
        assert [start for _, start in files.asked] == [None, "bytes=1000-", "bytes=6000-"]


def test_an_interrupted_download_goes_on_with_the_next_command(fetching):
    content = small_set()
    with server(content, cut=[3000, *[0] * 5]) as files, pytest.raises(InputError) as problem:
        catalogue.fetch(fetching(files.address, content))
    assert "3000 bytes are kept" in str(problem.value)
    with server(content) as files:
        told = []
        catalogue.fetch(fetching(files.address, content), lambda *step: told.append(step))
        assert files.asked[0][1] == "bytes=3000-"
        assert told[-1][1] == told[-1][2]
    assert len(cohort.load("breastmnist").label) == 70


def test_a_server_without_ranges_starts_again(fetching):
    content = small_set()
    with server(content, cut=[1000], ranges=False) as files:
        assert catalogue.fetch(fetching(files.address, content)).read_bytes() == content


def test_another_checksum_is_refused_and_nothing_kept(fetching):
    content = small_set()
    with server(content[:-1] + b"\1") as files:
        wanted = fetching(files.address, content)
        with pytest.raises(InputError, match="MD5 is not the official"):
            catalogue.fetch(wanted)
    assert not [*catalogue.cache().iterdir()]
    assert not catalogue.fetched(wanted)


def test_no_network_no_file_no_name(fetching, monkeypatch):
    wanted = fetching("http://127.0.0.1:9", b"")
    with pytest.raises(InputError, match=r"cannot be fetched \(.*check the network.*RAFMODEL_DATA"):
        catalogue.fetch(wanted)
    with server(b"", code=404) as files, pytest.raises(InputError, match="the server says 404"):
        catalogue.fetch(fetching(files.address, b""))
    with pytest.raises(InputError, match=r"'catsmnist'; choose from pathmnist"):
        catalogue.entry("catsmnist")
    with pytest.raises(InputError, match=r"images of 128; choose --size from 28, 64"):
        catalogue.entry("organmnist3d", 128)
    monkeypatch.setenv("RAFMODEL_MIRROR", "file:///etc")
    with pytest.raises(InputError, match="no address of the web"):
        catalogue.entry("breastmnist")


def test_licence_is_printed_and_must_be_accepted(fetching, capsys, monkeypatch):
    content = small_set()
    with server(content) as files:
        fetching(files.address, content, name="dermamnist")
        with pytest.raises(InputError, match=r"CC BY-NC 4.0 was not accepted; add --accept-licence"):
            cohort_commands.fetch(cohort_commands.Fetch("dermamnist"))
        assert "licence: CC BY-NC 4.0" in capsys.readouterr().out
        assert files.asked == []
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("builtins.input", lambda _: "n")
        with pytest.raises(InputError, match="not accepted"):
            cohort_commands.fetch(cohort_commands.Fetch("dermamnist"))
        monkeypatch.setattr("builtins.input", lambda _: "y")
        cohort_commands.fetch(cohort_commands.Fetch("dermamnist"))
        assert len(files.asked) == 1
    cohort_commands.list_names()
    listed = capsys.readouterr().out
    assert re.search(r"dermamnist +0\.1 MiB, fetched", listed)
    assert re.search(r"organmnist3d +3D, 1742 images, 28/64, multi-class, CC BY 4.0", listed)


def test_several_classes_of_one_image_are_a_list(fetching):
    content = small_set(flags=True)
    with server(content) as files:
        catalogue.fetch(fetching(files.address, content, name="chestmnist"))
    with pytest.raises(InputError, match="--positive: 0, 1, 2, none"):
        cohort.load("chestmnist")
    found = cohort.load("chestmnist", positive=["2"])
    assert found.label[:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    found = cohort.load("chestmnist", positive=["0"], negative=["none"])
    assert "left out" in found.contrast
    assert found.label[:5].tolist() == [0, 1, 1, 1, 1]  # of 0 to 7 the even ones but 0 have other classes only


def test_the_catalogue_has_the_published_sets(cohort_folder):
    """Twelve in 2D at four sizes and six in 3D at two; the checksums are those of the files at hand."""
    entries = [catalogue.entry(name) for name in catalogue.names()]
    assert [sum(one.dims == d for one in entries) for d in (2, 3)] == [12, 6]
    assert {one.sizes for one in entries if one.dims == 2} == {(28, 64, 128, 224)}
    assert {one.sizes for one in entries if one.dims == 3} == {(28, 64)}
    sums = {
        one.md5 for name in catalogue.names() for one in [catalogue.entry(name, s) for s in catalogue.entry(name).sizes]
    }
    assert len(sums) == 12 * 4 + 6 * 2
    for name, size in (("breastmnist", 28), ("adrenalmnist3d", 28), ("adrenalmnist3d", 64)):
        one = catalogue.entry(name, size)
        content = (cohort_folder / name / f"{one.stem}.npz").read_bytes()
        assert hashlib.md5(content).hexdigest() == one.md5
        assert len(cohort.load(cohort_folder / name / f"{one.stem}.npz", size=4).label) == one.images
