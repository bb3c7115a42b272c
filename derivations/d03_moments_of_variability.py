"""First two moments of an image under contrast, a field, orientation (2D, 3D), blur, sampling, noise, an artifact, or two.

Statement    The equations contrast-*, field-*, rotation, rotation-3d, blur, down-sampling, noise and artifact-* of ``symbols``;
             affine-* and from it speckle, impulse-*, inversion-*, brightness and window-*; shot, rician-* and linear-*.
             Two in a row: apply one map of moments after the other.  Linear maps of the image (blur, down-sampling) commute
             with gain; noise does not: gain after noise has (e^{2σ²} − 1)τ² more variance than noise after gain.
Assumptions  One draw per image, independent of the image; gain and field log-normal, angle wrapped normal; no clipping to
             the display range (clipping makes all of them approximate, and intensity-dependent).
Limit        Severity 0 changes nothing.  The first order of the field has an error of second order in its covariance.
"""

import numpy as np
import sympy as sp

from rafmodel import symbols as s

z = sp.Symbol("z", real=True)


def normal_mean(value: sp.Expr) -> sp.Expr:
    """Expectation over a standard normal z, by integration."""
    return sp.simplify(sp.integrate(value * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, -sp.oo, sp.oo), conds="none"))


def contrast() -> None:
    """Gain exp(σz): moments of the product of independent factors."""
    first, second = normal_mean(sp.exp(s.sigma * z)), normal_mean(sp.exp(2 * s.sigma * z))
    mean = s.mu_i * first
    covariance = second * (s.Sigma_ij + s.mu_i * s.mu_j) - first**2 * s.mu_i * s.mu_j
    assert sp.simplify(mean - s.CONTRAST_MEAN.rhs) == 0
    assert sp.simplify(sp.expand(covariance - s.CONTRAST_COVARIANCE.rhs)) == 0
    assert s.CONTRAST_COVARIANCE.rhs.subs(s.sigma, 0) == s.Sigma_ij


def field() -> None:
    """exp(b_i) with b ~ N(0, Γ): E exp(b_i + b_j) = exp((Γ_ii + Γ_jj)/2 + Γ_ij); then the first order and its error."""
    width = sp.Symbol("v", positive=True)  # variance of a Gaussian exponent
    lift = normal_mean(sp.exp(sp.sqrt(width) * z))
    one, other = lift.subs(width, s.Gamma_ii), lift.subs(width, s.Gamma_jj)
    both = lift.subs(width, s.Gamma_ii + s.Gamma_jj + 2 * s.Gamma_ij)
    assert sp.simplify(s.mu_i * one - s.FIELD_MEAN.rhs) == 0
    covariance = both * (s.Sigma_ij + s.mu_i * s.mu_j) - one * other * s.mu_i * s.mu_j
    assert sp.simplify(sp.expand(covariance - s.FIELD_COVARIANCE.rhs)) == 0
    e = sp.Symbol("epsilon", positive=True)
    small = {g: e * g for g in (s.Gamma_ii, s.Gamma_jj, s.Gamma_ij)}
    error = (s.FIELD_COVARIANCE.rhs - s.FIELD_FIRST_ORDER.rhs).subs(small, simultaneous=True)
    assert sp.simplify(sp.series(error, e, 0, 2).removeO()) == 0
    assert sp.simplify(sp.limit(error / e**2, e, 0)) != 0


def orientation_and_blur() -> None:
    """E exp(i m σ z) for a turned harmonic; the Fourier transform of a Gaussian kernel for a blurred wave."""
    turned = normal_mean(sp.cos(s.m * s.sigma * z)) + sp.I * normal_mean(sp.sin(s.m * s.sigma * z))
    assert sp.simplify(turned - s.ROTATION_DECAY.rhs) == 0
    assert s.ROTATION_DECAY.rhs.subs(s.m, 0) == 1  # what does not depend on the angle is not forgotten
    blurred = normal_mean(sp.cos(s.omega * s.sigma * z))
    assert sp.simplify(blurred - s.BLUR_DECAY.rhs) == 0


