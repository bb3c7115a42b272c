"""Computed tomography of a chest with airways: slices of a given thickness, from tubes, texture and disease to noisy pixels.

A slice is the mean of a few planes through its thickness.  A tube covers the share of a pixel that a slab as wide as the tube
would.  Lung texture is a sum of plane waves, so a slice is the volume's slice wherever it is taken.  The reconstruction kernel
sets the point spread and the colour of the noise, which has little power at low frequencies, as filtered backprojection has it;
its s.d. falls as one over the square root of dose and of thickness (Brooks and Di Chiro 1976).  Assumed: the size of the noise,
the widths of the kernels, wavelengths and strengths of the texture and of emphysema and fibrosis.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafmodel import thorax
from rafmodel.thorax import Body, Values

WINDOW = (-1350.0, 150.0)  # black and white in Hounsfield units: the lung window, width 1500 and level −600
FIELD = 180.0  # side of the field of view, millimetres
KERNELS = ("soft", "sharp")
POINT_SPREAD = (1.0, 0.55)  # s.d. of each kernel's, millimetres
NOISE = (15.0, 40.0)  # s.d. in Hounsfield units of each kernel at dose 1 and 1 mm
_COLOUR = ((1.3, 3.2), (0.7, 1.8))  # s.d. in millimetres of the two Gaussians whose difference filters the noise
_WAVES = (64, 24, 48, 48)  # of the fields: fine and coarse texture, holes of emphysema, net of fibrosis
_LENGTH = (1.6, 11.0, 2.3, 1.9)  # 1 / s.d. of the wave vectors of each, millimetres
_STRENGTH = (24.0, 20.0)  # s.d. of the two textures, Hounsfield units
_PLANES, _TILE, _TUBES_A_TILE, _TUBES_A_SLICE = 3, 8, 10, 144


class Tubes(NamedTuple):
    """Airways and vessels near one slice or of one patient; arrays (..., k), places (..., k, 3), millimetres.

    radius      at start and end, (..., k, 2), inner
    wall        thickness, 0 of a vessel
    generation  of an airway, −1 of a vessel
    """

    start: Values
    end: Values
    radius: Values
    wall: Values
    generation: Values


class Lung(NamedTuple):
    """The parenchyma: severities (n,) from 0 (none) to 1, wave vectors (n, w, 3) and phases (n, w) of its fields."""

    emphysema: Values
    fibrosis: Values
    waves: Values
    phases: Values


class Scan(NamedTuple):
    """How it was imaged, (n,): dose relative to a standard one, place among KERNELS, slice thickness in millimetres."""

    dose: Values
    kernel: Values
    thickness: Values


class Slice(NamedTuple):
    """One slice before noise, (H, W): Hounsfield units; shares of lumen, wall and lung tissue; generation, −1 outside a lumen."""

    hounsfield: Array
    lumen: Array
    wall: Array
    tissue: Array
    generation: Array


def draw_lung(rng: np.random.Generator, emphysema: np.ndarray, fibrosis: np.ndarray) -> Lung:
    """Texture of each patient, isotropic Gaussian fields in the limit of many waves."""
    n, w = len(emphysema), sum(_WAVES)
    waves = rng.normal(size=(n, w, 3)) / np.repeat(_LENGTH, _WAVES)[:, None]
    return Lung(emphysema, fibrosis, waves, rng.uniform(0, 2 * np.pi, (n, w)))


def display(hounsfield: Array) -> Array:
    """Hounsfield units as a share of the lung window, clipped to [0, 1]."""
    return jnp.clip((hounsfield - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)


def hounsfield(image: np.ndarray) -> np.ndarray:
    """Hounsfield units of an image, uint8 or in [0, 1]; the inverse of ``display`` where that did not clip."""
    share = image / np.float32(255) if image.dtype == np.uint8 else image
    return WINDOW[0] + (WINDOW[1] - WINDOW[0]) * share


# ---- which tubes a slice meets


def near(tubes: Tubes, down: np.ndarray, thickness: np.ndarray, field: float) -> Tubes:
    """Of each row's tubes, (N, b) like the places, the widest that its slice at ``down`` (N,) can meet."""
    outer = tubes.radius.max(-1) + tubes.wall
    low, high = (f(tubes.start, tubes.end) for f in (np.minimum, np.maximum))
    away = np.maximum(low[..., 0] - outer - down[:, None], down[:, None] - high[..., 0] - outer)
    aside = np.maximum(low[..., 1:] - outer[..., None], -high[..., 1:] - outer[..., None]).max(-1)
    met = (away < thickness[:, None] / 2) & (aside < field / 2)
    number = min(_TUBES_A_SLICE, outer.shape[1])
    chosen = np.argpartition(np.where(met, -outer, np.float32(1)), number - 1, axis=1)[:, :number]
    rows = np.arange(len(down))[:, None]
    found = Tubes(*(column[rows, chosen] for column in tubes))
    absent = ~met[rows, chosen]
    return found._replace(start=np.where(absent[..., None], np.float32(1e4), found.start),
                          end=np.where(absent[..., None], np.float32(1.0001e4), found.end))  # fmt: skip


