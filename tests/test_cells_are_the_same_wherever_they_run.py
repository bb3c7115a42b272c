"""Threads, processes and a cluster give one table; a cell that raises stops no other; a worker that dies loses nothing."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from test_theory_and_simulation_never_meet import reach

import rafmodel
from rafmodel import cli, external, metrics, running, variability
from rafmodel import study as studies
from rafmodel.console import forget_programs
from rafmodel.design import Design
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom
from rafmodel.proxies import contrastive, untrained

IMAGES = phantom(jax.random.key(0), n_patients=40, size=12)
LEARNED = Design("learned", contrastive(((variability.GAIN, 0.5),)), widths=(4, 8), steps=2, batch=8)


def design(name, features) -> Design:
    """A frozen design: ``features(images)`` computes nothing that must be compiled."""
    return Design(name, untrained(), steps=0, encoder=external.transferred(name, features, name))


def rows(images):
    return np.asarray(images).mean(2)[..., 0]


def columns(images):
    return np.asarray(images).mean(1)[..., 0]


def raises(images):
    raise ArithmeticError("no features\nfor these images")


def plan(*designs, seeds=2):
    return running.Plan(IMAGES, "site", designs, (variability.GAIN,), seeds)


def quiet(what, done, total):
    pass


def alike(one, two) -> bool:
    """Equal bit for bit in every cell and field."""
    cells = [(a, b) for first, second in zip(one, two, strict=True) for a, b in zip(first, second, strict=True)]
    return all(np.array_equal(x, y, equal_nan=True) for a, b in cells for x, y in zip(a[:-1], b[:-1], strict=True))


def test_the_seeds_of_a_design_follow_one_another(tmp_path):
    """So that its programs can be forgotten: memory does not grow with designs."""
    asked = plan(*(design(f"rows {i}", rows) for i in range(10)), seeds=3)
    order = list(running.cells(asked, tmp_path))
    assert sorted(order) == [(i, seed) for i in range(10) for seed in range(3)]
    places = [[order.index((i, seed)) for seed in range(3)] for i in range(10)]
    assert all(max(place) - min(place) < 3 * running.TOGETHER for place in places)


def test_processes_give_what_threads_give_and_a_cell_that_raises_stops_no_other(tmp_path, caplog):
    asked = plan(design("rows", rows), design("broken", raises), design("columns", columns), LEARNED)
    expected = running.simulated(asked, tmp_path / "threads", quiet)
    found = running.simulated(asked, tmp_path / "processes", quiet, "local:2")
    assert alike(expected, found)
    assert np.isfinite([expected[i][s].score for i in (0, 2, 3) for s in (0, 1)]).all()
    assert not np.array_equal(expected[3][0].score, expected[3][1].score)
    names = [{place.name for place in (tmp_path / kind).iterdir()} for kind in ("threads", "processes")]
    assert names[0] == names[1]
    assert len(names[0]) == 6  # the broken cells are not kept
    for row in (expected[1], found[1]):
        assert [cell.error for cell in row] == ["ArithmeticError: no features for these images"] * 2
        assert [cell.failed for cell in row] == ["error"] * 2
    assert running.failed(asked, found) == ["broken, seed 0", "broken, seed 1"]
    assert caplog.text.count("broken, seed 1 failed: ArithmeticError: no features for these images") == 2

    mended = plan(design("rows", raises), design("broken", rows), design("columns", raises))
    again = running.simulated(mended, tmp_path / "processes", quiet)  # the others are read, though they would raise now
    assert alike([again[0], again[2]], [expected[0], expected[2]])
    assert np.array_equal(again[1][0].score, expected[0][0].score)


@pytest.mark.exhaustive
def test_a_process_that_is_killed_is_replaced(tmp_path):
    flag = tmp_path / "killed"

    def once(images):
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return rows(images)

    found = running.simulated(plan(design("rows", once)), tmp_path / "cells", quiet, "local:1")
    assert flag.exists()
    assert alike(found, running.simulated(plan(design("rows", rows)), tmp_path / "threads", quiet))


def test_results_are_filed_in_any_order_and_an_interrupt_keeps_what_has_ended(tmp_path):
    begun = []

    def interrupts(images):
        begun.append(1)
        time.sleep(0.5)
        if len(begun) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return rows(images)

    asked = plan(design("rows", interrupts), seeds=3)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner of tests may have it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            running.simulated(asked, tmp_path, quiet, "threads:1")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list(tmp_path.iterdir())) == 1  # the cell under way; the two that had not begun are left
    again = running.simulated(asked, tmp_path, quiet, "threads:3")
    assert alike(again, running.simulated(plan(design("rows", rows), seeds=3), tmp_path / "fresh", quiet))


@pytest.mark.parametrize("text", ["slurm", "local:0", "local:-1", "threads:two", "dask", "dask:", "local:"])
def test_an_unknown_executor_is_refused(text):
    with pytest.raises(InputError, match=r"threads\[:N\], local\[:N\] \(processes\) or dask:ADDRESS"):
        running.engine(text)


def test_a_cluster_that_does_not_answer_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr(running, "WAIT", 0.3)
    with pytest.raises(InputError, match=r"dask:127.0.0.1:9: no scheduler answers"):
        running.check("dask:127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"install rafmodel\[cluster\]"):
        running.check("dask:127.0.0.1:9")


def test_a_worker_of_another_version_is_refused():
    parcel = running._packed(plan(design("rows", rows)))
    with pytest.raises(InputError, match="another version"):
        running.receive(parcel._replace(release=("0.0", parcel.release[1])))


def test_cells_are_named_after_what_convolves(monkeypatch):
    """Machine code and XLA round differently, so neither goes on from what the other kept, nor works for it."""
    asked = plan(design("rows", rows))
    here, parcel = running.digest(("", ""), asked, asked.designs[0], 0), running._packed(asked)
    try:
        running.release.cache_clear()
        monkeypatch.setattr(running.native, "ready", lambda: False)
        assert running.digest(("", ""), asked, asked.designs[0], 0) != here
        with pytest.raises(InputError, match="another RAFMODEL_NATIVE"):
            running.receive(parcel)
    finally:
        running.release.cache_clear()


@pytest.mark.parametrize(
    "module", ["segment", "contours", "masks", "dice", "cohort", "on_disk", "simulate", "findings"]
)
def test_a_worker_whose_source_would_decide_otherwise_is_refused(tmp_path, monkeypatch, module):
    asked = plan(design("rows", rows))
    pixels = replace(asked, task=replace(asked.task, modules=("contours", "dice", "segment")))
    parcels = {what: running._packed(one) for what, one in (("images", asked), ("pixels", pixels))}
    other = shutil.copytree(
        Path(rafmodel.__file__).parent, tmp_path / "rafmodel", ignore=shutil.ignore_patterns("__pycache__", "data")
    )
    with (other / f"{module}.py").open("a") as file:
        file.write("# another version\n")
    monkeypatch.setattr(rafmodel, "__file__", str(other / "__init__.py"))
    monkeypatch.setattr(running, "release", running.release.__wrapped__)
    refuses = {"findings": (), "segment": ("pixels",), "contours": ("pixels",), "dice": ("pixels",)}
    for what, parcel in parcels.items():
        if what in refuses.get(module, ("images", "pixels")):
            with pytest.raises(InputError, match="another version"):
                running.receive(parcel)
        else:
            running.receive(parcel)
            running._received.pop(parcel.token)


def test_results_are_filed_under_all_modules_that_decide_them():
    makers = {
        "airway_tree",
        "airways",
        "lung_ct",
        "phantoms",
        "sources",
        "thorax",
        "ultrasound",
    }  # the cohort is hashed
    words = {"choices", "errors", "files"}  # of the command line, of errors; how a file is written
    after = {"metrics"}  # reads what a cell came to
    assert reach("simulate") - makers - words - after - {"variability"} <= set(running._DECIDE)


@pytest.mark.exhaustive
def test_a_design_that_raises_in_theory_and_in_its_cells_ends_in_the_table_and_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "boom.py").write_text("def f(images):\n    raise MemoryError('out of\\nmemory')\n")
    monkeypatch.syspath_prepend(tmp_path)
    file, rng = tmp_path / "c.npz", np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = (rng.uniform(0, 160, (120, 8, 8)) + 60 * labels[:, None, None]).astype(np.uint8)
    split = np.repeat(["train", "val", "test"], 40)
    np.savez(file, images=images, labels=labels, split=split, patient=np.arange(120).astype(str))
    line = f"--cohort {file} --designs external:boom:f untrained --shifts gain --out {tmp_path}"
    said, simulated = [], running.simulated
    monkeypatch.setattr(running, "simulated", lambda *a: said.append(capsys.readouterr().out) or simulated(*a))
    with pytest.raises(SystemExit) as ended:
        cli.main(f"study {line}/study --seeds 1 --steps 1 --pilot".split())
    told, error = capsys.readouterr(), "MemoryError: out of memory"
    assert ended.value.code == 1
    assert "predicted AUC" in "".join(said)  # what is foreseen was on the screen before anything was trained
    lost = "1 of 2 cells failed: external:boom:f, seed 0; the same command tries them again"
    assert told.err.endswith(f"rafmodel: {lost}\n")
    assert f"forecast failed: external:boom:f: {error}" in told.out
    assert f"training failed: external:boom:f, seed 0: {error}" in told.out
    table = studies.load(tmp_path / "study" / "study.nc")
    assert table["failed"].values.tolist() == [[3], [0]]
    assert json.loads(table.attrs["errors"]) == {"external:boom:f, forecast": error, "external:boom:f, seed 0": error}
    for name in ("observed_auc", "predicted_auc", "pilot_auc", "raf_predicted"):
        assert np.isnan(table[name][0]).all()
    for name in ("observed_auc", "predicted_auc", "pilot_auc"):
        assert np.isfinite(table[name][1]).all()
    assert (tmp_path / "study" / "report.html").read_text().count("out of memory") == 2
    assert len(list((tmp_path / "study" / "cells").iterdir())) == 1  # so the next run tries it again
    with pytest.raises(SystemExit) as ended:
        cli.main(f"predict {line}/predict".split())
    assert ended.value.code == 1
    assert f"1 of 2 forecasts failed: external:boom:f: {error}" in capsys.readouterr().err
    foreseen = xr.load_dataset(tmp_path / "predict" / "prediction.nc", engine="h5netcdf")["predicted_auc"]
    np.testing.assert_array_equal(foreseen, table["predicted_auc"])


def test_designs_beside_one_that_raises_are_foreseen_as_without_it():
    """Also where forecasts are shrunk to what parts of the source agree on."""
    rng, failure = np.random.default_rng(0), ArithmeticError("no\nfeatures")
    some = [
        metrics.Outcome(
            *rng.uniform(0.6, 0.9, (3, 1, 6, 3)), *np.full((2, 3), 9), by_part=rng.uniform(0.6, 0.9, (3, 1, 6))
        )
        for _ in range(5)
    ]
    five, six = (plan(*(design(f"{i}", rows) for i in range(n))) for n in (5, 6))
    without = studies._together(five, some, True)
    assert not np.allclose(without.auc, [one.auc for one in some])  # they are shrunk
    found = studies._together(six, [*some[:2], failure, *some[2:]], True)
    np.testing.assert_array_equal(np.delete(found.auc, 2, 0), without.auc)
    assert np.isnan(found.auc[2]).all() and np.isnan(found.by_part[2]).all()
    assert found.errors == ("", "", "ArithmeticError: no features", "", "", "")
    alone = studies._together(plan(design("rows", rows)), [failure], True)
    assert np.isnan(alone.auc).all() and alone.auc.shape[:3] == (1, 1, 6)
    assert alone.n_case[0] == IMAGES.label[IMAGES.split == "test"].sum()


@pytest.mark.exhaustive
def test_a_cluster_gives_the_same_and_a_worker_killed_in_the_middle_loses_nothing(tmp_path):
    from distributed import LocalCluster

    def slow(images):
        (tmp_path / f"pid-{os.getpid()}").touch()
        time.sleep(0.3)
        return rows(images)

    asked = plan(design("rows", slow), design("broken", raises), design("columns", columns), LEARNED, seeds=4)
    killed = []

    def kill(what, done, total):
        if done == 4 and not killed:
            pid = next(int(p.name[4:]) for p in Path(tmp_path).glob("pid-*"))
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        address = f"dask:{cluster.scheduler_address}"
        assert running.cores(address) == 2
        found = running.simulated(asked, tmp_path / "cluster", kill, address)
        assert killed
        assert [cell.error for cell in found[1]] == ["ArithmeticError: no features for these images"] * 4
        one = running.simulated(plan(design("columns", columns)), tmp_path / "again", quiet, address)  # it still serves
    quick = plan(design("rows", rows), design("broken", raises), design("columns", columns), LEARNED, seeds=4)
    expected = running.simulated(quick, tmp_path / "threads", quiet)
    assert alike(found, expected)
    assert alike(one, [expected[2][:2]])
    assert {p.name for p in (tmp_path / "cluster").iterdir()} == {p.name for p in (tmp_path / "threads").iterdir()}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory maps are counted on Linux")
def test_programs_are_forgotten_before_there_are_too_many():
    twice = jax.jit(lambda x: 2 * x)
    assert float(twice(jnp.ones(()))) == 2 and twice._cache_size() == 1
    forget_programs(10**9)
    assert twice._cache_size() == 1
    forget_programs(10)
    assert twice._cache_size() == 0 and float(twice(jnp.ones(()))) == 2


@pytest.mark.parametrize(("left", "kept"), [(9, 1), (11, 0)], ids=["enough", "not enough"])
def test_programs_of_one_design_are_forgotten_first(monkeypatch, left, kept):
    """Those that serve every design only where that was not enough."""
    own, shared = (jax.jit(lambda x, by=by: by * x) for by in (2, 3))
    own(jnp.ones(())), shared(jnp.ones(()))
    counted = iter([11, left])
    monkeypatch.setattr("rafmodel.console._maps", lambda: next(counted))
    forget_programs(10, [own])
    assert (own._cache_size(), shared._cache_size()) == (0, kept)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="memory maps are counted on Linux")
@pytest.mark.parametrize("failures", [3, 1000])
def test_programs_are_forgotten_while_another_thread_compiles(monkeypatch, failures):
    """jax goes through a dictionary that grows meanwhile; where it never ends, the next call will do."""
    calls, clear = [], jax.clear_caches

    def clear_caches():
        calls.append(None)
        if len(calls) <= failures:
            raise RuntimeError("dictionary changed size during iteration")
        clear()

    monkeypatch.setattr(jax, "clear_caches", clear_caches)
    monkeypatch.setattr("rafmodel.console.time.sleep", lambda seconds: None)
    forget_programs(10)
    assert len(calls) == (4 if failures == 3 else 100)