def orientation_in_3d() -> None:
    """A turn ω about a random axis is a multiple of the identity on degree l (Schur); its size is the zonal harmonic at its pole.

    The pole e goes to an e' with e·e' = cos ω + (1 − cos ω)t², t = axis·e uniform on [−1, 1] (Archimedes).
    """
    angle, t = sp.symbols("omega t", real=True)
    for degree in (1, 2, 3, 4):
        moved = sp.cos(angle) + (1 - sp.cos(angle)) * t**2
        at_pole = sp.integrate(sp.expand(sp.legendre(degree, moved)), (t, -1, 1)) / 2
        waves = (1 + 2 * sum(sp.cos(m * angle) for m in range(1, degree + 1))) / (2 * degree + 1)
        assert sp.expand(sp.expand(at_pole - waves, trig=True)) == 0 or sp.simplify(at_pole - waves) == 0
        # E cos mω = exp(−m²σ²/2), as in two dimensions
        mean = (1 + 2 * sum(s.ROTATION_DECAY.rhs.subs(s.m, m) for m in range(1, degree + 1))) / (2 * degree + 1)
        assert sp.simplify(mean - s.TURNING_DECAY.rhs.subs(s.degree, degree).doit()) == 0
    # many turns leave 1/(2l + 1): the turns that nearly come back
    assert sp.limit(s.TURNING_DECAY.rhs.subs(s.degree, 2).doit(), s.sigma, sp.oo) == sp.Rational(1, 5)


def down_sampling() -> None:
    """The mean of a waves' samples in a block, about the block's centre, and its limit for slow waves."""
    for factor in (2, 3, 4):
        offsets = [sp.Rational(2 * k + 1 - factor, 2) for k in range(factor)]
        mean = sum(sp.exp(sp.I * s.omega * o) for o in offsets) / factor
        stated = s.SAMPLING_DECAY.rhs.subs(s.factor, factor)
        assert sp.simplify((mean.rewrite(sp.cos) - stated).rewrite(sp.exp)) == 0
        assert sp.limit(stated, s.omega, 0) == 1
        assert sp.limit(stated, s.omega, 2 * sp.pi / factor) == 0  # a wave as long as the block is gone


def two_in_a_row() -> None:
    """Gain and noise: both orders, and their difference; gain and a linear map of the image commute."""
    tau = sp.Symbol("tau", positive=True)
    noise = s.NOISE_COVARIANCE.rhs.subs(s.sigma, tau)
    gain = s.CONTRAST_COVARIANCE.rhs
    noise_after = noise.subs(s.Sigma_ij, gain)
    gain_after = gain.subs(s.Sigma_ij, noise)
    excess = (sp.exp(2 * s.sigma**2) - 1) * tau**2 * s.Kronecker_ij
    assert sp.simplify(gain_after - noise_after - excess) == 0
    row, column = sp.symbols("b_i b_j", real=True)  # a linear map in its own basis: x_i -> b_i x_i
    mapped = {s.Sigma_ij: row * column * s.Sigma_ij, s.mu_i: row * s.mu_i, s.mu_j: column * s.mu_j}
    assert sp.expand(gain.subs(mapped, simultaneous=True) - row * column * gain) == 0


def artifact() -> None:
    """An offset a with spread K that is present with probability p: the law of total covariance."""
    present = s.Sigma_ij + s.K_ij + (s.mu_i + s.a_i) * (s.mu_j + s.a_j)
    assert sp.expand(s.p * (s.mu_i + s.a_i) + (1 - s.p) * s.mu_i - s.ARTIFACT_MEAN.rhs) == 0
    absent = s.Sigma_ij + s.mu_i * s.mu_j
    mean_j = s.ARTIFACT_MEAN.rhs.subs({s.mu_i: s.mu_j, s.a_i: s.a_j}, simultaneous=True)
    covariance = s.p * present + (1 - s.p) * absent - s.ARTIFACT_MEAN.rhs * mean_j
    assert sp.simplify(sp.expand(covariance - s.ARTIFACT_COVARIANCE.rhs)) == 0


