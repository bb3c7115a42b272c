"""Running a study: its cells, each named after everything its result depends on, on threads, processes or a cluster.

A cell is one design and one seed.  Whatever executor runs it, its result comes back to the process that asked, which files it
whole, so no file system is shared, a kill loses no more than the cells under way, and the same command goes on.
"""

import hashlib
import logging
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast
from uuid import uuid4

import cloudpickle
import jax
import numpy as np

import rafmodel
from rafmodel import backend, metrics, native
from rafmodel import cohort as cohorts
from rafmodel.cohort import Cohort
from rafmodel.console import forget_programs, set_up_jax
from rafmodel.design import Design
from rafmodel.errors import InputError, in_a_line
from rafmodel.files import atomically
from rafmodel.pretrain import PROGRAMS
from rafmodel.task import CLASSIFICATION, Task
from rafmodel.variability import Variability

AT_ONCE = 2  # threads: one cell compiles or waits while another computes; more would only add memory
TOGETHER = 4  # designs whose seeds follow one another, so that their programs can then be forgotten
TRIES = 3  # worker processes that a cell may lose before it counts as failed
WAIT = 10  # seconds in which a cluster's scheduler must answer
EXECUTORS = "threads[:N], local[:N] (processes) or dask:ADDRESS"
_DECIDE = (
    *("cohort", "on_disk", "transfer", "asked", "design", "proxies", "grids", "encoder", "backend", "native"),
    *("architectures", "alignment", "external", "collapse", "machine_code", "image_code", "jobs", "instructions"),
    *("image_jobs", "image_points", "image_products", "image_axes", "image_kernels", "image_marks", "image_powers"),
    *("image_tones", "chance_code"),
    *("labels", "probes", "patches", "masks", "tiles", "pretrain", "simulate"),
)
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "numba")
_SCALARS = ("threshold", "rank", "spread")
_SETTINGS = ("jax_enable_x64", "jax_numpy_rank_promotion", "jax_default_matmul_precision", "jax_threefry_partitionable")

Tell = Callable[[str, int, int], None]
Cell = tuple[int, int]  # place of the design in the plan, and seed
Submit = Callable[[int, int], Future]

log = logging.getLogger("rafmodel")


@dataclass(frozen=True)
class Plan:
    """A study before it is run.

    cohort, group  who is imaged, and the attribute that names the subgroups (None: no subgroups)
    designs        learning designs to compare
    shifts         variabilities met at deployment, each at its five levels
    seeds          repetitions of each simulation
    seed           root of all randomness
    task           what is asked of the images
    """

    cohort: Cohort
    group: str | None
    designs: tuple[Design, ...]
    shifts: tuple[Variability, ...]
    seeds: int = 2
    seed: int = 0
    task: Task = CLASSIFICATION

    def raf(self, outcome: np.ndarray) -> metrics.RAF:
        """RAF of the task's metric (..., shift, severity, group)."""
        return metrics.raf(outcome, self.task.chance)

    def key(self, *purpose: int) -> jax.Array:
        """Key for a purpose: (0,) prediction, (1, seed) simulation, (2,) bootstrap, (3,) short runs."""
        key = jax.random.key(self.seed)
        for number in purpose:
            key = jax.random.fold_in(key, number)
        return key

    def named(self, cell: Cell) -> str:
        """The cell in words."""
        return f"{self.designs[cell[0]].name}, seed {cell[1]}"


def simulated(plan: Plan, folder: Path, tell: Tell, executor: str = "threads") -> list[list]:
    """The task's records by design and seed; what ``folder`` already holds is read, the rest is run and kept there.

    A cell that raises, or that lost its worker TRIES times, is logged and comes back without scores and with its error; it is
    not kept, so the next run tries it again.  Raises InputError where there is no such executor, or it cannot be reached.
    """
    places = cells(plan, folder)
    run_on = engine(executor)
    found = {cell: read(plan, place) for cell, place in places.items() if place.exists()}
    forget_programs()  # of a forecast, which no cell needs
    tell("simulate", len(found), len(places))
    for tries in range(1, TRIES + 1):
        missing = [cell for cell in places if cell not in found]
        if not missing:
            break
        waiting: dict[Future, Cell] = {}

        def settle(future: Future, waiting=waiting, last=tries == TRIES) -> None:
            cell = waiting.pop(future)
            try:
                found[cell] = future.result()
            except Exception as problem:
                if isinstance(problem, BrokenProcessPool) and not last:
                    return
                found[cell] = _lost(plan, in_a_line(problem))
                log.error("%s failed: %s", plan.named(cell), found[cell].error)
            else:
                _keep(found[cell], places[cell])
            forget_programs(first=PROGRAMS)
            tell("simulate", len(found), len(places))

        try:
            with run_on(plan) as submit:
                waiting |= {submit(*cell): cell for cell in missing}
                for future in as_completed(list(waiting)):
                    settle(future)
        finally:  # after an interrupt: what was under way has ended by now, and is not to be lost
            for future in [f for f in waiting if f.done() and not f.cancelled() and not f.exception()]:
                settle(future)
    return [[found[i, seed] for seed in range(plan.seeds)] for i in range(len(plan.designs))]


