"""Every closed form of the theory, stated once: symbols and equations.

`derivations/` proves each equation, `function` (`rafmodel.numeric`) turns one into a JAX function that tests hold
against `rafmodel.theory` and the modules beside it, and `rafmodel.equations` names them for the paper.  Prediction never needs
this module.
"""

# sympy is typed so loosely that these rules only see ghosts
# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false, reportReturnType=false

import sympy as sp

from rafmodel.numeric import Phi, function

__all__ = ["function"]  # and every equation and symbol, by name

# ---- symbol table

i, j = sp.symbols("i j", integer=True, nonnegative=True)  # directions, components
d, n, n_1, n_0, k = sp.symbols("d n n_1 n_0 k", integer=True, positive=True)  # features, labels, cases, controls
m_1, m_0, t = sp.symbols("m_1 m_0 t", real=True)  # mean scores, threshold
v_1, v_0 = sp.symbols("v_1 v_0", positive=True)  # score variances
mu_i, mu_j, a_i, a_j = sp.symbols("mu_i mu_j a_i a_j", real=True)  # mean image, artifact offset
Sigma_ii, Sigma_jj, sigma = sp.symbols("Sigma_ii Sigma_jj sigma", positive=True)
Sigma_ij, K_ij, Gamma_ij = sp.symbols("Sigma_ij K_ij Gamma_ij", real=True)  # covariances: image, artifact, log-field
Gamma_ii, Gamma_jj = sp.symbols("Gamma_ii Gamma_jj", positive=True)
Kronecker_ij = sp.Symbol("delta_ij", real=True)
m, omega = sp.symbols("m omega", real=True)  # angular order, wavenumber
p, q = sp.symbols("p q", positive=True)  # probability of an artifact, pixel prevalence
TPR, FPR = sp.symbols("TPR FPR", positive=True)
between, view = sp.symbols("B V", positive=True)  # variance across images, between views
Delta, eta, lam, kappa = sp.symbols("Delta eta lambda kappa", positive=True)  # |δ|, flips, ridge, effective ridge
df_2, noise = sp.symbols("df_2 tau", positive=True)
ell, u, M = (
    sp.IndexedBase("ell", positive=True),
    sp.IndexedBase("u", real=True),
    sp.IndexedBase("M", real=True),
)
P = sp.IndexedBase("P", positive=True)  # P[y, i] probability, m and v of component i of class y
component_mean, component_variance = sp.IndexedBase("m", real=True), sp.IndexedBase("v", positive=True)

# ---- scores


def _is(name: str, value: sp.Expr) -> sp.Eq:
    """`name = value` as an equation that sympy leaves alone."""
    return sp.Eq(sp.Symbol(name), value, evaluate=False)


def _over(index: sp.Symbol, term: sp.Expr, count: sp.Expr = d) -> sp.Sum:
    return sp.Sum(term, (index, 0, count - 1))


AUC = _is("AUC", Phi((m_1 - m_0) / sp.sqrt(v_1 + v_0)))
RATE = _is("TPR", Phi((m_1 - t) / sp.sqrt(v_1)))
_pair_gap = component_mean[1, i] - component_mean[0, j]
_pair = P[1, i] * P[0, j] * Phi(_pair_gap / sp.sqrt(component_variance[1, i] + component_variance[0, j]))
AUC_MIXTURE = _is("AUC", sp.Sum(_pair, (i, 0, k - 1), (j, 0, k - 1)))
DICE = _is("Dice", 2 * q * TPR / (q * TPR + (1 - q) * FPR + q))
pixels, x = sp.symbols("N x", positive=True)  # independent pixels of an image; what is integrated over
_hit, _counted = q * TPR, q * TPR + (1 - q) * FPR + q  # shares of true positives; of those called plus those there
_either = (1 - _hit * (1 - x**2) - (q * (1 - TPR) + (1 - q) * FPR) * (1 - x)) ** (pixels - 1)
MEAN_DICE = _is("Dice", 2 * pixels * _hit / (1 - (1 - q) ** pixels) * sp.Integral(x * _either, (x, 0, 1)))
MEAN_DICE_MANY = _is("Dice", DICE.rhs - DICE.rhs * (1 - DICE.rhs) / (pixels * _counted))
f_1, f_0 = sp.symbols("f_1 f_0", positive=True)  # densities of the pixel score at the best threshold
DICE_OPTIMUM = sp.Eq(q * f_1 / (q * f_1 + (1 - q) * f_0), sp.Symbol("Dice") / 2, evaluate=False)