def affine() -> None:
    """Factors and offsets independent of the image: the product of expectations; and what each law's own expectations give."""
    mean_j = s.AFFINE_MEAN.rhs.subs({s.mu_i: s.mu_j, s.f_i: s.f_j, s.b_i: s.b_j}, simultaneous=True)
    product = sp.expand(
        (s.f_i * s.mu_i + s.b_i) * (s.f_j * s.mu_j + s.b_j)
    )  # E of it with the symbols for means of products
    second = product.subs({s.mu_i * s.mu_j * s.f_i * s.f_j: s.F_ij * (s.Sigma_ij + s.mu_i * s.mu_j)})
    second = second.subs({s.f_i * s.b_j: s.X_ij, s.f_j * s.b_i: s.X_ji, s.b_i * s.b_j: s.B_ij})
    assert sp.expand(second - s.AFFINE_MEAN.rhs * mean_j - s.AFFINE_COVARIANCE.rhs) == 0

    def holds(expected: dict, mean: sp.Expr, covariance: sp.Expr) -> None:
        given = expected | {s.f_j: expected[s.f_i], s.b_j: expected[s.b_i], s.X_ji: expected[s.X_ij]}
        assert sp.simplify(s.AFFINE_MEAN.rhs.subs(given) - mean) == 0
        assert sp.simplify(sp.expand(s.AFFINE_COVARIANCE.rhs.subs(given) - covariance)) == 0

    def moments(factor: sp.Expr, offset: sp.Expr, expect) -> dict:
        """Of one factor and one offset for all pixels."""
        one = {s.f_i: factor, s.b_i: offset, s.F_ij: factor**2, s.X_ij: factor * offset, s.B_ij: offset**2}
        return {symbol: expect(sp.expand(value)) for symbol, value in one.items()}

    hit = sp.Symbol("h")  # 1 with probability p: h² = h
    share = lambda value: sp.Poly(value, hit).eval(0) * (1 - s.p) + sp.Poly(value, hit).eval(1) * s.p  # noqa: E731
    holds(moments(1 - 2 * hit, hit, share), s.INVERSION_MEAN.rhs, s.INVERSION_COVARIANCE.rhs)
    holds(moments(sp.Integer(1), s.sigma * z, normal_mean), s.mu_i, s.BRIGHTNESS_COVARIANCE.rhs)
    level = sp.Symbol("w", real=True)  # a second standard normal: E w = 0, E w² = 1
    width = sp.exp(s.sigma * z)

    def both(value: sp.Expr) -> sp.Expr:
        form = sp.Poly(value, level)
        return normal_mean(form.coeff_monomial(1)) + normal_mean(form.coeff_monomial(level**2))

    moved = sp.Rational(1, 2) - (sp.Rational(1, 2) + s.sigma * level) * width
    holds(moments(width, moved, both), s.WINDOW_MEAN.rhs, s.WINDOW_COVARIANCE.rhs)
    # a draw for each pixel: two pixels are independent, one is not independent of itself
    once = normal_mean(1 + s.sigma * z)
    for same, product in ((0, once**2), (1, normal_mean((1 + s.sigma * z) ** 2))):
        speckled = {s.f_i: once, s.b_i: 0, s.F_ij: product, s.X_ij: 0, s.B_ij: 0}
        holds(speckled, s.mu_i, s.SPECKLE_COVARIANCE.rhs.subs(s.Kronecker_ij, same))
    kept, white = 1 - s.p, s.p / 2
    apart = {s.f_i: kept, s.b_i: white, s.F_ij: kept**2, s.X_ij: kept * white, s.B_ij: white**2}
    holds(apart, s.IMPULSE_MEAN.rhs, s.IMPULSE_COVARIANCE.rhs.subs(s.Kronecker_ij, 0))
    alone = {s.f_i: kept, s.b_i: white, s.F_ij: kept, s.X_ij: 0, s.B_ij: white, s.mu_j: s.mu_i}
    covariance = s.IMPULSE_COVARIANCE.rhs.subs(s.Kronecker_ij, 1).subs(s.mu_j, s.mu_i)
    holds(alone, s.IMPULSE_MEAN.rhs, covariance)


