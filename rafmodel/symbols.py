"""Every closed form of the theory, stated once: symbols, equations, numerical functions, typeset equations.

`derivations/` proves each equation, `function` turns one into a JAX function that tests hold against
`rafmodel.theory`, and the paper prints `EQUATIONS` through `typst`.  Prediction never needs this module.
"""

# sympy is typed so loosely that these rules only see ghosts
# pyright: reportArgumentType=false, reportAssignmentType=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false, reportIndexIssue=false, reportCallIssue=false, reportReturnType=false

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import jax.scipy.special
import sympy as sp
from sympy.printing.str import StrPrinter

# ---- symbol table


class Phi(sp.Function):
    """Standard normal distribution function."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return sp.exp(-(self.args[0] ** 2) / 2) / sp.sqrt(2 * sp.pi)

    def _eval_rewrite_as_erf(self, z: sp.Expr, **hints: Any) -> sp.Expr:
        return (1 + sp.erf(z / sp.sqrt(2))) / 2


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

# (label, title, equation): the paper prints them in this order
EQUATIONS: list[tuple[str, str, sp.Expr]] = [
    ("auc", "AUC of a Gaussian score", AUC),
    ("rate", "Sensitivity at a threshold", RATE),
    ("auc-mixture", "AUC of mixtures, such as an artifact", AUC_MIXTURE),
    ("contrast-mean", "Mean under a log-normal gain", CONTRAST_MEAN),
    ("contrast-covariance", "Covariance under a log-normal gain", CONTRAST_COVARIANCE),
    ("field-mean", "Mean under a log-normal field", FIELD_MEAN),
    ("field-covariance", "Covariance under a log-normal field", FIELD_COVARIANCE),
    ("field-first-order", "Covariance under a weak log-normal field", FIELD_FIRST_ORDER),
    ("noise", "Covariance under white noise", NOISE_COVARIANCE),
    ("artifact-mean", "Mean of a class with an artifact", ARTIFACT_MEAN),
    ("artifact-covariance", "Covariance of a class with an artifact", ARTIFACT_COVARIANCE),
    ("rotation", "Decay of a circular harmonic", ROTATION_DECAY),
    ("blur", "Decay of a wave under blur", BLUR_DECAY),
    ("operator", "What a proxy task makes predictable in a direction", OPERATOR),
    ("gain", "What a contrastive encoder keeps of a direction", GAIN),
    ("predictor", "Best linear prediction of a target in a direction", PREDICTOR),
    ("operator-supervised", "What a supervised task keeps of the class direction", OPERATOR_SUPERVISED),
    ("kappa", "Effective ridge", KAPPA),
    ("kappa-isotropic", "Effective ridge of white features", KAPPA_ISOTROPIC),
    ("df2", "Degrees of freedom", DF2),
    ("probe-mean", "Mean weights of the probe", PROBE_MEAN),
    ("probe-noise", "Noise that the probe cannot explain", PROBE_NOISE),
    ("probe-variance", "Variance of the probe's weights", PROBE_VARIANCE),
    ("deploy", "Expected quadratic form of the weights", DEPLOY),
    ("imbalance-tpr", "Sensitivity after unequal counts", IMBALANCE_TPR),
    ("imbalance-fpr", "False positives after unequal counts", IMBALANCE_FPR),
    ("imbalance-auc", "AUC after unequal counts", IMBALANCE_AUC),
    ("dice", "Dice from pixel rates", DICE),
    ("dice-optimum", "Best threshold for Dice", DICE_OPTIMUM),
]

# ---- numbers

_JAX = {
    "Phi": jax.scipy.special.ndtr,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "loggamma": jax.scipy.special.gammaln,
    "sqrt": jnp.sqrt,
}


def function(expr: sp.Expr, args: Sequence[Any]) -> Callable[..., Any]:
    """A JAX function of `args` that evaluates `expr`; of an equation, its right side.

    args  symbols, or indexed bases for arrays; a count that bounds a sum must be passed as a Python integer.
    Raises ValueError if `expr` has a symbol that `args` leaves out.
    """
    value = expr.rhs if isinstance(expr, sp.Eq) else expr
    indices = {limit[0] for total in value.atoms(sp.Sum) for limit in total.limits}
    known = {symbol for arg in args for symbol in sp.sympify(arg).free_symbols} | indices
    left_out = {s for s in value.free_symbols if not isinstance(s, sp.Indexed)} - known
    if left_out:
        names = ", ".join(sorted(map(str, left_out)))
        raise ValueError(f"function: the expression depends on {names}; add it to args")
    return sp.lambdify(list(args), value, modules=[_JAX, "jax"])


# ---- typeset

_GREEK = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "eta",
    "kappa",
    "lambda",
    "mu",
    "rho",
    "sigma",
    "tau",
    "phi",
    "omega",
)
_GREEK += tuple(name.capitalize() for name in _GREEK)
_NAMES = {name: name for name in (*_GREEK, "ell")} | {"df": 'op("df")'}


def _name(text: str) -> str:
    """`Sigma'_ij` as `Sigma'_(i j)`: Greek by name, several Latin letters upright, subscripts letter by letter."""
    stem, _, below = text.partition("_")
    stem, power, above = stem.partition("^")
    bare = stem.rstrip("'")
    prime = stem[len(bare) :]
    head = _NAMES.get(bare, bare if len(bare) == 1 else f'"{bare}"') + prime
    low = below if below in _NAMES else " ".join(below)
    return head + (f"_({low})" if below else "") + (f"^({above})" if power else "")


class _Typst(StrPrinter):
    """Typst mathematics for the expressions above: fractions, roots, sums, powers, indices."""

    printmethod = "_typst"  # an index would otherwise print itself as text

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return _name(expr.name)

    def _print_Indexed(self, expr: sp.Indexed) -> str:
        return f"{_name(str(expr.base))}_({' '.join(self._print(index) for index in expr.indices)})"

    def _print_Function(self, expr: Any) -> str:
        inside = ", ".join(self._print(arg) for arg in expr.args)
        return f"{_name(type(expr).__name__)}({inside})"

    def _print_exp(self, expr: sp.exp) -> str:
        return f"e^({self._inline(expr.args[0])})"

    def _print_Relational(self, expr: Any) -> str:
        return f"{self._print(expr.lhs)} = {self._print(expr.rhs)}"

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"{expr.p}/{expr.q}"

    def _print_Sum(self, expr: sp.Sum) -> str:
        signs = [f"sum_({self._print(x)}={self._print(lo)})^({self._print(hi)})" for x, lo, hi in expr.limits]
        body = self._print(expr.function)
        return " ".join(signs) + " " + (f"({body})" if isinstance(expr.function, sp.Add) else body)

    def _print_Add(self, expr: sp.Add, order: Any = None) -> str:
        # a leading minus reads badly, and a sum sign would seem to swallow the terms behind it
        terms = sorted(expr.as_ordered_terms(), key=lambda term: (term.could_extract_minus_sign(), term.has(sp.Sum)))
        text = self._print(terms[0])
        for term in terms[1:]:
            minus = term.could_extract_minus_sign()
            text += f" - {self._factor(-term)}" if minus else f" + {self._print(term)}"
        return text

    def _print_Mul(self, expr: sp.Mul) -> str:
        if expr.could_extract_minus_sign():
            return f"-{self._factor(-expr)}"
        sums = [factor for factor in expr.args if isinstance(factor, sp.Sum)]
        if sums:  # stand behind the fraction, not in it
            return " ".join(self._print(part) for part in (sp.Mul(*(set(expr.args) - set(sums))), *sums))
        top, bottom = sp.fraction(expr, exact=True)
        if bottom != 1:
            return f"frac({self._print(top)}, {self._print(bottom)})"
        return " ".join(self._factor(factor) for factor in _reading_order(expr))

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        base, power = expr.args
        plain = isinstance(base, (sp.Symbol, sp.Number, sp.Indexed))
        if power.could_extract_minus_sign():
            return f"frac(1, {self._print(base**-power)})"
        if power == sp.Rational(1, 2):
            return f"sqrt({self._print(base)})"
        text = self._print(base)
        return f"{text if plain else f'({text})'}^({self._print(power)})"

    def _inline(self, expr: sp.Expr) -> str:
        """An exponent on one line: a / b instead of a stacked fraction."""
        top, bottom = sp.fraction(sp.together(expr))
        if bottom == 1:
            return self._print(expr)
        return f"{self._factor(top)} slash {self._factor(bottom)}"

    def _factor(self, expr: sp.Expr) -> str:
        text = self._print(expr)
        bracket = isinstance(expr, sp.Add)
        return f"({text})" if bracket else text


def _reading_order(product: sp.Expr) -> list[sp.Expr]:
    """Factors as they are read: numbers, symbols, exponentials, brackets, then functions and sums."""

    def rank(factor: sp.Expr) -> int:
        kinds = (sp.Number, (sp.Symbol, sp.Indexed), sp.exp, (sp.Add, sp.Pow), sp.Function, sp.Sum)
        return next((place for place, kind in enumerate(kinds) if isinstance(factor, kind)), len(kinds))

    return sorted(sp.Mul.make_args(product), key=rank)


def typst(expr: sp.Expr) -> str:
    """The expression as Typst mathematics, without the dollar signs."""
    return _Typst().doprint(expr)
