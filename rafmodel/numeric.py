"""From a closed form to a JAX function: the normal distribution function for sympy, and how names become numbers.

Apart from ``rafmodel.symbols``, which states the forms.
"""

# sympy is typed so loosely that these rules only see ghosts
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportReturnType=false

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import jax.scipy.special
import sympy as sp


class Phi(sp.Function):
    """Standard normal distribution function."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return sp.exp(-(self.args[0] ** 2) / 2) / sp.sqrt(2 * sp.pi)

    def _eval_rewrite_as_erf(self, z: sp.Expr, **hints: Any) -> sp.Expr:
        return (1 + sp.erf(z / sp.sqrt(2))) / 2


_JAX = {
    "Phi": lambda x: jax.scipy.special.ndtr(jnp.asarray(x, float)),  # also of an integer
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "loggamma": jax.scipy.special.gammaln,
    "sqrt": jnp.sqrt,
    "besseli": lambda order, x: (jax.scipy.special.i0, jax.scipy.special.i1)[order](x),
    "binomial": lambda n, k: jnp.exp(
        sum(c * jax.scipy.special.gammaln(x + 1.0) for c, x in ((1, n), (-1, k), (-1, n - k)))
    ),
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
