"""A benchmark has what its recipe asks for, in every part; the same bytes each time; and nothing hidden in public."""

import copy
import csv
import hashlib
import json
import re
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.interpolate import RegularGridInterpolator

from rafmodel import artefact, benchmark, harmonise, phantoms, recipe, selection, sources, visual
from rafmodel.cli import main
from rafmodel.errors import InputError
from rafmodel.gather import ORIGIN, gathered
from rafmodel.variability import CATALOGUE


def centre(path, seed, patients, side, scale, offset):
    """An npz of one centre: blobs on smooth texture, one or two images a patient, sex, scanner, disease, licence."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 1 + np.arange(patients) % 2)
    n = len(owner)
    case = (rng.permutation(patients) < patients // 2)[owner]
    rare = (rng.permutation(patients) < patients // 8)[owner] & case
    axis = np.linspace(-1, 1, side)
    place = rng.uniform(-0.5, 0.5, (n, 2))
    blob = np.exp(-(((axis - place[:, :1]) ** 2)[:, :, None] + ((axis - place[:, 1:]) ** 2)[:, None, :]) / 0.05)
    slope = rng.normal(0, 0.12, patients)[owner][:, None, None] * axis[None, :, None]
    image = 0.45 + 0.3 * case[:, None, None] * blob + slope + 0.03 * rng.normal(size=(n, side, side))
    np.savez(
        path,
        images=np.rint(255 * np.clip(offset + scale * image, 0, 1)).astype(np.uint8),
        labels=case.astype(int),
        patient=np.array([f"{path.stem}{i:03d}" for i in owner]),
        sex=np.where((np.arange(patients) % 3 == 0)[owner], "M", "F"),
        scanner=np.where(rng.uniform(size=patients)[owner] < 0.3, "new", "old"),
        disease=np.where(rare, "rare", np.where(case, "common", "none")),
        split=np.array(["train", "val", "test"])[np.arange(patients) % 3][owner],
        licence="CC BY 4.0",
    )
    return path


@pytest.fixture(scope="module")
def centres(tmp_path_factory):
    folder = tmp_path_factory.mktemp("centres")
    return centre(folder / "a.npz", 1, 240, 24, 1.0, 0.0), centre(folder / "b.npz", 2, 120, 32, 0.6, 0.25)


@pytest.fixture(scope="module")
def table(centres):
    """A recipe that asks for everything at once."""
    one, other = ({"source": str(path), "keep": ["disease"], "set": {"site": path.stem}} for path in centres)
    return {
        "name": "both",
        "key": 7,
        "size": 16,
        "harmonise": "histogram",
        "cohort": [one, {**other, "patients": 100}],
        "mix": {"prevalence": 0.4, "attribute": "sex", "shares": {"F": 0.5, "M": 0.5}},
        "challenging": [
            {"kind": "rare", "share": 0.06, "attribute": "disease", "values": ["rare"]},
            {"kind": "artifact", "share": 0.1, "variability": ["noise", "spike"], "level": 4},
        ],
        "alteration": [{"variability": "gain", "level": 2, "probability": 0.5, "parts": ["test"]}],
        "out_of_distribution": {"degree": 0.5, "space": "thumbnail"},
        "split": {"train": 0.5, "val": 0.2, "test": 0.3},
    }


def made(table, **changes):
    asked = recipe.parsed(table | changes, "recipe")
    return benchmark.make(asked, benchmark.root(asked.key or 0))


@pytest.fixture(scope="module")
def whole(table, tmp_path_factory):
    """The benchmark, and both parts on disk as plain arrays."""
    found = made(table)
    folder = tmp_path_factory.mktemp("whole")
    paths = artefact.write(found, recipe.parsed(table, "recipe"), table["key"], folder)
    return found, folder, [dict(np.load(path)) for path in paths], paths


# ---- what is asked


def test_every_part_has_the_prevalence_mix_and_challenging_cases_that_were_asked(whole):
    public, hidden = whole[2]
    assert set(public["split"]) == {"train", "val"}
    assert set(hidden["split"]) == {"test"}
    for arrays, part in ((public, "train"), (public, "val"), (hidden, "test")):
        here = {k: v[arrays["split"] == part] for k, v in arrays.items() if v.shape[:1] == arrays["split"].shape}
        n, rounding = len(here["labels"]), 2.01  # images: quotas of kinds, classes and subgroups each round
        assert n > 40
        assert abs(here["labels"].sum() - 0.4 * n) < rounding
        assert abs((here["sex"] == "F").sum() - 0.5 * n) < rounding
        for kind, share in (("rare", 0.06), ("artifact", 0.1)):
            assert abs((here["challenge"] == kind).sum() - share * n) < 1.01
        np.testing.assert_array_equal(here["challenge"] == "rare", here["disease"] == "rare")
    patients = len(set(public["patient"]) | set(hidden["patient"]))
    assert len(set(hidden["patient"])) / patients == pytest.approx(0.3, abs=0.06)  # quotas drop whole patients


def test_the_same_recipe_and_key_give_the_same_bytes_and_no_date(whole, table, tmp_path):
    found, _, _, paths = whole
    asked = recipe.parsed(table, "recipe")
    again = artefact.write(benchmark.make(asked, benchmark.root(7)), asked, 7, tmp_path / "again")
    for one, other in zip(paths, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert (one.parent / "provenance.json").read_bytes() == (other.parent / "provenance.json").read_bytes()
        assert {entry.date_time for entry in zipfile.ZipFile(one).infolist()} == {(1980, 1, 1, 0, 0, 0)}
    other_key = benchmark.make(asked, benchmark.root("another secret"))
    assert set(other_key.cohort.attributes[ORIGIN]) != set(found.cohort.attributes[ORIGIN])


def test_the_public_part_tells_nothing_of_the_hidden(whole):
    _, folder, (public, hidden), _ = whole
    assert not set(public["patient"]) & set(hidden["patient"])
    pixels = {image.tobytes() for image in public["images"]}
    assert not [image for image in hidden["images"] if image.tobytes() in pixels]
    told = (folder / "public" / "provenance.json").read_text()
    for secret in (*hidden["patient"], *hidden[ORIGIN]):
        assert f'"{secret}"' not in told
        assert not any(
            secret == value for column in public.values() if column.dtype.kind == "U" for value in column.flat
        )
    assert '"key": 7' not in told
    assert "key" not in json.loads(told)["recipe"]
    assert json.loads((folder / "hidden" / "provenance.json").read_text())["key"] == 7
    assert sorted(path.name for path in (folder / "public").iterdir()) == ["both-public.npz", "provenance.json"]


def test_a_phantom_is_drawn_from_the_key_and_from_no_key_that_others_know():
    parts = [{"phantom": "phantom", "name": site, "only": {"site": site}} for site in "AB"]
    asked = recipe.parsed({"name": "drawn", "size": 16, "cohort": parts}, "recipe")
    one, again, other = (gathered(asked, benchmark.root(key))[0] for key in ("secret", "secret", "another"))
    np.testing.assert_array_equal(one.image, again.image)
    images = [{image.tobytes() for image in cohort.image} for cohort in (one, other)]
    assert len(images[0]) == len(one.label) > 1500
    assert not images[0] & images[1]
    known = sources.shrink(phantoms.named("phantom", jax.random.key(0), None).image, 16)
    assert not images[0] & {image.tobytes() for image in known}
    patients = [set(one.patient[one.attributes["cohort"] == site].tolist()) for site in "AB"]
    assert not patients[0] & patients[1]  # of one draw, in which a patient is imaged at one site


def test_cohorts_come_in_the_shares_that_were_asked(table, centres):
    entries = [{"source": str(path), "share": share} for path, share in zip(centres, (0.75, 0.25), strict=True)]
    plain = {"name": "shares", "key": 1, "size": 16, "cohort": entries}
    cohort = made(plain).cohort
    _, first = np.unique(cohort.patient, return_index=True)
    assert (cohort.attributes["cohort"][first] == "a").mean() == pytest.approx(0.75, abs=0.01)
    same = {"source": str(centres[0])}
    with pytest.raises(InputError, match="both take an image"):
        made({**plain, "cohort": [same, same]})
    women, men = ({**same, "name": sex, "only": {"sex": sex}} for sex in "FM")
    assert made({**plain, "cohort": [women, men]}).facts["counts"]["gathered"]["images"] == 360


# ---- the dial


def test_the_test_part_lies_farther_out_the_farther_the_dial_is_turned(table):
    found = [made(table, alteration=[], out_of_distribution={"degree": d}).facts for d in (0, 0.25, 0.5, 0.75, 1)]
    for when in ("chosen", "delivered"):
        far = [facts["out_of_distribution"][when]["separation"] for facts in found]
        assert np.all(np.diff(far) > 0), far
    assert found[0]["out_of_distribution"]["chosen"]["separation"] == pytest.approx(0.5, abs=0.1)  # 1.7 s.e. of a U
    assert found[-1]["out_of_distribution"]["chosen"]["separation"] > 0.7  # not 1: every stratum keeps its share
    drawn, outer = (facts["out_of_distribution"]["chosen"] for facts in (found[0], found[-1]))
    assert drawn["energy_distance"] < 1.5 * drawn["energy_distance_at_random_95"]
    assert outer["energy_distance"] > 1.5 * outer["energy_distance_at_random_95"]


@pytest.mark.parametrize("space", ["quality", "encoder"])
def test_the_dial_turns_in_the_other_spaces_too(table, space):
    plain = {k: v for k, v in table.items() if k in ("name", "key", "size", "cohort", "split")}
    near, far = (made(plain, out_of_distribution={"degree": d, "space": space}).facts for d in (0, 1))
    gained = [f["out_of_distribution"]["chosen"]["separation"] for f in (near, far)]
    assert gained[1] > gained[0] + 0.15
    assert far["out_of_distribution"]["features"] == visual.SPACES[space]


def test_an_encoder_of_planes_refuses_volumes():
    with pytest.raises(InputError, match="choose thumbnail or quality"):
        visual.features(np.zeros((3, 8, 8, 8, 1), np.uint8), "encoder")


def test_at_one_the_farthest_of_every_stratum_are_tested_and_at_nought_it_does_not_matter():
    rng = np.random.default_rng(0)
    n = 400
    who = selection.Who(np.arange(n) % 2, np.full(n, ""), np.full(n, "none"), np.array([f"p{i:03d}" for i in range(n)]))
    place = rng.normal(size=(n, 3))
    squared = (place**2).sum(1)
    key, shares = jax.random.key(3), (0.6, 0.1, 0.3)
    far = selection.parted(key, who, place, degree=1, shares=shares)
    for label in (0, 1):
        inside = squared[(who.label == label) & (far.split == "test")]
        assert len(inside) == 60
        assert inside.min() > squared[(who.label == label) & (far.split != "test")].max()
    near = selection.parted(key, who, place, degree=0, shares=shares)
    moved = selection.parted(key, who, place[::-1], degree=0, shares=shares)
    np.testing.assert_array_equal(near.split, moved.split)
    assert (near.split == "val").sum() == 40


def test_energy_distance_is_that_of_scipy_in_one_dimension_and_separation_is_a_mann_whitney_u():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=60), rng.normal(0.7, 2, size=45)
    expected = stats.energy_distance(one, other) ** 2
    assert visual.energy_distance(one[:, None], other[:, None]) == pytest.approx(expected, rel=1e-9)
    dealt = []
    for seed in range(200):
        mixed = np.random.default_rng(seed).permutation(np.concatenate([one, other]))
        dealt.append(stats.energy_distance(mixed[:60], mixed[60:]) ** 2)
    mean, extreme = visual.energy_at_random(one[:, None], other[:, None])
    assert mean == pytest.approx(np.mean(dealt), abs=4 * np.std(dealt) / np.sqrt(100))
    assert extreme == pytest.approx(np.quantile(dealt, 0.95), rel=0.35)
    u = stats.mannwhitneyu(other, one).statistic
    assert visual.separation(other, one) == pytest.approx(u / (60 * 45), rel=1e-12)


def test_whitened_coordinates_are_those_of_sklearn():
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(2)
    found = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + 5
    ours = visual.whitened(found, 5).coordinates(found)
    theirs = PCA(5, whiten=True, svd_solver="full").fit_transform(StandardScaler().fit_transform(found))
    theirs *= np.sqrt(200 / 199)  # scikit-learn divides by n − 1
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-8)


# ---- alterations and records


def test_altered_images_are_made_again_from_their_records(whole, table):
    altered = whole[0]
    plain = made(table, alteration=[], challenging=table["challenging"][:1])
    order = {origin: i for i, origin in enumerate(plain.cohort.attributes[ORIGIN].tolist())}
    assert [order[origin] for origin in altered.cohort.attributes[ORIGIN]] == list(range(len(order)))
    differ = (plain.cohort.image != altered.cohort.image).any((1, 2, 3))
    assert 0.1 < differ.mean() < 0.6
    again = benchmark.repeat(plain.cohort, altered.records)
    np.testing.assert_array_equal(again.image, altered.cohort.image)
    recorded = {record["origin"] for record in altered.records}
    assert set(altered.cohort.attributes[ORIGIN][differ]) <= recorded
    gains = [record["origin"] for record in altered.records if record["variability"] == "gain"]
    test = set(altered.cohort.attributes[ORIGIN][altered.cohort.split == "test"].tolist())
    assert set(gains) <= test
    assert len(gains) / len(test) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(test)))
    wrong = copy.deepcopy(altered.records)
    wrong[0]["key"][0] ^= 1
    assert (benchmark.repeat(plain.cohort, wrong).image != altered.cohort.image).any()


# ---- harmonising


def test_grey_values_of_two_centres_come_onto_one_scale():
    rng = np.random.default_rng(3)
    one, other = rng.beta(2, 3, (40, 8, 8, 1)), 0.2 + 0.5 * rng.beta(2, 3, (30, 8, 8, 1))
    assert stats.ks_2samp(one.ravel(), other.ravel()).statistic > 0.15
    (a, b), record = harmonise.one_scale([one, other], "histogram")
    assert stats.ks_2samp(a.ravel(), b.ravel()).statistic < 0.02  # 101 landmarks
    assert stats.spearmanr(one.ravel(), a.ravel()).statistic == pytest.approx(1, abs=1e-9)  # order stays
    again = np.interp(other.ravel(), record[1]["from"][0], record[1]["to"][0])
    np.testing.assert_allclose(b.ravel(), again, atol=1e-5)  # the record is enough; it has six decimals
    (z,), _ = harmonise.one_scale([one], "zscore")
    inside = (z > 0) & (z < 1)
    assert z.mean() == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(z.std((1, 2, 3))[inside.all((1, 2, 3))], 1 / 6, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_length_in_millimetres_is_the_same_after_respacing(dims):
    sides, centres = (24,) * dims, (np.arange(24) + 0.5 - 12)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*[centres] * dims)))
    spacing = np.array([[0.5] * dims, [1.0] * dims])
    ball = np.stack([radius * s < 5 for s in (0.5, 1.0)]).astype(np.uint8)  # 5 mm at both spacings
    image, mask = harmonise.respaced(ball[..., None] * 255, ball, spacing, millimetres=0.75, sides=sides)
    assert image.shape == (2, *sides, 1)
    assert mask is not None
    axes = tuple(range(1, dims + 1))
    before = ball.sum(axes) * spacing[:, 0] ** dims
    after = image[..., 0].sum(axes) * 0.75**dims
    np.testing.assert_allclose(after, before, rtol=1e-4)  # an average by area loses nothing
    new = np.stack(np.meshgrid(*[0.75 * centres] * dims, indexing="ij"), -1)
    for found, was, s in zip(mask, ball, (0.5, 1.0), strict=True):
        look = RegularGridInterpolator([s * centres] * dims, was, "nearest", bounds_error=False, fill_value=0)
        np.testing.assert_array_equal(found, look(new))
    unequal = harmonise.respaced(ball[..., None] * 255, ball, spacing, millimetres=0.5, sides=sides)[0]
    np.testing.assert_allclose(unequal[0, ..., 0], ball[0], atol=1e-6)  # nothing to do


# ---- quotas


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 500))
def test_counts_are_within_one_of_their_share_and_add_up(shares, total):
    found = selection.counts(shares, total)
    assert np.all(np.abs(found - np.array(shares) * total) <= 1 + 1e-6)
    assert abs(found.sum() - sum(shares) * total) <= 0.5 + 1e-6


def test_as_many_images_stay_as_can():
    n = 1000
    label = np.array([1] * 100 + [0] * 900)
    who = selection.Who(label, np.full(n, ""), np.full(n, "none"), np.arange(n).astype(str))
    rows = selection.apportioned(jax.random.key(0), who, kinds={}, prevalence=0.25)
    assert len(rows) == pytest.approx(400, abs=2)  # all 100 cases
    assert label[rows].sum() == 100
    with pytest.raises(InputError, match="no image is challenging"):
        selection.apportioned(jax.random.key(0), who, kinds={"rare": 0.1})
    with pytest.raises(InputError, match="alone have more"):
        hard = who._replace(kind=np.where(label == 1, "rare", "none"))
        selection.apportioned(jax.random.key(0), hard, kinds={"rare": 0.5}, prevalence=0.2)


@pytest.mark.parametrize("kind", ["quality", "artifact"])
def test_quality_does_not_tell_the_class_or_the_subgroup(kind):
    rng = np.random.default_rng(4)
    n = 6000
    hard, label = rng.uniform(size=n) < 0.3, rng.uniform(size=n) < 0.3
    label = np.where(hard & (rng.uniform(size=n) < 0.4), 1, label).astype(int)  # the hard ones come as cases
    group = np.where(rng.uniform(size=n) < np.where(hard, 0.8, 0.4), "F", "M")  # and of women
    who = selection.Who(label, group, np.where(hard, kind, "none"), np.arange(n).astype(str))
    asked = {"kinds": {kind: 0.2}, "prevalence": 0.3, "mix": {"F": 0.5, "M": 0.5}}
    kept = who.take(selection.apportioned(jax.random.key(0), who, **asked))
    assert len(kept.label) > 1000
    assert (kept.kind == kind).sum() == pytest.approx(0.2 * len(kept.label), abs=1.5)  # both numbers round
    for here in (kept.kind == kind, kept.kind == "none"):
        assert kept.label[here].sum() == pytest.approx(0.3 * here.sum(), abs=2)  # two subgroups round
        assert (kept.group[here] == "F").sum() == pytest.approx(0.5 * here.sum(), abs=2)
    rare = who._replace(kind=np.where(hard, "rare", "none"))
    kept = rare.take(selection.apportioned(jax.random.key(0), rare, **(asked | {"kinds": {"rare": 0.2}})))
    here = kept.kind == "rare"
    assert kept.label[here].mean() == pytest.approx(label[hard].mean(), abs=0.01)  # a disease has its class
    assert kept.label.mean() == pytest.approx(0.3, abs=0.002)
    women = who._replace(kind=np.where(hard & (group == "F"), kind, "none"))
    with pytest.raises(InputError, match="of subgroup 'M' and challenging"):
        selection.apportioned(jax.random.key(0), women, **(asked | {"prevalence": None}))


# ---- from the command line


def test_the_command_writes_both_parts_and_a_study_can_read_them(table, centres, tmp_path, capsys):
    text = f'name = "mine"\nsize = 16\n[[cohort]]\nsource = "{centres[0]}"\npatients = 120\n[mix]\nprevalence = 0.5\n'
    (tmp_path / "mine.toml").write_text(text)
    main(["cohort", "make", str(tmp_path / "mine.toml"), "--key", "secret", "--out", str(tmp_path / "out")])
    assert "test:" in capsys.readouterr().out
    main(
        [
            "cohort",
            "audit",
            "--cohort",
            str(tmp_path / "out" / "public"),
            "--no-pictures",
            "--out",
            str(tmp_path / "card"),
        ]
    )
    assert "Energy distance" not in (tmp_path / "card" / "card.md").read_text()  # no test part, no distance to it
    main(["cohort", "show", "--cohort", str(tmp_path / "out"), "--group", "sex"])
    assert "mine" in capsys.readouterr().out
    cohort = artefact.whole(tmp_path / "out")
    assert set(cohort.split) == {"train", "val", "test"}
    assert cohort.label.mean() == pytest.approx(0.5, abs=0.02)
    assert json.loads((tmp_path / "out/hidden/provenance.json").read_text())["key"] == "secret"
    with pytest.raises(SystemExit) as stopped:
        main(["cohort", "make", str(tmp_path / "mine.toml")])
    assert stopped.value.code == 2
    assert "no `key`" in capsys.readouterr().err


@pytest.mark.exhaustive
def test_the_card_beside_the_public_part_tells_of_no_hidden_image(table, centres, tmp_path, capsys):
    text = f'name = "mine"\nsize = 16\n[[cohort]]\nsource = "{centres[0]}"\n'
    (tmp_path / "mine.toml").write_text(text)
    main(["cohort", "make", str(tmp_path / "mine.toml"), "--key", "secret", "--out", str(tmp_path / "out")])
    public, whole = tmp_path / "out" / "public", artefact.whole(tmp_path / "out")
    names = {"card.html", "card.md", "croissant.json", "images.csv", "mine-public.npz", "pictures", "provenance.json"}
    assert {path.name for path in public.iterdir()} == names
    hidden = whole.split == "test"
    assert hidden.sum() > 50
    told = "".join((public / name).read_text() for name in names - {"pictures", "mine-public.npz"})
    assert not [name for name in set(whole.patient[hidden]) if name in told]
    assert "Energy distance" in told
    assert f"{hidden.sum()} / {len(set(whole.patient[hidden]))} (" in told
    rows = list(csv.DictReader((public / "images.csv").read_text().splitlines()))
    assert [row["patient"] for row in rows] == whole.patient[~hidden].tolist()
    assert [whole.patient[int(row["row"])] for row in rows] == whole.patient[~hidden].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlcroissant

        dataset = mlcroissant.Dataset(jsonld=str(public / "croissant.json"))
        assert not dataset.metadata.ctx.issues.errors
        assert len(list(dataset.records("images"))) == len(rows)
    listed = {
        one["contentUrl"]: one["sha256"] for one in json.loads((public / "croissant.json").read_text())["distribution"]
    }
    assert set(listed) == {"images.csv", "mine-public.npz"}
    assert all(hashlib.sha256((public / name).read_bytes()).hexdigest() == digest for name, digest in listed.items())
    full = tmp_path / "full"
    main(["cohort", "audit", "--cohort", str(tmp_path / "out"), "--complete", "--no-pictures", "--out", str(full)])
    digests = [re.search("SHA-256 of pixels.*", (folder / "card.md").read_text()) for folder in (public, full)]
    assert digests[0] and digests[1] and digests[0][0] == digests[1][0]  # of the same images in the same order
    assert "../out/public/mine-public.npz" in (full / "croissant.json").read_text()
    assert len((full / "images.csv").read_text().splitlines()) == len(whole.label) + 1


def test_parts_of_two_benchmarks_are_not_joined(whole, table, tmp_path):
    asked = recipe.parsed({**table, "name": "other"}, "recipe")
    _, hidden = artefact.write(whole[0]._replace(cohort=whole[0].cohort), asked, 1, tmp_path)
    cohort = artefact.join(*whole[3])
    assert len(cohort.label) == len(whole[0].cohort.label)
    assert cohort.name == "both"
    with pytest.raises(InputError, match="too; make the benchmark again"):
        artefact.join(whole[3][0], whole[3][0])
    assert hidden.name == "other-hidden.npz"
    np.savez(tmp_path / "plain.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4) % 2)
    with pytest.raises(InputError, match="no part of a benchmark"):
        artefact.read(tmp_path / "plain.npz")


HARMED = {
    "labels of another length": ({"labels": np.zeros(3, int)}, "labels has shape"),
    "labels that are no class": ({"labels": 5}, "labels of image"),
    "pixels that are no number": ({"images": np.float32(np.nan)}, "nan or infinite"),
    "complex pixels": ({"images": np.complex64(0.5)}, "has type complex64"),
    "seven axes": ({"dims": np.array(7)}, "dims 7"),
    "three axes": ({"dims": np.array(3)}, "dims 3"),
    "many axes": ({"dims": np.array([2, 2])}, "dims has shape"),
    "a part of its own": ({"split": "evil"}, "split of image 0 is evil"),
    "nobody": ({"patient": None}, "no part of a benchmark"),
    "pickled objects": ({"sex": np.full(8, None)}, "sex"),
    "masks of another size": ({"masks": np.zeros((3, 4, 4), np.uint8)}, "masks has shape"),
    "a length below 0": ({"spacing": -1.0}, "spacing of image 0"),
    "numbers as an attribute": ({"sex": 1}, "sex has shape"),
    "a long note": ({"contrast": np.array("x" * 2**19)}, "contrast has shape"),
    "a patient in two parts": ({"patient": "p"}, "a patient is in two"),
}


@pytest.mark.parametrize("what", HARMED)
def test_a_harmed_part_is_refused_in_one_line(what, whole, tmp_path):
    changes, said = HARMED[what]
    arrays = whole[2][0]
    n = len(arrays["split"])
    sides = {"images": (n, 16, 16), "spacing": (n, 2), "labels": (n,), "split": (n,), "sex": (n,), "patient": (n,)}
    full = {k: v if v is None or isinstance(v, np.ndarray) else np.full(sides[k], v) for k, v in changes.items()}
    np.savez(tmp_path / "harmed.npz", **{k: v for k, v in (arrays | full).items() if v is not None})
    with pytest.raises(InputError, match=said) as problem:
        artefact.read(tmp_path / "harmed.npz")
    assert "\n" not in str(problem.value)


def test_both_parts_are_the_files_that_provenance_states_and_fit_into_memory(whole, tmp_path):
    found, folder, (_, hidden), _ = whole
    pixels = 4 * found.cohort.image.size
    assert len(artefact.whole(folder, limit_bytes=4 * pixels).label) == len(found.cohort.label)
    with pytest.raises(InputError, match="GiB of memory in all"):
        artefact.whole(folder, limit_bytes=pixels)  # each part alone would fit
    shutil.copytree(folder, tmp_path / "other")
    np.savez_compressed(tmp_path / "other/hidden/both-hidden.npz", **(hidden | {"labels": 1 - hidden["labels"]}))
    with pytest.raises(InputError, match=r"both-hidden\.npz: its SHA-256 is .* fetch both again"):
        artefact.whole(tmp_path / "other")
    (tmp_path / "other/public/provenance.json").write_text("[]")
    with pytest.raises(InputError, match="states no `sha256`"):
        artefact.whole(tmp_path / "other")


def test_pixels_of_a_smaller_image_are_longer(whole, table, tmp_path):
    cohort = replace(whole[0].cohort, spacing=np.full((len(whole[0].cohort.label), 2), (0.5, 0.25)))
    artefact.write(whole[0]._replace(cohort=cohort), recipe.parsed(table, "recipe"), 7, tmp_path)
    np.testing.assert_array_equal(artefact.whole(tmp_path).spacing, cohort.spacing)
    small = artefact.whole(tmp_path, 8)
    assert small.image.shape[1:3] == (8, 8)
    np.testing.assert_allclose(small.spacing, np.full((len(small.label), 2), (1.0, 0.5)))


OWN = {
    "hippocampus": {"patient_motion", "ghosting", "spike", "gibbs", "zipper", "rician"},
    "lung-airways": {"rings", "metal", "beam_hardening", "truncation", "low_dose"},
    "cardiac-ultrasound": {"shadow", "depth_gain", "reverberation", "dropout", "speckle"},
    "nih-chest": {"characters", "pen"},
    "retina-cameras": {"black_corner"},
    "": {"stain", "stain_deposit", "bubble"},  # of microscopes, in no recipe
}


def test_recipes_alter_images_only_by_laws_of_their_modality():
    assert set().union(*OWN.values()) <= CATALOGUE.keys()
    recipes = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
    assert {path.stem for path in recipes} == OWN.keys() - {""}
    for path in recipes:
        asked = recipe.read(path)
        used = {name for one in asked.challenging for name in one.variability}
        used |= {one.variability for one in asked.alteration}
        foreign = set().union(*(laws for name, laws in OWN.items() if name != path.stem))
        assert not used & foreign, path.stem


WRONG = {
    "a typing error": ({"sise": 16}, "unknown key `sise`"),
    "no cohort": ({"cohort": []}, "name at least one"),
    "a size of text": ({"size": "big"}, "write a whole number"),
    "a small size": ({"size": 4}, "at least 8"),
    "a prevalence above one": ({"mix": {"prevalence": 1.3}}, "must be a share"),
    "a mix of nothing": ({"mix": {"attribute": "sex"}}, "go together"),
    "a mix that does not add up": ({"mix": {"attribute": "sex", "shares": {"F": 0.5, "M": 0.2}}}, "add to 1"),
    "an unknown subgroup": ({"mix": {"attribute": "sex", "shares": {"F": 0.5, "X": 0.5}}}, "no image has sex 'X'"),
    "an unknown attribute": ({"mix": {"attribute": "shoe", "shares": {"F": 1.0}}}, "no attribute 'shoe'"),
    "parts that do not add up": ({"split": {"train": 0.9, "val": 0.3, "test": 0.3}}, "must add to 1"),
    "an unknown law": ({"alteration": [{"variability": "fog", "level": 1}]}, "no variability is called 'fog'"),
    "a level and a severity": ({"alteration": [{"variability": "noise", "level": 1, "severity": 0.1}]}, "give one of"),
    "an unknown kind": ({"challenging": [{"kind": "odd", "share": 0.1}]}, "choose from artifact"),
    "a challenge of nothing": ({"challenging": [{"kind": "rare", "share": 0.1}]}, "give `attribute`"),
    "an unknown space": ({"out_of_distribution": {"space": "moon"}}, "choose from thumbnail"),
    "a degree above one": ({"out_of_distribution": {"degree": 2}}, "must be a share"),
    "an unknown way": ({"harmonise": "magic"}, "choose from none"),
    "a spacing that nobody knows": ({"spacing": 1.0}, "states no spacing"),
    "a colour law": ({"alteration": [{"variability": "hue", "level": 1}]}, "needs red, green and blue"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_recipe_is_told_in_one_line(what, table, centres):
    changes, said = WRONG[what]
    small = {"name": "small", "key": 1, "size": 16, "cohort": [{"source": str(centres[0]), "patients": 60}]}
    with pytest.raises(InputError, match=said) as problem:
        made(small | changes)
    assert "\n" not in str(problem.value)


def test_a_wrong_file_ends_in_one_line_and_code_two(tmp_path, centres, capsys):
    path = tmp_path / "recipe.toml"
    for text, said in (
        ("name = ", "cannot be read as TOML"),
        ('name = "x"\n', "no `cohort`"),
        ('name = "x"\nkey = 1\n[[cohort]]\nsource = "nowhere"\n', "no such file"),
        ('name = "x"\nkey = 1\n[[cohort]]\nsource = "a"\nphantom = "phantom"\n', "give one of"),
        (f'name = "x"\nkey = 1\n[[cohort]]\nsource = "{centres[0]}"\nkeep = ["shoe"]\n', "no column 'shoe'"),
        ('name = "x"\nkey = 1\n[[cohort]]\nphantom = "ghost"\n', "ghost"),
    ):
        path.write_text(text)
        with pytest.raises(SystemExit) as stopped:
            main(["cohort", "make", str(path), "--out", str(tmp_path / "out")])
        line = capsys.readouterr().err.strip()
        assert stopped.value.code == 2
        assert "\n" not in line
        assert said in line, line
        assert not (tmp_path / "out").exists()