# ---- variability

CONTRAST_MEAN = _is("mu'_i", mu_i * sp.exp(sigma**2 / 2))
CONTRAST_COVARIANCE = _is(
    "Sigma'_ij", sp.exp(2 * sigma**2) * Sigma_ij + sp.exp(sigma**2) * (sp.exp(sigma**2) - 1) * mu_i * mu_j
)
FIELD_MEAN = _is("mu'_i", mu_i * sp.exp(Gamma_ii / 2))
FIELD_COVARIANCE = _is(
    "Sigma'_ij",
    sp.exp((Gamma_ii + Gamma_jj) / 2) * (sp.exp(Gamma_ij) * Sigma_ij + (sp.exp(Gamma_ij) - 1) * mu_i * mu_j),
)
FIELD_FIRST_ORDER = _is(
    "Sigma'_ij", Sigma_ij + (Gamma_ij + (Gamma_ii + Gamma_jj) / 2) * Sigma_ij + mu_i * mu_j * Gamma_ij
)
NOISE_COVARIANCE = _is("Sigma'_ij", Sigma_ij + sigma**2 * Kronecker_ij)
ARTIFACT_MEAN = _is("mu'_i", mu_i + p * a_i)
ARTIFACT_COVARIANCE = _is("Sigma'_ij", Sigma_ij + p * K_ij + p * (1 - p) * a_i * a_j)
ROTATION_DECAY = _is("r_m", sp.exp(-(m**2) * sigma**2 / 2))
BLUR_DECAY = _is("b_omega", sp.exp(-(omega**2) * sigma**2 / 2))
degree, factor = sp.symbols("l a", integer=True, positive=True)  # of a spherical harmonic; pixels averaged into one
_order = sp.Symbol("m", integer=True)
TURNING_DECAY = _is(
    "r_l", (1 + 2 * sp.Sum(sp.exp(-(_order**2) * sigma**2 / 2), (_order, 1, degree))) / (2 * degree + 1)
)
SAMPLING_DECAY = _is("d_omega", sp.sin(factor * omega / 2) / (factor * sp.sin(omega / 2)))

f_i, f_j, b_i, b_j = sp.symbols("f_i f_j b_i b_j", real=True)  # x'_i = f_i x_i + b_i: mean factor and offset
F_ij, X_ij, X_ji, B_ij = sp.symbols("F_ij X_ij X_ji B_ij", real=True)  # E f_i f_j, E f_i b_j, E f_j b_i, E b_i b_j
_second = F_ij * (Sigma_ij + mu_i * mu_j) + X_ij * mu_i + X_ji * mu_j + B_ij
AFFINE_MEAN = _is("mu'_i", f_i * mu_i + b_i)
AFFINE_COVARIANCE = _is("Sigma'_ij", _second - (f_i * mu_i + b_i) * (f_j * mu_j + b_j))
SPECKLE_COVARIANCE = _is("Sigma'_ij", Sigma_ij + sigma**2 * Kronecker_ij * (Sigma_ij + mu_i * mu_j))
SHOT_COVARIANCE = _is("Sigma'_ij", Sigma_ij + sigma**2 * Kronecker_ij * mu_i)
IMPULSE_MEAN = _is("mu'_i", (1 - p) * mu_i + p / 2)
_hit_alone = p * (1 - p) * (Sigma_ij + mu_i * mu_j - mu_i) + p / 2 - p**2 / 4
IMPULSE_COVARIANCE = _is("Sigma'_ij", (1 - p) ** 2 * Sigma_ij + Kronecker_ij * _hit_alone)
INVERSION_MEAN = _is("mu'_i", mu_i + p * (1 - 2 * mu_i))
INVERSION_COVARIANCE = _is("Sigma'_ij", Sigma_ij + p * (1 - p) * (1 - 2 * mu_i) * (1 - 2 * mu_j))
BRIGHTNESS_COVARIANCE = _is("Sigma'_ij", Sigma_ij + sigma**2)
_grey = sp.Rational(1, 2)
WINDOW_MEAN = _is("mu'_i", _grey + (mu_i - _grey) * sp.exp(sigma**2 / 2))
_widened = sp.exp(sigma**2) * (sp.exp(sigma**2) - 1) * (mu_i - _grey) * (mu_j - _grey)
WINDOW_COVARIANCE = _is("Sigma'_ij", sp.exp(2 * sigma**2) * (Sigma_ij + sigma**2) + _widened)
intensity = sp.Symbol("x", nonnegative=True)  # of a pixel before noise
_quarter = intensity**2 / (4 * sigma**2)
_rice = (1 + 2 * _quarter) * sp.besseli(0, _quarter) + 2 * _quarter * sp.besseli(1, _quarter)
RICIAN_MEAN = _is("mu", sigma * sp.sqrt(sp.pi / 2) * sp.exp(-_quarter) * _rice)
RICIAN_POWER = _is("m_2", Sigma_ii + mu_i**2 + 2 * sigma**2)
mapped, mu_of, Sigma_of = sp.IndexedBase("B", real=True), sp.IndexedBase("mu"), sp.IndexedBase("Sigma")
_k, _l = sp.symbols("k l", integer=True, nonnegative=True)
LINEAR_MEAN = _is("mu'_i", _over(_k, mapped[i, _k] * mu_of[_k]))
_pairs_of = (_k, 0, d - 1), (_l, 0, d - 1)
LINEAR_COVARIANCE = _is("Sigma'_ij", sp.Sum(mapped[i, _k] * mapped[j, _l] * Sigma_of[_k, _l], *_pairs_of))