def failed(plan: Plan, deployments: list[list]) -> list[str]:
    """The cells that raised, in words."""
    rows = enumerate(deployments)
    return [plan.named((i, seed)) for i, row in rows for seed, cell in enumerate(row) if cell.error]


# ---- cells


def cells(plan: Plan, folder: Path) -> dict[Cell, Path]:
    """Every cell and the file of its result; TOGETHER designs at a time seed by seed, as cells of a design share programs."""
    distinct = {design.pretrain_on or plan.cohort for design in plan.designs} | {plan.cohort}
    prints = {cohort: cohorts.fingerprint(cohort) for cohort in distinct}  # hashed by identity, so each is read once
    whence = [prints[design.pretrain_on or plan.cohort] for design in plan.designs]
    some = [range(len(plan.designs))[i : i + TOGETHER] for i in range(0, len(plan.designs), TOGETHER)]
    pairs = [(i, seed) for together in some for seed in range(plan.seeds) for i in together]
    names = {(i, seed): digest((prints[plan.cohort], whence[i]), plan, plan.designs[i], seed) for i, seed in pairs}
    return {cell: folder / f"{name}.npz" for cell, name in names.items()}


def digest(cohort: tuple[str, str], plan: Plan, design: Design, seed: int) -> str:
    """Content address of a cell: its cohorts, design, shifts, seed, and the source code that computes it.

    cohort  fingerprints of the study's, and of the one that the encoder is pre-trained on
    """
    values = {
        f.name: (getattr(design, f.name), f.default) for f in fields(design) if f.name not in ("proxy", "pretrain_on")
    }
    chosen = {name: value for name, (value, usual) in values.items() if value != usual}
    law = [(v.name, v.unit, strongest, *_outside(v)) for v, strongest in design.proxy.law]
    shifts = [(shift.name, shift.unit, shift.levels, *_outside(shift)) for shift in plan.shifts]
    asked = (plan.task.content,) if plan.task.content else ()
    text = repr((cohort, chosen, design.proxy.name, law, shifts, plan.seed, seed, *release(plan.task.modules), *asked))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _outside(variability: Variability) -> tuple[str, ...]:
    """What ``release`` does not know of a law."""
    return (variability.content,) if variability.content else ()


def commit() -> str:
    """Commit of the source tree that runs, or '' when it is an installed package."""
    here = Path(rafmodel.__file__).parent
    if not (here.parent / ".git").exists():
        return ""
    asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip()


@cache
def release(more: tuple[str, ...] = ()) -> tuple[str, str]:
    """Versions of libraries, whether there is machine code, digest of the modules that decide a result, a task's too."""
    here = Path(rafmodel.__file__).parent
    names = [here / f"{name}.py" for name in (*_DECIDE, *more)]
    names += sorted((here / "variability").glob("*.py"))
    versions = " ".join(map(version, _LIBRARIES))
    by = "machine code" if backend.on_cpu() and native.ready() else "XLA"
    return f"{versions}, {by}", hashlib.sha256(b"".join(path.read_bytes() for path in names)).hexdigest()


def read(plan: Plan, place: Path) -> Any:
    """A cell's result from its file."""
    with np.load(place) as stored:
        found = plan.task.record(**stored)
    return found._replace(**{name: v.item() for name in _SCALARS if not (v := getattr(found, name)).ndim})


def _keep(result: Any, place: Path) -> None:
    columns = {name: value for name, value in result._asdict().items() if name != "error"}
    atomically(place, lambda file: np.savez_compressed(file, **columns))


def _lost(plan: Plan, error: str) -> Any:
    """What stands for a cell that raised: no score is known."""
    return plan.task.lost(int((plan.cohort.split == "test").sum()), len(plan.shifts), error)


# ---- executors


def engine(text: str) -> Callable[[Plan], AbstractContextManager[Submit]]:
    """What runs cells: ``threads[:N]`` of this process, ``local[:N]`` processes of this machine, or ``dask:ADDRESS``.

    Raises InputError, with the remedy, for anything else.
    """
    kind, _, detail = text.partition(":")
    if kind == "dask" and detail:
        return partial(_cluster, address=detail)
    if kind in ("threads", "local") and (not detail or (detail.isdecimal() and int(detail) > 0)) and text[-1] != ":":
        usual = AT_ONCE if kind == "threads" else os.cpu_count() or 1
        return partial(_threads if kind == "threads" else _processes, n=int(detail or usual))
    raise InputError(f"--executor {text}: choose {EXECUTORS}, N at least 1")


