"""Patches are cut where they say, cover what they should, hit as often as theory has it, and go together to the image again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import patches as p
from rafmodel import sampling
from rafmodel.errors import InputError

KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
SHAPES = pytest.mark.parametrize("shape", [(3, 13, 17, 2), (2, 9, 11, 8, 1)], ids=["plane", "space"])


def by_hand(images, found):
    """The same patches by slicing one after the other."""
    side = found.pixels.shape[1:-1]
    spans = [tuple(slice(c, c + a) for c, a in zip(corner, side, strict=True)) for corner in np.asarray(found.corner)]
    return np.stack([images[(int(row), *span)] for row, span in zip(np.asarray(found.row), spans, strict=True)])


@SHAPES
def test_pixels_are_those_at_the_stated_place(shape):
    images = RNG.uniform(size=shape)
    masks = (images[..., 0] > 0.7).astype(np.uint8)
    for found in (
        p.grid_patches(images, side=5, overlap=2),
        p.random_patches(KEY, images, side=4, each=7),
        p.random_patches(KEY, images, side=4, each=3, tiles=True),
        p.foreground_biased_patches(KEY, images, masks, side=4, each=6, share=0.5),
    ):
        np.testing.assert_array_equal(found.pixels, by_hand(images, found))
        np.testing.assert_array_equal(p.cut_alike(masks, found), by_hand(masks[..., None], found)[..., 0])
        np.testing.assert_array_equal(p.cut_alike(images + 1, found), by_hand(images + 1, found))


@SHAPES
@pytest.mark.parametrize(("side", "overlap"), [(1, 0), (4, 0), (5, 2), (8, 7)])
def test_a_grid_goes_together_to_the_image(shape, side, overlap):
    images = RNG.uniform(size=shape)
    found = p.grid_patches(images, side=side, overlap=overlap)
    whole = p.assemble(found.pixels, found, shape[:-1])
    np.testing.assert_allclose(whole, images, rtol=1e-12)  # means of equal values, double precision


def test_a_grid_that_fits_has_as_many_patches_as_tiles_and_a_border_adds_one():
    images = np.zeros((2, 12, 10, 1))
    assert len(p.grid_patches(images, side=(4, 5)).row) == 2 * 3 * 2
    assert len(p.grid_patches(images, side=(5, 5)).row) == 2 * 3 * 2
    starts = sorted({int(c) for c in np.asarray(p.grid_patches(images, side=5, overlap=1).corner)[:, 0]})
    assert starts == [0, 4, 7]


def test_overlapping_scores_are_blended_by_weight_and_the_uncovered_is_nan():
    images = np.zeros((1, 6, 4, 1))
    two = p.Patches(jnp.zeros((2, 4, 4, 1)), jnp.array([0, 0]), jnp.array([[0, 0], [1, 0]]))
    scores = jnp.array([[1.0, 10.0], [3.0, 20.0]])
    blended = np.asarray(p.assemble(scores, two, images.shape[:-1]))
    np.testing.assert_allclose(blended[0, :, 0], [[1, 10]] + 3 * [[2, 15]] + [[3, 20], [np.nan, np.nan]])
    down = jnp.broadcast_to(jnp.array([4.0, 3.0, 2.0, 1.0])[:, None], (4, 4))
    weighed = np.asarray(p.assemble(scores, two, images.shape[:-1], weight=down))[0, :5, 1, 0]
    np.testing.assert_allclose(weighed, [1, (3 + 3 * 4) / 7, (2 + 3 * 3) / 5, (1 + 3 * 2) / 3, 3])


def within(share, expected, n):
    return abs(share - expected) < 4 * (expected * (1 - expected) / n) ** 0.5 + 1e-12


def test_tiles_hit_carriers_as_often_as_the_hypergeometric_law_has_it():
    """30 tiles of a 5 x 6 grid, 4 of them carriers, 8 drawn: the share of images with h hits, each h."""
    n, tile = 4000, 3
    carrier = np.zeros((5, 6), bool)
    carrier[[0, 1, 3, 4], [5, 2, 2, 0]] = True
    image = np.kron(carrier, np.ones((tile, tile)))[None, ..., None]
    found = p.random_patches(KEY, jnp.broadcast_to(image, (n, *image.shape[1:])), side=tile, each=8, tiles=True)
    hits = np.asarray(found.pixels.reshape(n, 8, -1).max(-1).sum(-1)).astype(int)
    chance = np.asarray(sampling.hits(30, 4, 8))
    for h, expected in enumerate(chance[:5]):
        assert within((hits == h).mean(), expected, n)
    corners = np.asarray(found.corner).reshape(n, 8, 2)
    assert all(len(np.unique(some, axis=0)) == 8 for some in corners[:50])


@pytest.mark.parametrize("space", [(20, 24), (12, 14, 10)], ids=["plane", "space"])
def test_anywhere_is_uniform_and_touches_a_lesion_as_often_as_places_are_counted(space):
    """Of the n − a + 1 starts of an axis those meet a lesion from i to i + L that lie between i − a and i + L."""
    lesion, at, side, n, each = 3, 4, 5, 40, 100
    image = np.zeros((1, *space, 1))
    image[(0, *(slice(at, at + lesion),) * len(space))] = 1
    found = p.random_patches(KEY, jnp.broadcast_to(image, (n, *space, 1)), side=side, each=each)
    touched = np.asarray(found.pixels.reshape(n * each, -1).max(-1))
    expected = np.prod([sum(at - side < i < at + lesion for i in range(m - side + 1)) / (m - side + 1) for m in space])
    assert within(touched.mean(), expected, n * each)
    for axis, m in enumerate(space):
        starts = np.bincount(np.asarray(found.corner)[:, axis], minlength=m - side + 1)
        assert len(starts) == m - side + 1
        assert all(within(count / starts.sum(), 1 / len(starts), starts.sum()) for count in starts)


@pytest.mark.parametrize("space", [(20, 24), (12, 14, 10)], ids=["plane", "space"])
def test_the_stated_share_lies_on_the_structure_and_the_rest_anywhere(space):
    """The middle pixel is of the structure in a share s + (1 − s) p of patches; an image without one is drawn from anywhere."""
    n, each, side, share = 30, 40, 5, 0.25
    masks = np.zeros((n, *space), np.uint8)
    masks[(slice(1, None), *(slice(4, 7),) * len(space))] = 2
    images = RNG.uniform(size=(*masks.shape, 1)).astype(np.float32)
    found = p.foreground_biased_patches(KEY, images, masks, side=side, each=each, share=share)
    middle = (slice(None), *(side // 2,) * len(space))
    on = (np.asarray(p.cut_alike(masks, found))[middle] > 0).reshape(n, each)
    assert on[1:, :10].all()
    by_chance = 3 ** len(space) / np.prod([m - side + 1 for m in space])
    assert within(on[1:, 10:].mean(), by_chance, on[1:, 10:].size)
    assert not on[0].any()
    chosen = np.asarray(found.corner).reshape(n, each, -1)[1:, :10].reshape(-1, len(space)) + side // 2
    counts = np.unique(chosen, axis=0, return_counts=True)[1]
    assert len(counts) == 3 ** len(space)  # every pixel of the structure
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < len(counts) + 4 * (2 * len(counts)) ** 0.5  # χ²


def test_a_structure_at_the_border_stays_in_the_patch():
    masks = np.zeros((4, 10, 10), np.uint8)
    masks[:, 0, 9] = 1
    images = np.zeros((4, 10, 10, 1))
    found = p.foreground_biased_patches(KEY, images, masks, side=6, each=2, share=1.0)
    assert (np.asarray(found.corner) == [0, 4]).all()


def test_what_does_not_fit_is_refused_in_one_line():
    images, masks = np.zeros((2, 10, 12, 1)), np.zeros((2, 10, 12))
    for wrong, message in (
        (
            lambda: p.grid_patches(images, side=11),
            "patches: 11 x 11 pixels do not fit into images of 10 x 12; take smaller",
        ),
        (lambda: p.random_patches(KEY, images, side=(10, 13), each=1), "10 x 13 pixels do not fit"),
        (lambda: p.grid_patches(images, side=(3, 3, 3)), "3 x 3 x 3 pixels do not fit"),
        (lambda: p.grid_patches(images, side=4, overlap=4), "overlap of 4 pixels"),
        (lambda: p.random_patches(KEY, images, side=5, each=7, tiles=True), "7 of every image, but its grid has 6"),
        (
            lambda: p.foreground_biased_patches(KEY, images, masks, side=4, each=2, share=1.5),
            r"share 1.5 .* from 0 to 1",
        ),
        (lambda: p.foreground_biased_patches(KEY, images, masks[:1], side=4, each=2, share=0.5), "masks .* do not fit"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            wrong()
        assert "\n" not in str(caught.value)
