"""Build the paper: figures and numbers from committed tables, equations from the stated closed forms, then the PDF.

python paper/build.py                        everything (needs the PyPI package typst)
python paper/build.py --only fig_predicted   one figure
"""

import argparse
import runpy

from tables import OUT, PAPER, read

FIGURES = sorted(path.stem for path in (PAPER / "figures").glob("fig_*.py"))
GENERATED = PAPER / "generated"


def equations() -> None:
    """Every closed form of ``rafmodel.symbols`` as a numbered, labelled Typst equation."""
    from rafmodel.equations import EQUATIONS
    from rafmodel.typeset import typst

    lines = [f"{title}:\n$ {typst(equation)} $ <{label}>\n" for label, title, equation in EQUATIONS]
    (GENERATED / "equations.typ").write_text("\n".join(lines))


def numbers() -> None:
    """The figures that the text quotes, one Typst variable each."""
    study, check = read("development/pneumoniamnist"), read("development/pneumoniamnist_check")
    score = check["score"]
    found = {
        "designs": study.sizes["design"],
        "shifts": study.sizes["shift"],
        "seeds": study.sizes["seed"],
        "reliability": f"{float(check['reliability']):.2f}",
        "weight": f"{float(check['weight_mean']):.2f}",
        "coverage": f"{100 * float(score.sel(level='L2', measure='coverage_90')):.0f}",
    }
    for level in ("B0", "B1", "L0", "L2"):
        for measure in ("mae", "skill", "effect_r", "effect_r_corrected", "rank_r"):
            value = float(score.sel(level=level, measure=measure))
            found[f"{level.lower()}-{measure.replace('_', '-')}"] = f"{value:.3f}" if value == value else "–"
    for name, folder in (("skill", "development"), ("witness", "witnesses")):
        everywhere = read(f"{folder}/skill_check")["pooled"]
        for level in ("B1", "B3", "L0", "L0x", "L1", "L1x", "L2x"):
            one = everywhere.sel(level=level)
            found[f"{name}-{level.lower()}-mae"] = f"{float(one.sel(pooled_measure='mae')):.3f}"
            found[f"{name}-{level.lower()}-r"] = f"{float(one.sel(pooled_measure='r_corrected')):.2f}"
    text = "".join(f'#let {name} = "{value}"\n' for name, value in found.items())
    (GENERATED / "numbers.typ").write_text(text)


def main() -> None:
    """One figure, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FIGURES, help="build this figure and nothing else")
    only = parser.parse_args().only
    for folder in (OUT, GENERATED):
        folder.mkdir(exist_ok=True)
    for name in [only] if only else FIGURES:
        runpy.run_path(str(PAPER / "figures" / f"{name}.py"))
    if only:
        return
    equations()
    numbers()
    import typst

    typst.compile(PAPER / "main.typ", output=OUT / "paper.pdf", root=PAPER)
    print(OUT / "paper.pdf")


if __name__ == "__main__":
    main()
