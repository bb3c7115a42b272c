"""A phantom of lung CT: the airways of a right lung in health and disease, as slices or as volumes, with known truth.

Anatomy is in ``airway_tree`` (airways and arteries by published statistics) and ``thorax`` (everything around), imaging in
``lung_ct``.  Published: the ratio of a bronchus's lumen to its artery in health and its rise with age (Kim JS et al. 1997,
Matsuoka et al. 2003, Diaz et al. 2017), above 1 in bronchiectasis; the area below −950 Hounsfield units as the measure of
emphysema (Zach et al. 2012).  Assumed: shares of diseases, how far a severity changes the lung, shares of the acquisitions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import airway_tree, lung_ct, thorax
from rafmodel.airway_tree import Tree
from rafmodel.cohort import Cohort
from rafmodel.errors import InputError
from rafmodel.lung_ct import Lung, Scan, Tubes
from rafmodel.thorax import Body

DISEASES = {"none": 0.48, "bronchiectasis": 0.13, "wall thickening": 0.13, "emphysema": 0.13, "fibrosis": 0.13}
DOSES = {"standard": (1.0, 0.7), "low": (0.25, 0.3)}  # relative dose, share of the patients
KERNEL_SHARE = 0.35  # of the sharp one
THICKNESS = {"1 mm": (1.0, 0.4), "2.5 mm": (2.5, 0.4), "5 mm": (5.0, 0.2)}
SLICES = 4  # of a patient, where no volume is asked for: one at each level
_LEVELS, _JITTER = (
    (-52.0, -22.0, 10.0, 40.0),
    6.0,
)  # of the slices, millimetres down: arch, carina, lower veins, above the dome
_STRAIN = (0.14, 0.3)  # right heart and central arteries are wider by this at severity 1: lung disease strains them
_SEEDS = 1024  # places in a lung that its trees supply
_CHUNK = 32


class Patients(NamedTuple):
    """Who is imaged and how, (n,): columns of the cohort, and what the pictures are made from.

    severity  0 without disease, else from 0.35 to 1
    ratio     lumen of an airway over its artery's diameter before disease
    """

    disease: np.ndarray
    severity: np.ndarray
    ratio: np.ndarray
    scan: Scan
    body: Body
    columns: dict[str, np.ndarray]


class Airways(NamedTuple):
    """Trees of patients, branch by branch (n, b), millimetres: lumen, wall and artery as the pictures have them."""

    tree: Tree
    lumen: np.ndarray
    wall: np.ndarray
    artery: np.ndarray


class Truth(NamedTuple):
    """What was imaged.

    patient      (N,)            of each image: its place among the rows of ``airways`` and ``patients``
    hounsfield   (N, [D,] H, W)  without noise, float32
    lumen, wall  (N, [D,] H, W)  where more than half of the pixel is one
    tissue       (N, [D,] H, W)  lung without airways and vessels: more than 99 % of the pixel
    generation   (N, [D,] H, W)  of the airway whose lumen it is, 0 the trachea; −1 elsewhere
    down         (N,)            of the slice, or of the middle of the volume, in millimetres
    disease      (N,)            by name
    severity     (N,)            0 without disease, to 1
    """

    hounsfield: np.ndarray
    lumen: np.ndarray
    wall: np.ndarray
    tissue: np.ndarray
    generation: np.ndarray
    down: np.ndarray
    disease: np.ndarray
    severity: np.ndarray
    patient: np.ndarray
    airways: Airways
    patients: Patients


def lung_airways(
    key: Array,
    *,
    n_patients: int | None = None,
    size: int | None = None,
    volumes: bool = False,
    field: float = lung_ct.FIELD,
) -> Cohort:
    """Targeted CT of the right lung, seen from the feet: bronchiectasis, thick walls, emphysema or fibrosis against none.

    n_patients  at least 20; default 500, with four axial slices each, or 64 with one volume each
    size        pixels a side, at least 28; default 112, or 64 in volumes (head to feet, front to back, right to left)
    volumes     images (N, size, size, size, 1) in place of (N, size, size, 1)
    field       side of the field of view, from 60 to 240 millimetres

    Images are uint8 in the lung window, −1350 to 150 Hounsfield units (``lung_ct.hounsfield`` turns them back).  ``mask`` is 1 in
    the lumen of an airway and 2 in its wall.  Attributes: ``sex`` (half each; size of chest and airways), ``age`` (arteries
    narrow), ``dose`` (standard 70 %, low 30 %), ``kernel`` (soft 65 %, sharp 35 %), ``thickness`` (1, 2.5 and 5 mm: 40, 40 and
    20 %) and ``disease``, which follows from the class and cannot name subgroups with both.  Patients are split 60/20/20.  The
    same key gives the same bytes.  Logistic regression on 50 principal components of slices at 28 pixels has an AUC of 0.70 (250
    patients in four folds, 0.68 to 0.74).  Raises InputError for a value outside its range.
    """
    return lung_airways_with_truth(key, n_patients=n_patients, size=size, volumes=volumes, field=field)[0]


def lung_airways_with_truth(
    key: Array,
    *,
    n_patients: int | None = None,
    size: int | None = None,
    volumes: bool = False,
    field: float = lung_ct.FIELD,
) -> tuple[Cohort, Truth]:
    """The cohort of ``lung_airways`` and what was imaged."""
    n, size = n_patients or (64 if volumes else 500), size or (64 if volumes else 112)
    if n < 20 or size < 28 or not 60 <= field <= 240:
        asked = f"n_patients {n}, size {size}, field {field:g}"
        raise InputError(f"lung_airways: {asked}; choose at least 20, at least 28, and from 60 to 240 millimetres")
    rng = np.random.default_rng(np.asarray(jax.random.bits(jax.random.fold_in(key, 0), (4,), jnp.uint32)))
    patients = _patients(rng, n)
    airways, tubes = _anatomy(rng, patients)
    severe = [patients.severity * (patients.disease == name) for name in ("emphysema", "fibrosis")]
    lung = _single(lung_ct.draw_lung(rng, *severe))
    if volumes:
        who, down = np.arange(n), np.zeros(n)
        levels = np.tile((np.arange(size) + 0.5) / size - 0.5, (n, 1)) * field
    else:
        who = np.repeat(np.arange(n), SLICES)
        down = (np.array(_LEVELS) + _JITTER * rng.uniform(-1, 1, (n, SLICES))).ravel()
        levels = down[:, None]
    flat = _imaged(tubes, patients, lung, np.repeat(who, levels.shape[1]), levels.ravel(), size, field)
    shape = (len(who), *levels.shape[1:], size, size) if volumes else (len(who), size, size)
    hounsfield, lumen, wall, tissue, generation = (part.reshape(shape) for part in flat)
    image = _noisy(jax.random.fold_in(key, 1), hounsfield, patients.scan, who, field / size)
    columns = {name: column[who] for name, column in patients.columns.items()}
    cohort = Cohort(
        image[..., None],
        (patients.disease[who] != "none").astype(np.int8),
        np.array([f"c{i:05d}" for i in who]),
        columns.pop("split"),
        columns,
        name="lung_airways_3d" if volumes else "lung_airways",
        source="synthetic, rafmodel.airways",
        licence="BSD-3-Clause, as rafmodel",
        contrast="bronchiectasis, thick walls, emphysema or fibrosis against none",
        mask=(lumen + 2 * wall).astype(np.uint8),
    )
    disease, severity = patients.disease[who], patients.severity[who]
    return cohort, Truth(hounsfield, lumen, wall, tissue, generation, down, disease, severity, who, airways, patients)


# ---- who is imaged


def _patients(rng: np.random.Generator, n: int) -> Patients:
    """Everything about the patients that does not depend on their trees."""
    sex = np.where(rng.permutation(n) % 2, "M", "F")
    age = rng.uniform(25, 85, n)
    disease = _shares(rng, n, DISEASES)
    dose = _shares(rng, n, {name: share for name, (_, share) in DOSES.items()})
    kernel = _shares(rng, n, {"soft": 1 - KERNEL_SHARE, "sharp": KERNEL_SHARE})
    thickness = _shares(rng, n, {name: share for name, (_, share) in THICKNESS.items()})
    severity = np.where(disease == "none", 0.0, rng.uniform(0.35, 1, n))
    scan = Scan(
        np.array([DOSES[name][0] for name in dose]),
        np.array([lung_ct.KERNELS.index(name) for name in kernel]),
        np.array([THICKNESS[name][0] for name in thickness]),
    )
    body = Body(
        scale=np.where(sex == "M", 1.0, 0.92) * (1 + 0.025 * rng.normal(size=n)),
        wide=1 + 0.03 * rng.normal(size=n),
        deep=1 + 0.035 * rng.normal(size=n) + 0.06 * severity * (disease == "emphysema"),
        heart=1 + 0.06 * rng.normal(size=n) + _STRAIN[0] * severity,
        dome=(62 + 8 * rng.normal(size=n)) - 14 * severity * (disease == "fibrosis") + 8 * (disease == "emphysema"),
        fat=rng.uniform(6, 22, n),
        lung=thorax.LUNG + 12 * rng.normal(size=n),
        ribs=rng.uniform(0, 27, n),
    )
    ratio = 0.70 + 0.004 * (age - 55) + 0.05 * rng.normal(size=n)
    columns = {
        "split": np.array(["train", "val", "test"])[np.digitize(rng.permutation(n), (0.6 * n, 0.8 * n))],
        "sex": sex,
        "age": np.array(["18-49", "50-64", "65+"])[np.digitize(age, (50, 65))],
        "dose": dose,
        "kernel": kernel,
        "thickness": thickness,
        "disease": disease,
    }
    return Patients(disease, severity, ratio, _single(scan), _single(body), columns)


def _shares(rng: np.random.Generator, n: int, share: dict[str, float]) -> np.ndarray:
    """Names (n,) in a random order, each as often as its share says."""
    counts = np.diff(np.rint(n * np.cumsum([0, *share.values()])).astype(int))
    return np.repeat(list(share), counts)[rng.permutation(n)]


def _single(columns):
    """Columns of a record in single precision, integers in 32 bits."""
    return jax.tree.map(lambda x: x.astype(np.int32 if x.dtype.kind == "i" else np.float32), columns)


# ---- their airways and vessels


def _anatomy(rng: np.random.Generator, patients: Patients) -> tuple[Airways, Tubes]:
    """Airways in health and disease, and every tube of each patient as the scanner meets it."""
    n, scale = len(patients.disease), np.asarray(patients.body.scale, np.float64)[:, None]
    trachea = _sized(rng, patients)
    main = trachea * airway_tree.WEIBEL_DIAMETER[1] / airway_tree.WEIBEL_DIAMETER[0]
    seeds = thorax.points(rng, patients.body, _SEEDS)
    tree = airway_tree.grow(rng, seeds, scale * airway_tree.CARINA, scale * airway_tree.HILUM, main)
    inner_to_outer = np.clip(rng.normal(airway_tree.INNER_TO_OUTER[0], 0.03, n), 0.5, 0.8)
    lumen, wall = _diseased(rng, patients, tree, airway_tree.wall(tree, inner_to_outer))
    strained = 1 + _STRAIN[1] * patients.severity[:, None] * (tree.generation <= 3)
    arteries = airway_tree.arteries(tree, lumen + 2 * wall, patients.ratio[:, None] / strained)
    seeds = thorax.points(rng, patients.body, _SEEDS)
    atrium, vein = np.array([14.0, 14.0, 60.0]), np.array([6.0, 2.0, 38.0])
    veins = airway_tree.grow(rng, seeds, scale * atrium, scale * vein, 15 * scale[:, 0], lobes=False)
    trunk = [
        scale * place for place in (np.array([-150.0, 0.0, 68.0]), airway_tree.CARINA, np.array([-20.0, 12, 104.0]))
    ]
    upper = [
        (trunk[0], trunk[1], trachea, 0.09, 0),
        (trunk[1], trunk[2], 0.95 * main, 0.12, 1),
    ]  # trachea, left main bronchus
    bronchi = tree.generation < airway_tree.GENERATIONS  # the last ones are too narrow to be seen
    parts = [_tubes(tree._replace(diameter=lumen), wall, True), _tubes(arteries), _tubes(veins)]
    parts[0] = Tubes(*(column[:, bronchi] for column in parts[0]))
    for start, end, diameter, relative, generation in upper:
        radius = np.repeat(diameter[:, None, None] / 2, 2, 2)
        label = np.full((n, 1), generation)
        parts.append(Tubes(start[:, None], end[:, None], radius, relative * diameter[:, None], label))
    tubes = Tubes(*(np.concatenate(column, 1) for column in zip(*parts, strict=True)))
    return Airways(tree, lumen, wall, arteries.diameter), _single(tubes)


def _sized(rng: np.random.Generator, patients: Patients) -> np.ndarray:
    """Diameter of the trachea (n,), by sex."""
    mean, sd = np.array([airway_tree.TRACHEA[sex] for sex in patients.columns["sex"]]).T
    return mean + sd * np.clip(rng.normal(size=len(mean)), -2.5, 2.5)


def _diseased(
    rng: np.random.Generator, patients: Patients, tree: Tree, wall: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lumen and wall of every branch: wide in some lobes with bronchiectasis, thick everywhere with thickened walls."""
    n = len(patients.disease)
    hit = rng.uniform(size=(n, 4)) < 0.7
    hit[np.arange(n), rng.integers(1, 4, n)] = True
    hit[:, 0] = False
    small = tree.generation >= 4
    wide = patients.severity * (patients.disease == "bronchiectasis")
    wide = wide[:, None] * hit[np.arange(n)[:, None], tree.lobe] * small
    uneven = np.exp(0.15 * rng.normal(size=tree.diameter.shape))
    thick = (patients.severity * (patients.disease == "wall thickening"))[:, None]
    lumen = tree.diameter * np.where(wide > 0, (1.35 + 0.9 * wide) * uneven, 1) * (1 - 0.15 * thick)
    return lumen, wall * (1 + 0.8 * wide) * (1 + 1.3 * thick * (tree.generation >= 2))


