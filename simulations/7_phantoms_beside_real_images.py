"""Do the phantoms look right next to real images?

    python simulations/7_phantoms_beside_real_images.py --out runs/beside

Draws six images of every phantom and of every real cohort that is in the folder RAFMODEL_DATA (chest radiographs, breast
ultrasound, cardiac magnetic resonance), and tabulates what can be compared over modalities: quantiles of the grey values, the
share that is clipped at either end, and the slope of the power spectrum (log power against log spatial frequency; natural and
medical images lie between −2 and −4).  The lung phantom, which has no real twin here, is set beside values published for its own
modality in a second table.  A second figure shows both use cases in health and in each disease, with their masks.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro

from rafmodel import airway_tree, airways, canvas, cohort, ultrasound
from rafmodel.cohort import Cohort
from rafmodel.factors import factor_phantom
from rafmodel.files import atomically
from rafmodel.phantoms import phantom

REAL = ("hannover_cxr", "nih_cxr1000", "busi_ultrasound", "sunnybrook_cmr")
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Options:
    """How many images, and where the results go."""

    images: int = 400
    """images of each cohort that are summarised"""
    quick: bool = False
    """few and small images: shows that the script runs"""
    out: Path = Path("runs/beside")
    """folder for the figure and the table"""


def spectrum_slope(image: np.ndarray) -> float:
    """Slope of log power against log frequency between 0.05 and 0.4 cycles a pixel, of images (N, H, W) under a Hann window."""
    height, width = image.shape[1:]
    window = np.outer(np.hanning(height), np.hanning(width))
    power = (np.abs(np.fft.fft2((image - image.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    edges = np.geomspace(0.05, 0.4, 9)
    ring = np.digitize(frequency, edges)
    mean = [power[ring == k].mean() for k in range(1, len(edges))]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0])


def synthetic(quick: bool) -> dict[str, Cohort]:
    """The phantoms, and one plane of each lung volume."""
    key = jax.random.key(0)
    n, small = (20, 32) if quick else (100, 64)
    volumes = airways.lung_airways(key, n_patients=20 if quick else 32, size=small, volumes=True)
    return {
        "lung airways": airways.lung_airways(key, n_patients=n, size=32 if quick else 112),
        "lung airways 3D, coronal": _coronal(volumes),
        "cardiac ultrasound": ultrasound.cardiac_ultrasound(key, n_patients=n, size=small if quick else 112),
        "lesion in texture": phantom(key, n_patients=n, size=small),
        "factors": factor_phantom(key, n=2 * n, size=small),
    }


def _coronal(volumes: Cohort) -> Cohort:
    """The coronal plane through the middle of each volume."""
    image = volumes.image[:, :, volumes.image.shape[2] // 2]
    return Cohort(image, volumes.label, volumes.patient, volumes.split, volumes.attributes, *["coronal"] * 4)


def real() -> dict[str, Cohort]:
    """The real cohorts that are there."""
    home = Path(os.environ.get("RAFMODEL_DATA", "."))
    found = {name: sorted((home / name).glob("*.npz")) for name in REAL}
    return {name: cohort.load(paths[0]) for name, paths in found.items() if paths}


def grey(images: Cohort, number: int) -> np.ndarray:
    """Images (n, H, W) in [0, 1], spread over the cohort, the mean of their channels."""
    chosen = np.linspace(0, len(images.label) - 1, min(number, len(images.label))).astype(int)
    return cohort.pixels(cohort.take(images, chosen)).mean(-1)


def row(name: str, image: np.ndarray) -> str:
    """One line of the table."""
    quantiles = " ".join(f"{q:5.2f}" for q in np.quantile(image, LEVELS))
    black, white = (image <= 0.002).mean(), (image >= 0.998).mean()
    size = f"{image.shape[1]}×{image.shape[2]}"
    return f"| {name:26s} | {size:>8s} | {quantiles} | {black:5.2f} | {white:5.2f} | {spectrum_slope(image):6.2f} |"


def table(cohorts: dict[str, Cohort], number: int) -> str:
    """Quantiles, clipping and slope of every cohort, as markdown."""
    head = f"| cohort | pixels | grey at quantiles {', '.join(map(str, LEVELS))} | black | white | slope |"
    rows = [row(name, grey(images, number)) for name, images in cohorts.items()]
    return "\n".join([head, "|---" * 6 + "|", *rows])


def published(quick: bool) -> str:
    """The lung phantom's healthy patients beside published values, as markdown."""
    _, truth = airways.lung_airways_with_truth(jax.random.key(0), n_patients=20 if quick else 100, size=64)
    tree, healthy = truth.airways.tree, truth.patients.disease == "none"
    small = tree.generation >= 4
    mine = healthy[truth.patient]
    lung = truth.hounsfield[mine][truth.tissue[mine]]
    length = np.linalg.norm(tree.end - tree.start, axis=-1)
    inner, outer = truth.airways.lumen, truth.airways.lumen + 2 * truth.airways.wall

    def of(values: np.ndarray, generation: int) -> str:
        return f"{values[:, tree.generation == generation].mean():.1f}"

    rows = [
        ("lung, mean, HU", f"{lung.mean():.0f}", "about −860 at full inspiration"),
        ("below −950 HU, %", f"{100 * (lung < -950).mean():.1f}", "2.0 ± 2.7 (Zach et al. 2012); median 0.2 (Cheng et al. 2019)"),
        ("lumen over artery", f"{(inner / truth.airways.artery)[healthy][:, small].mean():.2f}",
         "0.62 ± 0.13 (Kim JS et al. 1997); 0.79 ± 0.16 (Diaz et al. 2017)"),
        ("lumen over outer diameter", f"{(inner / outer)[healthy][:, small].mean():.2f}", "0.66 ± 0.06 (Kim SJ et al. 1995)"),
        *((f"diameter of generation {g}, mm", of(tree.diameter, g), f"{airway_tree.WEIBEL_DIAMETER[g]:.1f} (Weibel 1963)")
          for g in (1, 2, 3, 4, 6, 8)),
        *((f"length of generation {g}, mm", of(length, g), f"{there} (Weibel 1963)") for g, there in ((4, 12.7), (6, 9.0))),
        *((f"angle of generation {g}, degrees", of(np.rad2deg(tree.angle), g), f"{there} (ICRP 66, 1994)")
          for g, there in ((3, 28), (4, 35), (5, 39), (6, 34))),
    ]  # fmt: skip
    return "\n".join(
        [
            "| healthy lungs of the phantom | found | published |",
            "|---|---|---|",
            *("| " + " | ".join(r) + " |" for r in rows),
        ]
    )


