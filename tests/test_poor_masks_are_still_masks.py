"""Masks drawn poorly are masks: contours are off by what was asked, parts are missed whole, coarse outlines are blocks."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import ndimage

from rafmodel import cohort, contours, design, masks, segment, segment_predict
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom
from rafmodel.sampling import dice_jitter

SIDE, RADIUS, N = 64, 18, 300
KEY = jax.random.key(4)
[PLAIN] = design.select(["untrained"])


def ball(dims, side=SIDE, radius=float(RADIUS)):
    """A disc, or a ball, in the middle, which is no pixel's centre."""
    away = np.indices((side,) * dims) - (side - 1) / 2
    return (np.sum(away**2, 0) <= radius**2).astype(np.uint8)


def labelled(mask, of=("A", "B")):
    """Images without content, of subgroups A and B in turn, that have this mask."""
    n = len(mask)
    who = np.array([of[i % 2] for i in range(n)])
    image, label, split = np.zeros((*mask.shape, 1), np.uint8), np.full(n, -1, np.int8), np.full(n, "train")
    patient = np.array([str(i) for i in range(n)])
    return cohort.Cohort(image, label, patient, split, {"site": who}, "discs", "", "", "", mask)


DISCS = labelled(np.repeat(ball(2)[None], N, 0))


def drawn(images, key=KEY, **choice):
    return contours.drawn(key, images, replace(PLAIN, **choice)).mask


# ---- contours that are off


@pytest.fixture(scope="module", params=[0.7, 1.5])
def jittered(request):
    return request.param, drawn(DISCS, mask_jitter=request.param)


def test_a_jittered_contour_keeps_its_area_in_the_mean(jittered):
    """A disc of radius R + e has the area π(R² + 2Re + e²), in the mean π(R² + σ²)."""
    sigma, found = jittered
    area = found.sum((1, 2))
    expected = ball(2).sum() + np.pi * sigma**2
    assert area.mean() == pytest.approx(expected, abs=4 * area.std() / np.sqrt(N))
    assert area.std() > 0


def test_a_contour_is_off_by_the_standard_deviation_that_was_asked(jittered):
    """Where the contour crosses the four half axes from the middle, counted in whole pixels (variance 1/12 more)."""
    sigma, found = jittered
    half = SIDE // 2
    rays = [
        found[:, half, half:],
        found[:, half, :half][:, ::-1],
        found[:, half:, half],
        found[:, :half, half][:, ::-1],
    ]
    crossed = np.stack([ray.argmin(1) for ray in rays], 1)
    assert all((ray.max(1) == 1).all() and (ray.min(1) == 0).all() for ray in rays)
    expected = np.sqrt(sigma**2 + 1 / 12)
    # four rays of a disc are far apart for the field; s.e. of an s.d. is s.d. / √(2n)
    assert crossed.std() == pytest.approx(expected, abs=4 * expected / np.sqrt(2 * crossed.size))


def test_the_dice_of_a_jittered_contour_is_that_of_theory(jittered):
    sigma, found = jittered
    true = ball(2)
    each = 2 * (found * true).sum((1, 2)) / (found.sum((1, 2)) + true.sum())
    closed = float(dice_jitter(np.pi * RADIUS**2, 2 * np.pi * RADIUS, sigma))
    # pixels shift the mean loss by little; first order leaves out (σ / R)²
    assert each.mean() == pytest.approx(closed, abs=4 * each.std() / np.sqrt(N) + (sigma / RADIUS) ** 2)
    assert 1 - closed > 5 * (sigma / RADIUS) ** 2


def test_a_jittered_mask_is_a_mask(jittered):
    """In one piece without holes, not speckled: nearly always, and what is torn off is small."""
    _, found = jittered
    pieces = [ndimage.label(mask)[1] + ndimage.label(1 - mask)[1] for mask in found]
    assert np.mean(np.array(pieces) == 2) > 0.95


def test_volumes_are_jittered_like_images():
    sigma, true = 1.0, ball(3, 24, 7.0)
    found = drawn(labelled(np.repeat(true[None], 60, 0)), mask_jitter=sigma)
    ray = found[:, 12, 12, 12:].argmin(1), found[:, 12:, 12, 12].argmin(1), found[:, 12, 11::-1, 12].argmin(1)
    expected = np.sqrt(sigma**2 + 1 / 12)
    assert np.std(ray) == pytest.approx(expected, abs=4 * expected / np.sqrt(2 * 180))
    volume = found.reshape(60, -1).sum(1)
    expected = true.sum() * (1 + 3 * (sigma / 7) ** 2)  # E (R + e)³ = R³ + 3Rσ²
    assert volume.mean() == pytest.approx(expected, abs=4 * volume.std() / np.sqrt(60))


