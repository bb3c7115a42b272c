"""Theory and simulation share records, never computations: the import graph says so."""

import ast
import itertools
from functools import cache
from pathlib import Path

import rafmodel

HOME = Path(rafmodel.__file__).parent


@cache
def imports(module: str) -> set[str]:
    """Modules of the package that ``module`` imports, anywhere in its text."""
    found = set()
    for node in itertools.chain.from_iterable(ast.walk(ast.parse(path.read_text())) for path in files(module)):
        if isinstance(node, ast.ImportFrom) and node.module == "rafmodel":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rafmodel."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("rafmodel.")}
    return {name for name in found if files(name)} - {module}


def files(module: str) -> list[Path]:
    """The file of a module, or those of a package."""
    one = HOME / f"{module}.py"
    return [one] if one.exists() else sorted((HOME / module).glob("*.py"))


def reach(module: str) -> set[str]:
    """Everything that ``module`` imports, directly or not."""
    seen, todo = set(), [module]
    while todo:
        for name in imports(todo.pop()) - seen:
            seen.add(name)
            todo.append(name)
    return seen


def test_neither_side_reaches_the_other():
    theory, simulation = (
        {
            "theory",
            "affine",
            "unequal",
            "calibration",
            "sampling",
            "learning",
            "predict",
            "classes_predict",
            "segment_predict",
            "symbols",
        },
        {"simulate", "segment", "pretrain"},
    )
    for module in theory:
        assert not reach(module) & simulation
    for module in simulation:
        assert not reach(module) & theory


def test_scores_fits_and_pictures_never_ask_where_a_number_came_from():
    for module in ("metrics", "dice", "fit", "plot", "report"):
        assert not reach(module) & {
            "theory",
            "predict",
            "classes_predict",
            "segment_predict",
            "simulate",
            "segment",
            "pretrain",
            "symbols",
        }


def test_the_graph_has_no_cycle_and_sees_the_imports():
    modules = [path.stem for path in HOME.glob("*") if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert {"theory", "encoder", "variability"} <= reach("predict")  # the reader above does find imports
    for module in modules:
        assert module not in reach(module)


def test_no_module_is_longer_than_400_lines():
    for path in HOME.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path.name
