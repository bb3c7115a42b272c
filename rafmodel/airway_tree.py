"""The airway tree of a right lung, grown into the lung's shape, and the arteries that run beside it.

Places are (down, back, left): millimetres towards the feet, the back and the patient's left, from the middle of the field of
view.  Generation 0 is the trachea and 1 a main bronchus.  A branch supplies a region; the region is parted by a plane along the
branch, at right angles to the plane before where the region's shape allows it, and each daughter points to the middle of its part
(Tawhai et al. 2000, Kitaoka et al. 1999).  Published: diameters by generation (Weibel 1963, model A), the law of the daughters'
diameters in the periphery (Kitaoka et al. 1999), angles (ICRP 66, 1994), length over diameter near 3 (Kitaoka et al. 1999),
tracheal diameters by sex (Lee et al. 1988).  Assumed: shares of the lobes, how evenly a region is parted, the trachea's wall.
"""

from typing import NamedTuple

import numpy as np

# model A at three quarters of total lung capacity, trachea to generation 8, in millimetres (Weibel 1963)
WEIBEL_DIAMETER = np.array([18.0, 12.2, 8.3, 5.6, 4.5, 3.5, 2.8, 2.3, 1.86])
TRACHEA = {"F": (15.3, 1.2), "M": (17.7, 1.9)}  # transverse diameter, mean and s.d. in millimetres (Lee et al. 1988)
INNER_TO_OUTER = (0.66, 0.06)  # lumen over outer diameter of a bronchus, mean and s.d. (Kim SJ et al. 1995)
_PROXIMAL_WALL = (
    0.09,
    0.12,
    0.18,
)  # wall over lumen diameter of generations 0 to 2, which cartilage holds open: assumed
GENERATIONS = 10  # the deepest one grown; its branches reach the middle of their regions
CARINA, HILUM = np.array([-38.0, 6.0, 68.0]), np.array([-24.0, 8.0, 46.0])  # ends of the right main bronchus
_FLOW = (
    1.8,
    3.0,
)  # d_parent^n = Σ d_daughter^n: Weibel's exp(-0.388) a generation as far as the third, then his 2^(-1/3)
_REACH, _STEEPEST = 0.35, np.deg2rad(60.0)  # of the way to its region's middle, and largest angle (Tawhai et al. 2000)
# generation, branch, direction in which its region is parted, share of the first part: upper lobe, then middle lobe
_LOBES = ((2, 0, (1.0, 0.35, 0.0), 0.34), (3, 1, (0.35, 1.0, 0.0), 0.22))


class Tree(NamedTuple):
    """Branches of many patients' trees, generation by generation; millimetres.

    start, end  (n, b, 3)  places
    diameter    (n, b)     inner
    angle       (n, b)     to the parent, radians; nan without a parent
    lobe        (n, b)     0 none, 1 upper, 2 middle, 3 lower
    generation  (b,)
    parent      (b,)       place among the branches, -1 for the first
    """

    start: np.ndarray
    end: np.ndarray
    diameter: np.ndarray
    angle: np.ndarray
    lobe: np.ndarray
    generation: np.ndarray
    parent: np.ndarray


class _Level(NamedTuple):
    """One generation while it grows: where its branches end, where to, how wide, and the plane that parts the region of each."""

    end: np.ndarray
    way: np.ndarray
    diameter: np.ndarray
    across: np.ndarray


def grow(rng: np.random.Generator, points: np.ndarray, start: np.ndarray, end: np.ndarray, diameter: np.ndarray, *,
         first: int = 1, lobes: bool = True) -> Tree:  # fmt: skip
    """A tree whose first branch, of generation ``first``, runs from ``start`` to ``end``, (n, 3) each, into the lung.

    points    (n, p, 3)  spread evenly over the lung: the region that the tree supplies
    diameter  (n,)       of the first branch
    lobes     whether the first regions are parted into lobes
    """
    n, p, _ = points.shape
    way = _unit(end - start)[:, None]
    level = _Level(end[:, None], way, diameter[:, None], _unit(np.cross(way, [0.0, 1.0, 0.0])))
    owner = np.zeros((n, p), np.int64)
    grown: list[tuple[np.ndarray, ...]] = [(start[:, None], end[:, None], diameter[:, None], np.full((n, 1), np.nan))]
    for generation in range(first + 1, GENERATIONS + 1):
        owner, share, axis = _part(rng, points, owner, level, generation if lobes else -1)
        level, branches = _branch(points, owner, share, level, axis, generation)
        grown.append(branches)
    starts, ends, diameters, angles = (np.concatenate(column, 1) for column in zip(*grown, strict=True))
    counts = 2 ** np.arange(len(grown))
    where = np.concatenate([np.arange(count) for count in counts])
    depth = np.repeat(np.arange(len(grown)), counts)
    parent = np.where(depth > 0, 2 ** np.maximum(depth - 1, 0) - 1 + where // 2, -1)
    return Tree(
        starts, ends, diameters, angles, np.broadcast_to(_lobe(depth, where), (n, len(where))), depth + first, parent
    )


def _lobe(depth: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Lobe of each branch: 1 below the first branch's first daughter, 2 and 3 below the second's two."""
    second = where >> np.maximum(depth - 2, 0)  # its forebear two steps from the first branch
    one = np.where(depth >= 2, np.array([1, 1, 2, 3])[np.minimum(second, 3)], 0)
    return np.where((depth == 1) & (where == 0), 1, one)


def _part(
    rng: np.random.Generator, points: np.ndarray, owner: np.ndarray, level: _Level, generation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Daughter that each point goes to (n, p), each daughter's share of its parent's points (n, 2 b), direction of the split."""
    n, p = owner.shape
    branches = level.diameter.shape[1]
    rows = np.arange(n)[:, None]
    middle, count = _middle(points, owner, branches)
    away = points - middle[rows, owner]
    spread = _spread(away, owner, branches)
    # a step of power iteration: from a right angle to the plane before, towards the region's longest side, across the branch
    axis = np.einsum("nbij,nbj->nbi", spread, _unit(np.cross(level.across, level.way)))
    axis = _unit(axis - (axis * level.way).sum(-1, keepdims=True) * level.way)
    share = rng.uniform(0.36, 0.64, (n, branches))
    for at, branch, direction, part in _LOBES:
        if at == generation:
            axis[:, branch] = _unit(np.asarray(direction))
            share[:, branch] = part + 0.02 * rng.normal(size=n)
    along = np.einsum("npi,npi->np", away, axis[rows, owner])
    order = np.argsort(owner + 0.5 + np.clip(along / 1e3, -0.49, 0.49), axis=1)  # by branch, then along its axis
    rank = np.empty((n, p))
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(p, dtype=float), (n, p)), 1)
    before = np.cumsum(count, 1) - count
    later = rank - before[rows, owner] >= share[rows, owner] * count[rows, owner]
    owner = 2 * owner + later
    size = np.bincount((rows * 2 * branches + owner).ravel(), minlength=2 * n * branches).reshape(n, branches, 2)
    part = (size + 0.5) / (size.sum(-1, keepdims=True) + 1)
    return owner, part.reshape(n, -1), axis