# ---- proxy task

C_uu, C_vv, C_uv = sp.symbols("C_uu C_vv C_uv", positive=True)  # second moments of input u and target v
OPERATOR = _is("rho^2", C_uv**2 / (C_uu * C_vv))
GAIN = _is("rho", between / (between + view))
PREDICTOR = _is("W", C_uv / C_uu)
OPERATOR_SUPERVISED = _is("rho^2", Delta**2 / (Delta**2 + 4))

# ---- probe, in the eigenbasis of the source covariance: eigenvalues ell, half gap u

KAPPA = sp.Eq(kappa, lam + kappa / n * _over(i, ell[i] / (ell[i] + kappa)), evaluate=False)
_b = n * (1 - lam) - d  # for ell = 1
KAPPA_ISOTROPIC = _is("kappa", (sp.sqrt(_b**2 + 4 * n**2 * lam) - _b) / (2 * n))
DF2 = sp.Eq(df_2, _over(i, (ell[i] / (ell[i] + kappa)) ** 2), evaluate=False)
PROBE_MEAN = _is("w_i", (1 - 2 * eta) * u[i] / (ell[i] + kappa))
PROBE_NOISE = sp.Eq(
    noise,
    1 - (1 - 2 * eta) ** 2 * _over(i, u[i] ** 2 * (ell[i] + 2 * kappa) / (ell[i] + kappa) ** 2),
    evaluate=False,
)
PROBE_VARIANCE = _is("s_i", noise / (n - df_2) * ell[i] / (ell[i] + kappa) ** 2)
w, s = sp.IndexedBase("w", real=True), sp.IndexedBase("s", positive=True)
DEPLOY = _is("Q_M", sp.Sum(w[i] * w[j] * M[i, j], (i, 0, d - 1), (j, 0, d - 1)) + _over(i, s[i] * M[i, i]))

# ---- imbalance

_norm2 = Delta**2 + d * (1 / n_0 + 1 / n_1)
_pull = d * (1 / n_0 - 1 / n_1)
IMBALANCE_TPR = _is("TPR", Phi((Delta**2 + _pull) / (2 * sp.sqrt(_norm2))))
IMBALANCE_FPR = _is("FPR", Phi((-(Delta**2) + _pull) / (2 * sp.sqrt(_norm2))))
IMBALANCE_AUC = _is("AUC", Phi(Delta**2 / sp.sqrt(2 * _norm2)))

# ---- unequal classes, in an eigenbasis of both covariances: eigenvalues lambda_ci, half gap u; controls 0, cases 1

y_c = sp.Symbol("c", integer=True, nonnegative=True)
share_c, eta_c, omega_c = (sp.IndexedBase(name, positive=True) for name in ("p", "eta", "omega"))  # size, flips, weight
gamma_c, theta_c, rho_c, psi_c = (sp.IndexedBase(name, positive=True) for name in ("gamma", "theta", "phi", "psi"))
ell_c, v_c = sp.IndexedBase("ell", positive=True), sp.IndexedBase("v", positive=True)
margin, residual = sp.symbols("h r", real=True)  # score of an image left out; −ℓ' at the score of the trained probe
score_mean, offset = sp.symbols("m b", real=True)  # wᵀu; what the probe adds to every score
class_mean = sp.IndexedBase("m", real=True)  # signed by the class