def _tubes(tree: Tree, wall: np.ndarray | None = None, airway: bool = False) -> Tubes:
    """Branches as tubes that narrow from the mean of parent and daughter to the daughter."""
    radius = tree.diameter / 2
    before = np.where(tree.parent >= 0, radius[:, tree.parent], radius)
    label = np.broadcast_to(tree.generation if airway else np.int64(-1), radius.shape)
    ends = np.stack([(radius + np.minimum(before, 1.6 * radius)) / 2, radius], -1)
    return Tubes(tree.start, tree.end, ends, np.zeros_like(radius) if wall is None else wall, label)


# ---- their images


def _imaged(
    tubes: Tubes, patients: Patients, lung: Lung, who: np.ndarray, down: np.ndarray, size: int, field: float
) -> tuple[np.ndarray, ...]:
    """Slices of patients ``who`` (N,) at ``down`` (N,): Hounsfield units, lumen, wall, tissue and generation, (N, size, size)."""
    n, down = len(who), down.astype(np.float32)
    parts = []
    for start in range(0, n, _CHUNK):
        rows = np.minimum(np.arange(start, start + _CHUNK), n - 1)
        mine = who[rows]
        of = [
            jax.tree.map(lambda x, mine=mine: x[mine], record) for record in (tubes, patients.body, lung, patients.scan)
        ]
        found = _slices(lung_ct.near(of[0], down[rows], of[3].thickness, field), *of[1:], down[rows], size, field)
        parts.append(tuple(np.asarray(part) for part in found))
    return tuple(np.concatenate(part)[:n] for part in zip(*parts, strict=True))


