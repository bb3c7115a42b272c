"""A design by patches learns from patches of images and pools the scores of an image's tiles, as by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import cli, cohort, cost, design, labels, metrics, phantoms, predict, running, simulate, study, tiles
from rafmodel import variability as variabilities
from rafmodel.encoder import encoder, features
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom

KEY = jax.random.key(3)
IMAGES = phantom(jax.random.key(0), n_patients=60, size=16)
TRAIN, TEST = cohort.part(IMAGES, "train"), cohort.part(IMAGES, "test")
VOLUMES = phantom(jax.random.key(1), n_patients=20, size=12, volumes=True)
NOISE = (variabilities.NOISE,)


def chosen(text):
    [one] = design.select([text], steps=3)
    return replace(one, widths=(4, 8), batch=8)


def scores(run, images):
    return run.probe(features(run.network, images))


def lesions_in_texture(key, n_train=240, n_test=160, size=48, height=0.45, width=2.0):
    """Images all of one texture; half of them have a small bright lesion anywhere, about a hundredth of the image."""
    key_field, key_place = jax.random.split(key)
    n, axis = n_train + n_test, jnp.arange(size, dtype=jnp.float32) / size
    white = jax.random.normal(key_field, (n, size, size), jnp.float32)
    texture = jax.vmap(lambda some: phantoms._smooth(some, axis, 0.03))(white)
    place = np.asarray(jax.random.uniform(key_place, (n, 2, 1), minval=4, maxval=size - 4))
    rows, columns = (np.exp(-((np.arange(size) - place[:, i]) ** 2) / (2 * width**2)) for i in (0, 1))
    case = np.arange(n) % 2
    lesion = case[:, None, None] * rows[:, :, None] * columns[:, None]
    image = np.clip(0.4 + 0.1 * np.asarray(texture) + height * lesion, 0, 1).astype(np.float32)
    return replace(
        cohort.take(IMAGES, np.zeros(n, int)),
        image=image[..., None],
        mask=(lesion > 0.5).astype(np.uint8),
        label=case.astype(np.int8),
        patient=np.array([f"p{i}" for i in range(n)]),
        split=np.where(np.arange(n) < n_train, "train", "test"),
    )


# ---- what it is for


def test_a_small_lesion_is_found_by_the_highest_of_its_tiles():
    """The mean over the image dilutes what one tile shows: differences over four other keys were 0.07 to 0.13."""
    images = lesions_in_texture(jax.random.key(0))
    test, area = cohort.part(images, "test"), {}
    for text in ("untrained", "untrained[patch=12,pooling=max]", "untrained[patch=12,pooling=mean]"):
        one = replace(design.select([text])[0], widths=(8, 16))
        runs = [simulate.trained(jax.random.key(seed), images, one) for seed in (0, 1)]
        area[text] = np.array([metrics.auc(scores(run, cohort.pixels(test)), test.label) for run in runs])
    whole, highest, mean = area.values()
    assert (highest > whole + 0.04).all()
    assert (highest > mean + 0.02).all()


# ---- scores


@pytest.mark.parametrize(("images", "side"), [(IMAGES, 6), (VOLUMES, 8)], ids=["plane", "space"])
def test_scores_are_those_of_tiles_pooled_by_hand(images, side):
    """Tile by tile: places every half a side and one that ends where the image does."""
    some = cohort.pixels(cohort.take(images, np.arange(5)))
    size, dims = some.shape[1], some.ndim - 2
    network = encoder(KEY, 1, (4, 8), dims=dims)
    weights = np.random.default_rng(0).normal(size=8)
    starts = [*range(0, size - side, side // 2), size - side]
    corners = np.stack(np.meshgrid(*[starts] * dims, indexing="ij"), -1).reshape(-1, dims)
    of_tiles = []
    for image in some:
        cut = [image[tuple(slice(at, at + side) for at in corner)] for corner in corners.tolist()]
        of_tiles.append(sorted((features(network, np.stack(cut)) @ weights).tolist()))
    n = -(-len(corners) // 10)  # a tenth, and at least one
    by_hand = {
        "mean": [sum(row) / len(row) for row in of_tiles],
        "max": [row[-1] for row in of_tiles],
        "top": [sum(row[-n:]) / n for row in of_tiles],
    }
    for pooling, expected in by_hand.items():
        probe = tiles.pooled(lambda z: z @ weights, pooling, 8)
        encoded = features(tiles.Tiled(network, side), some)
        np.testing.assert_allclose(probe(encoded), expected, rtol=1e-4, atol=1e-5)
        both = probe(np.stack([encoded, encoded[::-1]]))  # two levels of a shift
        np.testing.assert_allclose(both, [expected, expected[::-1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "top"])
def test_each_of_several_questions_is_pooled_by_itself(pooling):
    z = np.random.default_rng(0).normal(size=(4, 7 * 3))
    both = tiles.pooled(lambda z: z[:, :2], pooling, 3)(z)
    each = [tiles.pooled(lambda z, i=i: z[:, i], pooling, 3)(z) for i in range(2)]
    np.testing.assert_array_equal(both, np.stack(each, 1))


def test_images_in_another_order_have_their_scores_in_that_order():
    run = simulate.trained(KEY, IMAGES, chosen("untrained[patch=8,pooling=max]"))
    images, order = cohort.pixels(TEST), np.random.default_rng(0).permutation(len(TEST.label))
    np.testing.assert_allclose(scores(run, images[order]), scores(run, images)[order], rtol=1e-5, atol=1e-6)


def test_a_patch_as_large_as_the_image_is_the_image():
    whole, one = (
        simulate.trained(KEY, IMAGES, chosen(text)) for text in ("untrained", "untrained[patch=16,pooling=max]")
    )
    images = cohort.pixels(TEST)
    np.testing.assert_allclose(scores(one, images), scores(whole, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("probe", ["ridge", "finetuned"])
def test_shifts_act_on_images_before_they_are_cut(probe, monkeypatch):
    """The left and the right half of an image change places, which no change of a tile alone could do."""
    turned = lambda images: np.roll(images, 8, 2)  # noqa: E731
    monkeypatch.setattr(
        simulate, "alter", lambda key, shift, images, levels: jnp.stack([turned(np.asarray(images))] * 5)
    )
    one = chosen(f"supervised[patch=8,pooling=top,probe={probe}]")
    found, run = simulate.deploy(KEY, IMAGES, TEST, one, NOISE), simulate.trained(KEY, IMAGES, one)
    images = cohort.pixels(TEST)
    np.testing.assert_allclose(found.score[0, 0], scores(run, images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.score[0, 3], scores(run, turned(images)), rtol=1e-4, atol=1e-5)
    assert np.isfinite(found.threshold)


# ---- what is learned from


@pytest.mark.parametrize("sampling", ["grid", "random", "foreground"])
def test_each_patch_has_the_label_and_the_weight_of_its_image(sampling):
    one = chosen(f"untrained[patch=6,sampling={sampling},flip_case=0.3,weighting=group,group=site]")
    whole = labels.lesson(KEY, TRAIN, one)
    found = tiles.in_tiles(KEY, whole, one)
    each = {"grid": 25, "random": 9, "foreground": 9}[sampling]  # places 0, 3, 6, 9, 10; sides of 16 by 6, rounded up
    assert found.cohort.image.shape == (each * len(whole.label), 6, 6, 1)
    of = np.repeat(np.arange(len(whole.label)), each)
    np.testing.assert_array_equal(found.label, whole.label[of])
    np.testing.assert_array_equal(found.cohort.patient, whole.cohort.patient[of])
    assert whole.weight is not None
    assert found.weight is not None
    np.testing.assert_allclose(found.weight, whole.weight[of])
    for row in (0, each - 1, 5 * each + 4):
        windows = np.lib.stride_tricks.sliding_window_view(cohort.pixels(whole.cohort)[of[row], ..., 0], (6, 6))
        assert (windows == found.cohort.image[row, ..., 0]).all((2, 3)).any()


def test_images_that_are_seen_several_times_have_all_their_patches_as_often():
    one = chosen("untrained[patch=8,prevalence=0.2,resampling=class]")
    whole = labels.lesson(KEY, TRAIN, one)
    found = tiles.in_tiles(KEY, whole, one)
    assert len(whole.row) > len(whole.label)
    count = np.bincount(found.row, minlength=len(found.label)).reshape(-1, 9)
    np.testing.assert_array_equal(count, np.repeat(np.bincount(whole.row)[:, None], 9, 1))


def test_half_of_the_patches_of_a_case_show_the_lesion_where_masks_say_where_it_is():
    images = lesions_in_texture(jax.random.key(2), n_train=20, n_test=0)
    share = {}
    for sampling in ("random", "foreground"):
        one = chosen(f"untrained[patch=12,sampling={sampling}]")
        whole = labels.lesson(KEY, images, one)
        found = tiles.in_tiles(KEY, whole, one).cohort.image[..., 0]
        share[sampling] = (found.reshape(20, 16, -1).max(-1)[whole.label == 1] > 0.75).mean()
    assert share["foreground"] > 0.4 > 2 * share["random"]


def test_the_proxy_task_sees_patches():
    """One pair of a batch's images, cut: the encoder differs from that of whole images, and without training it does not."""
    same, apart = (
        [simulate.trained(KEY, IMAGES, chosen(f"{name}{more}")).network for more in ("", "[patch=8]")]
        for name in ("untrained", "contrastive+crop")
    )
    weight = lambda network: np.asarray(getattr(network, "encoder", network).weights[0][...])  # noqa: E731
    np.testing.assert_array_equal(weight(same[0]), weight(same[1]))
    assert np.abs(weight(apart[0]) - weight(apart[1])).max() > 1e-4


