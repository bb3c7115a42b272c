"""A card finds what was put into a cohort (look-alikes, leaks, confounding, rarity, noise); over a clean one it is silent."""

import csv
import hashlib
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from rafmodel import card as cards
from rafmodel import cohort as cohorts
from rafmodel import confounding, metrics, portraits, power, questions, visual
from rafmodel.audit import audit
from rafmodel.cli import main
from rafmodel.cohort import Cohort
from rafmodel.phantoms import phantom

PATIENTS = 400


def cohort(dims=2, patients=PATIENTS, side=24):
    """Smooth random textures, one or two images a patient, with nothing wrong with them."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(patients), 1 + np.arange(patients) % 2)
    n = len(owner)
    smooth = gaussian_filter(rng.normal(size=(n, *(side,) * dims)), (0, *(2.0,) * dims))
    image = 0.5 + 0.12 * smooth / smooth.std()
    return Cohort(
        np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)[..., None],
        (rng.permutation(patients) % 2)[owner].astype(np.int8),
        np.array([f"p{i:03d}" for i in owner]),
        np.array(["train", "train", "val", "test", "test"])[rng.permutation(patients) % 5][owner],
        {
            "sex": np.array(["F", "M"])[rng.permutation(patients) % 2][owner],
            "age": np.array(["18-49", "50-64", "65+"])[rng.permutation(patients) % 3][owner],
        },
        name="clean",
        source="drawn for a test",
        licence="CC0",
        contrast="one against nought",
    )


CLEAN = cohort()


@pytest.fixture(scope="module")
def clean():
    return audit(CLEAN)


def row_of(split, start=0):
    return int(np.flatnonzero(CLEAN.split == split)[start])


# ---- a clean cohort


def test_a_clean_cohort_raises_no_alarm(clean):
    assert questions.beware(clean) == ()
    assert clean.twins == ()
    assert clean.leaks == ()
    assert clean.rare_categories == ()
    assert clean.distance["separation"] == pytest.approx(0.5, abs=4 * np.sqrt(1 / (12 * 160) + 1 / (12 * 160)))


def test_counts_are_those_of_a_loop(clean):
    for count in clean.counts:
        rows = [
            i
            for i in range(len(CLEAN.label))
            if CLEAN.split[i] == count.split
            and (not count.attribute or CLEAN.attributes[count.attribute][i] == count.value)
        ]
        assert count.images == len(rows) > 0
        assert count.patients == len({CLEAN.patient[i] for i in rows})
        assert count.cases == sum(CLEAN.label[i] for i in rows)
    assert {(c.attribute, c.value) for c in clean.counts} >= {("", "all"), ("sex", "F"), ("age", "65+")}


# ---- what was put in is found


def test_look_alikes_are_found_across_parts_and_with_another_class():
    image, one, other = CLEAN.image.copy(), row_of("train", 3), row_of("test", 5)
    near = row_of("val", 2)
    image[other] = image[one]
    noisy = image[one].astype(float) + np.random.default_rng(1).normal(0, 3, image[one].shape)
    image[near] = np.clip(noisy, 0, 255).astype(np.uint8)
    label = CLEAN.label.copy()
    label[other] = 1 - label[one]
    found = audit(replace(CLEAN, image=image, label=label))
    assert {tuple(sorted((t.one, t.other))) for t in found.twins} == {
        tuple(sorted(pair)) for pair in ((one, other), (one, near), (other, near))
    }
    [same] = [t for t in found.twins if t.identical]
    assert {same.one, same.other} == {one, other}
    assert not same.same_label
    text = " ".join(questions.beware(found))
    assert "3 pairs of near-identical images in two parts" in text
    assert "different classes" in text


def test_images_of_one_patient_that_look_alike_are_no_leak():
    twice = int(np.flatnonzero(CLEAN.patient[1:] == CLEAN.patient[:-1])[4])
    image = CLEAN.image.copy()
    image[twice + 1] = image[twice]
    found = audit(replace(CLEAN, image=image))
    assert found.twins == ()
    assert found.twins_within_patients == 1


def test_a_patient_in_two_parts_is_found():
    twice = int(np.flatnonzero(CLEAN.patient[1:] == CLEAN.patient[:-1])[0])
    split = CLEAN.split.copy()
    split[twice : twice + 2] = "train", "test"
    found = audit(replace(CLEAN, split=split))
    assert [(leak.patient, leak.splits) for leak in found.leaks] == [(CLEAN.patient[twice], ("test", "train"))]
    assert any(text.startswith("Leak: 1 patient") for text in questions.beware(found))


def test_confounding_is_measured_and_named():
    rng = np.random.default_rng(2)
    _, owner = np.unique(CLEAN.patient, return_inverse=True)
    agrees = rng.uniform(size=PATIENTS)[owner] < 0.85  # a balanced two by two table: V = 2 · 0.85 − 1
    scanner = np.where(agrees == (CLEAN.label == 1), "new", "old")
    part = np.where((CLEAN.split == "test") & (rng.uniform(size=PATIENTS)[owner] < 0.9), "b", "a")
    found = audit(replace(CLEAN, attributes={**CLEAN.attributes, "scanner": scanner, "site": part}))
    of = {(a.one, a.other): a for a in found.confounding}
    told = of["class", "scanner"]
    assert told.low < 0.7 < told.high
    assert told.high - told.low < 0.2
    assert told.patients == PATIENTS
    assert of["class", "sex"].low == 0
    assert of["class", "sex"].v < 0.15
    assert of["part", "site"].v > 0.8
    text = questions.beware(found)
    assert any(t.startswith("Confounding: class and scanner") for t in text)
    assert any(t.startswith("Parts differ: part and site") for t in text)
    assert not any("sex" in t for t in text)


def test_a_trivial_statistic_that_tells_the_class_is_a_shortcut():
    image = np.clip(CLEAN.image.astype(int) + 25 * CLEAN.label[:, None, None, None], 0, 255).astype(np.uint8)
    found = audit(replace(CLEAN, image=image))
    [bright] = [tell for tell in found.tells if tell.statistic == "brightness"]
    area = metrics.auc(image.mean((1, 2, 3)), CLEAN.label)
    assert bright.auc == pytest.approx(area, abs=1e-9)
    assert bright.low < area < bright.high
    assert any("brightness alone tells the class" in text for text in questions.beware(found))


def test_what_most_images_share_exactly_is_not_divided_by_nothing():
    """A share of black that all but a few images have: those are out of line by no more than few can be."""
    odd = [row_of("test", n) for n in (3, 5, 7)]
    image = CLEAN.image.copy()
    image[:, :6] = 0
    image[odd, :12] = 0
    found = [rare for rare in audit(replace(CLEAN, image=image)).rarity.listed if rare.row in odd]
    assert found
    assert all(rare.statistic == "black" and 5 < rare.deviation < len(image) ** 0.5 for rare in found)


def test_rare_looks_scanners_and_diseases_are_named():
    odd = row_of("test", 7)
    image = CLEAN.image.copy()
    image[odd, ..., 0] = 255 * (np.indices((24, 24)).sum(0) // 4 % 2)
    _, owner = np.unique(CLEAN.patient, return_inverse=True)
    scanner = np.where(np.isin(owner, [3, 50, 99]), "antique", np.where(owner % 2, "x", "y"))
    findings = np.where(owner == 7, "effusion|hernia", np.where(owner % 3, "effusion", "none"))
    found = audit(replace(CLEAN, image=image, attributes={"scanner": scanner, "findings": findings}))
    assert found.rarity.listed[0].row == odd
    assert found.rarity.listed[0].deviation > 5
    rare = {(r.sort, r.attribute, r.value): r for r in found.rare_categories}
    assert set(rare) == {("scanner", "scanner", "antique"), ("disease", "findings", "hernia")}
    antique = rare["scanner", "scanner", "antique"]
    assert antique.patients == 3
    assert antique.share == pytest.approx(3 / PATIENTS)
    assert scanner[antique.example] == "antique"
    assert "hernia" in findings[rare["disease", "findings", "hernia"].example]
    parts = set(CLEAN.split[scanner == "antique"])
    named = any("Rare and never tested" in t and "antique" in t for t in questions.beware(found))
    assert named == ("test" not in parts)


def test_an_attribute_that_is_missing_more_often_for_cases_is_told():
    unknown = (CLEAN.label == 1) & (np.arange(len(CLEAN.label)) % 4 == 0)
    found = audit(replace(CLEAN, attributes={"sex": np.where(unknown, "unknown", CLEAN.attributes["sex"])}))
    [gone] = found.missing
    assert gone.case == pytest.approx(unknown[CLEAN.label == 1].mean())
    assert gone.control == 0
    assert any("Unknown for everyone: age" in text for text in questions.beware(found))


@pytest.mark.parametrize("dims", [2, 3])
def test_without_classes_and_in_volumes_a_card_says_so_and_still_counts(dims, tmp_path):
    some = cohort(dims, 60, 24 if dims == 2 else 14)
    some = replace(some, label=np.full_like(some.label, -1), spacing=np.full((len(some.label), dims), 0.8))
    found = audit(some)
    assert found.spacing == (0.8,) * dims
    assert found.tells == ()
    assert all(np.isnan(count.cases) for count in found.counts)
    assert all(np.isnan(gap.auc) and np.isfinite(gap.mean) for gap in found.gaps)
    paths = cards.write(found, some, tmp_path)
    assert "what is judged is segmentation" in paths[0].read_text()
    assert (tmp_path / "pictures" / "sample.png").exists()


# ---- quality


def test_noise_is_estimated_as_it_was_added():
    rng = np.random.default_rng(3)
    for sigma in (0.02, 0.08):
        flat = 0.5 + sigma * rng.normal(size=(40, 48, 48))
        found = visual.immerkaer(flat)
        assert found.mean() == pytest.approx(sigma, rel=0.02)  # 40 · 46² pixels, each 36 times averaged: s.e. 0.6 %
    plane = np.add.outer(np.linspace(0, 1, 48), np.linspace(0, 0.5, 48))[None]
    assert visual.immerkaer(plane)[0] < 1e-12  # blind to a ramp


def test_quality_statistics_move_with_what_they_measure():
    names = list(visual.QUALITY)
    image = (CLEAN.image[:80] / np.float32(255)).astype(np.float32)

    def median(changed):
        return dict(zip(names, np.nanmedian(visual.quality(changed.astype(np.float32)), 0), strict=True))

    plain = median(image)
    assert plain["brightness"] == pytest.approx(0.5, abs=0.02)
    assert plain["contrast"] == pytest.approx(np.median(image.std((1, 2, 3))), rel=1e-5)
    noisy = median(image + np.random.default_rng(4).normal(0, 0.05, image.shape))
    assert noisy["noise"] == pytest.approx(np.hypot(0.05, plain["noise"]), rel=0.1)
    assert median(gaussian_filter(image, (0, 1.5, 1.5, 0)))["sharpness"] < 0.8 * plain["sharpness"]
    burnt, black = image.copy(), image.copy()
    burnt[:, :6], black[:, :12] = 1, 0
    assert median(burnt)["white"] == pytest.approx(0.25, abs=0.01)
    assert median(black)["black"] == pytest.approx(0.5, abs=0.01)


# ---- association


def test_plain_v_is_that_of_scipy_and_the_correction_is_bergsmas():
    rng = np.random.default_rng(5)
    one, other = rng.integers(0, 3, 150), rng.integers(0, 4, 150)
    other = np.where(rng.uniform(size=150) < 0.3, one, other)
    counts = np.zeros((3, 4), int)
    np.add.at(counts, (one, other), 1)
    table = confounding.table(one, other, np.ones((1, 150)))
    squared = confounding.phi_squared(table, 150)
    plain = np.sqrt((squared[0] + 2 * 3 / 149) / 2)  # the bias put back: the plain V
    assert plain == pytest.approx(stats.contingency.association(counts, method="cramer"), rel=1e-12)
    chi2 = stats.chi2_contingency(counts, correction=False).statistic
    expected = max(0, chi2 / 150 - 2 * 3 / 149)  # Bergsma (2013), equations 4 to 6
    r, c = 3 - 4 / 149, 4 - 9 / 149
    v = confounding.cramers_v(squared, table, 150)[0]
    assert v == pytest.approx(np.sqrt(expected / min(r - 1, c - 1)), rel=1e-12)
    names = np.arange(150).astype(str)
    follows = confounding.association(("a", "b"), one.astype(str), one.astype(str), names)
    assert follows.low == pytest.approx(1, abs=0.01)
    assert follows.low <= follows.v <= follows.high
    constant = confounding.association(
        ("a", "b"), np.full(20, "x"), np.arange(20).astype(str), np.arange(20).astype(str)
    )
    assert np.isnan(constant.v)


def test_many_images_of_a_patient_are_no_evidence():
    rng = np.random.default_rng(6)
    one, other = rng.integers(0, 2, 60).astype(str), rng.integers(0, 2, 60).astype(str)
    patient = np.arange(60).astype(str)
    once = confounding.association(("a", "b"), one, other, patient)
    often = confounding.association(("a", "b"), *(np.repeat(x, 1 + np.arange(60) % 9) for x in (one, other, patient)))
    assert often[2:] == pytest.approx(once[2:], abs=1e-12)


def test_intervals_of_v_hold_the_truth():
    rng = np.random.default_rng(7)
    for truth in (0.0, 0.3, 0.7):
        held = []
        for trial in range(150):
            one = rng.integers(0, 2, 200)
            same = rng.uniform(size=200) < (1 + truth) / 2
            other = np.where(same, one, 1 - one)
            names = np.arange(200).astype(str)
            found = confounding.association(
                ("", ""), one.astype(str), other.astype(str), names, key=trial, n_replicates=200
            )
            held.append(found.low <= truth <= found.high)
        assert np.mean(held) > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 150)


# ---- power


def test_variance_of_an_auc_is_that_of_simulated_scores():
    rng = np.random.default_rng(8)
    area, n_case, n_control = 0.8, 30, 50
    rate = (1 - area) / area  # exponential scores: P(case above control) = 1 / (1 + rate)
    label = np.repeat([1, 0], [n_case, n_control])
    cases = rng.exponential(1, (4000, n_case))
    controls = rng.exponential(rate, (4000, n_control))
    found = metrics.auc(np.concatenate([cases, controls], 1), label)
    assert found.mean() == pytest.approx(area, abs=4 * found.std() / np.sqrt(4000))
    expected = power.variance_of_auc(area, n_case, n_control)
    assert expected == pytest.approx(found.var(), rel=4 * np.sqrt(2 / 4000))


def test_the_detectable_gap_in_auc_is_found_four_times_in_five():
    rng = np.random.default_rng(9)
    one, other, area = (120, 150), (80, 90), 0.85
    gap = power.gap_in_auc(area, one, other)
    assert 0.03 < gap < 0.3

    def areas(value, sizes):
        label = np.repeat([1, 0], sizes)
        drawn = [rng.exponential(1, (3000, sizes[0])), rng.exponential((1 - value) / value, (3000, sizes[1]))]
        return metrics.auc(np.concatenate(drawn, 1), label)

    first, second = areas(area, one), areas(area - gap, other)
    error = np.sqrt(power.variance_of_auc(area, *one) + power.variance_of_auc(area - gap, *other))
    share = (np.abs(first - second) > 1.96 * error).mean()
    assert share == pytest.approx(0.8, abs=0.04)  # 4 s.e. of 3000 trials, and 0.01 for areas that are not quite normal


def test_detectable_gaps_in_rates_and_means_are_found_four_times_in_five():
    rng = np.random.default_rng(10)
    gap = power.gap_in_rate(0.8, 150, 100)
    hits = rng.binomial(150, 0.8, 20000), rng.binomial(100, 0.8 - gap, 20000)
    pooled = (hits[0] + hits[1]) / 250
    z = (hits[0] / 150 - hits[1] / 100) / np.sqrt(pooled * (1 - pooled) * (1 / 150 + 1 / 100))
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.03)  # counts are whole numbers
    gap = power.gap_in_mean(80, 60)
    drawn = rng.normal(gap, 1, (4000, 80)), rng.normal(0, 1, (4000, 60))
    found = stats.ttest_ind(*drawn, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_too_few_patients_show_nothing():
    assert np.isnan(power.gap_in_auc(0.85, (50, 50), (0, 20)))
    assert np.isnan(power.gap_in_auc(0.85, (50, 50), (2, 2)))
    assert np.isnan(power.gap_in_rate(0.8, 100, 1))
    assert np.isnan(power.gap_in_mean(100, 1))


def test_gaps_count_patients_not_images(clean):
    test = CLEAN.split == "test"
    women = test & (CLEAN.attributes["sex"] == "F")
    gap = next(g for g in clean.gaps if (g.attribute, g.value) == ("sex", "F"))
    assert gap.patients == len(set(CLEAN.patient[women]))
    assert gap.cases == len(set(CLEAN.patient[women & (CLEAN.label == 1)]))
    assert gap.design_effect == pytest.approx(women.sum() / gap.patients)
    others = test & ~women
    cases, controls = (len(set(CLEAN.patient[others & (CLEAN.label == c)])) for c in (1, 0))
    assert gap.auc == power.gap_in_auc(0.85, (cases, controls), (gap.cases, gap.controls))


# ---- how far


@pytest.mark.parametrize(
    ("degree", "delivered", "flagged"), [(0.25, 0.046, True), (0.25, 0.09, False), (0, 0.046, False)]
)
def test_a_dial_that_did_nothing_is_told(clean, degree, delivered, flagged):
    chance = {"separation": 0.5, "energy_distance_at_random": 0.051, "energy_distance_at_random_95": 0.07}
    measured = {when: {**chance, "energy_distance": delivered} for when in ("chosen", "delivered")}
    far = {"degree": degree, "space": "quality", "features": "six statistics", **measured}
    told = questions.sections(replace(clean, told={"out_of_distribution": far}))
    [section] = [section for section in told if section.question.startswith("How far")]
    assert f"energy distance {delivered:.3f} (at random 0.051, 95 % below 0.070)" in section.answer[-1]
    assert bool(section.beware) is flagged
    assert (
        not flagged
        or "asked for degree 0.25 in the space 'quality', no farther than a random deal" in section.beware[0]
    )


# ---- what is hidden


def test_of_a_hidden_part_a_card_tells_statistics_and_no_single_image(tmp_path, monkeypatch):
    image, one, other = CLEAN.image.copy(), row_of("train", 3), row_of("test", 5)
    image[other] = image[one]
    odd = row_of("test", 7)
    image[odd, ..., 0] = 255 * (np.indices((24, 24)).sum(0) // 4 % 2)
    site = np.where(np.arange(len(image)) == row_of("test", 9), "far", "near")
    some = replace(CLEAN, image=image, attributes={**CLEAN.attributes, "site": site})
    found = audit(some, {"sha256_of_the_hidden_part": "0" * 64})
    plain = replace(found, withheld=())
    assert found.rarity.listed[0].row == odd
    assert questions.beware(found) == questions.beware(plain)
    assert any("1 pair of near-identical images in two parts" in text for text in questions.beware(found))
    hidden = some.split == "test"
    shown = []
    face = portraits.face
    monkeypatch.setattr(portraits, "face", lambda cohort, row: shown.append(row) or face(cohort, row))
    paths = cards.write(found, some, tmp_path / "open")
    assert shown
    assert not hidden[shown].any()
    text = re.sub(r"base64,[^\"]+", "", "".join(path.read_text() for path in paths))
    assert not [name for name in set(some.patient[hidden]) if name in text]
    assert f"| {one} | {other} |" not in text
    for statistic in ("site | far", f"{some.label[hidden].sum()} cases"):
        assert statistic in text
    rows = list(csv.DictReader(paths[2].read_text().splitlines()))
    assert [int(row["row"]) for row in rows] == np.flatnonzero(~hidden).tolist()
    assert [int(row["label"]) for row in rows] == some.label[~hidden].tolist()
    shown.clear()
    full = cards.write(plain, some, tmp_path / "complete")
    assert hidden[shown].any()
    assert f"| {one} | {other} |" in full[1].read_text()
    assert len(full[2].read_text().splitlines()) == len(some.label) + 1


def test_committed_cards_list_no_hidden_image():
    folders = sorted(path.parent for path in (Path(__file__).parents[1] / "docs" / "cards").glob("*/card.md"))
    assert len(folders) == 5
    for folder in folders:
        text = (folder / "card.md").read_text()
        assert "The test part is hidden" in text
        assert not re.findall(r"^\| \d+ \|.*\btest\b", text, re.M)  # a row that begins with the number of an image
        rows = list(csv.DictReader((folder / "images.csv").read_text().splitlines()))
        assert {row["split"] for row in rows} == {"train", "val"}
        digest = hashlib.sha256((folder / "images.csv").read_bytes()).hexdigest()
        assert digest in (folder / "croissant.json").read_text()


# ---- documents


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    some = replace(
        CLEAN,
        name="<script>alert(1)</script>",
        attributes={**CLEAN.attributes, "site": np.where(CLEAN.attributes["sex"] == "F", "a|b", "c*d")},
    )
    found = audit(some)
    return some, found, cards.write(found, some, folder), folder


def test_the_page_is_self_contained_and_a_hostile_name_stays_text(hostile):
    text = hostile[2][0].read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#q\d)', text)
    assert "http" not in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    for section in questions.sections(hostile[1]):
        assert section.question.replace("'", "&#39;") in text
    shown = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,', text)
    assert len(shown) >= 3
    assert all(len(alt) > 30 for alt in shown)


def test_markdown_says_the_same_and_its_tables_are_whole(hostile):
    _, found, paths, folder = hostile
    text = paths[1].read_text()
    for section in questions.sections(found):
        assert f"## {section.question}" in text
        for table in section.tables:
            assert all(len(row) == len(table.heads) for row in table.rows)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(widths) > 20
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    for name in re.findall(r"\]\((pictures/[^)]+)\)", text):
        assert (folder / name).exists()
    sex = next(a for a in found.confounding if (a.one, a.other) == ("class", "sex"))
    assert f"| class | sex | {sex.v:.2f} |" in text


def test_croissant_is_valid_and_its_records_are_the_cohort(hostile):
    some, _, paths, _ = hostile
    told = json.loads(paths[3].read_text())
    assert told["conformsTo"][0] == "http://mlcommons.org/croissant/1.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant

        dataset = mlcroissant.Dataset(jsonld=str(paths[3]))
        assert not dataset.metadata.ctx.issues.errors
        records = list(dataset.records("images"))
    assert len(records) == len(some.label)
    for i in (0, 100, len(records) - 1):
        record = {k.split("/")[1]: v.decode() if isinstance(v, bytes) else v for k, v in records[i].items()}
        assert record["patient"] == some.patient[i]
        assert record["label"] == some.label[i]
        assert record["sex"] == some.attributes["sex"][i]


def test_a_broken_croissant_would_be_refused(hostile, tmp_path):
    told = json.loads(hostile[2][3].read_text())
    del told["recordSet"][0]["field"][0]["dataType"]
    told["distribution"][0].pop("sha256")
    (tmp_path / "broken.json").write_text(json.dumps(told))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant

        with pytest.raises(mlcroissant.ValidationError):
            mlcroissant.Dataset(jsonld=str(tmp_path / "broken.json"))


def test_pictures_are_left_out_where_they_are_not_wanted(clean, tmp_path):
    paths = cards.write(clean, CLEAN, tmp_path, pictures=False)
    assert {path.stem for path in (tmp_path / "pictures").iterdir()} == {"confounding", "quality"}
    for path in paths[:2]:
        assert "Pictures of patients are left out" in path.read_text()


@pytest.mark.parametrize(
    ("licence", "open_"),
    [
        ("CC0", True),
        ("CC BY 4.0", True),
        ("CC BY-SA 4.0", True),
        ("BSD-3-Clause, as rafmodel", True),
        ("no restriction on use; acknowledge the NIH Clinical Center", True),
        ("CC BY-NC 4.0", False),
        ("CC BY-NC-ND 4.0", False),
        ("CC BY 4.0 to our knowledge (not confirmed)", False),
        ("not stated in the file", False),
        ("research only", False),
    ],
)
def test_images_are_passed_on_only_under_a_clear_licence(clean, licence, open_):
    assert cards.may_show(replace(clean, licence=licence)) is open_
    parts = {"sources": [{"licence": "CC0"}, {"licence": licence}]}
    assert cards.may_show(replace(clean, told=parts)) is open_


def test_the_command_writes_a_card(tmp_path, capsys):
    rows = slice(0, 150)
    fields = {"images": CLEAN.image[rows, ..., 0], "labels": CLEAN.label[rows], "patient": CLEAN.patient[rows]}
    np.savez(tmp_path / "mine.npz", **fields, split=CLEAN.split[rows], sex=CLEAN.attributes["sex"][rows])
    main(["cohort", "audit", "--cohort", str(tmp_path / "mine.npz"), "--group", "sex", "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert "Licence not clear: mine" in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "card.html",
        "card.md",
        "images.csv",
        "croissant.json",
        "pictures",
    }
    with pytest.raises(SystemExit) as stopped:
        main(["cohort", "audit", "--cohort", str(tmp_path / "mine.npz"), "--group", "shoe"])
    assert stopped.value.code == 2
    assert "no attribute 'shoe'" in capsys.readouterr().err


def test_a_study_first_says_what_its_test_part_can_show():
    """Patients by class and subgroup, counted by hand; intervals and gaps of the formulas that are tested above."""
    cohort = phantom(jax.random.key(0), n_patients=200)
    test = cohorts.part(cohort, "test")
    site, case = test.attributes["site"], test.label == 1

    def patients(rows) -> int:
        return len(np.unique(test.patient[rows]))

    first, second = power.in_words(cohort, "site")
    assert f"{len(cohort.label):,} images of 200 patients" in first
    assert f"{len(test.label):,} images of {patients(site != '')} patients to test on" in first
    width = 1.96 * np.sqrt(power.variance_of_auc(0.85, patients(case), patients(~case)))
    assert f"0.85 will be known to ±{width:.3f}" in second
    a, b = ((patients((site == s) & case), patients((site == s) & ~case)) for s in "AB")
    gap = power.gap_in_auc(0.85, a, b)
    assert second.endswith("B none" if np.isnan(gap) else f"B {gap:.2f}")
    assert power.in_words(cohort, None) == [first, second.partition(";")[0]]
    alike = replace(cohort, label=np.full_like(cohort.label, -1))
    assert power.in_words(alike, "site") == [first]
