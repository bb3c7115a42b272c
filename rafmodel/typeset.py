"""Equations as Typst mathematics, for the paper."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false

from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

_GREEK = (
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
    "psi",
    "pi",
    "alpha",
    "beta",
    "omega",
)
_GREEK += tuple(name.capitalize() for name in _GREEK)
_NAMES = {name: name for name in (*_GREEK, "ell")} | {
    "df": 'op("df")',
    "log": "log",
    "cos": "cos",
    "theta": "theta",
    "infinity": "infinity",
    "TPR": '"TPR"',
    "varphi": "phi.alt",
}


def _name(text: str) -> str:
    """`Sigma'_ij` as `Sigma'_(i j)`: Greek by name, several Latin letters upright, subscripts letter by letter."""
    stem, _, below = text.partition("_")
    stem, power, above = stem.partition("^")
    bare = stem.rstrip("'")
    prime = stem[len(bare) :]
    head = _NAMES.get(bare, bare if len(bare) == 1 else f'"{bare}"') + prime
    low = _NAMES.get(below, " ".join(below))
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

    def _print_Abs(self, expr: Any) -> str:
        return f"abs({self._print(expr.args[0])})"

    def _print_LatticeOp(self, expr: Any) -> str:
        return f"{type(expr).__name__.lower()}({', '.join(self._print(arg) for arg in expr.args)})"  # Max and Min

    def _print_im(self, expr: Any) -> str:
        return f'op("Im") ({self._print(expr.args[0])})'

    def _print_conjugate(self, expr: Any) -> str:
        return f"overline({self._print(expr.args[0])})"

    def _print_ImaginaryUnit(self, expr: Any) -> str:
        return "upright(i)"

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

    def _print_Integral(self, expr: sp.Integral) -> str:
        ((x, low, high),) = expr.limits
        return f"integral_({self._print(low)})^({self._print(high)}) {self._print(expr.function)} dif {self._print(x)}"

    def _print_Piecewise(self, expr: Any) -> str:
        when = ['"otherwise"' if case is sp.true else f'"if " {self._print(case)}' for _, case in expr.args]
        rows = [f"{self._print(value)} & {words}" for (value, _), words in zip(expr.args, when, strict=True)]
        return f"cases({', '.join(rows)})"

    def _print_Mod(self, expr: Any) -> str:
        return f"{self._print(expr.args[0])} mod {self._print(expr.args[1])}"

    def _print_Infinity(self, expr: sp.Expr) -> str:
        return "infinity"

    def _print_NegativeInfinity(self, expr: sp.Expr) -> str:
        return "-infinity"

    def _print_binomial(self, expr: Any) -> str:
        return f"binom({self._print(expr.args[0])}, {self._print(expr.args[1])})"

    def _print_besseli(self, expr: Any) -> str:
        return f"I_({self._print(expr.args[0])})({self._print(expr.args[1])})"

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
            rest = sp.Mul(*(set(expr.args) - set(sums)))
            return " ".join(self._factor(part) for part in (rest, *sums) if part != 1)
        top, bottom = sp.fraction(expr, exact=True)
        if bottom != 1:
            return f"frac({self._print(top)}, {self._print(bottom)})"
        return " ".join(self._factor(factor) for factor in _reading_order(expr))

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        base, power = expr.args
        plain = isinstance(base, (sp.Symbol, sp.Number, sp.Indexed))
        if power.could_extract_minus_sign() and not isinstance(power, sp.Add):
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