# ---- one slice


def slice_(tubes: Tubes, body: Body, lung: Lung, scan: Scan, down: Array, size: int, field: float) -> Slice:
    """One slice at ``down`` millimetres, ``size`` pixels a side; every argument is one row."""
    axis = ((jnp.arange(size, dtype=jnp.float32) + 0.5) / size - 0.5) * field
    planes = down + scan.thickness * (jnp.arange(_PLANES, dtype=jnp.float32) - (_PLANES - 1) / 2) / _PLANES
    place = (planes[:, None, None], axis[None, :, None], axis[None, None, :])
    inside = jnp.clip(0.5 + thorax.depth(body, place) * (size / field), 0, 1)
    hu = inside * parenchyma(body, lung, scan, down, place) + (1 - inside) * thorax.tissue(body, place)
    lumen, outer, vessel, generation = _cover(tubes, planes, axis, field / size)
    hu = hu + vessel * (jnp.maximum(thorax.BLOOD, hu) - hu)
    hu = hu + outer * (thorax.WALL - hu)
    hu = hu + lumen * (thorax.AIR - hu)
    blur = _gaussian(size, jnp.array(POINT_SPREAD, jnp.float32)[scan.kernel] * (size / field))
    blur = blur / blur.sum(1, keepdims=True)
    left = (inside * (1 - jnp.maximum(outer, vessel))).mean(0)
    lumen, wall = lumen.mean(0), (outer - lumen).mean(0)
    return Slice(blur @ hu.mean(0) @ blur.T, lumen, wall, left, jnp.where(lumen > 0.5, generation, -1))


def parenchyma(body: Body, lung: Lung, scan: Scan, down: Array, place: tuple[Array, Array, Array]) -> Array:
    """Hounsfield units of lung tissue on the planes of a slice, (planes, H, W)."""
    planes, back, left = (one.ravel() for one in place)
    edges = np.cumsum([0, *_WAVES])
    fine, coarse, holes, net = (slice(*pair) for pair in itertools.pairwise(edges.tolist()))
    texture = sum(
        strength * _field(lung.waves[part], lung.phases[part], down[None], back, left, scan.thickness)
        for strength, part in zip(_STRENGTH, (fine, coarse), strict=True)
    )
    lean = (
        0.22 * back[None, :, None]
    )  # the lower lung is denser: 40 Hounsfield units over the depth of the chest, assumed
    mean = body.lung - 25 * lung.emphysema + 25 * lung.fibrosis
    hu = mean + lean + texture + jnp.zeros((len(planes), 1, 1), jnp.float32)
    hollow = _field(lung.waves[holes], lung.phases[holes], planes, back, left)
    least = 2.1 - 1.9 * lung.emphysema * (1 - place[0] / 250)  # more of it towards the apex
    spared = jax.nn.sigmoid((thorax.depth(body, place) - 7) / 2)  # holes of lobules' centres keep off the pleura
    hollow = spared * jax.nn.sigmoid((hollow - least) / 0.12) * (lung.emphysema > 0)
    hu = hu + hollow * (-988.0 + 0.15 * texture - hu)
    return hu + _fibrosis(body, lung, _field(lung.waves[net], lung.phases[net], planes, back, left), place)


