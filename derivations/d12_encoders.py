"""Encoders in the linear case: pooled convolutions, and spatial transformers on inputs against feature maps.

Statement    Linear attention multiplies a patch by the second moment of its image's patches.  A linear convolution under mean
             pooling sees the mean intensity only; energy fᵀCf of a filter reaches the pooled features through a quadratic.  A
             steerable filter of order m answers an image turned by θ with the turned response times e^{−imθ}.  Re-aligning the
             feature map in space leaves that phase: for θ ~ N(0, σ²) the share of the energy that still varies is
             1 − e^{−m²σ²}; only m = 0 is invariant.  Re-aligning the input leaves nothing.
Assumptions  Periodic or negligible borders; continuous rotation; the transformer finds θ exactly.
Limit        σ → 0 leaves nothing; many turns (σ → ∞) leave all of order m ≠ 0.
Source       Finnveden, Jansson, Lindeberg 2020.
"""

import numpy as np
import sympy as sp
from scipy.ndimage import map_coordinates

from rafmodel import learning
from rafmodel import symbols as s


def pooled_convolution() -> None:
    """Mean of f * x over a circle of pixels is (Σ f)(mean x); its mean square over positions is fᵀ C f."""
    x, f = sp.symbols("x_0:5"), sp.symbols("f_0:3")
    response = [sum(f[k] * x[(i + k) % 5] for k in range(3)) for i in range(5)]
    assert sp.expand(sum(response) - sum(f) * sum(x)) == 0
    patch = [[x[(i + k) % 5] for k in range(3)] for i in range(5)]
    cov = sp.Matrix(3, 3, lambda a, b: sum(p[a] * p[b] for p in patch) / 5)
    energy = s.POOLED_ENERGY.rhs.subs(s.d, 3).doit()
    energy = energy.subs({s.filter_[a]: f[a] for a in range(3)})
    energy = energy.subs({s.patch_cov[a, b]: cov[a, b] for a in range(3) for b in range(3)})
    assert sp.expand(sum(r**2 for r in response) / 5 - energy) == 0


def linear_attention() -> None:
    """Σ_j (x_jᵀ A x_i) x_j over P patches, by P, is (C A) x_i with C their second moment; its mean is C A x̄."""
    size, patches = 2, 3
    x = [sp.Matrix(sp.symbols(f"x_{p}_0:{size}")) for p in range(patches)]
    form = sp.Matrix(size, size, sp.symbols("a_0:4"))
    second = sum((p * p.T for p in x), sp.zeros(size)) / patches
    answers = [sum(((p.T * form * q)[0] * p for p in x), sp.zeros(size, 1)) / patches for q in x]
    for answer, q in zip(answers, x, strict=True):
        for row in range(size):
            stated = s.ATTENDED.rhs.subs({s.d: size, s.i: row}).doit()
            stated = stated.subs({s.patch_cov[a, b]: second[a, b] for a in range(size) for b in range(size)})
            stated = stated.subs({s.query_key[a, b]: form[a, b] for a in range(size) for b in range(size)})
            stated = stated.subs({s.token[a]: q[a] for a in range(size)})
            assert sp.expand(answer[row] - stated) == 0
    mean = sum(x, sp.zeros(size, 1)) / patches
    assert (sum(answers, sp.zeros(size, 1)) / patches - second * form * mean).expand() == sp.zeros(size, 1)


def phase() -> None:
    """Share of the energy that is not in the mean, from the characteristic function of the angle."""
    theta = sp.Symbol("theta", real=True)
    density = sp.exp(-(theta**2) / (2 * s.sigma**2)) / sp.sqrt(2 * sp.pi * s.sigma**2)
    mean = sp.integrate(sp.cos(s.m * theta) * density, (theta, -sp.oo, sp.oo))  # the sine part is odd
    assert sp.simplify(1 - mean**2 - s.STN_RESIDUAL.rhs) == 0
    assert sp.simplify(mean - s.ROTATION_DECAY.rhs) == 0
    assert s.STN_RESIDUAL.rhs.subs(s.m, 0) == 0


def by_turning_images() -> None:
    """A smooth random image is turned; filters of order 0, 1 and 2 answer; maps are turned back, or the image is."""
    rng = np.random.default_rng(0)
    size, radius, sigma, draws = 65, 5, 0.6, 300
    grid = np.arange(size) - size // 2
    y, x = np.meshgrid(grid, grid, indexing="ij")
    window = np.exp(-(x**2 + y**2) / (2 * 12.0**2))
    spectrum = np.exp(-(x**2 + y**2) / (2 * 4.0**2))
    image = np.fft.ifft2(np.fft.ifftshift(spectrum) * np.fft.fft2(rng.normal(size=(size, size)))).real * window

    def turned(field: np.ndarray, angle: float) -> np.ndarray:
        rows, columns = np.cos(angle) * y + np.sin(angle) * x, -np.sin(angle) * y + np.cos(angle) * x
        where = np.stack([rows, columns]) + size // 2
        parts = [map_coordinates(part, where, order=3) for part in (field.real, np.imag(field))]
        return parts[0] + 1j * parts[1]

    r, angle = np.hypot(x, y), np.arctan2(y, x)
    angles = sigma * rng.normal(size=draws)
    inside = r < size // 4
    for order in (0, 1, 2):
        kernel = (r / radius) ** order * np.exp(-(r**2) / (2 * (radius / 2) ** 2)) * np.exp(1j * order * angle)
        answer = np.fft.fft2(np.fft.ifftshift(kernel))

        def response(field: np.ndarray, answer=answer) -> np.ndarray:
            return np.fft.ifft2(np.fft.fft2(field) * answer)

        on_features, on_input = [], []
        for theta in angles:
            seen = turned(image, theta)
            on_features.append(turned(response(seen), -theta)[inside])
            on_input.append(response(turned(seen, -theta))[inside])
        left = [
            1 - (np.abs(np.mean(z, 0)) ** 2).sum() / (np.abs(z) ** 2).sum(1).mean() for z in (on_features, on_input)
        ]
        predicted = float(learning.stn_residual(order, sigma))
        # the empirical law of 300 angles stands in for the normal one; interpolation costs about 0.01
        drawn = 1 - np.abs(np.exp(1j * order * angles).mean()) ** 2
        assert abs(left[0] - drawn) < 0.02, (order, left, drawn)
        assert abs(drawn - predicted) < 4 * order / draws**0.5 + 1e-9
        assert left[1] < 0.02


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    pooled_convolution()
    linear_attention()
    phase()
    by_turning_images()


if __name__ == "__main__":
    check()
    print("d12: pooled convolutions and spatial transformers hold")