def _one(tubes: Tubes, body: Body, lung: Lung, scan: Scan, down: Array, size: int, field: float):
    found = lung_ct.slice_(tubes, body, lung, scan, down, size, field)
    lumen = found.lumen > 0.5
    wall = (found.lumen + found.wall > 0.5) & ~lumen
    return found.hounsfield, lumen, wall, found.tissue > 0.99, found.generation.astype(jnp.int8)


_slices = jax.jit(jax.vmap(_one, (0, 0, 0, 0, 0, None, None)), static_argnums=(5, 6))


def _noisy(key: Array, hounsfield: np.ndarray, scan: Scan, who: np.ndarray, pixel: float) -> np.ndarray:
    """Images in the lung window, uint8, from Hounsfield units (N, [D,] H, W)."""
    planes = hounsfield if hounsfield.ndim == 4 else hounsfield[:, None]
    keys = jax.random.split(key, len(who))
    chunk = max(1, _CHUNK // planes.shape[1])
    parts = []
    for start in range(0, len(who), chunk):
        rows = np.minimum(np.arange(start, start + chunk), len(who) - 1)
        mine = jax.tree.map(lambda x, rows=rows: x[who[rows]], scan)
        parts.append(np.asarray(_windowed(keys[rows], planes[rows], mine, pixel)))
    return np.concatenate(parts)[: len(who)].reshape(hounsfield.shape)


def _window(key: Array, planes: Array, scan: Scan, pixel: float) -> Array:
    white = jax.random.normal(key, planes.shape, jnp.float32)
    seen = planes + lung_ct.noise_level(scan) * lung_ct.grain(white, scan, pixel)
    return jnp.round(255 * lung_ct.display(seen)).astype(jnp.uint8)


_windowed = jax.jit(jax.vmap(_window, (0, 0, 0, None)), static_argnums=3)