def _classes(term: sp.Expr) -> sp.Sum:
    return sp.Sum(term, (y_c, 0, 1))


_held = lam + _classes(share_c[y_c] * theta_c[y_c] * ell_c[y_c, i])  # what holds a weight back
LEVERAGE = _is("gamma_c", _over(i, ell_c[y_c, i] / _held.doit()) / n)
SLOPE = _is("theta_c", omega_c[y_c] / (1 + omega_c[y_c] * gamma_c[y_c]))
CLASS_MEAN = _is("m_c", score_mean + (2 * y_c - 1) * offset)
PULL = _is("psi_c", theta_c[y_c] * (1 - 2 * eta_c[y_c] - class_mean[y_c]))
_square = 1 - 2 * (1 - 2 * eta_c[y_c]) * class_mean[y_c] + class_mean[y_c] ** 2 + v_c[y_c]
FORCE = _is("phi_c", theta_c[y_c] ** 2 * _square)
BALANCE = sp.Eq(share_c[1] * psi_c[1], share_c[0] * psi_c[0], evaluate=False)
_held_in = _classes(share_c[y_c] * theta_c[y_c])
OFFSET = _is("b", _classes((2 * y_c - 1) * share_c[y_c] * theta_c[y_c] * (1 - 2 * eta_c[y_c] - score_mean)) / _held_in)
WEIGHTS_MEAN = _is("w_i", _classes(share_c[y_c] * psi_c[y_c]) * u[i] / _held)
WEIGHTS_VARIANCE = _is("s_i", _classes(share_c[y_c] * rho_c[y_c] * ell_c[y_c, i]) / (n * _held**2))
LOGISTIC_FORCE = sp.Eq(residual, 1 / (1 + sp.exp(margin + omega_c[y_c] * gamma_c[y_c] * residual)), evaluate=False)
delta_ = sp.IndexedBase("delta", real=True)  # whole gap
_reach = _over(i, delta_[i] ** 2 / (ell[i] + kappa))
_drag = _over(i, ell[i] / (ell[i] + kappa)) * (1 / n_0 - 1 / n_1)
_scatter = _over(i, (delta_[i] ** 2 * ell[i] + (1 / n_1 + 1 / n_0) * ell[i] ** 2) / (ell[i] + kappa) ** 2)
_scatter = _scatter / (1 - df_2 / (n_1 + n_0 - 2))
DISCRIMINANT_TPR = _is("TPR", Phi((_reach + _drag) / (2 * sp.sqrt(_scatter))))
DISCRIMINANT_FPR = _is("FPR", Phi((_drag - _reach) / (2 * sp.sqrt(_scatter))))
DISCRIMINANT_AUC = _is("AUC", Phi(_reach / sp.sqrt(2 * _scatter)))
again = sp.Symbol("r", positive=True)  # mean number of repeats, and two that stand for a Poisson one
_root = sp.sqrt(again + sp.Rational(1, 4))
REPEATS_FEW, REPEATS_MANY = (_is(f"k_{i}", again + sp.Rational(1, 2) + side * _root) for i, side in ((0, -1), (1, 1)))
REPEATS = _is("P_1", (_root - sp.Rational(1, 2)) / (2 * _root))
drawn = sp.Symbol("b", positive=True)
RESAMPLED = _is("n_e", 1 / (1 / n + (1 - 1 / n) / drawn))

# ---- patches: N in the image, K of them carriers, n drawn, h of these carriers