def test_volumes_are_scored_by_tiles():
    one = chosen("contrastive+noise[patch=8,pooling=max]")
    found = simulate.deploy(KEY, VOLUMES, cohort.part(VOLUMES, "test"), one, NOISE)
    assert not found.failed
    assert found.score.shape == (1, 6, (VOLUMES.split == "test").sum())
    assert len(np.unique(found.score[0, 5])) == found.score.shape[2]


# ---- one table


def test_patch_sizes_share_a_table_with_whole_images(tmp_path):
    texts = ["untrained", "untrained[patch=8|12,pooling=max]"]
    plan = running.Plan(IMAGES, "site", tuple(replace(d, widths=(4, 8)) for d in design.select(texts)), NOISE, 1)
    cells = running.simulated(plan, tmp_path, lambda *_: None)
    flat, count = np.full((3, 1, 6, 3), 0.5), np.ones(3, int)
    forecast = metrics.Outcome(flat, flat, flat, count, count)  # what theory says is no matter here
    table = study.assemble(plan, forecast, cells, "made by a test")
    names = ["untrained", "untrained[patch=8,pooling=max]", "untrained[patch=12,pooling=max]"]
    assert table["design"].values.tolist() == names
    found = table["observed_auc"].values
    assert np.isfinite(found[..., 0]).all()  # of everyone; a subgroup of few images may lack a class
    assert len(np.unique(found[:, 0, 0, 0, 0])) == 3
    for name, value in zip(names, found[:, 0], strict=True):
        one = replace(design.select([name])[0], widths=(4, 8))
        np.testing.assert_allclose(simulate.simulate(plan.key(1, 0), IMAGES, TEST, one, NOISE, group="site").auc, value)