def counts_and_magnitudes() -> None:
    """Poisson: the variance of a count is its mean.  Rice: the power of two Gaussian parts, and the mean at its two ends."""
    white = 1 / s.sigma**2  # counts at white; given the image variance is white x / white²
    within, between = white * s.mu_i / white**2, s.Sigma_ij
    assert sp.simplify(within + between - s.SHOT_COVARIANCE.rhs.subs(s.Kronecker_ij, 1)) == 0
    real = normal_mean((s.intensity + s.sigma * z) ** 2)
    power = sp.expand(real + normal_mean((s.sigma * z) ** 2)).subs(s.intensity**2, s.Sigma_ii + s.mu_i**2)
    assert sp.simplify(power - s.RICIAN_POWER.rhs) == 0
    assert sp.simplify(s.RICIAN_MEAN.rhs.subs(s.intensity, 0) - s.sigma * sp.sqrt(sp.pi / 2)) == 0  # Rayleigh
    far = s.RICIAN_MEAN.rhs.subs({s.sigma: 1, s.intensity: 20}).evalf()
    assert abs(far - (20 + sp.Rational(1, 40))) < 1e-4  # x + σ²/(2x): only the part along the signal counts


def linear() -> None:
    """B x has mean Bμ and covariance BΣBᵀ, written out for two pixels."""
    matrix, cov = sp.Matrix(2, 2, lambda i, j: s.mapped[i, j]), sp.Matrix(2, 2, lambda i, j: s.Sigma_of[i, j])
    mean = sp.Matrix(2, 1, lambda i, _: s.mu_of[i])
    for row in (0, 1):
        stated = s.LINEAR_MEAN.rhs.subs({s.d: 2, s.i: row}).doit()
        assert sp.expand((matrix * mean)[row] - stated) == 0
        covariance = s.LINEAR_COVARIANCE.rhs.subs({s.d: 2, s.i: row, s.j: 1}).doit()
        assert sp.expand((matrix * cov * matrix.T)[row, 1] - covariance) == 0


def by_simulation() -> None:
    """A strong gain with noise, a strong field, a strong artifact on drawn images."""
    rng = np.random.default_rng(1)
    n, sigma, mu = 400_000, 0.6, np.array([1.0, -2.0])
    cov = np.array([[1.0, 0.6], [0.6, 2.0]])
    x = rng.multivariate_normal(mu, cov, n)
    gained = x * np.exp(sigma * rng.normal(size=(n, 1))) + 0.5 * rng.normal(size=x.shape)
    g = np.exp(sigma**2)
    expected = g**2 * cov + g * (g - 1) * np.outer(mu, mu) + 0.25 * np.eye(2)
    agree(gained, mu * g**0.5, expected)
    log_field = np.array([[0.25, 0.1], [0.1, 0.16]])
    lift = np.exp(np.diag(log_field) / 2)
    expected = np.outer(lift, lift) * (np.exp(log_field) * cov + (np.exp(log_field) - 1) * np.outer(mu, mu))
    agree(x * np.exp(rng.multivariate_normal(np.zeros(2), log_field, n)), mu * lift, expected)
    offset, marked = np.array([3.0, 1.0]), rng.random(n) < 0.3
    expected = cov + 0.3 * np.diag([0.5, 2.0]) + 0.3 * 0.7 * np.outer(offset, offset)
    artifact = offset + rng.normal(size=(n, 2)) * np.array([0.5, 2.0]) ** 0.5
    agree(x + marked[:, None] * artifact, mu + 0.3 * offset, expected)
    x = rng.beta(2, 3, size=(n, 1)) * np.array([0.9, 0.5]) + 0.05  # the laws that need intensities from 0 to 1
    mu, cov = x.mean(0), np.cov(x.T)
    hit, white = rng.random((n, 2)) < 0.4, rng.random((n, 2)) < 0.5
    spread = 0.24 * (np.diag(cov) + mu**2 - mu) + 0.2 - 0.04
    agree(np.where(hit, white, x), 0.6 * mu + 0.2, 0.36 * cov + np.diag(spread))
    turned = rng.random((n, 1)) < 0.3
    agree(np.where(turned, 1 - x, x), 0.7 * mu + 0.3 * (1 - mu), cov + 0.21 * np.outer(1 - 2 * mu, 1 - 2 * mu))
    level, width = 0.5 * rng.normal(size=(n, 1)), np.exp(0.5 * rng.normal(size=(n, 1)))
    g = np.exp(0.25)
    expected = g**2 * (cov + 0.25) + g * (g - 1) * np.outer(mu - 0.5, mu - 0.5)
    agree((x - 0.5 - level) / width + 0.5, 0.5 + (mu - 0.5) * g**0.5, expected)
    agree(rng.poisson(x * 25) / 25, mu, cov + np.diag(mu) / 25)