N, K, h = sp.symbols("N K h", integer=True, nonnegative=True)
P_h = sp.IndexedBase("p", positive=True)  # probability of h carriers
r, f, lesion, patch, y = sp.symbols("r f L a y", positive=True)  # TPR and FPR of a patch; sides; position
_patches = (h, 0, n)
HITS = _is("p_h", sp.binomial(K, h) * sp.binomial(N - K, n - h) / sp.binomial(N, n))
AUC_MEAN = _is("AUC", sp.Sum(P_h[h] * Phi(Delta * h / sp.sqrt(2 * n)), _patches))
_largest = Phi(y) ** (n - h) * Phi(y - Delta) ** h * n * Phi(y) ** (n - 1) * sp.exp(-(y**2) / 2) / sp.sqrt(2 * sp.pi)
AUC_MAX = _is("AUC", 1 - sp.Sum(P_h[h] * sp.Integral(_largest, (y, -sp.oo, sp.oo)), _patches))
ANY_TPR = _is("TPR", 1 - sp.Sum(P_h[h] * (1 - r) ** h * (1 - f) ** (n - h), _patches))
ANY_FPR = _is("FPR", 1 - (1 - f) ** n)
b_0, b_1, shift = sp.symbols(
    "b_0 b_1 g", real=True
)  # forecast log-odds b_0 + b_1 times the score; mean score of a patch
wave_time, wave = (
    sp.Symbol("t", positive=True),
    sp.IndexedBase("varphi"),
)  # wave: of a patch without the class 0, with it 1
_turn = (
    sp.exp(sp.I * wave_time * sp.log(1 + sp.exp(b_0 + b_1 * (y + shift)))) * sp.exp(-(y**2) / 2) / sp.sqrt(2 * sp.pi)
)
NOISY_OR_WAVE = _is("varphi_g", sp.Integral(_turn, (y, -sp.oo, sp.oo)))
_both = sp.Sum(P_h[h] * wave[1] ** h * wave[0] ** (n - h), _patches) * sp.conjugate(wave[0]) ** n
NOISY_OR_AUC = _is("AUC", sp.Rational(1, 2) + sp.Integral(sp.im(_both) / wave_time, (wave_time, 0, sp.oo)) / sp.pi)
TOUCHED = _is("K", (lesion / patch + 1) ** 2)
DILUTED = _is("Delta'", Delta * (lesion / patch) ** 2)
begin = sp.Symbol("x", nonnegative=True)  # of the lesion in the first tile that it touches
OVERLAP = _is("o_k", sp.Max(0, sp.Min(begin + lesion, (k + 1) * patch) - sp.Max(begin, k * patch)))
o_1, o_2 = sp.symbols("o_1 o_2", nonnegative=True)  # along the two axes
TILE_GAP = _is("Delta'", Delta * o_1 * o_2 / patch)
set_h = sp.IndexedBase("e", positive=True)  # sum over sets of h touched tiles of the products of Φ(y − gap)
_tiles = sp.Sum(set_h[h] * sp.binomial(N - K, n - h) / sp.binomial(N, n) * Phi(y) ** (n - h), _patches)
_tiles = _tiles * n * Phi(y) ** (n - 1) * sp.exp(-(y**2) / 2) / sp.sqrt(2 * sp.pi)
AUC_TILES = _is("AUC", 1 - sp.Integral(_tiles, (y, -sp.oo, sp.oo)))

# ---- labels

A, pi, e_1, e_0, alpha, beta = sp.symbols("A pi e_1 e_0 alpha beta", positive=True)
_called = pi * (1 - e_1) + (1 - pi) * e_0
IMPURE_CASES = _is("alpha", (1 - pi) * e_0 / _called)
IMPURE_CONTROLS = _is("beta", pi * e_1 / (1 - _called))
AUC_WRONG_LABELS = _is("AUC", A * (1 - alpha - beta) + (alpha + beta) / 2)
g = sp.Symbol("g", integer=True, nonnegative=True)
G = sp.Symbol("G", integer=True, positive=True)
share_g, eta_g = sp.IndexedBase("q", positive=True), sp.IndexedBase("eta", positive=True)
Delta_g = sp.IndexedBase("Delta", real=True)
TILTED = _is("w", _over(g, share_g[g] * (1 - 2 * eta_g[g]) * Delta_g[g], G))
area, perimeter = sp.symbols("S P", positive=True)
DICE_JITTER = _is("Dice", 1 - perimeter * sigma / (sp.sqrt(2 * sp.pi) * area))

# ---- unequal classes and subgroups

