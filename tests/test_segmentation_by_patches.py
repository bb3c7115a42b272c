"""A segmentation learns from patches where they say, and tiles are merged to the score of the whole image."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import cli, cohort, design, masks, pretrain, segment, segment_predict, study, variability
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom

IMAGES, TASK = masks.segmented(phantom(jax.random.key(0), n_patients=60, lesion=0.9))
SIDE = IMAGES.image.shape[1]
TEST = cohort.part(IMAGES, "test")
[UNTRAINED] = design.select(["untrained"])
UNTRAINED = replace(UNTRAINED, widths=(8, 16), n_labelled=20)
BY_PATCHES = replace(TASK, patch=16)


@pytest.mark.parametrize("shape", [(3, 13, 17, 2), (2, 9, 11, 8, 1)], ids=["plane", "space"])
@pytest.mark.parametrize("side", [3, 4, 7])
def test_a_constant_score_comes_back_from_all_tiles(shape, side):
    """Each pixel lies in a tile, and weights of those it lies in sum to one."""
    images = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    for value in (1.0, 0.3, -1e4):
        found = segment.tiled(lambda tiles, v=value: np.full(tiles.shape[:-1], v, np.float32), images, side=side)
        assert found.shape == shape[:-1]
        np.testing.assert_allclose(found, value, rtol=0 if value == 1 else 4e-7)  # a step or two of float32


def test_a_score_of_each_pixel_alone_is_that_of_the_whole_image():
    images = np.random.default_rng(0).uniform(size=(2, 20, 30, 1)).astype(np.float32)
    found = segment.tiled(lambda tiles: np.asarray(tiles)[..., 0] ** 2, images, side=8)
    np.testing.assert_allclose(found, images[..., 0] ** 2, rtol=1e-6)


def test_overlapping_tiles_are_weighed_by_a_gaussian_about_their_middle():
    """On a line of pixels: by hand, tile by tile, from the place in a tile as score."""
    side, n = 8, 20
    images = np.zeros((1, n, side, 1), np.float32)
    row = lambda tiles: np.broadcast_to(np.arange(side, dtype=np.float32)[:, None], tiles.shape[:-1])  # noqa: E731
    found = segment.tiled(row, images, side=side)[0, :, 0]
    top, total = np.zeros(n), np.zeros(n)
    for start in (0, 4, 8, 12):
        for i in range(side):
            weight = np.exp(-((i - 3.5) ** 2) / 2)  # s.d. of one pixel, an eighth of eight
            top[start + i] += weight * i
            total[start + i] += weight
    np.testing.assert_allclose(found, top / total, rtol=1e-5)


def test_one_tile_of_the_image_is_the_image():
    network, head, *_ = segment.trained(jax.random.key(1), IMAGES, UNTRAINED, TASK)
    images = cohort.pixels(TEST)
    whole = segment.score_maps(network, head, images)
    score = lambda some: segment.score_maps(network, head, some)  # noqa: E731
    np.testing.assert_array_equal(segment.tiled(score, images, side=SIDE), whole)
    np.testing.assert_array_equal(segment.tiled(score, images, side=0), whole)
    apart = segment.tiled(score, images, side=16)
    assert 0 < np.abs(apart - whole).mean() < 0.5 * whole.std()  # borders of tiles see less


def test_patches_of_labelled_images_lie_where_they_say():
    """Half of them about a pixel of the structure, or as many as any place has it; images and masks are cut alike."""
    labelled = cohort.take(IMAGES, np.arange(40))
    pixels, inside = cohort.pixels(labelled)[..., 0], np.asarray(labelled.mask)
    for side in (8, 9):
        each = (-(-SIDE // side)) ** 2
        share = {}
        for sampling in masks.SAMPLINGS:
            asked = replace(TASK, patch=side, sampling=sampling)
            found = masks.patched(jax.random.key(2), labelled, asked)
            assert found.image.shape == (40 * each, side, side, 1)
            np.testing.assert_array_equal(found.patient, np.repeat(labelled.patient, each))
            middle = found.mask[:, side // 2, side // 2].reshape(40, each)
            some = inside.any((1, 2))
            share[sampling] = middle[some].mean()
            for i in (0, each - 1, 7 * each + 3):
                windows = np.lib.stride_tricks.sliding_window_view(pixels[i // each], (side, side))
                at = np.argwhere((windows == found.image[i, ..., 0]).all((2, 3)))
                assert any(
                    (inside[i // each][a : a + side, b : b + side] == found.mask[i]).all() for a, b in at.tolist()
                )
        # a structure at the border is not in the middle; some of the others hit it by chance
        assert share["foreground"] > 0.4
        assert share["random"] < 0.6 * share["foreground"]
    assert masks.patched(jax.random.key(2), labelled, TASK) is labelled


def test_proxy_tasks_see_one_patch_of_each_image_anywhere():
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(200, 12, 9, 1)), jnp.float32)
    cut = np.asarray(pretrain._cut(jax.random.key(0), images, 8))
    assert cut.shape == (200, 8, 8, 1)
    places = set()
    for one, image in zip(cut, np.asarray(images), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (8, 8))
        [[a, b]] = np.argwhere((windows == one[..., 0]).all((2, 3)))
        places.add((int(a), int(b)))
    assert places == {(a, b) for a in range(5) for b in range(2)}


def test_a_design_is_trained_on_patches_and_deployed_on_whole_images():
    [one] = design.select(["contrastive+crop"])
    one = replace(one, widths=(8, 16), n_labelled=20, steps=3, batch=8)
    shifts = (variability.NOISE, variability.ROTATION)
    found = segment.deploy(jax.random.key(1), IMAGES, TEST, one, shifts, task=BY_PATCHES)
    again = segment.deploy(jax.random.key(1), IMAGES, TEST, one, shifts, task=BY_PATCHES)
    np.testing.assert_array_equal(found.pixels, again.pixels)
    assert not found.failed
    assert found.pixels.shape[:2] == (11, len(TEST.label))
    np.testing.assert_array_equal(found.pixels[0].sum((1, 2)), SIDE**2)  # each pixel of an image is counted once
    clean = segment.score(found, TEST, None).dice[0, 0, 0]
    assert clean > TASK.chance + 0.1
    whole = segment.deploy(jax.random.key(1), IMAGES, TEST, one, shifts, task=TASK)
    assert (whole.pixels != found.pixels).any()


def test_designs_say_their_own_patches_sampling_and_head():
    """Two of them in one table are trained as each would be by a task of its own; what they do not say is the task's."""
    said = masks.as_designed(BY_PATCHES, replace(UNTRAINED, patch=8, sampling="random", head="decoder"))
    assert (said.patch, said.sampling, said.head) == (8, "random", "decoder")
    assert masks.as_designed(BY_PATCHES, UNTRAINED) == BY_PATCHES
    by_design = segment.deploy(jax.random.key(1), IMAGES, TEST, replace(UNTRAINED, patch=16), (), task=TASK)
    by_task = segment.deploy(jax.random.key(1), IMAGES, TEST, UNTRAINED, (), task=BY_PATCHES)
    np.testing.assert_array_equal(by_design.pixels, by_task.pixels)
    assert by_design.threshold == by_task.threshold