def agree(drawn: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> None:
    """Moments of drawn images (n, d) within four standard errors of the expected ones."""
    apart = drawn - drawn.mean(0)
    products = apart[:, :, None] * apart[:, None, :]
    assert (np.abs(products.mean(0) - cov) < 4 * products.std(0) / len(drawn) ** 0.5).all()
    assert (np.abs(drawn.mean(0) - mean) < 4 * drawn.std(0) / len(drawn) ** 0.5).all()


def turning_an_image() -> None:
    """A two-lobed image on a ring turned by drawn angles: order m of the mean decays, its power does not."""
    rng, sigma, n = np.random.default_rng(4), 0.5, 20_000
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    angle = sigma * rng.normal(size=(n, 1))
    ring = np.exp(2 * np.cos(theta - angle) + np.cos(3 * (theta - angle)))
    found, start = np.fft.fft(ring, axis=1), np.fft.fft(np.exp(2 * np.cos(theta) + np.cos(3 * theta)))
    for order in (1, 2, 4):
        ratio = (found[:, order] / start[order]).real
        assert abs(ratio.mean() - np.exp(-(order**2) * sigma**2 / 2)) < 4 * ratio.std() / n**0.5
        assert np.allclose(np.abs(found[:, order]), np.abs(start[order]), rtol=1e-6)


def turning_a_volume() -> None:
    """A pattern of degree 2 and 3 on the sphere, turned about random axes by N(0, σ²)."""
    rng, sigma, n = np.random.default_rng(5), 0.7, 100_000
    pole, seen = np.array([0.0, 0.0, 1.0]), np.array([0.6, 0.0, 0.8])
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = sigma * rng.normal(size=(n, 1))
    turned = np.cos(angle) * pole + np.sin(angle) * np.cross(axis, pole)
    turned = turned + (1 - np.cos(angle)) * (axis @ pole)[:, None] * axis
    for degree in (2, 3):
        zonal = np.polynomial.legendre.Legendre.basis(degree)
        drawn = zonal(turned @ seen)
        expected = float(s.TURNING_DECAY.rhs.subs({s.degree: degree, s.sigma: sigma}).doit()) * zonal(seen @ pole)
        assert abs(drawn.mean() - expected) < 4 * drawn.std() / n**0.5


def averaging_pixels() -> None:
    """A drawn wave, averaged in blocks of 4: its amplitude at the slower frequency it comes back under, too."""
    for omega in (0.3, 1.2, 2.5):
        wave = np.exp(1j * omega * (np.arange(4000) - 1.5))
        low = wave.reshape(-1, 4).mean(1)
        expected = np.sin(2 * omega) / (4 * np.sin(omega / 2))
        found = (low * np.exp(-1j * 4 * omega * np.arange(1000))).mean()
        assert abs(found - expected) < 1e-9


def check() -> None:
    """Raises AssertionError if the statement does not hold."""
    contrast()
    field()
    orientation_and_blur()
    orientation_in_3d()
    down_sampling()
    two_in_a_row()
    artifact()
    affine()
    counts_and_magnitudes()
    linear()
    by_simulation()
    turning_an_image()
    turning_a_volume()
    averaging_pixels()


if __name__ == "__main__":
    check()
    print("d03: moments under contrast, field, orientation, blur, noise, artifact and every affine law hold")
