"""What a proxy task shows and asks is what its name says; losses equal their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import proxies
from rafmodel.variability import CROP, NOISE

IMAGE = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (28, 28, 1)), jnp.float32)


def draws(proxy, n=200, label=1):
    keys = jax.random.split(jax.random.key(0), n)
    return [np.asarray(a) for a in jax.vmap(proxy.pairs, (0, None, None))(keys, IMAGE, jnp.asarray(label))]


def test_rotation_target_says_how_often_the_image_was_turned():
    turned, target = draws(proxies.rotation_prediction(()))
    for image, answer in zip(turned, target, strict=True):
        np.testing.assert_array_equal(image, np.rot90(IMAGE, answer.argmax()))
    assert (target.sum(0) > 25).all()  # four classes, 200 draws: 50 each, s.d. 6


def test_jigsaw_target_puts_the_tiles_back():
    shuffled, target = draws(proxies.jigsaw(()), n=100)
    from itertools import permutations

    orders = list(permutations(range(4)))
    whole = np.asarray(IMAGE).reshape(2, 14, 2, 14)
    tiles = {2 * i + j: whole[i, :, j] for i in range(2) for j in range(2)}
    for image, answer in zip(shuffled, target, strict=True):
        seen = image.reshape(2, 14, 2, 14)
        for place, tile in enumerate(orders[answer.argmax()]):
            np.testing.assert_array_equal(seen[place // 2, :, place % 2], tiles[tile])
    assert target.shape[1] == 24


def test_masked_hides_half_of_the_patches_and_asks_for_them():
    shown, target = draws(proxies.masked(()), n=50)
    content, mask = target[..., :-1], target[..., -1:]
    np.testing.assert_allclose(mask.mean((1, 2, 3)), 0.5, atol=1e-6)
    np.testing.assert_allclose(shown, np.where(mask == 1, 0.5, np.asarray(IMAGE)[None]))
    np.testing.assert_allclose(content, np.where(mask == 1, np.asarray(IMAGE)[None] - 0.5, 0), atol=1e-6)
    loss = proxies.masked(()).loss
    right = content.reshape(50, -1) + 7 * (1 - mask.reshape(50, -1))  # what is painted elsewhere costs nothing
    assert float(loss(jnp.asarray(right), jnp.asarray(target))) < 1e-10
    assert float(loss(jnp.zeros_like(right), jnp.asarray(target))) == pytest.approx((content**2).sum() / mask.sum())


def test_views_are_two_draws_of_the_stated_law():
    one, two = draws(proxies.contrastive(((NOISE, 0.1),)), n=400)
    assert not np.array_equal(one, two)
    spread = np.concatenate([one, two]) - np.asarray(IMAGE)[None]
    # severity uniform on (0, 0.1): mean variance 0.1^2 / 3, its s.d. over views 0.1^2 * sqrt(1/5 - 1/9)
    variance = (spread**2).mean((1, 2, 3))
    assert abs(variance.mean() - 0.01 / 3) < 4 * 0.01 * np.sqrt(1 / 5 - 1 / 9) / np.sqrt(len(variance))


def test_supervised_shows_a_view_and_asks_for_the_label():
    for label in (0, 1):
        seen, target = draws(proxies.supervised(((CROP, 0.4),)), n=5, label=label)
        assert (target.argmax(1) == label).all()
        assert not np.array_equal(seen[0], seen[1])
    assert proxies.supervised(()).labelled


def test_info_nce_equals_its_definition():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(2, 6, 5))
    a = one / np.linalg.norm(one, axis=1, keepdims=True)
    b = two / np.linalg.norm(two, axis=1, keepdims=True)
    similarity = np.exp(a @ b.T / proxies.TEMPERATURE)
    by_row = -np.log(np.diag(similarity) / similarity.sum(1)).mean()
    by_column = -np.log(np.diag(similarity) / similarity.sum(0)).mean()
    found = float(proxies.info_nce(jnp.asarray(one), jnp.asarray(two)))
    assert found == pytest.approx((by_row + by_column) / 2, rel=1e-6)


def test_vicreg_equals_its_definition():
    rng = np.random.default_rng(2)
    one = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) * 0.4
    two = one + 0.1 * rng.normal(size=one.shape)
    expected = 25 * np.mean((one - two) ** 2)
    for z in (one, two):
        expected += 25 * np.maximum(0, 1 - np.sqrt(z.var(0) + 1e-4)).mean() / 2
        covariance = np.cov(z.T)
        expected += (covariance[~np.eye(4, dtype=bool)] ** 2).sum() / 4
    assert float(proxies.vicreg(jnp.asarray(one), jnp.asarray(two))) == pytest.approx(expected, rel=1e-6)


def test_location_target_says_which_cell_was_taken():
    seen, target = draws(proxies.relative_location(()))
    cells = np.asarray(IMAGE)[:27, :27].reshape(3, 9, 3, 9, 1).transpose(0, 2, 1, 3, 4).reshape(9, 9, 9, 1)
    around = [0, 1, 2, 3, 5, 6, 7, 8]
    for (centre, other), answer in zip(seen, target, strict=True):
        np.testing.assert_array_equal(centre, cells[4])
        np.testing.assert_array_equal(other, cells[around[answer.argmax()]])
    assert target.shape[1] == 8
    assert (target.sum(0) > 8).all()  # eight cells, 200 draws: 25 each, s.d. 4.7


def test_predictive_coding_asks_for_a_patch_below_those_seen():
    seen, asked = draws(proxies.predictive_coding(()), n=100)
    image, columns = np.asarray(IMAGE), []
    for context, target in zip(seen, asked, strict=True):
        for patch, start in zip(context, (0, 7, 14), strict=True):
            np.testing.assert_array_equal(patch, image[:14, start : start + 14])
        columns += [start for start in (0, 7, 14) if np.array_equal(target, image[14:, start : start + 14])]
    assert len(columns) == 100
    assert min(np.bincount(columns)[[0, 7, 14]]) > 14  # three places, 100 draws: 33 each, s.d. 4.7


def test_triplet_loss_equals_its_definition():
    rng = np.random.default_rng(2)
    one, two = rng.normal(size=(2, 5, 4))
    a = one / np.linalg.norm(one, axis=1, keepdims=True)
    b = two / np.linalg.norm(two, axis=1, keepdims=True)
    each = [max(0, ((a[i] - b[i]) ** 2).sum() - ((a[i] - b[i - 1]) ** 2).sum() + 1) for i in range(5)]
    assert float(proxies.triplet(jnp.asarray(one), jnp.asarray(two))) == pytest.approx(np.mean(each), rel=1e-6)