def test_options_are_for_designs_that_do_not_say():
    texts = ("untrained[patch=8|0]", "untrained[head=decoder|probe,sampling=random]", "untrained")
    command = cli.Study(cohort="phantom", task="segmentation", patch=16, head="tuned", designs=texts)
    plan = cli._plan(command, phantom(jax.random.key(0), n_patients=60, size=32))
    [of_task] = {plan.task.head}
    assert [d.patch for d in plan.designs] == [8, 0, 16, 16, 16]
    assert [d.head or of_task for d in plan.designs] == ["tuned", "tuned", "decoder", "probe", "tuned"]


@pytest.mark.parametrize("head", ["decoder", "tuned"])
def test_heads_learn_from_patches_too(head, monkeypatch):
    monkeypatch.setattr(segment, "STEPS", 50)
    found = segment.deploy(jax.random.key(1), IMAGES, TEST, UNTRAINED, (), task=replace(BY_PATCHES, head=head))
    assert np.nanmean(segment.dice.dice(found.pixels[0], int(found.threshold))) > TASK.chance + 0.1


# ---- what is refused, and what theory says


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            {"patch": SIDE + 1},
            rf"--patch {SIDE + 1}: larger than the images, {SIDE} x {SIDE} pixels; take at most {SIDE}",
        ),
        ({"patch": -3}, "--patch -3: give a side in pixels above 0"),
        ({"patch": 8, "sampling": "edges"}, "--sampling edges: choose from foreground, random"),
    ],
)
def test_patches_must_fit(how, told):
    with pytest.raises(InputError, match=told):
        masks.segmented(IMAGES, **how)


def test_a_design_that_does_not_fit_the_patches_is_refused_or_left_out():
    plain, jigsaw = design.select(["untrained", "jigsaw"])
    assert masks.suited((plain, jigsaw), IMAGES, named=False) == (plain, jigsaw)
    assert masks.suited((plain, jigsaw), IMAGES, named=False, patch=2) == (plain,)
    with pytest.raises(InputError, match="'jigsaw' does not fit"):
        masks.suited((plain, jigsaw), IMAGES, named=True, patch=2)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--patch", "16"], "add --task segmentation"),
        (["--task", "segmentation", "--patch", "33"], "larger than the images"),
        (["--task", "segmentation", "--sampling", "random"], "add --patch SIDE"),
        (["--designs", "untrained[head=decoder]"], "head is made for pixels; add --task segmentation"),
        (["--task", "segmentation", "--designs", "untrained[patch=40]"], "patch 40 must be from 1 to"),
        (
            ["--task", "segmentation", "--designs", "untrained[head=tree]"],
            "head tree must be one of probe, decoder, tuned",
        ),
        (
            ["--task", "segmentation", "--designs", "untrained[patch=8,pooling=max]"],
            "pooling is a choice about labels of images",
        ),
        (
            ["--task", "segmentation", "--designs", "untrained[patch=8,sampling=grid]"],
            "choose from foreground, random for pixels",
        ),
    ],
)
def test_the_command_line_says_so_in_one_line(more, told, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "predicted", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["study", "--cohort", "phantom", "--out", str(tmp_path / "out"), *more])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_theory_says_that_it_does_not_see_patches():
    said = segment_predict.outside(IMAGES, replace(UNTRAINED, patch=16))
    assert any("patches of 16 pixels" in why for why in said)
    assert not any("patches" in why for why in segment_predict.outside(IMAGES, UNTRAINED))