def check(text: str) -> None:
    """Raises InputError, before anything is computed, where there is no such executor or it does not answer."""
    engine(text)
    if text.startswith("dask:"):
        _client(text.removeprefix("dask:")).close()


def cores(text: str) -> int:
    """Cores that an executor has: a cluster's workers' threads, or those of this machine."""
    if not text.startswith("dask:"):
        return os.cpu_count() or 1
    with _client(text.removeprefix("dask:")) as client:
        return sum(cast(dict[str, int], client.nthreads()).values())


@contextmanager
def _threads(plan: Plan, n: int) -> Iterator[Submit]:
    job = _job(plan)
    with ThreadPoolExecutor(n) as pool:
        try:
            yield lambda i, seed: pool.submit(_deployed, job, i, seed)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # what is under way ends and is kept
            raise


@contextmanager
def _processes(plan: Plan, n: int) -> Iterator[Submit]:
    parcel = _packed(plan)
    others = set(multiprocessing.active_children())
    started = multiprocessing.get_context("spawn")  # a fork would copy the threads that jax holds locks in
    with ProcessPoolExecutor(n, mp_context=started, initializer=_join, initargs=(parcel,)) as pool:
        try:
            yield lambda i, seed: _unheard(lambda: pool.submit(remote, parcel.token, i, seed))
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()
            raise


def _unheard(begin: Callable[[], Future]) -> Future:
    """``begin()``, the processes it starts deaf to interrupts: this one hears them and ends the others without a word."""
    if threading.current_thread() is not threading.main_thread():
        return begin()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return begin()
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _cluster(plan: Plan, address: str) -> Iterator[Submit]:
    from distributed import WorkerPlugin

    parcel = _packed(plan)

    class Delivery(WorkerPlugin):  # the only way to reach workers that join later, as those that replace a killed one
        def setup(self, worker) -> None:
            receive(parcel)

        def teardown(self, worker) -> None:
            _received.pop(parcel.token, None)

    with _client(address) as client:
        client.register_plugin(Delivery(), name=parcel.token)
        pool = client.get_executor(pure=False)
        log.info("%s: %d workers", address, len(cast(dict[str, int], client.nthreads())))
        try:
            yield lambda i, seed: pool.submit(remote, parcel.token, i, seed)
        except BaseException:
            pool.shutdown(wait=False)
            raise
        finally:
            client.unregister_worker_plugin(parcel.token)


def _client(address: str):
    """A connection to a cluster's scheduler.  Raises InputError where there is none, or the engine is not installed."""
    try:
        from distributed import Client
    except ImportError:
        raise InputError(f"--executor dask:{address}: needs distributed; install rafmodel[cluster]") from None
    try:
        return Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError) as problem:
        told = " ".join(str(problem).split()) or type(problem).__name__
        raise InputError(f"--executor dask:{address}: no scheduler answers ({told}); start one, or check it") from None


# ---- what workers do


class Parcel(NamedTuple):
    """A plan on its way to other processes, sent to each once: a cell is then two numbers, behind the token of this run.

    modules, release  those of the plan's task, and ``release`` of them where the plan was made
    """

    token: str
    modules: tuple[str, ...]
    release: tuple[str, str]
    settings: dict[str, object]
    content: bytes


class _Job(NamedTuple):
    plan: Plan
    test: Cohort


_received: dict[str, _Job] = {}  # of a worker process: what it was sent


def _packed(plan: Plan) -> Parcel:
    content = cloudpickle.dumps(plan)
    settings = {name: getattr(jax.config, name) for name in _SETTINGS}
    modules = plan.task.modules
    return Parcel(uuid4().hex, modules, release(modules), settings, content)


def receive(parcel: Parcel) -> None:
    """Unpack a plan in a worker process, and take over the numerical settings of the process that sent it.

    Raises InputError where the worker has another version, whose results would not be those that the cells are named after.
    """
    if release(parcel.modules) != tuple(parcel.release):
        told = (
            f"the workers have another version of rafmodel or of {', '.join(_LIBRARIES)}, or another RAFMODEL_NATIVE; "
            "install the same everywhere"
        )
        raise InputError(told)
    set_up_jax()
    for name, value in parcel.settings.items():
        jax.config.update(name, value)
    _received[parcel.token] = _job(cloudpickle.loads(parcel.content))


def _join(parcel: Parcel) -> None:
    """Become a worker process of this machine, one that ends with the process that started it, even where that was killed."""
    receive(parcel)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def remote(token: str, design: int, seed: int) -> Any:
    """One cell of a plan that was received."""
    return _deployed(_received[token], design, seed)


def _job(plan: Plan) -> _Job:
    return _Job(plan, cohorts.part(plan.cohort, "test"))


def _deployed(job: _Job, design: int, seed: int) -> Any:
    plan = job.plan
    return plan.task.deploy(plan.key(1, seed), plan.cohort, job.test, plan.designs[design], plan.shifts)
