"""How do a few designs fare, and how well were they foreseen, on every kind of task and on real cohorts of each?

    python simulations/13_every_task_on_real_cohorts.py

Small studies by the command line, in 2D and 3D: pixels of hearts, vessels, nuclei and hippocampi, findings by age and view,
three classes of breast lesions, adrenal shapes in volumes.  Cohorts are read from the folder that RAFMODEL_DATA names.  Beside
the designs that are trained here stands a network that was trained elsewhere, on pictures of text, where the package that ships
it is installed: `pip install --no-deps rapidocr-onnxruntime`, and `rafmodel[onnx]`.  Ends in a table, a line a study, and a
figure; resumes where it stopped.
"""

import importlib
import importlib.util
import shlex
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import tyro
import xarray as xr

from rafmodel import cli, metrics
from rafmodel import study as studies
from rafmodel.canvas import grid, save, style
from rafmodel.files import atomically

beside = importlib.import_module("12_raf_of_proxy_tasks")  # its name begins with a digit
DESIGNS = ("untrained", "contrastive+noise", "rotation", "masked")
FINDINGS = "--cohort nih_cxr1000 --task multi-label --label findings --classes Effusion Infiltration Atelectasis"
RUNS = {
    "hearts, left ventricle, by pathology": "--cohort sunnybrook_cmr --task segmentation --group pathology",
    "hearts, left ventricle, by sex": "--cohort sunnybrook_cmr --task segmentation --group sex",
    "retinas, vessels, by camera": "--cohort retina_vessels --task segmentation --group domain --size 64",
    "nuclei, by modality": "--cohort nuclei_dsb2018 --task segmentation --group domain",
    "hippocampi, volumes": "--cohort msd_hippocampus3d --task segmentation --size 20",
    "chest, three findings, by age": f"{FINDINGS} --group age",
    "chest, three findings, by view": f"{FINDINGS} --group view",
    "breast, three classes": "--cohort busi_ultrasound --task multi-class",
    "adrenal glands, mass, volumes": "--cohort adrenalmnist3d --size 20",
}
SHIPS, PRETRAINED = "rapidocr_onnxruntime", "pretrained on text"
QUICK = ("nuclei, by modality", "breast, three classes")


@dataclass(frozen=True)
class Options:
    """How much to run."""

    seeds: int = 2
    """repetitions of each simulation"""
    steps: int = 150
    """optimiser steps"""
    shifts: tuple[str, ...] = ("noise", "gain", "rotation", "blur")
    """variabilities at deployment"""
    out: Path = Path("runs/every_task")
    """folder of the studies, EVERY_TASK.md and every_task.png"""
    quick: bool = False
    """two studies of one shift, one seed of five steps, images of 16 pixels: shows that the script runs"""