def _fibrosis(body: Body, lung: Lung, net: Array, place: tuple[Array, Array, Array]) -> Array:
    """Hounsfield units that a subpleural, basal net of thick septa around small cysts adds."""
    rim = jnp.exp(-jnp.clip(thorax.depth(body, place), 0) / (7 + 10 * lung.fibrosis))
    basal = jax.nn.sigmoid((place[0] + 30) / 30)
    much = lung.fibrosis * rim * (0.25 + 0.75 * basal)
    septa = jnp.exp(-((net / 0.45) ** 2))
    return much * (130 + 720 * septa - 110 * (1 - septa))


def _field(
    waves: Array, phases: Array, planes: Array, back: Array, left: Array, thickness: Array | float = 0.0
) -> Array:
    """Unit-variance field on planes, (planes, rows, columns), each the mean over ``thickness``: a sum of cosines."""
    k = waves[None]
    turn = planes[:, None] * k[..., 0] + phases[None]
    weight = jnp.sqrt(2 / len(phases)) * jnp.sinc(waves[:, 0] * thickness / (2 * jnp.pi))
    row = (back[:, None] * k[..., 1])[None] + turn[:, None, :]
    column = left[:, None] * k[..., 2]
    weight = weight[None, None, :]
    return (weight * jnp.cos(row)) @ jnp.cos(column).T - (weight * jnp.sin(row)) @ jnp.sin(column).T


