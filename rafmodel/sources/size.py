"""Smaller images by averages over area, smaller masks by the class at each new centre; in two or three dimensions."""

import numpy as np

_CHUNK_2D, _CHUNK_VOXELS = 256, 2**22  # a chunk at a time, since each becomes float


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Images (N, *space, C) averaged by area to at most ``size`` pixels a side, float32 in [0, 1]."""
    small = averaged(image, tuple(min(side, size) for side in image.shape[1:-1]))
    return (small / np.float32(255 if image.dtype == np.uint8 else 1)).clip(0, 1)


def averaged(image: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
    """Images (N, *old, C) of any range averaged by area to sides ``space``, none larger than before, float32."""
    weights = [_area_weights(old, new) for old, new in zip(image.shape[1:-1], space, strict=True)]
    law = "ih,nhwc,jw->nijc" if len(space) == 2 else "ih,nhwdc,jw,kd->nijkc"
    order = [weights[0], None, *weights[1:]]
    small = np.empty((len(image), *space, image.shape[-1]), np.float32)
    chunk = _CHUNK_2D if len(space) == 2 else max(1, _CHUNK_VOXELS // max(image[:1].size, 1))
    for start in range(0, len(image), chunk):
        order[1] = image[start : start + chunk].astype(np.float32)
        small[start : start + chunk] = np.einsum(law, *order, optimize=True)
    return small


def _area_weights(old: int, new: int) -> np.ndarray:
    """Share of each old pixel in each new one, (new, old); rows sum to 1."""
    edges = np.linspace(0, old, new + 1)
    low = np.maximum(edges[:-1, None], np.arange(old)[None, :])
    high = np.minimum(edges[1:, None], np.arange(1, old + 1)[None, :])
    return (np.maximum(high - low, 0) * new / old).astype(np.float32)


def thin(mask: np.ndarray, size: int) -> np.ndarray:
    """Classes (N, *space) at the centre of each new pixel, for classes have no mean."""
    return at_centres(mask, tuple(min(side, size) for side in mask.shape[1:]))


def at_centres(mask: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
    """As ``thin``, to sides ``space``."""
    centres = [_centres(old, new) for old, new in zip(mask.shape[1:], space, strict=True)]
    return mask[(slice(None), *np.ix_(*centres))]


def _centres(old: int, new: int) -> np.ndarray:
    """Old pixel in which the centre of each new one lies, (new,)."""
    return (2 * np.arange(new) + 1) * old // (2 * new)