def pretrained(folder: Path) -> str | None:
    """The design of a network that RapidOCR ships; None where it is not installed, which is said.

    It is a MobileNetV3 (Apache 2.0) that tells text from text upside down.  Its features are those that its last pooling takes
    the mean of, so they lie on the image.  A copy in the folder is used, so that the design has one name wherever the package
    lies.
    """
    if missing := [name for name in (SHIPS, "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        print(f"no pretrained network: {', '.join(missing)} not installed (see the top of this script)", flush=True)
        return None
    import onnx

    spec = importlib.util.find_spec(SHIPS)  # its code is not run
    assert spec
    assert spec.submodule_search_locations
    [package] = spec.submodule_search_locations
    file = studies.writable(folder) / "text_direction.onnx"
    shutil.copyfile(Path(package) / "models" / "ch_ppocr_mobile_v2.0_cls_infer.onnx", file)
    pooled = [node.input[0] for node in onnx.load(file).graph.node if node.op_type == "GlobalAveragePool"]
    return f"external:{file}#{pooled[-1]}"


def studied(name: str, options: Options, outside: str | None) -> xr.Dataset:
    """The study of that name, with the design from outside if there is one; what has been run is not run again."""
    folder = options.out / "".join(letter if letter.isalnum() else "_" for letter in name)
    asked = shlex.split(RUNS[name]) + (["--size", "16"] if options.quick else [])
    chosen = [design for design in DESIGNS if not options.quick or design != "masked"] + ([outside] if outside else [])
    asked += ["--designs", *chosen, "--shifts", *(options.shifts[:1] if options.quick else options.shifts)]
    asked += ["--seeds", str(options.seeds), "--steps", str(options.steps), "--out", str(folder)]
    command = ["study", *asked]
    done = folder / "study.nc"
    if not done.exists() or studies.load(done).attrs["command"] != "rafmodel " + shlex.join(command):
        cli.main(command)
    return studies.load(done)


def named(table: xr.Dataset) -> xr.Dataset:
    """The table with the design from outside under a name that fits a column."""
    short = [PRETRAINED if str(name).startswith("external:") else str(name) for name in table["design"].values]
    return table.assign_coords(design=short)


def line(name: str, table: xr.Dataset) -> str:
    """The study in the report: who is in it, each design's clean and shifted outcome, and how far off forecasts were."""
    metric = table.attrs["metric"]
    observed = table[f"observed_{metric}"].sel(group="all").mean("seed")
    foreseen = table[f"predicted_{metric}"].sel(group="all")
    cells = slice(1, None)
    others = (observed.sum("design") - observed) / (observed.sizes["design"] - 1)
    mae = [float(abs(told - observed).sel(severity=cells).mean()) for told in (foreseen, others)]
    ends = [[float(x.mean()) for x in (one[..., 0], one[..., 1:])] for one in observed.transpose("design", ...).values]
    outcomes = [f"{clean:.2f} / {shifted:.2f}" for clean, shifted in ends]
    clean = f"{float(foreseen.sel(severity=0).mean()):.2f} ({float(observed.sel(severity=0).mean()):.2f})"
    groups = ", ".join(
        f"{g} {int(n)}/{int(m)}"
        for g, n, m in zip(table["group"].values, table["n_case"].values, table["n_control"].values, strict=True)
    )
    cells_of = " | ".join([metrics.NAMES[metric], groups, *outcomes, clean, f"{mae[0]:.3f}", f"{mae[1]:.3f}"])
    return f"| {name} | {cells_of} |"


def draw(tables: dict[str, xr.Dataset], path: Path) -> None:
    """Robustness of each design with its interval, a panel a study; open: foreseen."""
    with style():
        figure, axes = grid(len(tables), 3, width=9.6, height=1.45, sharex=True)
        for one, (name, table) in zip(axes, tables.items(), strict=False):
            beside.by_design(one, table, "robustness")
            one.set(title=name, xlim=(0, 1.05))
        for one in axes[-3:]:
            one.set_xlabel("robustness")
        beside.key(figure)
        save(figure, path)


def asked(options: Options) -> str:
    """The command, without the folder that it writes to."""
    changed = [f for f in fields(options) if f.name != "out" and getattr(options, f.name) != f.default]
    told = [f"--{f.name}" if f.name == "quick" else f"--{f.name} {getattr(options, f.name)}" for f in changed]
    return " ".join(["python simulations/13_every_task_on_real_cohorts.py", *told])


def main(options: Options) -> None:
    """Study, tabulate, draw."""
    command = asked(options)
    if options.quick:
        options = Options(seeds=1, steps=5, out=options.out, quick=True)
    tables, outside = {}, pretrained(options.out)
    for name in QUICK if options.quick else RUNS:
        tables[name] = named(studied(name, options, outside))
        print(line(name, tables[name]), flush=True)
    first = next(iter(tables.values()))
    designs = " | ".join(map(str, first["design"].values))
    head = f"| study | metric | test images with / without | {designs} | clean, foreseen (observed) | MAE of theory | MAE of B1 |"
    shifts = ", ".join(map(str, first["shift"].values))
    about = (
        f"Made by `{command}`: {options.steps} steps, {options.seeds} seeds, five levels of {shifts}; 32 pixels a side unless "
        "the command below says more.  For each design the outcome on clean images / its mean over shifted cells.  B1 is the "
        "mean of the other designs' outcomes."
    )
    if outside:
        about += f"  {PRETRAINED}: frozen features of a network that tells text from text upside down (RapidOCR)."
    text = [
        "# Every task, on real cohorts\n",
        about,
        "\n![Robustness by design](every_task.png)\n",
        head,
        beside.ruled(head),
    ]
    text += [line(name, table) for name, table in tables.items()]
    runs = [f"- {name}: `rafmodel study {RUNS[name]}`" for name in tables]
    text += ["\nEach is the command below with `--designs`, `--shifts`, `--seeds` and `--steps`:\n", *runs, ""]
    atomically(options.out / "EVERY_TASK.md", lambda file: file.write("\n".join(text).encode()))
    draw(tables, options.out / "every_task.png")
    defined = [t["robustness_observed"].mean("seed") - t["robustness_predicted"] for t in tables.values()]
    print(f"robustness foreseen to {np.nanmean(np.abs(np.concatenate(defined))):.3f} on average")
    print(f"table:  {options.out / 'EVERY_TASK.md'}\nfigure: {options.out / 'every_task.png'}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