def _middle(points: np.ndarray, owner: np.ndarray, branches: int) -> tuple[np.ndarray, np.ndarray]:
    """Middle (n, b, 3) and number (n, b) of the points of each branch."""
    n = len(owner)
    place = (np.arange(n)[:, None] * branches + owner).ravel()
    count = np.bincount(place, minlength=n * branches).reshape(n, branches)
    total = [np.bincount(place, points[..., i].ravel(), n * branches).reshape(n, branches) for i in range(3)]
    return np.stack(total, -1) / np.maximum(count, 1)[..., None], count


def _spread(away: np.ndarray, owner: np.ndarray, branches: int) -> np.ndarray:
    """Covariance (n, b, 3, 3), but for its scale, of the points of each branch around its middle."""
    n = len(owner)
    place = (np.arange(n)[:, None] * branches + owner).ravel()
    spread = np.empty((n, branches, 3, 3))
    for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
        second = np.bincount(place, (away[..., i] * away[..., j]).ravel(), n * branches).reshape(n, branches)
        spread[..., i, j] = spread[..., j, i] = second
    return spread + 1e-3 * np.eye(3)


def _branch(
    points: np.ndarray, owner: np.ndarray, share: np.ndarray, level: _Level, axis: np.ndarray, generation: int
) -> tuple[_Level, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """The daughters of a generation: as a level to grow from, and as columns of a tree."""
    middle, count = _middle(points, owner, share.shape[1])
    start, way, diameter = (np.repeat(column, 2, 1) for column in (level.end, level.way, level.diameter))
    aim = np.where(count[..., None] > 0, middle - start, way)
    far = np.linalg.norm(aim, axis=-1)
    along = (aim * way).sum(-1, keepdims=True) * way
    angle = np.minimum(np.arccos(np.clip((aim * way).sum(-1) / np.maximum(far, 1e-6), -1, 1)), _STEEPEST)
    turned = np.cos(angle)[..., None] * way + np.sin(angle)[..., None] * _unit(aim - along)
    diameter = diameter * share ** (1 / _FLOW[int(generation > 3)])
    reach = _REACH if generation < GENERATIONS else 0.9
    end = start + (reach * far)[..., None] * turned
    return _Level(end, turned, diameter, np.repeat(axis, 2, 1)), (start, end, diameter, angle)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def wall(tree: Tree, inner_to_outer: np.ndarray) -> np.ndarray:
    """Thickness of each branch's wall (n, b), from a patient's ratio of inner to outer diameter (n,) in the periphery."""
    peripheral = (1 / inner_to_outer[:, None] - 1) / 2
    proximal = np.array([*_PROXIMAL_WALL, np.nan])[np.minimum(tree.generation, 3)]
    return tree.diameter * np.where(tree.generation < 3, proximal, peripheral)


def arteries(tree: Tree, outer: np.ndarray, ratio: np.ndarray) -> Tree:
    """The pulmonary arteries: each beside its airway, touching it.

    outer  (n, b)  outer diameter of the airways
    ratio  (n, 1)  lumen of an airway over its artery's diameter, in health
    """
    diameter = tree.diameter / ratio
    beside = _unit(np.cross(_unit(tree.end - tree.start), [0.25, 0.45, 0.85]))
    end = tree.end + beside * (outer + diameter)[..., None] / 2
    start = np.where((tree.parent >= 0)[:, None], end[:, tree.parent], tree.start)
    return tree._replace(start=start, end=end, diameter=diameter)