def test_masks_without_a_contour_have_none_that_is_off():
    whole = np.stack([np.ones((8, 8), np.uint8), np.zeros((8, 8), np.uint8)])
    np.testing.assert_array_equal(drawn(labelled(whole), mask_jitter=2.0), whole)


# ---- parts that were missed


def parts(n=200):
    """Four parts, one of which touches another pixel at a corner only."""
    mask = np.zeros((n, 24, 24), np.uint8)
    mask[:, 2:5, 2:5] = mask[:, 2:6, 15:20] = mask[:, 14, 3] = 1
    mask[:, 15:18, 15:18] = mask[:, 18, 18] = 1
    return labelled(mask)


def test_parts_are_missed_whole_as_often_as_was_asked():
    images = parts()
    places = [(3, 3), (3, 16), (14, 3), (16, 16)]
    half = drawn(images, mask_missed=0.5)
    there = np.stack([half[:, r, c] for r, c in places], 1)
    np.testing.assert_array_equal(half, images.mask * _spread(there))
    assert there.mean(0) == pytest.approx([0.5] * 4, abs=4 * np.sqrt(0.25 / len(half)))
    assert abs(np.corrcoef(there.T)[np.triu_indices(4, 1)]).max() < 4 / np.sqrt(len(half))  # each on its own
    few = drawn(images, mask_missed=0.1)
    assert few.sum() / images.mask.sum() == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / (3 * len(few))))
    np.testing.assert_array_equal(drawn(images, mask_missed=0.0), images.mask)


def _spread(there):
    """Which of the four parts there are (n, 4), at all their pixels."""
    rows = np.repeat(there.reshape(-1, 2, 2), 12, 1)
    return np.repeat(rows, 12, 2)


def test_where_everything_is_missed_nothing_can_be_learned():
    with pytest.raises(
        InputError, match="none of the 200 labelled masks has a pixel of the structure left; ask for less"
    ):
        drawn(parts(), mask_missed=1.0)
    half = drawn(parts(), mask_missed=1.0, flip_in="B", group="site")
    assert not half[1::2].any()
    rng = np.random.default_rng(0)
    assert not contours.missed(rng, ball(3, 8, 2.0), 1.0).any()


# ---- outlines of blocks


@pytest.mark.parametrize("dims", [2, 3])
def test_coarse_contours_are_blocks(dims):
    true, k = ball(dims, 20, 6.0), 4
    found = drawn(labelled(np.repeat(true[None], 40, 0)), mask_coarse=k)
    starts = [_starts(mask, k) for mask in found]
    assert len(set(starts)) > 5  # the grid is drawn
    assert not all(_uniform(true, k, start) for start in set(starts))
    for mask, start in zip(found, starts, strict=True):
        share, kept = (np.nanmean(_blocks(_padded(x, k, start), k), 1) for x in (true, mask))
        np.testing.assert_array_equal(kept, share >= 0.5)


def _padded(mask, k, start):
    """The mask with nan around it, so that its grid of blocks begins with the first pixel."""
    around = [(s, -(n + s) % k) for n, s in zip(mask.shape, start, strict=True)]
    return np.pad(mask.astype(float), around, constant_values=np.nan)


