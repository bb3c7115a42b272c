"""What a reviewer asks about a test set, and the answer of a card in words and tables; the same for every document.

Pure functions of the records of ``facts``: nothing is computed from images here.
"""

import itertools
import math
from collections import Counter
from typing import Any, NamedTuple

from rafmodel import visual
from rafmodel.facts import (
    ASSUMED_AUC,
    ASSUMED_RATE,
    RARE_PATIENTS,
    RARE_SHARE,
    STRONG,
    Card,
)
from rafmodel.sources import SPLITS

FEW = 20  # cases or controls, patients, below which a rate says little
_ROWS = 40  # of a table of pairs
PARTS = {"train": "train", "val": "validation", "test": "test"}


class Table(NamedTuple):
    """Column heads and rows of text."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A question, its answer in sentences, tables, the names of its pictures, and what to beware of."""

    question: str
    answer: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    pictures: tuple[str, ...] = ()
    beware: tuple[str, ...] = ()


def sections(card: Card) -> tuple[Section, ...]:
    """Every question with its answer, in the order in which one would ask."""
    asked = (_what, _who, _twice, _far, _confounded, _rare, _quality, _hard, _power, _unknown, _whence, _again)
    return tuple(section for ask in asked if (section := ask(card)) is not None)


def beware(card: Card) -> tuple[str, ...]:
    """All that to beware of, in one list."""
    return tuple(itertools.chain(*(section.beware for section in sections(card))))


