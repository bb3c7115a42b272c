"""What commands share with the terminal they run in."""

import ctypes
import gc
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

REUSED = 2**26  # glibc's own limit is half of it, which a batch of 512 images of 128 pixels reaches
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's settings (malloc.h)
TRIES = 100  # at dropping programs while other threads compile


def set_up_jax() -> None:
    """Double precision, compiled programs kept between runs, and the memory of arrays kept for the next.

    Theory and fit are linear algebra and want double precision; simulation asks for float32 by itself.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    keep_programs()
    reuse_memory()


def keep_programs() -> None:
    """Compiled programs are kept in the user's cache, where the next run, or the next cohort of images as large, finds them."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return  # the user's own choice, which jax reads itself
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    jax.config.update("jax_compilation_cache_dir", str(home / "rafmodel" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def reuse_memory() -> None:
    """Memory of arrays up to REUSED bytes is used again rather than given back, since new pages cost more than what fills them.

    Where the C library is glibc, unless the environment already says otherwise.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or not (libc := _libc("mallopt")):
        return
    libc.mallopt(_MMAP_THRESHOLD, REUSED)
    libc.mallopt(_TRIM_THRESHOLD, 4 * REUSED)


def _libc(function: str) -> ctypes.CDLL | None:
    """The C library where it has this function, which is glibc's own."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, function) else None


def forget_programs(most: int = 4_000, first: Iterable[Any] = ()) -> None:
    """Drop jax's compiled programs, so that memory does not grow with designs and shifts, and hand back what they took.

    most   memory maps from which on; they grow with every program, by some 300 and 30 to 110 MiB a design, and at the system's
           limit on them (65,530 by default on Linux) the process would end without a word
    first  compiled functions whose programs go first: all others only where that was not enough
    """
    if _maps() <= most:
        return
    import jax

    for one in first:
        one.clear_cache()
    gc.collect()  # programs are in cycles
    if _maps() > most:
        for _ in range(TRIES):
            try:
                jax.clear_caches()
                break
            except RuntimeError:  # it goes through a dictionary to which another thread has just added what it compiled
                time.sleep(0.01)
    if libc := _libc("malloc_trim"):
        libc.malloc_trim(0)


def _maps() -> int:
    """Memory maps of this process; 0 where the system does not tell."""
    maps = Path("/proc/self/maps")
    if not maps.exists():  # not Linux
        return 0
    with maps.open("rb") as lines:
        return sum(1 for _ in lines)


class timed:
    """Wall-clock seconds of a block, put into a dictionary."""

    def __init__(self, seconds: dict[str, float], name: str):
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *problem) -> None:
        self.seconds[self.name] = time.perf_counter() - self.start


def progress():
    """``tell(what, done, total)``: a bar with the time left on a terminal, otherwise a line per tenth."""
    start: dict[str, float] = {}

    def left(what: str, done: int, total: int) -> str:
        elapsed = time.perf_counter() - start.setdefault(what, time.perf_counter())
        return f"{elapsed / done * (total - done):.0f} s left" if done else ""

    def bar(what: str, done: int, total: int) -> None:
        filled = 30 * done // total
        end = "\n" if done == total else ""
        text = f"\r{what:9s} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}  {left(what, done, total):12s}"
        print(text, end=end, file=sys.stderr, flush=True)

    def log(what: str, done: int, total: int) -> None:
        if done * 10 // total != (done - 1) * 10 // total:
            print(f"{what} {done}/{total}  {left(what, done, total)}".rstrip(), file=sys.stderr, flush=True)

    return bar if sys.stderr.isatty() else log