v = sp.Symbol("v", positive=True)
BAYES_THRESHOLD = _is("t", -v / Delta * sp.log(pi / (1 - pi)))
weights = sp.IndexedBase("w", positive=True)
EFFECTIVE_SIZE = _is("n_e", _over(i, weights[i], n) ** 2 / _over(i, weights[i] ** 2, n))
c_1, c_0, s_g, place = sp.symbols("c_1 c_0 s g", real=True)  # shares of the second subgroup; distance; 0 or 1
_lean = s_g**2 * (c_1 - c_0) * (place - (c_1 + c_0) / 2) + _pull / 2
_pooled = sp.sqrt(_norm2 + s_g**2 * (c_1 - c_0) ** 2)
SUBGROUP_TPR = _is("TPR_g", Phi((_lean + Delta**2 / 2) / _pooled))
SUBGROUP_FPR = _is("FPR_g", Phi((_lean - Delta**2 / 2) / _pooled))
mu_g, Sigma_g = sp.IndexedBase("mu", real=True), sp.IndexedBase("Sigma", real=True)
pooled_mean, gap_g, place_g = (sp.IndexedBase(name, real=True) for name in ("m", "delta", "s"))
POOLED_MEAN = _is("m_i", _over(g, share_g[g] * mu_g[g, i], G))
_scattered = (mu_g[g, i] - pooled_mean[i]) * (mu_g[g, j] - pooled_mean[j])
POOLED_COVARIANCE = _is("C_ij", _over(g, share_g[g] * (Sigma_g[g, i, j] + _scattered), G))
case_g, control_g = sp.IndexedBase("a", positive=True), sp.IndexedBase("b", positive=True)  # shares of cases, controls
_leaning = (case_g[g] + control_g[g]) / 2 * gap_g[g, i] + (case_g[g] - control_g[g]) * place_g[g, i]
SUBGROUP_WEIGHTS = _is("w_i", _over(g, _leaning, G))
_wandering = _over(g, v_c[g] * (case_g[g] / n_1 + control_g[g] / n_0), G)
_sure = _over(i, weights[i] ** 2, k) + d * _wandering
SUBGROUP_AUC = _is("AUC_j", Phi(_over(i, weights[i] * gap_g[j, i], k) / sp.sqrt(2 * v_c[j] * _sure)))
pi_1, pi_0 = sp.symbols("pi_1 pi_0", positive=True)
_sensitivity = Phi(Delta / 2 + sp.log(pi / (1 - pi)) / Delta)
PREVALENCE_GAP = _is("Delta_TPR", _sensitivity.subs(pi, pi_1) - _sensitivity.subs(pi, pi_0))

# ---- what an encoder keeps

within = sp.Symbol("W", positive=True)
power, mean_power = sp.symbols("p_m mu_m", positive=True)  # E|c_m|² and |E c_m| of order m
TURNING = _is("rho^2", sp.Piecewise((0, sp.Eq(sp.Mod(m, 4), 0)), (mean_power**2 / power, True)))
PLACE = _is("rho^2", between / (between + within))
overlap = sp.Symbol("o", nonnegative=True)  # correlation of the own parts of two of the k patches shown
CONTEXT = _is("rho", between / sp.sqrt((between + within * (1 + (k - 1) * overlap) / k) * (between + within)))
modes, rho_1, temperature = sp.IndexedBase("rho", positive=True), *sp.symbols("rho_1 tau", positive=True)
# strength s_i of a mode: its squared length in the encoder; s.d. of an output; weights of agreement and of covariances
output_sd, agreed, covaried = sp.symbols("a alpha gamma", positive=True)
INFO_NCE = _is("L", _over(i, s[i] ** 2 / (2 * temperature**2) - modes[i] * s[i] / temperature))
BARLOW_ALONE = _is("rho_2", rho_1 - lam * k * rho_1**2 / (1 - rho_1 + lam * rho_1))
VICREG_ALONE = _is("rho_2", rho_1 - 2 * covaried * k * output_sd**2 / agreed)
ell_1, ell_2, added = sp.symbols(
    "ell_1 ell_2 E", positive=True
)  # variance of a mode that a shift widens by E, of another
VIEW_LIMIT = _is("rho^2", lam * ell_2 / (lam * (ell_1 + added) + ell_2 * added))
w_end, w_start, tau = sp.symbols("s_infinity s_0 t", positive=True)
ell_ = sp.Symbol("ell", positive=True)  # variance of one mode's input
TIME_SHALLOW = _is("s_t", w_end * (1 - sp.exp(-ell_ * tau)))
TIME_DEEP = _is("s_t", w_end / (1 + (w_end / w_start - 1) * sp.exp(-2 * w_end * tau)))
HALF_TIME = _is("t", sp.log(w_end / w_start - 1) / (2 * w_end))
STN_RESIDUAL = _is("e_m", 1 - sp.exp(-(m**2) * sigma**2))
filter_, patch_cov = sp.IndexedBase("f", real=True), sp.IndexedBase("C", real=True)
POOLED_ENERGY = _is("e", sp.Sum(filter_[i] * filter_[j] * patch_cov[i, j], (i, 0, d - 1), (j, 0, d - 1)))
token, query_key = sp.IndexedBase("x", real=True), sp.IndexedBase("A", real=True)
_pairs = (j, 0, d - 1), (k, 0, d - 1)
ATTENDED = _is("x'_i", sp.Sum(patch_cov[i, j] * query_key[j, k] * token[k], *_pairs))
angle = sp.IndexedBase("theta", real=True)
RETAINED = _is("r", _over(i, sp.cos(angle[i]) ** 2, k) / k)