def _blocks(mask, k):
    """Values of each block, (blocks, k^dims), of a mask whose sides are multiples of k."""
    dims = mask.ndim
    split = mask.reshape([size for n in mask.shape for size in (n // k, k)])
    return split.transpose(*range(0, 2 * dims, 2), *range(1, 2 * dims, 2)).reshape(-1, k**dims)


def _uniform(mask, k, start):
    blocks = _blocks(_padded(mask, k, start), k)
    return bool((np.nanmin(blocks, 1) == np.nanmax(blocks, 1)).all())


def _starts(mask, k):
    """Pixels by which the grid of blocks begins before the image, found by trying."""
    return next(start for start in np.ndindex((k,) * mask.ndim) if _uniform(mask, k, start))


def test_blocks_of_one_pixel_change_nothing():
    np.testing.assert_array_equal(drawn(DISCS, mask_coarse=1), DISCS.mask)


# ---- whose masks, and with which key

POOR = ({"mask_jitter": 1.5}, {"mask_missed": 0.5}, {"mask_coarse": 5}, {"mask_jitter": 1.0, "mask_coarse": 3})


@pytest.mark.parametrize("choice", POOR)
def test_a_key_decides_and_an_image_s_mask_does_not_depend_on_others(choice):
    few = cohort.take(DISCS, np.arange(20))
    found = drawn(few, **choice)
    np.testing.assert_array_equal(found, drawn(few, **choice))
    np.testing.assert_array_equal(found[:7], drawn(cohort.take(few, np.arange(7)), **choice))
    assert (found != drawn(few, jax.random.key(5), **choice)).any()
    assert len(np.unique(found.reshape(20, -1), axis=0)) > 1
    assert found.dtype == few.mask.dtype
    assert set(np.unique(found)) == {0, 1}
    assert (few.mask == DISCS.mask[:20]).all()  # the cohort's own are as they were


@pytest.mark.parametrize("choice", POOR)
def test_only_the_subgroup_that_is_named_has_poor_masks(choice):
    few = cohort.take(DISCS, np.arange(20))
    found, all_of_them = drawn(few, flip_in="B", group="site", **choice), drawn(few, **choice)
    np.testing.assert_array_equal(found[::2], few.mask[::2])
    np.testing.assert_array_equal(found[1::2], all_of_them[1::2])
    assert (found[1::2] != few.mask[1::2]).any()


# ---- in a study


def test_a_segmentation_learns_from_the_poor_masks_and_is_judged_by_the_right_ones():
    images, task = masks.segmented(phantom(jax.random.key(0), n_patients=80, lesion=0.9))
    one = replace(PLAIN, widths=(4,), n_labelled=24)
    poor = replace(one, mask_coarse=6, flip_in="A", group="site")
    usual, found = (segment.trained(KEY, images, d, task) for d in (one, poor))
    np.testing.assert_array_equal(usual.labelled.image, found.labelled.image)
    who = found.labelled.attributes["site"] == "A"
    assert 0 < who.sum() < len(who)
    np.testing.assert_array_equal(found.labelled.mask[~who], usual.labelled.mask[~who])
    assert all(_starts(mask, 6) is not None for mask in found.labelled.mask[who])
    assert (found.labelled.mask[who] != usual.labelled.mask[who]).any()
    assert (np.asarray(found.head.merge[0]) != np.asarray(usual.head.merge[0])).any()
    wrong = replace(one, label_flip=1.0, flip_in="A", group="site")
    everyone = segment.trained(KEY, images, replace(wrong, flip_in=""), task).head.merge[0]
    inverted = segment.trained(KEY, images, wrong, task).head.merge[0]
    np.testing.assert_allclose(everyone, -usual.head.merge[0], rtol=1e-4, atol=1e-6)
    assert np.abs(inverted - everyone).max() > 1e-3


def test_poor_masks_are_a_choice_of_a_segmentation_s_designs():
    chosen = design.select(["untrained[mask_jitter=2|0.5,mask_missed=0.1]", "untrained[mask_coarse=3,flip_in=B]"])
    assert [(d.mask_jitter, d.mask_missed, d.mask_coarse) for d in chosen] == [(2, 0.1, 1), (0.5, 0.1, 1), (0, 0, 3)]
    images = replace(DISCS, label=np.arange(N) % 2)
    assert masks.suited(chosen, images, named=True) == chosen
    assert [d.group for d in design.fitted(chosen, images, "site", of_pixels=True)] == [None, None, "site"]
    with pytest.raises(InputError, match="mask_jitter is a choice about masks, which only a segmentation learns from"):
        design.fitted(chosen, images, "site")
    with pytest.raises(InputError, match="no subgroup 'C' to train on; choose from A, B"):
        design.fitted(design.select(["untrained[mask_coarse=3,flip_in=C]"]), images, "site", of_pixels=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mask_jitter=-1", "mask_jitter -1.0 must be a number of pixels, 0 or more"),
        ("mask_jitter=inf", "mask_jitter inf: larger than"),
        ("mask_jitter=nan", "mask_jitter nan must be"),
        ("mask_jitter=65", "mask_jitter 65.0: larger than the images, 64 x 64 pixels; take at most 64"),
        ("mask_missed=1.1", "mask_missed 1.1 must be a probability, from 0 to 1"),
        ("mask_coarse=0", "mask_coarse 0 must be 1 or more"),
        ("mask_coarse=65", "mask_coarse 65: larger than the images"),
    ],
)
def test_masks_that_cannot_be_drawn_are_told(text, told):
    with pytest.raises(InputError, match=told):
        design.fitted(masks.suited(design.select([f"untrained[{text}]"]), DISCS, named=True), DISCS, of_pixels=True)


def test_theory_says_that_it_takes_poor_masks_for_right_ones():
    assert not any("masks drawn poorly" in why for why in segment_predict.outside(DISCS, PLAIN))
    said = segment_predict.outside(DISCS, replace(PLAIN, mask_jitter=1.0, mask_coarse=2, flip_in="A"))
    assert "masks drawn poorly (mask_jitter, mask_coarse), foreseen as if they were right" in said
    assert any("wrong in one subgroup" in why for why in said)