def test_a_dry_run_counts_patches_and_tiles(tmp_path):
    whole, one, more = (chosen(f"contrastive+crop{text}") for text in ("", "[patch=8]", "[patch=8,pooling=max]"))
    plan = running.Plan(IMAGES, None, (whole, one, more), NOISE, 1)
    seconds = [cost.core_seconds(plan, replace(d, steps=0)) for d in plan.designs]
    images = 5 * (len(TEST.label) + simulate.UNSEEN)
    each = [cost.operations(whole, (side, side, 1)) / cost.FLOPS for side in (16, 8)]
    assert seconds[1] - seconds[0] == pytest.approx(images * (9 * each[1] - each[0]))
    assert seconds[2] == seconds[1]
    told = cost.told(plan, running.cells(plan, tmp_path), cost.estimate(plan, [], "threads", 2), "threads")
    assert "contrastive+crop[patch=8]: 3 steps of 8" in told
    assert "labels in patches of 8 pixels" in told
    assert len(set(running.cells(plan, tmp_path).values())) == 3


# ---- what theory says, and what is refused


def test_theory_says_that_it_sees_whole_images():
    said = predict.outside(IMAGES, chosen("untrained[patch=8,pooling=max]"))
    assert any(
        "tiles of 8 pixels and the max of their scores, foreseen as if images were seen whole" in x for x in said
    )
    assert not any("tiles" in why for why in predict.outside(IMAGES, chosen("untrained")))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("untrained[patch=17]", "patch 17 must be from 1 to 16, the images' shortest side, or 0 for whole images"),
        ("untrained[patch=-1]", "patch -1 must be from 1 to 16"),
        ("untrained[pooling=max]", "pooling max must be left out of whole images, or add patch=SIDE"),
        ("untrained[sampling=random]", "sampling random must be left out of whole images, or add patch=SIDE"),
        ("untrained[patch=8,pooling=sum]", "pooling sum must be one of mean, max, top"),
        ("untrained[patch=8,sampling=edges]", "sampling edges must be one of grid, random, foreground"),
        ("jigsaw[patch=2]", "does not fit"),
    ],
)
def test_patches_that_cannot_be_are_refused_before_anything_is_trained(text, told, monkeypatch, capsys, tmp_path):
    np.savez(tmp_path / "c.npz", images=IMAGES.image[..., 0], labels=IMAGES.label, split=IMAGES.split)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "--cohort", "c.npz", "--designs", text])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_the_foreground_of_images_without_masks_is_refused():
    with pytest.raises(
        InputError, match="sampling foreground needs masks, and phantom has none; choose grid or random"
    ):
        design.fitted([chosen("untrained[patch=8,sampling=foreground]")], replace(IMAGES, mask=None))