def drawn(cohorts: dict[str, Cohort], path: Path) -> None:
    """Six images of every cohort, one row each."""
    with canvas.style():
        figure, axes = canvas.grid(6 * len(cohorts), 6, width=8.4, height=1.45)
        for place, (name, images) in enumerate(cohorts.items()):
            for one, picture in zip(axes[6 * place :], grey(images, 6), strict=False):
                one.imshow(picture, cmap="gray", vmin=0, vmax=1)
                one.set(xticks=[], yticks=[])
            axes[6 * place].set_ylabel(name.replace(" ", "\n").replace("_", "\n"), size=7)
        canvas.save(figure, path)


def severest(disease: np.ndarray, severity: np.ndarray, allowed: np.ndarray, names: tuple[str, ...]) -> list[int]:
    """Rows of the allowed image of highest severity of each disease."""
    return [int(np.argmax(np.where(allowed & (disease == name), 1 + severity, 0))) for name in names]


def _titled(disease: str, what: str, value: float) -> str:
    """Above a picture; the severity of no disease says nothing."""
    said = [f"{what} {value:.1f}"] if disease != "none" or what == "quality" else []
    return ", ".join(["healthy" if disease == "none" else disease, *said])


def with_truth(quick: bool, path: Path) -> None:
    """Both use cases in health and in each disease, and what the masks say: lumen and wall, cavity and myocardium."""
    n, size = (40, 64) if quick else (200, 160)
    lungs, lung = airways.lung_airways_with_truth(jax.random.key(0), n_patients=n, size=size)
    hearts, heart = ultrasound.cardiac_ultrasound_with_truth(jax.random.key(0), n_patients=n, size=size)
    names = ("none", "bronchiectasis", "wall thickening", "emphysema", "fibrosis")
    full, level = lungs.attributes["dose"] == "standard", lung.down > 25  # where most branches are
    rows = severest(lung.disease, lung.severity, full & level, names)
    quality = heart.acquisition.quality
    good = severest(heart.disease, np.asarray(quality), ~heart.systole, ("none", "hypertrophy", "dilation"))
    healthy = np.where((heart.disease == "none") & ~heart.systole)[0]
    poorer = [int(healthy[np.argmin(np.abs(quality[healthy] - grade))]) for grade in (0.5, 0.15)]
    columns = [(lungs, row, _titled(lung.disease[row], "severity", lung.severity[row])) for row in rows]
    columns += [(hearts, row, _titled(heart.disease[row], "quality", quality[row])) for row in (*good, *poorer)]
    with canvas.style():
        figure, axes = canvas.grid(20, 5, width=8.4, height=1.8)
        for place, (images, row, title) in enumerate(columns):
            block, column = divmod(place, 5)
            above, below = axes[10 * block + column], axes[10 * block + 5 + column]
            for one in (above, below):
                one.imshow(images.image[row, ..., 0], cmap="gray", vmin=0, vmax=255)
                one.set(xticks=[], yticks=[])
            for tissue, colour in ((1, canvas.GROUPS[4]), (2, canvas.GROUPS[1])):
                below.contour(images.mask[row] == tissue, [0.5], colors=colour, linewidths=0.6)
            above.set_title(title, size=7)
        canvas.save(figure, path)


def main(options: Options) -> None:
    """Draw and tabulate."""
    cohorts = {**synthetic(options.quick), **({} if options.quick else real())}
    text = f"{table(cohorts, 40 if options.quick else options.images)}\n\n{published(options.quick)}"
    print(text)
    atomically(options.out / "beside.md", lambda file: file.write((text + "\n").encode()))
    drawn(cohorts, options.out / "beside.png")
    with_truth(options.quick, options.out / "truth.png")
    print(f"\n{options.out / 'beside.png'}\n{options.out / 'truth.png'}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
