"""Each architecture has the symmetry, the start and the arithmetic that its source states, in 2D and 3D."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rafmodel import alignment, design, pretrain, proxies
from rafmodel import architectures as built
from rafmodel.encoder import centred, dense_features, features, layer_statistics
from rafmodel.errors import InputError

pytestmark = pytest.mark.exhaustive

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.uniform(size=(5, 28, 28, 1)), jnp.float32)
VOLUMES = jnp.asarray(RNG.uniform(size=(3, 14, 14, 14, 1)), jnp.float32)
WIDTHS = (8, 16, 32)


def network(one, images, widths=WIDTHS, seed=0):
    return one.build(jax.random.key(seed), images.shape[1:], widths)


@pytest.mark.parametrize("images", [IMAGES, VOLUMES], ids=["2D", "3D"])
@pytest.mark.parametrize("name", [name for name in built.ARCHITECTURES if name != "plain"])
def test_features_are_the_mean_of_the_last_layer_and_differ_between_images(name, images):
    one = built.ARCHITECTURES[name]
    if images.ndim - 2 not in one.dims:
        with pytest.raises(InputError, match="made for 2 axes"):
            one.check(images.shape[1:])
        return
    made = network(one, images)
    layers, found = made.layers(images), np.asarray(made(images))
    assert found.shape == (len(images), 32)
    assert len(layers) == 3
    np.testing.assert_allclose(found, np.asarray(layers[-1]).reshape(len(images), -1, 32).mean(1), atol=1e-5)
    told = layer_statistics(made, images)
    np.testing.assert_allclose(told[:, :32], found, atol=1e-5)
    assert told.shape[1] == 2 * sum(x.shape[-1] for x in layers)
    assert found.std(0).max() > 1e-3
    again = network(one, images)(images)
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, network(one, images, seed=1)(images))


@pytest.mark.parametrize("side", [28, 27])
def test_quarter_turns_leave_p4_features_alone_and_turn_its_maps(side):
    images = IMAGES[:, :side, :side]
    made = network(built.P4, images)
    turned = jnp.rot90(images, 1, (1, 2))
    np.testing.assert_allclose(made(turned), made(images), rtol=1e-4, atol=1e-5)
    for upright, after in zip(made.maps(images).layers, made.maps(turned).layers, strict=True):
        np.testing.assert_allclose(jnp.rot90(upright, 1, (1, 2)), after, atol=1e-4)
    assert np.abs(network(built.PLAIN, images)(turned) - network(built.PLAIN, images)(images)).max() > 1e-2
    mirrored = jnp.flip(images, 2)
    assert np.abs(made(mirrored) - made(images)).max() > 1e-3  # a mirror image is no quarter turn


@pytest.mark.parametrize("images", [IMAGES, VOLUMES], ids=["2D", "3D"])
def test_orbit_pools_every_turn_and_no_mirror_image(images):
    turns = built.turned(images)
    assert len(turns) == {4: 4, 5: 24}[images.ndim]
    assert len({np.asarray(x).tobytes() for x in turns}) == len(turns)
    made = network(built.ORBIT, images)
    for plane in ((1, 2), (1, 3), (2, 3))[: 3 if images.ndim == 5 else 1]:
        after = jnp.rot90(images, 1, plane)
        assert any(np.array_equal(after, x) for x in turns)
        np.testing.assert_allclose(made(after), made(images), rtol=1e-4, atol=1e-5)
    assert not any(np.array_equal(jnp.flip(images, 1), x) for x in turns)


def test_an_untrained_transformer_is_the_plain_encoder():
    plain = network(built.PLAIN, IMAGES)(IMAGES)
    for one in (built.STN, built.STN_MAPS):
        np.testing.assert_allclose(network(one, IMAGES)(IMAGES), plain, atol=1e-4)


@pytest.mark.parametrize("images", [IMAGES, VOLUMES], ids=["2D", "3D"])
def test_a_transformer_resamples_by_its_affine_map(images):
    dims = images.ndim - 2
    matrix = np.eye(dims, dims + 1)
    matrix[:2, :2] = [[0, -1], [1, 0]]  # a quarter turn in the first plane
    fixed = jnp.asarray(np.broadcast_to(matrix, (len(images), *matrix.shape)), jnp.float32)
    moved = alignment.aligned(images, fixed)
    # the value at (row, column) is read at (-column, row): a quarter turn, whose sense numpy names by k = 3
    np.testing.assert_allclose(moved, np.rot90(images, 3, (1, 2)), atol=1e-5)


def test_residual_block_is_two_convolutions_and_a_shortcut():
    made = network(built.RESIDUAL, IMAGES, widths=(4, 4))
    form = ("NHWC", "HWIO", "NHWC")

    def convolved(x, weight, stride):
        kernel = weight[...].reshape(3, 3, x.shape[-1], -1)
        x = jnp.asarray(x, jnp.float32)
        return jax.lax.conv_general_dilated(x, kernel, (stride,) * 2, ((1, 1),) * 2, dimension_numbers=form)

    x = jnp.asarray((IMAGES - 0.5) / 0.25, jnp.float32)
    for i, stride in enumerate((2, 1)):  # the width changes from 1 to 4, then stays
        y = convolved(jnp.maximum(convolved(x, made.first[i], stride), 0), made.second[i], 1)
        x = jnp.maximum((y + x[:, ::stride, ::stride] @ made.short[i][...]) / np.sqrt(2), 0)
    np.testing.assert_allclose(made.layers(IMAGES)[-1], x, rtol=1e-4, atol=1e-4)


def test_tokens_are_patches_in_reading_order():
    tokens = np.asarray(built._tokens(IMAGES, 4))
    assert tokens.shape == (5, 7, 7, 16)
    np.testing.assert_array_equal(tokens[2, 3, 5].reshape(4, 4), IMAGES[2, 12:16, 20:24, 0])
    cubes = np.asarray(built._tokens(VOLUMES, 4))
    np.testing.assert_array_equal(cubes[1, 2, 0, 1].reshape(4, 4, 4), VOLUMES[1, 8:12, :4, 4:8, 0])
    assert cubes.shape == (3, 4, 4, 4, 64)  # 14 voxels: the last patch has two, and two more of the border
    last = np.asarray(VOLUMES)[1, 12:, 12:, 12:, 0]
    np.testing.assert_array_equal(cubes[1, 3, 3, 3].reshape(4, 4, 4), np.pad(last, ((0, 2),) * 3, "edge"))


def test_a_vision_transformer_knows_where_patches_are():
    made = network(built.VIT, IMAGES, widths=(32, 32))
    swapped = IMAGES.at[:, :4].set(IMAGES[:, 4:8]).at[:, 4:8].set(IMAGES[:, :4])
    assert np.abs(made(swapped) - made(IMAGES)).max() > 1e-4
    code = np.asarray(built.place_code((7, 7), 32)).reshape(49, 32)
    distance = np.square(code[:, None] - code[None]).sum(-1) + 9 * np.eye(49)
    assert distance.min() > 0.1  # no two places have one code
    assert np.isfinite(made(IMAGES[:, :9, :9])).all()  # a cell of relative patch location


def test_dense_features_lie_on_the_image():
    made = network(built.PLAIN, IMAGES)
    found = dense_features(made, IMAGES)
    assert found.shape == (5, 28, 28, sum(WIDTHS))
    start = 0
    for depth, (layer, width) in enumerate(zip(made.layers(IMAGES), WIDTHS, strict=True), 1):
        step = 2**depth  # a position of the layer stands at the pixel in the middle of its first patch
        np.testing.assert_allclose(found[:, ::step, ::step, start : start + width], layer, atol=1e-5)
        between = (layer[:, 0, 0] + layer[:, 1, 0]) / 2
        np.testing.assert_allclose(found[:, step // 2, 0, start : start + width], between, atol=1e-5)
        start += width
    with pytest.raises(InputError, match="nothing of its pixels"):
        dense_features(lambda images: images.mean((1, 2)), IMAGES)


@pytest.mark.parametrize("images", [IMAGES, VOLUMES], ids=["2D", "3D"])
def test_quarter_turns_turn_the_maps_of_orbit(images):
    made = network(built.ORBIT, images)
    for plane in ((1, 2), (1, 3), (2, 3))[: 3 if images.ndim == 5 else 1]:
        found = dense_features(made, jnp.rot90(images, 1, plane))
        np.testing.assert_allclose(found, np.rot90(dense_features(made, images), 1, plane), atol=1e-4)
    assert np.abs(dense_features(made, images) - np.flip(dense_features(made, jnp.flip(images, 1)), 1)).max() > 1e-3


def test_maps_of_orbit_are_those_of_the_plain_encoder_turned_back():
    """Read at pixels before and after they are averaged, but for what reading between positions twice smooths."""
    waves = np.sin(np.arange(28)[None] * np.linspace(0.1, 0.25, 5)[:, None])
    images = jnp.asarray(0.5 + 0.2 * (waves[:, :, None] + waves[::-1, None])[..., None], jnp.float32)
    made = network(built.ORBIT, images)
    each = [dense_features(made.plain, one) for one in built.turned(images)]
    expected = np.mean([np.rot90(x, k, (1, 2)) for x, k in zip(each, turns_back(images), strict=True)], axis=0)
    found = dense_features(made, images)
    for layer, most in ((slice(0, 8), 0.05), (slice(8, 24), 0.15), (slice(24, 56), 0.25)):
        assert np.abs(found - expected)[..., layer].mean() < most * expected[..., layer].std((1, 2)).mean()


def turns_back(images):
    """How often to turn by a quarter what ``turned`` made, so that it stands as before."""
    back = [[k for k in range(4) if np.array_equal(np.rot90(x, k, (1, 2)), images)] for x in built.turned(images)]
    assert all(len(k) == 1 for k in back)
    return [k[0] for k in back]


@pytest.mark.parametrize(("side", "n"), [(28, 14), (28, 7), (28, 4), (27, 7)])
def test_a_position_at_the_first_of_its_pixels_is_read_in_the_middle_of_them(side, n):
    stride = 2 ** round(np.log2(side / n) + 0.2)
    place = jnp.asarray(stride * np.arange(n)[None, :, None, None] * np.ones((1, 1, n, 1)), jnp.float32)
    expected = np.minimum((np.arange(n) + 0.5) * side / n - 0.5, stride * (n - 1))
    found = centred(place, (side, side))
    np.testing.assert_allclose(found, np.broadcast_to(expected[None, :, None, None], found.shape), rtol=1e-5)


@pytest.mark.parametrize("space", [(28, 20), (12, 16, 14)], ids=["2D", "3D"])
def test_answers_are_put_back_to_where_they_were_taken_from(space):
    """A layer that answers its own places: put back it says where each place was taken, and the affine map leads from there."""
    dims = len(space)
    theta = np.eye(dims, dims + 1) + np.random.default_rng(3).normal(0, 0.2, (dims, dims + 1))
    axes = ((2 * np.arange(0, side, 4) + 1) / side - 1 for side in space)  # positions at every fourth pixel
    place = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    found = np.asarray(alignment.put_back(jnp.asarray(place[None], jnp.float32), jnp.asarray(theta[None]), space))[0]
    low, high = (f(place, tuple(range(dims))) for f in (np.min, np.max))
    inside = ((found > low + 1e-5) & (found < high - 1e-5)).all(-1)  # beyond the last positions answers are extended
    assert inside.mean() > 0.3
    np.testing.assert_allclose((found @ theta[:, :-1].T + theta[:, -1])[inside], place[inside], atol=1e-5)


@pytest.mark.parametrize("name", ["stn", "stn-maps"])
def test_a_bright_pixel_is_bright_where_it_is_behind_a_turn(name, monkeypatch):
    """The turn brings the pixel to (8, 16), the first of a stride in every layer too."""
    turn = jnp.asarray([[0.0, -1.0, 2 / 32], [1.0, 0.0, 0.0]], jnp.float32)
    monkeypatch.setattr(alignment.Aligned, "where", lambda self, x: jnp.broadcast_to(turn, (len(x), 2, 3)))
    changed = brightened(
        name, widths=(16, 16, 8)
    )  # other widths, so that no program of an encoder that stands still is found
    assert abs(np.average(np.arange(32), weights=changed.sum(1)) - 16) < 1
    assert abs(np.average(np.arange(32), weights=changed.sum(0)) - 8) < 1


# ---- as designs


@pytest.mark.parametrize("space", [(16, 16), (8, 8, 8)], ids=["2D", "3D"])
@pytest.mark.parametrize("size", ["small", "base"])
@pytest.mark.parametrize("name", built.ARCHITECTURES)
def test_every_encoder_of_every_size_answers_and_has_gradients(name, size, space):
    """As many finite features as its last layer is wide; a finite gradient that moves its weights."""
    one, widths = built.named(f"{name}:{size}")
    assert widths == (one.base if size == "base" else one.small)
    if len(space) not in one.dims:
        with pytest.raises(InputError, match="made for 2 axes"):
            one.check((*space, 1))
        return
    images = jnp.asarray(RNG.uniform(size=(2, *space, 1)), jnp.float32)
    graph, weights = nnx.split(network(one, images, widths))

    @jax.jit
    def squared(weights):
        found = nnx.merge(graph, weights)(images)
        return (found**2).mean(), found

    (_, found), slope = jax.value_and_grad(squared, has_aux=True)(weights)
    assert found.shape == (2, widths[-1])
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0
    leaves = jax.tree_util.tree_leaves_with_path(slope)
    assert all(np.isfinite(x).all() for _, x in leaves)
    still = [jax.tree_util.keystr(path) for path, x in leaves if not np.abs(x).max() > 0]
    assert all("locator" in path for path in still), still  # behind an affine map that begins at the identity


def test_a_design_is_named_with_its_encoder():
    usual, other, large = design.select(
        ["contrastive+noise", "contrastive+noise@vit", "contrastive+noise@residual:base"]
    )
    assert usual.encoder is built.PLAIN
    assert (other.encoder, other.widths, other.learning_rate) == (built.VIT, (64,) * 4, 1e-3)
    assert (large.encoder, large.widths) == (built.RESIDUAL, built.RESIDUAL.base)
    assert other.proxy is usual.proxy
    for wrong, told in (
        ("contrastive+noise@cnn", "no encoder"),
        ("jigsaw@vit:huge", "no size"),
        ("jigs@vit", "no design"),
    ):
        with pytest.raises(InputError, match=told):
            design.select([wrong])


def test_encoders_refuse_what_does_not_fit():
    for name, shape, told in (("rotation@p4", (14, 14, 14, 1), "2 axes"), ("masked@orbit", (28, 24, 1), "sides")):
        with pytest.raises(InputError, match=told):
            design.check(design.select([name])[0], shape)


@pytest.mark.parametrize("name", ["residual", "vit", "stn", "stn-maps", "p4", "orbit"])
def test_each_encoder_learns_by_the_supervised_task(name):
    """Squares against discs: the loss of fresh pairs falls."""
    label = jnp.asarray(np.arange(128) % 2, jnp.int32)
    rows = np.arange(14) - 6.5
    square = np.maximum(*np.abs(np.meshgrid(rows, rows))) < 4
    disc = np.hypot(*np.meshgrid(rows, rows)) < 4.5
    shapes = np.where(np.asarray(label)[:, None, None] == 1, square, disc)[..., None] * 0.6
    images = jnp.asarray(shapes + RNG.uniform(0, 0.3, shapes.shape), jnp.float32)
    one = replace(
        design.select([f"supervised@{name}"])[0], widths=(8, 16), steps=200 if name == "vit" else 30, batch=32
    )

    def learner():
        return pretrain.Learner(jax.random.key(3), one, images.shape[1:])

    trained = pretrain.train_on(jax.random.key(4), learner(), images, label, one)
    target = jax.nn.one_hot(label, 2)
    before, after = (float(proxies.cross_entropy(each(images), target)) for each in (learner(), trained))
    assert after < before - 0.05
    if name in ("stn", "stn-maps"):
        assert float(jnp.abs(trained.encoder.affine[...]).max()) > 1e-4  # the transformer itself learns
    assert np.isfinite(features(trained.encoder, images)).all()
    assert nnx.state(trained.encoder)


@pytest.mark.parametrize(
    ("name", "space", "where"),
    [
        ("plain", (32, 32), (16, 8)),  # the first pixel of a stride in every layer
        ("plain", (34, 47), (16, 24)),
        ("residual", (34, 47), (16, 24)),
        ("p4", (32, 32), (16, 8)),
        ("vit", (32, 32), (16, 8)),
        ("vit", (34, 34), (26, 8)),  # patches of 5 pixels
        ("vit", (47, 47), (38, 20)),  # of 6
        ("vit", (20, 28, 24), (12, 26, 20)),  # of 5
        ("stn", (32, 32), (16, 8)),
        ("stn-maps", (32, 32), (16, 8)),
        ("orbit", (32, 32), (16, 8)),
    ],
    ids=str,
)
def test_a_bright_pixel_is_bright_where_it_is(name, space, where):
    """Averaged over untrained networks, what one pixel changes in the dense features of a layer is centred on that pixel."""
    moved = brightened(name, space, where)
    reach = {"vit": 3.0, "p4": 3.0, "orbit": 1.0}.get(name, 0.4)  # half a patch; no pixel is first in all turns
    for axis, (side, expected) in enumerate(zip(space, where, strict=True)):
        others = tuple(other for other in range(len(space)) if other != axis)
        assert abs(np.average(np.arange(side), weights=moved.sum(others)) - expected) < reach


def brightened(name: str, space=(32, 32), where=(16, 8), widths=(16, 16, 16)) -> np.ndarray:
    """What a bright pixel changes in the dense features, by default at the first pixel of a stride in every layer."""
    dark = jnp.full((1, *space, 1), 0.5)
    spot = dark.at[(0, *where)].set(1.0)
    made = [built.ARCHITECTURES[name].build(jax.random.key(i), (*space, 1), widths) for i in range(8)]
    moved = np.abs(sum(np.abs(dense_features(one, spot) - dense_features(one, dark)).sum(-1)[0] for one in made))
    return np.where(moved > 0.05 * moved.max(), moved, 0)  # a transformer attends everywhere a little