def _cover(tubes: Tubes, planes: Array, axis: Array, pixel: float) -> tuple[Array, Array, Array, Array]:
    """Shares of each pixel on each plane under lumens, airways with their wall, and vessels; generation of the lumen (H, W)."""
    size = len(axis)
    tiles = -(-size // _TILE)
    first = axis[0]
    edge = first + pixel * jnp.arange(tiles * _TILE, dtype=jnp.float32)
    rows, columns = (grid.reshape(-1) for grid in jnp.meshgrid(jnp.arange(tiles), jnp.arange(tiles), indexing="ij"))
    offset = jnp.arange(_TILE * _TILE)
    back = edge[rows[:, None] * _TILE + (offset // _TILE)[None]][None]  # (1, tiles, pixels)
    left = edge[columns[:, None] * _TILE + (offset % _TILE)[None]][None]
    few = _of_tiles(tubes, planes[_PLANES // 2], edge, rows, columns, pixel)
    lumen = jnp.zeros((len(planes), *back.shape[1:]), jnp.float32)
    outer, vessel, best = lumen, lumen, jnp.full(lumen.shape, -1.0, jnp.float32)
    for k in range(few.wall.shape[-1]):
        one = jax.tree.map(lambda column, k=k: column[:, k], few)
        far, radius = _distance(one, planes[:, None, None], back, left)
        airway = (one.generation >= 0)[None, :, None]
        inner = _slab(far, radius, pixel)
        best = jnp.where(airway & (inner > lumen), one.generation[None, :, None], best)
        lumen = jnp.maximum(lumen, jnp.where(airway, inner, 0))
        outer = jnp.maximum(outer, jnp.where(airway, _slab(far, radius + one.wall[None, :, None], pixel), 0))
        vessel = jnp.maximum(vessel, jnp.where(airway, 0, inner))
    shape = (len(planes), tiles, tiles, _TILE, _TILE)

    def whole(part: Array) -> Array:
        return part.reshape(shape).transpose(0, 1, 3, 2, 4).reshape(len(planes), tiles * _TILE, -1)[:, :size, :size]

    lumen, outer, vessel, best = (whole(part) for part in (lumen, outer, vessel, best))
    return lumen, outer, vessel, best[_PLANES // 2]


def _of_tiles(tubes: Tubes, down: Array, edge: Array, rows: Array, columns: Array, pixel: float) -> Tubes:
    """The tubes nearest to each tile, (tiles, k)."""
    middle = edge.reshape(-1, _TILE).mean(1)
    shape = (len(rows), 1)
    far, radius = _distance(
        jax.tree.map(lambda column: column[None], tubes),
        jnp.full((1, *shape), down),
        middle[rows].reshape(1, *shape),
        middle[columns].reshape(1, *shape),
    )
    beyond = (far - radius)[0] - tubes.wall[None]
    _, chosen = jax.lax.top_k(-beyond, min(_TUBES_A_TILE, beyond.shape[1]))
    return jax.tree.map(lambda column: column[chosen], tubes)


def _distance(tube: Tubes, down: Array, back: Array, left: Array) -> tuple[Array, Array]:
    """Distance of places (planes, tiles, pixels) to the middle line of tubes (tiles,), and the tube's radius there.

    A tube of one tile may also be (1, k) and the places (1, tiles, 1): then every tile meets every tube, (1, tiles, k).
    """

    def column(values: Array) -> Array:
        return values[:, None, :] if values.ndim == 2 else values[None, :, None]

    start = [column(tube.start[..., i]) for i in range(3)]
    way = [column(tube.end[..., i] - tube.start[..., i]) for i in range(3)]
    from_start = [place - at for place, at in zip((down, back, left), start, strict=True)]
    along = sum(a * b for a, b in zip(from_start, way, strict=True)) / (sum(b * b for b in way) + 1e-6)
    along = jnp.clip(along, 0, 1)
    far = jnp.sqrt(sum((a - along * b) ** 2 for a, b in zip(from_start, way, strict=True)))
    begin, finish = (column(tube.radius[..., i]) for i in range(2))
    return far, begin + along * (finish - begin)


def _slab(far: Array, radius: Array, pixel: float) -> Array:
    """Share of a pixel at a distance from the middle of a slab that the slab covers."""
    half = pixel / 2
    return jnp.clip(jnp.minimum(radius, far + half) - jnp.maximum(-radius, far - half), 0) / pixel


# ---- noise


def noise_level(scan: Scan) -> Array:
    """S.d. of the noise in Hounsfield units: of the kernel, over the square roots of dose and thickness."""
    return jnp.array(NOISE, jnp.float32)[scan.kernel] / jnp.sqrt(scan.dose * scan.thickness)


def grain(white: Array, scan: Scan, pixel: float) -> Array:
    """White noise (planes, H, W) coloured by the kernel, variance 1 at every pixel; planes overlap where the slice is thicker."""
    size = white.shape[-1]
    narrow, broad = (
        _gaussian(size, jnp.array(widths, jnp.float32)[scan.kernel] / pixel) for widths in zip(*_COLOUR, strict=True)
    )
    narrow, broad = (matrix / matrix.sum(1, keepdims=True) for matrix in (narrow, broad))
    a, b, c = (jnp.sum(x * y, 1) for x, y in ((narrow, narrow), (narrow, broad), (broad, broad)))
    share = 0.85
    variance = a[:, None] * a[None] - 2 * share * b[:, None] * b[None] + share**2 * c[:, None] * c[None]
    field = narrow @ white @ narrow.T - share * broad @ white @ broad.T
    overlap = jax.nn.relu(
        1 - jnp.abs(_steps(white.shape[0])) * pixel / scan.thickness
    )  # of two slices: photons they share
    along = jnp.linalg.cholesky(overlap + 1e-5 * jnp.eye(len(overlap), dtype=jnp.float32))
    return jnp.einsum("ij,jhw->ihw", along, field) / jnp.sqrt(variance)[None]


def _steps(n: int) -> Array:
    place = jnp.arange(n, dtype=jnp.float32)
    return place[:, None] - place[None]


def _gaussian(n: int, width: Array) -> Array:
    """Gaussian of s.d. ``width`` pixels around each, (n, n)."""
    return jnp.exp(-(_steps(n) ** 2) / (2 * width**2))
