"""Spatial transformers: an encoder that aligns what it sees by an affine map it is taught to choose."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.scipy.ndimage import map_coordinates

from rafmodel.encoder import Encoder, Maps, beside, convolved, encoder, pooled, stride_of
from rafmodel.variability.law import indices, sample

Shape = tuple[int, ...]
LOCATOR = (8, 16)  # channels of the network that says how to align


class Aligned(nnx.Module):
    """The plain encoder with a spatial transformer before its first layer or after a layer.  Jaderberg et al. 2015.

    after  0: the transformer sees and resamples the input; 1 and up: the feature maps of that layer, as in Finnveden, Jansson,
           Lindeberg 2020, who show that maps cannot in general be aligned so
    The affine map starts as the identity, so an untrained network is the plain one.
    """

    def __init__(self, key: Array, shape: Shape, widths: Shape, *, after: int):
        key_plain, key_locate = key, jax.random.fold_in(key, 1)
        self.dims, self.after = len(shape) - 1, after
        self.plain = encoder(key_plain, shape[-1], widths, dims=self.dims)
        seen = shape[-1] if after == 0 else widths[after - 1]
        self.locator = Encoder(seen, LOCATOR, dims=self.dims, rngs=nnx.Rngs(params=key_locate))
        self.affine = nnx.Param(jnp.zeros(((self.dims + 1) * LOCATOR[-1], self.dims * (self.dims + 1)), jnp.float32))

    def __call__(self, images: Array) -> Array:
        return pooled(self.layers(images)[-1])

    def layers(self, images: Array) -> list[Array]:
        """What each layer answers, with the alignment where it is placed."""
        return self._followed(images)[0]

    def maps(self, images: Array) -> Maps:
        """The layers' answers, those behind the alignment put back to where its affine map took them from."""
        found, theta, space = self._followed(images)
        behind = [put_back(x, theta, space) for x in found[self.after :]]
        return Maps([*found[: self.after], *behind], corner=True)

    def _followed(self, images: Array) -> tuple[list[Array], Array, Shape]:
        """What each layer answers, the affine map of each image, and the sides of what it aligned."""
        x, found, theta, space = (images - 0.5) / 0.25, [], jnp.zeros(()), ()
        for depth, (weight, bias) in enumerate(zip(self.plain.weights, self.plain.biases, strict=True)):
            if depth == self.after:
                theta, space = self.where(x), x.shape[1:-1]
                x = aligned(x, theta)
            x = jax.nn.relu(beside(convolved(x, weight[...]), bias[...]))
            found.append(x)
        return found, theta, space

    def where(self, x: Array) -> Array:
        """The affine map (N, dims, dims + 1) of each: the identity and what the locator's maps and their places add."""
        for weight, bias in zip(self.locator.weights, self.locator.biases, strict=True):
            x = jax.nn.relu(beside(convolved(x, weight[...]), bias[...]))
        moments = [pooled(x), *(pooled(x * axis[None, ..., None]) for axis in _grid(x.shape[1:-1]))]
        added = jnp.concatenate(moments, -1) @ self.affine[...]
        return jnp.eye(self.dims, self.dims + 1)[None] + added.reshape(-1, self.dims, self.dims + 1)


def aligned(x: Array, theta: Array) -> Array:
    """Maps (N, *space, C) resampled where affine maps (N, dims, dims + 1) take the grid to; borders are extended."""
    return jax.vmap(sample)(x, _affine(theta, _grid(x.shape[1:-1])))


def put_back(x: Array, theta: Array, space: Shape) -> Array:
    """Answers (N, *positions, width) to what was ``aligned``, of sides ``space``, resampled by the inverse affine maps.

    A position lies at the first pixel of its stride, before and behind.
    """
    back = jnp.linalg.inv(theta[:, :, :-1])
    inverse = jnp.concatenate([back, -back @ theta[:, :, -1:]], -1)
    strides = [stride_of(side, n) for side, n in zip(space, x.shape[1:-1], strict=True)]
    grid = _grid(space)[(slice(None), *(slice(None, None, stride) for stride in strides))]

    def one(answer: Array, positions: Array) -> Array:
        where = [i / stride for i, stride in zip(indices(positions, space), strides, strict=True)]
        channel = partial(map_coordinates, coordinates=where, order=1, mode="nearest")
        return jax.vmap(channel, in_axes=-1, out_axes=-1)(answer)

    return jax.vmap(one)(x, _affine(inverse, grid))


def _affine(theta: Array, grid: Array) -> Array:
    """Positions (N, dims, *grid) that affine maps (N, dims, dims + 1) take a grid (dims, *grid) to."""
    shift = theta[:, :, -1].reshape(*theta.shape[:2], *(1,) * (grid.ndim - 1))
    return jnp.einsum("nij,j...->ni...", theta[:, :, :-1], grid) + shift


def _grid(space: Shape) -> Array:
    """Position of each pixel centre (dims, *space), from -1 to 1."""
    axes = [(2 * jnp.arange(n, dtype=jnp.float32) + 1) / n - 1 for n in space]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"))
