"""The document that travels with a cohort: its card as one HTML file, as Markdown with pictures, and as Croissant JSON-LD.

Words and tables come from ``questions``; here they are laid out, and pictures are drawn.
"""

import base64
import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from rafmodel import __version__, portraits, questions
from rafmodel.cohort import Cohort
from rafmodel.facts import Card
from rafmodel.files import atomically

_OPEN = re.compile(r"\bCC0\b|\bCC[ -]BY(?:[ -]SA)?[ -]\d|\bBSD-|\bMIT\b|public domain|no restriction on use", re.I)
_DOUBT = re.compile(r"not confirmed|to our knowledge|not stated|unclear|unknown|\bNC\b|\bND\b|non-?commercial", re.I)


def may_show(card: Card) -> bool:
    """Whether the licence of every part clearly allows that its images are passed on (CC0, CC BY, CC BY-SA, BSD, MIT...)."""
    parts = [part["licence"] for part in card.told.get("sources", ())] or [card.licence]
    return all(_OPEN.search(text) is not None and _DOUBT.search(text) is None for text in parts)


def write(
    card: Card, cohort: Cohort, folder: Path, *, pictures: bool = True, files: Sequence[Path] = ()
) -> tuple[Path, ...]:
    """card.html, card.md with its pictures in ``pictures``, images.csv and croissant.json in a folder; their paths.

    No single image of a part that the card withholds is listed or shown.

    pictures  whether images are shown; charts always are
    files     that hold the images and are passed on with the card; croissant.json lists them with their SHA-256
    """
    drawn = portraits.drawn(card, cohort, images=pictures)
    table = image_table(cohort, card.withheld)
    there = {os.path.relpath(file, folder).replace(os.sep, "/"): file.read_bytes() for file in files}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in there.items()}
    texts = {
        "card.html": html(card, drawn, pictures),
        "card.md": markdown(card, drawn, pictures),
        "images.csv": table,
        "croissant.json": json.dumps(croissant(card, cohort, table, digests), indent=1, ensure_ascii=False) + "\n",
    }
    for name, (_, data) in drawn.items():
        atomically(folder / "pictures" / f"{name}.png", lambda file, data=data: file.write(data))
    for name, text in texts.items():
        atomically(folder / name, lambda file, text=text: file.write(text.encode()))
    return tuple(folder / name for name in texts)


# ---- for people


def html(card: Card, drawn: Mapping[str, tuple[str, bytes]], pictures: bool) -> str:
    """One self-contained page."""
    loader = PackageLoader("rafmodel", ".")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("card.html.jinja")
    shown = {name: (caption, base64.b64encode(data).decode()) for name, (caption, data) in drawn.items()}
    asked, told = questions.sections(card), questions.beware(card)
    return template.render(
        card=card, sections=asked, beware=told, drawn=shown, left_out=_left_out(pictures), version=__version__
    )


def markdown(card: Card, drawn: Mapping[str, tuple[str, bytes]], pictures: bool) -> str:
    """The same as Markdown; pictures are linked from the folder ``pictures`` beside it."""
    lines = [f"# Cohort card: {_plain(card.name)}", ""]
    lines += (
        ["**Beware**", "", *(f"- {_plain(text)}" for text in questions.beware(card)), ""]
        if questions.beware(card)
        else []
    )
    lines += [_left_out(pictures), ""] if not pictures else []
    for section in questions.sections(card):
        lines += [f"## {section.question}", ""]
        for text in section.answer:
            lines += [_plain(text), ""]
        for name in section.pictures:
            if name in drawn:
                lines += [f"![{_plain(drawn[name][0])}](pictures/{name}.png)", "", f"*{_plain(drawn[name][0])}*", ""]
        for table in section.tables:
            rows = [table.heads, ("---",) * len(table.heads), *table.rows]
            lines += ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows] + [""]
    return "\n".join([*lines, f"Made by rafmodel {__version__}.", ""])


