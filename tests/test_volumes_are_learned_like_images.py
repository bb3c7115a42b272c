"""In three axes of space proxy tasks follow their law of pairs, the encoder is a convolution, and designs run to the end."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rafmodel import cohort as cohorts
from rafmodel import design, grids, predict, pretrain, proxies, simulate, variability
from rafmodel.cohort import Cohort
from rafmodel.encoder import encoder, features, layer_statistics
from rafmodel.errors import InputError

pytestmark = pytest.mark.exhaustive

VOLUME = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (12, 12, 12, 1)), jnp.float32)


def draws(proxy, n=100, volume=VOLUME):
    keys = jax.random.split(jax.random.key(0), n)
    return [np.asarray(a) for a in jax.vmap(proxy.pairs, (0, None, None))(keys, volume, jnp.asarray(1))]


def test_rotation_has_ten_answers_and_each_names_its_turn():
    planes = ((0, 1), (0, 2), (1, 2))
    named = [(0, (0, 1)), *((k, plane) for plane in planes for k in (1, 2, 3))]
    turned, target = draws(proxies.rotation_prediction(()), n=200)
    for volume, answer in zip(turned, target, strict=True):
        np.testing.assert_array_equal(volume, np.rot90(VOLUME, *named[answer.argmax()]))
    assert target.shape[1] == 10
    assert (target.sum(0) > 4).all()  # ten classes, 200 draws: 20 each, s.d. 4.2
    asked = grids.quarter_turns(VOLUME)
    assert len({np.asarray(volume).tobytes() for volume in asked}) == 10


def test_location_is_one_of_the_26_cells_around_the_centre():
    seen, target = draws(proxies.relative_location(()), n=300)
    image = np.asarray(VOLUME)
    cells = [image[4 * i : 4 * i + 4, 4 * j : 4 * j + 4, 4 * k : 4 * k + 4] for i, j, k in np.ndindex(3, 3, 3)]
    around = [cell for cell in range(27) if cell != 13]
    for (centre, other), answer in zip(seen, target, strict=True):
        np.testing.assert_array_equal(centre, cells[13])
        np.testing.assert_array_equal(other, cells[around[answer.argmax()]])
    assert target.shape[1] == 26
    assert (target.sum(0) > 0).all()  # 26 cells, 300 draws: none is left out but with a chance of 26 exp(-11.5)


@pytest.mark.parametrize(("side", "n"), [(12, 2), (24, 3)])
def test_jigsaw_target_puts_the_cells_back(side, n):
    volume = jnp.asarray(np.random.default_rng(1).uniform(size=(side,) * 3 + (1,)), jnp.float32)
    shuffled, target = draws(proxies.jigsaw(()), n=20, volume=volume)
    cell = side // n
    where = [tuple(slice(cell * i, cell * (i + 1)) for i in at) for at in np.ndindex(n, n, n)]
    for seen, answer in zip(shuffled, target, strict=True):
        order = grids.orders(n**3)[answer.argmax()]
        back = np.empty_like(seen)
        for place, source in zip(where, order, strict=True):
            back[where[source]] = seen[place]
        np.testing.assert_array_equal(back, volume)
    assert target.shape[1] == 100


@pytest.mark.parametrize("n_cells", [8, 27])
def test_orders_of_a_jigsaw_are_far_apart(n_cells):
    orders = grids.orders(n_cells)
    assert (np.sort(orders, 1) == np.arange(n_cells)).all()
    distance = [(a != b).sum() for a, b in itertools.combinations(orders, 2)]
    drawn = np.stack([np.random.default_rng(i).permutation(n_cells) for i in range(100)])
    at_random = [(a != b).sum() for a, b in itertools.combinations(drawn, 2)]
    assert min(distance) > min(at_random)
    assert np.array_equal(orders[0], np.arange(n_cells))


def test_predictive_coding_sees_nine_upper_patches_and_asks_for_a_lower_one():
    seen, asked = draws(proxies.predictive_coding(()), n=150)
    image, taken = np.asarray(VOLUME), []
    columns = list(itertools.product((0, 3, 6), (0, 3, 6)))
    for context, target in zip(seen, asked, strict=True):
        for patch, (i, j) in zip(context, columns, strict=True):
            np.testing.assert_array_equal(patch, image[:6, i : i + 6, j : j + 6])
        taken += [c for c, (i, j) in enumerate(columns) if np.array_equal(target, image[6:, i : i + 6, j : j + 6])]
    assert len(taken) == 150
    assert set(taken) == set(range(9))  # nine places: none is left out but with a chance of 9 exp(-17)


def test_masked_hides_half_of_64_cells():
    shown, target = draws(proxies.masked(()), n=20)
    content, mask = target[..., :-1], target[..., -1:]
    cells = mask.reshape(20, 4, 3, 4, 3, 4, 3)
    assert (np.ptp(cells, axis=(2, 4, 6)) == 0).all()
    np.testing.assert_array_equal(mask.mean((1, 2, 3, 4)), 0.5)
    np.testing.assert_array_equal(shown, np.where(mask == 1, np.float32(0.5), np.asarray(VOLUME)[None]))
    np.testing.assert_allclose(content, np.where(mask == 1, np.asarray(VOLUME)[None] - 0.5, 0), atol=1e-7)


def test_views_of_a_volume_are_drawn_from_variabilities():
    law = ((variability.ROTATION, 60.0), (variability.NOISE, 0.1))
    for proxy in (proxies.contrastive(law), proxies.decorrelating(law), proxies.exemplar(law)):
        one, two = draws(proxy, n=3)
        assert one.shape == (3, *VOLUME.shape)
        assert not np.array_equal(one, two)
        keys = jax.random.split(jax.random.split(jax.random.key(0), 3)[0])
        np.testing.assert_allclose(one[0], proxies.view(keys[0], VOLUME, law), atol=1e-6)


def test_patches_times_matrix_is_a_convolution_in_space():
    volumes = jnp.asarray(np.random.default_rng(3).uniform(size=(3, 9, 8, 7, 2)), jnp.float32)
    network = encoder(jax.random.key(0), 2, (4, 6), dims=3)
    x = (volumes - 0.5) / 0.25
    for weight in network.weights:
        kernel = weight[...].reshape(3, 3, 3, x.shape[-1], -1)
        form = ("NDHWC", "DHWIO", "NDHWC")
        x = jnp.maximum(jax.lax.conv_general_dilated(x, kernel, (2, 2, 2), ((1, 1),) * 3, dimension_numbers=form), 0)
    np.testing.assert_allclose(network(volumes), x.mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    found = layer_statistics(network, volumes, chunk=2)
    np.testing.assert_allclose(found[:, :6], features(network, volumes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[:, 10:16], np.square(x).mean((1, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("rotation", (28, 28, 24, 1), "sides"),
        ("rotation", (28, 24, 1), "sides"),
        ("location", (28, 5, 28, 1), "3 cells"),
        ("masked", (7, 28, 1), "4 cells"),
        ("contrastive+all", (28, 1), "axes of space"),
    ],
)
def test_a_design_that_does_not_fit_says_so_before_training(name, shape, told):
    with pytest.raises(InputError, match=told) as raised:
        design.check(design.select([name])[0], shape)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_task_made_for_images_refuses_volumes():
    flat = replace(variability.NOISE, dims=(2,))
    made = design.Design("contrastive+flat", proxies.contrastive(((flat, 0.1),)))
    with pytest.raises(InputError, match="noise: made for 2 axes of space"):
        design.check(made, (14, 14, 14, 1))
    design.check(made, (14, 14, 1))


# ---- to the end, on real volumes


@pytest.fixture(scope="module")
def adrenal(cohort_folder) -> Cohort:
    """AdrenalMNIST3D averaged to 14 voxels a side, 96 volumes of each class to train on."""
    with np.load(cohort_folder / "adrenalmnist3d" / "adrenalmnist3d.npz") as file:
        parts = {}
        for split, most in (("train", 96), ("val", 16), ("test", 30)):
            label = file[f"{split}_labels"].ravel()
            rows = np.concatenate([np.flatnonzero(label == c)[:most] for c in (0, 1)])
            volumes = file[f"{split}_images"][rows].reshape(-1, 14, 2, 14, 2, 14, 2).mean((2, 4, 6)) / 255
            parts[split] = volumes[..., None].astype(np.float32), label[rows].astype(np.int8)
    image, label = (np.concatenate([part[i] for part in parts.values()]) for i in (0, 1))
    split = np.repeat(list(parts), [len(y) for _, y in parts.values()])
    patient = np.arange(len(label)).astype(str)
    return Cohort(image, label, patient, split, {}, "adrenal14", "MedMNIST v2", "CC BY 4.0", "mass against normal")


SLOW = ("location", "exemplar[views=noise]")  # there are 26 places; triplets come apart late


@pytest.mark.parametrize(
    "name",
    [
        *("supervised", "contrastive+noise", "rotation", "jigsaw", "masked", "cpc", "location"),
        *("vicreg+noise", "barlow+noise", "byol+noise", "exemplar[views=noise]"),
    ],
)
def test_the_loss_falls_on_volumes(adrenal, name):
    [one] = design.select([name])
    one = replace(one, steps=120 if name in SLOW else 30, batch=32)
    source = cohorts.part(adrenal, "train")
    half = slice(32, 160)  # as many cases as controls
    images, label = jnp.asarray(source.image[half]), jnp.asarray(source.label[half], jnp.int32)

    def learner():
        return pretrain.Learner(jax.random.key(3), one, images.shape[1:])

    inputs, targets = jax.vmap(one.proxy.pairs)(jax.random.split(jax.random.key(5), 128), images, label)
    trained = pretrain.train_on(jax.random.key(4), learner(), images, label, one)
    before, after = (
        float(pretrain._loss(one.proxy, *nnx.split(each), inputs, targets)) for each in (learner(), trained)
    )
    assert after < before


def test_volumes_are_deployed_and_foreseen(adrenal):
    one = replace(design.select(["supervised+crop"])[0], steps=60, batch=48)
    test, shifts = cohorts.part(adrenal, "test"), (variability.ROTATION, variability.CROP)
    found = simulate.score(simulate.deploy(jax.random.key(1), adrenal, test, one, shifts), test, None)
    assert found.auc.shape == (2, 6, 1)
    assert found.auc[0, 0, 0] > 0.6  # 0.75 is what a linear model reaches on all volumes of this size
    foreseen = predict.predict(jax.random.key(1), adrenal, test, one, shifts)
    assert foreseen.auc.shape == (2, 6, 1)
    assert np.isfinite(foreseen.auc).all()
    assert foreseen.auc[1, 5, 0] < foreseen.auc[1, 0, 0]
    assert any("volumes" in why for why in predict.outside(adrenal, one))