def number(value: float, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _s(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


# ---- who


def _what(card: Card) -> Section:
    shape = " × ".join(map(str, card.shape[:-1]))
    channels = {1: "grey", 3: "colour"}.get(card.shape[-1], f"{card.shape[-1]} channels")
    spacing = (
        f", {' × '.join(f'{x:g}' for x in card.spacing)} mm a pixel" if card.spacing else ", pixel length not stated"
    )
    facts = [f"{_s(card.images, 'image')} of {_s(card.patients, 'patient')}, {shape} pixels, {channels}{spacing}."]
    classed = any(math.isfinite(c.cases) for c in card.counts)
    facts.append(f"Class: {card.contrast}." if classed else "No class of images: what is judged is segmentation.")
    if any(count.images for count in card.counts if count.split in card.withheld):
        facts.append(
            "The test part is hidden: counts and statistics are of all parts, but no list, table or picture here is of a single "
            "image or patient of it."
        )
    use = card.told.get("recipe", {}).get("use", "")
    return Section("What is it?", (*facts, *([use] if use else [])))


def _who(card: Card) -> Section:
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for count in card.counts:
        cells.setdefault((count.attribute, count.value), {})[count.split] = count
    rows, told = [], []
    tested = any(count.images for count in card.counts if count.split == "test")
    for (attribute, value), of in cells.items():
        row = [attribute or "everyone", value if attribute else ""]
        for part in SPLITS:
            cases = f" ({of[part].cases:.0f} cases)" if math.isfinite(of[part].cases) else ""
            row.append(f"{of[part].images} / {of[part].patients}{cases}")
        rows.append(tuple(row))
        told += _thin(attribute, value, of["test"]) if tested else []
    heads = ("attribute", "value", *(f"{name}: images / patients" for name in PARTS.values()))
    many = f"One patient has up to {card.most_images} images." if card.most_images > 1 else "One image a patient."
    return Section("Who is in it?", (many,), (Table(heads, tuple(rows)),), ("sample",), tuple(told))


def _thin(attribute: str, value: str, count: Any) -> list[str]:
    """Whether a subgroup of the test part has too few of a class to speak of it."""
    if not attribute or attribute not in (
        "sex",
        "age",
        "site",
        "view",
        "scanner",
        "camera",
        "probe",
        "race",
        "ethnicity",
    ):
        return []
    if not math.isfinite(count.cases) or value == "unknown":
        return []
    fewest = min(count.cases, count.images - count.cases)
    return [f"{attribute} {value}: only {fewest:.0f} test images of one class."] if fewest < FEW else []


# ---- twice, far, confounded


def _twice(card: Card) -> Section:
    across = [twin for twin in card.twins if twin.splits[0] != twin.splits[1]]
    leaks = f"{_s(len(card.leaks), 'patient')} with images in more than one part." if card.leaks else ""
    told = [leaks or "No patient is in two parts, as far as patients are told apart."]
    same = sum(twin.identical for twin in card.twins)
    other = sum(not twin.same_label for twin in card.twins)
    pairs = (
        f"{_s(len(card.twins), 'pair')} of images of different patients look the same, {len(across)} of them in two parts; "
        f"{same} are identical byte by byte, {other} differ in class."
    )
    pairs = pairs if card.twins else "No two images of different patients look the same."
    how = "thumbnails of 32 pixels (12 in 3D) less the mean of all images, correlation above 0.97"
    told.append(f"{pairs} {_s(card.twins_within_patients, 'such pair')} of one patient. Compared: {how}.")
    named = [one.patient for one in card.leaks if not {*one.splits} & {*card.withheld}]
    flags = [f"Leak: {leaks} {', '.join(named[:5])}".rstrip()] if card.leaks else []
    flags += [f"Leak: {_s(len(across), 'pair')} of near-identical images in two parts."] if across else []
    flags += [f"{_s(other, 'pair')} of near-identical images with different classes."] if other else []
    heads = ("image", "image", "correlation", "parts", "identical", "same class")
    yes = {True: "yes", False: "no"}
    rows = [
        (str(t.one), str(t.other), number(t.correlation, 4), " / ".join(t.splits), yes[t.identical], yes[t.same_label])
        for t in [t for t in card.twins if not {*t.splits} & {*card.withheld}][:_ROWS]
    ]
    tables = (Table(heads, tuple(rows)),) if rows else ()
    pictures = ("twins",) if rows else ()
    return Section("Is a patient or an image in it twice?", tuple(told), tables, pictures, tuple(flags))


def _far(card: Card) -> Section | None:
    if not card.distance:
        return None
    far, d = card.told.get("out_of_distribution"), {k: number(v, 3) for k, v in card.distance.items()}
    told = [
        f"A test patient lies farther from the centre of the training part than a training patient with chance "
        f"{number(card.distance['separation'])} (0.5: drawn alike, 1: wholly outside). Energy distance "
        f"{d['energy_distance']} (Székely and Rizzo 2013) between patients' mean coordinates; if they had been dealt out at "
        f"random {d['energy_distance_at_random']}, in one of twenty deals above {d['energy_distance_at_random_95']}. Space: the "
        "16 leading principal components, each of variance 1 over the training part, of images averaged to 16 pixels a side (8 "
        "in 3D)."
    ]
    flags = []
    if far:
        chosen, delivered = far["chosen"], far["delivered"]
        told.append(
            f"Asked for: degree {far['degree']:g} in the space '{far['space']}' ({far['features']}): that share of the test "
            "patients are the farthest from the centre of the pool, within their class, subgroup and kind of challenge; the "
            f"others were drawn. As chosen: separation {chosen['separation']:.2f}, energy distance {_beside_chance(chosen)}; as "
            f"delivered, after all alterations: {delivered['separation']:.2f} and {_beside_chance(delivered)}."
        )
        if far["degree"] > 0 and not delivered["energy_distance"] > delivered["energy_distance_at_random_95"]:
            flags = [
                f"Test part: asked for degree {far['degree']:g} in the space '{far['space']}', no farther than a random deal: "
                f"energy distance {_beside_chance(delivered)}."
            ]
    return Section("How far is the test part from the training part?", tuple(told), (), (), tuple(flags))


def _beside_chance(measured: dict[str, float]) -> str:
    """An energy distance, and that of random deals of the same patients."""
    d = {name: number(value, 3) for name, value in measured.items()}
    return f"{d['energy_distance']} (at random {d['energy_distance_at_random']}, 95 % below {d['energy_distance_at_random_95']})"


def _confounded(card: Card) -> Section:
    told = [
        "Cramér's V, bias-corrected (Bergsma 2013), each patient counted once, with a 95 % bootstrap interval over patients; "
        f"0 is no association, {STRONG} a medium one (Cohen 1988)."
    ]
    surely = [a for a in card.confounding if a.low > 0.1 and a.one in ("class", "part")]
    flags = [
        f"{'Confounding' if a.one == 'class' else 'Parts differ'}: {a.one} and {a.other}, V {number(a.v)} "
        f"({number(a.low)} to {number(a.high)})."
        for a in surely
    ]
    heads = ("column", "column", "V", "95 % interval", "patients")
    ordered = sorted(
        card.confounding, key=lambda a: (a.one not in ("class", "part"), -a.v if math.isfinite(a.v) else 1)
    )
    rows = [
        (a.one, a.other, number(a.v), f"{number(a.low)} to {number(a.high)}", str(a.patients)) for a in ordered[:_ROWS]
    ]
    tables = [Table(heads, tuple(rows))] if rows else []
    if card.tells:
        told.append("A statistic that alone tells the class is a shortcut for a model: AUC of each, 0.5 tells nothing.")
        flags += [_shortcut(t) for t in card.tells if t.low > 0.6 or t.high < 0.4]
        cells = [(t.statistic, number(t.auc), f"{number(t.low)} to {number(t.high)}") for t in card.tells]
        tables.append(Table(("statistic", "AUC for the class", "95 % interval"), tuple(cells)))
    pictures = ("confounding",) if rows else ()
    return Section("Can the class be told from something else?", tuple(told), tuple(tables), pictures, tuple(flags))


def _shortcut(tell: Any) -> str:
    interval = f"{number(tell.low)} to {number(tell.high)}"
    return f"Shortcut: {tell.statistic} alone tells the class, AUC {number(tell.auc)} ({interval})."


# ---- rare, good, hard


def _rare(card: Card) -> Section:
    rarity = card.rarity
    told = [
        f"Looks: {_s(rarity.beyond, 'image')} ({rarity.in_test} in the test part) lie beyond the fence: the distance to the "
        f"{rarity.neighbours}th nearest image of another patient (Ramaswamy et al. 2000), in the 16 leading whitened principal "
        f"components of thumbnails, is above Tukey's (1977) upper fence on the log scale, {number(rarity.fence)}. Beside each, "
        "the quality statistic most out of line, in s.d. from the median (of the robust and the ordinary one the larger)",
        f"Categories: rare with fewer than {RARE_PATIENTS} patients or {RARE_SHARE:.0%} of them.",
    ]
    looks = [
        (str(r.row), r.patient, r.split, number(r.distance), f"{r.statistic} {r.deviation:+.1f}")
        for r in rarity.listed
        if r.split not in card.withheld
    ]
    tables = [Table(("image", "patient", "part", "distance", "out of line"), tuple(looks))] if looks else []
    order = {"scanner": 0, "disease": 1, "other": 2}
    rare = sorted(card.rare_categories, key=lambda r: (order[r.sort], r.patients))
    rows = [(r.sort, r.attribute, r.value, str(r.patients), f"{r.share:.1%}", str(r.in_test)) for r in rare]
    heads = ("sort", "attribute", "value", "patients", "share", "in test")
    tables += [Table(heads, tuple(rows))] if rows else []
    absent = [f"{r.attribute} {r.value}" for r in rare if r.in_test == 0 and r.sort != "other"]
    flags = [f"Rare and never tested: {', '.join(absent)}."] if absent else []
    pictures = (*(["rare_images"] if looks else []), *(["rare_categories"] if rows else []))
    return Section("What is rare in it?", tuple(told), tuple(tables), pictures, tuple(flags))


def _quality(card: Card) -> Section:
    told = ["; ".join(f"{name}: {meaning}" for name, meaning in visual.QUALITY.items()) + "."]
    told.append("Median, and in brackets the 5 % and 95 % quantiles. No reference image is used.")
    cells: dict[str, dict[str, str]] = {}
    for q in card.quality:
        low, median, high = q.middle
        text = f"{number(median, 3)} ({number(low, 3)} to {number(high, 3)})"
        cells.setdefault(q.statistic, {})[q.split] = text
    rows = [(name, *(of[part] for part in SPLITS)) for name, of in cells.items()]
    return Section(
        "How good are the images?", tuple(told), (Table(("statistic", *PARTS.values()), tuple(rows)),), ("quality",)
    )


def _hard(card: Card) -> Section | None:
    if "recipe" not in card.told:
        return None
    told, recipe = [], card.told["recipe"]
    for one in recipe["challenging"]:
        how = f"{one['attribute']} is {' or '.join(one['values'])}" if one["attribute"] else _made(one)
        told.append(f"{one['kind']}, {one['share']:.0%} of the images of every part: {how}.")
    for one in recipe["alteration"]:
        size = f"level {one['level']}" if one["level"] is not None else f"severity {one['severity']:g}"
        told.append(
            f"Altered: {one['variability']} at {size} with probability {one['probability']:g} in {', '.join(one['parts'])}."
        )
    done = Counter((r["step"], r["variability"]) for r in card.told.get("records", ()))
    rows = [(step, name, str(n)) for (step, name), n in sorted(done.items())]
    tables = [Table(("step", "variability", "images"), tuple(rows))] if rows else []
    reached_in = card.told["parts"]
    reached = [
        (PARTS[p], *(f"{v:.1%} {k}" for k, v in of["challenge"].items()))
        for p, of in ((part, reached_in[part]) for part in SPLITS)
    ]
    told += [f"Reached in {row[0]}: {', '.join(row[1:])}." for row in reached]
    return Section("Which cases are challenging, and what was altered?", tuple(told), tuple(tables))


def _made(one: dict[str, Any]) -> str:
    return f"made by {' or '.join(one['variability'])} at level {one['level']}"


# ---- what it can show, what is unknown, where it is from


def _power(card: Card) -> Section:
    told = (
        "Smallest amount by which a subgroup of the test part must lie below the others to be found at 80 % power, two-sided "
        f"5 %: AUC (others {ASSUMED_AUC}; Hanley and McNeil 1982), TPR and 1 − FPR (others {ASSUMED_RATE}; Fleiss et al. 2003), "
        "and the mean of any score a patient, a Dice coefficient say, in its s.d. Patients are counted, not images: a patient's "
        "images are taken to tell as much as one, so the design effect is the number of images a patient. A dash: no gap would "
        "be found."
    )
    heads = (
        "attribute",
        "subgroup",
        "patients",
        "cases",
        "controls",
        "AUC",
        "TPR",
        "1 − FPR",
        "score, s.d.",
        "design effect",
    )
    rows = [
        (g.attribute, g.value, str(g.patients), str(g.cases), str(g.controls), *map(number, g[5:10])) for g in card.gaps
    ]
    blind = [f"{g.attribute} {g.value}" for g in card.gaps if g.cases and g.controls and not math.isfinite(g.auc)]
    flags = [f"No gap in AUC could be found for {', '.join(blind[:12])}."] if blind else []
    tables = (Table(heads, tuple(rows)),) if rows else ()
    return Section("How small a gap between subgroups could the test part show?", (told,), tables, (), tuple(flags))


def _unknown(card: Card) -> Section:
    gone = [m for m in card.missing if m.share > 0]
    rows = [(m.attribute, f"{m.share:.1%}", *(f"{number(100 * x, 1)} %" for x in (m.control, m.case))) for m in gone]
    told = [f"Attributes: {', '.join(m.attribute for m in card.missing) or 'none, so no subgroup can be judged'}."]
    told.append(
        "The files do not say how labels were made, how many readers made them and how far these agreed, nor how patients were "
        "recruited; the source must."
    )
    usual = [name for name in ("sex", "age") if name not in {m.attribute for m in card.missing}]
    flags = [f"Unknown for everyone: {', '.join(usual)}; fairness over them cannot be judged."] if usual else []
    heads = ("attribute", "patients for whom it is unknown", "of controls", "of cases")
    return Section("What is not known?", tuple(told), (Table(heads, tuple(rows)),) if rows else (), (), tuple(flags))


def _whence(card: Card) -> Section:
    parts = card.told.get("sources") or [
        {"name": card.name, "source": card.source, "licence": card.licence, "attribution": "", "images": card.images}
    ]
    rows = [(p["name"], str(p["images"]), p["source"], p["licence"], p.get("attribution") or "–") for p in parts]
    unclear = [p["name"] for p in parts if "not stated" in p["licence"] or "confirm" in p["licence"]]
    flags = [f"Licence not clear: {', '.join(dict.fromkeys(unclear))}."] if unclear else []
    heads = ("part", "images", "source", "licence", "attribution")
    return Section("Where is it from, and who may use it?", (), (Table(heads, tuple(rows)),), (), tuple(flags))


def _again(card: Card) -> Section:
    told = [f"SHA-256 of pixels, classes, parts, patients and attributes: {card.fingerprint}."]
    if "recipe" in card.told:
        size = {step: card.told["counts"][step] for step in ("gathered", "balanced", "benchmark")}
        steps = ", ".join(f"{step} {n['images']} of {_s(n['patients'], 'patient')}" for step, n in size.items())
        told.append(f"Images after each step: {steps}.")
        changed = {p["name"]: p["harmonise"] for p in card.told["sources"]}
        mm = card.told["recipe"]["spacing"]
        told.append(
            "Grey values: " + ", ".join(f"{name} {how}" for name, how in changed.items()) + ". Size: "
            f"{card.told['recipe']['size']} pixels a side, " + (f"{mm} mm a pixel." if mm else "averaged by area.")
        )
        told.append("Versions: " + ", ".join(f"{k} {v}" for k, v in card.told["versions"].items()) + ".")
        told.append(
            "The test part is hidden only as far as key and source images are: whoever has the images of an open cohort can tell "
            "which of them are not in the public part."
        )
    return Section("How can it be made again?", tuple(told))