def _left_out(pictures: bool) -> str:
    return "" if pictures else "Pictures of patients are left out of this card."


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split())) if text != "---" else text


# ---- for programs


def image_table(cohort: Cohort, withheld: tuple[str, ...] = ()) -> str:
    """One line an image as CSV: its row, part, patient, class (empty where there is none) and attributes."""
    rows = np.flatnonzero(~np.isin(cohort.split, withheld))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = sorted(cohort.attributes)
    writer.writerow(["row", "split", "patient", "label", *names])
    label = np.where(cohort.label >= 0, cohort.label.astype(str), "")
    columns = [cohort.split, cohort.patient, label, *(cohort.attributes[name] for name in names)]
    writer.writerows(zip(rows.tolist(), *(column[rows].tolist() for column in columns), strict=True))
    return file.getvalue()


def croissant(card: Card, cohort: Cohort, table: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Croissant 1.0 metadata with the responsible-AI vocabulary; its record set is ``images.csv``.  Akhtar et al. (2024).

    files  address -> SHA-256 of the npz files that are distributed
    """
    answers = {section.question: " ".join(section.answer) for section in questions.sections(card)}
    parts = card.told.get("sources") or [{"licence": card.licence, "source": card.source, "attribution": ""}]
    cited = "; ".join(dict.fromkeys(part.get("attribution") or part["source"] for part in parts))
    notes = {
        "rai:dataBiases": " ".join(questions.beware(card)) or "None found by the audit.",
        "rai:dataCollection": cited,
        "rai:dataLimitations": answers["What is not known?"],
        "rai:dataPreprocessingProtocol": answers["How can it be made again?"],
        "rai:personalSensitiveInformation": ", ".join(sorted(cohort.attributes)) or "none",
    }
    digest = hashlib.sha256(table.encode()).hexdigest()
    listed = [_file("images.csv", "text/csv", digest, f"One line an image{_open_part(card)}.")]
    listed += [_file(name, "application/zip", found, "Images as numpy arrays.") for name, found in files.items()]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": card.name,
        "description": " ".join([answers["What is it?"], *questions.beware(card)]),
        "version": "1.0.0",
        "license": list(dict.fromkeys(part["licence"] for part in parts)),
        "citeAs": cited,
        "creator": {"@type": "sc:Organization", "name": cited},
        **notes,
        "distribution": listed,
        "recordSet": [_record_set(card, cohort)],
    }


def _open_part(card: Card) -> str:
    return " outside the hidden part" if card.withheld else ""


def _file(address: str, kind: str, digest: str, description: str) -> dict[str, Any]:
    name = {"@type": "cr:FileObject", "@id": address, "name": address.rpartition("/")[2], "contentUrl": address}
    return {**name, "encodingFormat": kind, "sha256": digest, "description": description}


def _record_set(card: Card, cohort: Cohort) -> dict[str, Any]:
    meaning = {
        "row": "place in the cohort",
        "split": "train, val or test",
        "patient": "patient",
        "label": "1 case, 0 control",
    }
    classed = bool((cohort.label >= 0).all())
    fields = []
    for name in ("row", "split", "patient", *(["label"] if classed else []), *sorted(cohort.attributes)):
        source = {"fileObject": {"@id": "images.csv"}, "extract": {"column": name}}
        kind = "sc:Integer" if name in ("row", "label") else "sc:Text"
        about = {"name": name, "description": meaning.get(name, f"attribute {name}"), "dataType": kind}
        fields.append({"@type": "cr:Field", "@id": f"images/{name}", **about, "source": source})
    key = {"@id": "images/row"}
    whose = f"Images{_open_part(card)}, their patients, parts, classes and attributes."
    about = {"name": "images", "description": whose}
    return {"@type": "cr:RecordSet", "@id": "images", **about, "key": key, "field": fields}


_CROISSANT = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileProperty",
    "fileObject",
    "fileSet",
    "format",
)
_CROISSANT += (
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
)
_CROISSANT += ("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform")
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _CROISSANT},
}