half2 = sp.Symbol("U", positive=True)  # squared half gap inside what is kept
_held_at = 1 + half2 + kappa
_left = 1 - (1 - 2 * eta) ** 2 * half2 * (1 + half2 + 2 * kappa) / _held_at**2
_freedom = (k - 1) / (1 + kappa) ** 2 + ((1 + half2) / _held_at) ** 2
_size = ((k - 1) / (1 + kappa) ** 2 + (1 + half2) / _held_at**2) * _left / (n - _freedom)
_pulled = (1 - 2 * eta) * sp.sqrt(half2) / _held_at
_share = sp.Symbol("r", positive=True)
KEPT_GAP = _is("U", _share * Delta**2 / 4)
TRANSFER_KAPPA = sp.Eq(kappa, lam + kappa / n * ((k - 1) / (1 + kappa) + (1 + half2) / _held_at), evaluate=False)
TRANSFER_AUC = _is("AUC", Phi(_pulled * sp.sqrt(2 * half2) / sp.sqrt(_pulled**2 + _size)))

# ---- calibration and RAF

c, tau_c = sp.symbols("c tau_c", real=True)
BALANCED_ACCURACY = _is("b", (Phi((m_1 - t) / sp.sqrt(v_1)) + Phi((t - m_0) / sp.sqrt(v_0))) / 2)
MEAN_FORECAST = _is("p", Phi((m_1 - c) / sp.sqrt(tau_c**2 + v_1)))
Delta_d, v_d = sp.symbols("Delta' v'", positive=True)  # where the score is deployed
CALIBRATION_SLOPE = _is("b", (Delta_d / v_d) / (Delta / v))
_above = [
    P[y, i] * Phi(side * (component_mean[y, i] - t) / sp.sqrt(component_variance[y, i]))
    for y, side in ((1, 1), (0, -1))
]
RATE_MIXTURE = _is("TPR", _over(i, _above[0], k))
BALANCED_MIXTURE = _is("b", (_over(i, _above[0], k) + _over(i, _above[1], k)) / 2)
score = sp.Symbol("x", real=True)


def _density(y: int) -> sp.Sum:
    apart = (score - component_mean[y, i]) ** 2 / (2 * component_variance[y, i])
    return _over(i, P[y, i] * sp.exp(-apart) / sp.sqrt(2 * sp.pi * component_variance[y, i]), k)


_called_case = 1 / (1 + sp.exp(-b_0 - b_1 * score))
_misplaced = (1 - q) * _called_case * _density(0) - q * (1 - _called_case) * _density(1)
CALIBRATION_ERROR = _is("ECE", sp.Integral(sp.Abs(_misplaced), (score, -sp.oo, sp.oo)))
R, F = sp.symbols("R F", positive=True)
kept, S_cells = sp.IndexedBase("x", positive=True), sp.Symbol("S", integer=True, positive=True)
clean_ = sp.Symbol("x_c", positive=True)  # the clean metric above chance
ROBUSTNESS = _is("R", _over(i, kept[i] / clean_, S_cells) / S_cells)
RAF = _is("RAF", sp.sqrt(R * F))
ahead = sp.Symbol("D", positive=True)  # how far one design is ahead of another, of s.e. sigma
FLIPPED = _is("P", Phi(-ahead / sigma))
FLIPPED_BOUND = _is("P", sigma**2 / (sigma**2 + ahead**2))

# (label, title, equation): the paper prints them in this order
