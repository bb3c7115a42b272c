"""Public cohorts by name, fetched once into a cache folder: official checksums, resumed where a connection was cut.

The catalogue is MedMNIST v2 (Yang et al. 2023), 12 sets in 2D and 6 in 3D; ``medmnist.json`` states where its facts are from.
"""

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cache as once
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from rafmodel.errors import InputError
from rafmodel.sources.stored import needs

Tell = Callable[[str, int, int], None]
_CHUNK = 2**20
_TRIES = 5  # without a single new byte
_SECONDS = 30.0  # that a server may stay silent


class Entry(NamedTuple):
    """One file of the catalogue."""

    name: str
    size: int
    sizes: tuple[int, ...]
    url: str
    md5: str
    licence: str
    source: str
    images: int
    dims: int
    task: str
    classes: tuple[str, ...]

    @property
    def stem(self) -> str:
        """Name of the file, which is the cohort's: with its size unless 28."""
        return self.name if self.size == 28 else f"{self.name}_{self.size}"


def cache() -> Path:
    """Folder of fetched cohorts."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "rafmodel", "cohorts")


@once
def _facts() -> dict:
    return json.loads((Path(__file__).parent / "medmnist.json").read_text())


def names() -> list[str]:
    """Sets of the catalogue."""
    return list(_facts()["sets"])


def entry(name: str, size: int = 28) -> Entry:
    """A set at a size; InputError, with the choices, where there is none.  RAFMODEL_MIRROR replaces the official address."""
    facts = _facts()["sets"].get(name)
    if facts is None:
        raise InputError(f"no public cohort is called '{name}'; choose from {', '.join(names())}")
    sizes = tuple(map(int, facts["md5"]))
    if size not in sizes:
        raise InputError(f"{name}: there are no images of {size}; choose --size from {', '.join(map(str, sizes))}")
    base = os.environ.get("RAFMODEL_MIRROR") or _facts()["base"]
    if not base.startswith(("http://", "https://")):
        raise InputError(f"RAFMODEL_MIRROR {base}: no address of the web; start it with https://")
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    return Entry(
        name=name,
        size=size,
        sizes=sizes,
        url=f"{base.rstrip('/')}/{file}?download=1",
        md5=facts["md5"][str(size)],
        licence=facts["licence"],
        source=_facts()["source"],
        images=sum(facts["images"].values()),
        dims=facts["dims"],
        task=facts["task"],
        classes=tuple(facts["classes"]),
    )


def notes_of(path: Path) -> dict[str, str]:
    """Source and licence of a fetched file, whose checksum was right; nothing for any other."""
    name, _, size = path.stem.partition("_")
    if path.parent != cache() or name not in names() or not (size or "28").isdigit():
        return {}
    found = entry(name, int(size or 28))
    return {"source": found.source, "licence": found.licence}


def classes_of(path: Path) -> dict[str, str]:
    """Names of the two classes of a file that is called after a set of the catalogue, by label; none for any other file."""
    name, _, size = path.stem.partition("_")
    if name not in names() or not (size or "28").isdigit() or _facts()["sets"][name]["task"] != "binary-class":
        return {}
    return {str(label): words for label, words in enumerate(_facts()["sets"][name]["classes"])}


def fetched(wanted: Entry) -> bool:
    """Whether the cache has the file, with the official checksum."""
    pooch = _pooch()
    file = cache() / f"{wanted.stem}.npz"
    return file.is_file() and pooch.file_hash(str(file), alg="md5") == wanted.md5


def fetch(wanted: Entry, tell: Tell | None = None) -> Path:
    """The file of an entry, from the cache or else fetched into it; ``tell(what, done, total)`` reports mebibytes.

    A download that was cut goes on where it stopped.  Raises InputError where there is no network, no space, or the file is
    not the official one.
    """
    pooch = _pooch()
    folder = cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = pooch.retrieve(
            wanted.url,
            known_hash=f"md5:{wanted.md5}",
            fname=f"{wanted.stem}.npz",
            path=folder,
            downloader=partial(  # pyright: ignore
                _resumed, folder / f".{wanted.stem}.{wanted.md5[:8]}.part", tell
            ),
        )
    except InputError:
        raise
    except ValueError as problem:
        if "hash" not in str(problem):
            raise
        raise InputError(
            f"{wanted.url}: its MD5 is not the official {wanted.md5}; nothing was kept, try again"
        ) from None
    except OSError as problem:
        raise InputError(f"{folder}: cannot be written ({problem.strerror or problem}); set XDG_CACHE_HOME") from None
    return Path(found)


def _pooch():
    try:
        import pooch
    except ImportError:
        raise needs("pooch") from None
    pooch.get_logger().setLevel("WARNING")
    return pooch


def _resumed(part: Path, tell: Tell | None, url: str, output: Any, _: Any) -> None:
    """Download to ``part``, which a later try goes on with, and move it to ``output`` when it is whole."""
    silent = 0
    while silent < _TRIES:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _append(url, part, tell):
                os.replace(part, output)
                return
            problem = "the connection was cut"
        except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise InputError(f"{url}: the server says {error.code} {error.reason}; try again later") from None
        silent = 0 if part.exists() and part.stat().st_size > before else silent + 1
    have = part.stat().st_size if part.exists() else 0
    hint = f"{have} bytes are kept, the same command goes on from there"
    raise InputError(f"{url}: cannot be fetched ({problem}); check the network, {hint}, or use a copy in RAFMODEL_DATA")


def _append(url: str, part: Path, tell: Tell | None) -> bool:
    """One connection: bytes that ``part`` lacks are appended to it; whether it is whole now."""
    have = part.stat().st_size if part.exists() else 0
    asked = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(asked, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        whole = error.headers.get("Content-Range", "").rpartition("/")[2] == str(have)
        if not whole:
            part.unlink()
        return whole
    with answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        if total is not None and total - have > shutil.disk_usage(part.parent).free:
            raise InputError(
                f"{part.parent}: {(total - have) / 2**30:.3g} GiB do not fit on the disk; set XDG_CACHE_HOME"
            )
        with part.open("ab" if goes_on else "wb") as file:
            while piece := answer.read(_CHUNK):
                file.write(piece)
                have += len(piece)
                if tell and total:
                    tell("fetch", have // _CHUNK + 1, total // _CHUNK + 1)
    return total is None or have == total
