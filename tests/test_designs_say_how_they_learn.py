"""Grids of designs in a line; labels drawn, flipped, weighted and repeated as asked; probes those of scikit-learn; transfer."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight

from rafmodel import (
    canvas,
    charts,
    choices,
    cli,
    cohort,
    design,
    labels,
    predict,
    probes,
    running,
    simulate,
    teaching,
    transfer,
    variability,
)
from rafmodel.errors import InputError
from rafmodel.once import Once
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=160, size=16)
OTHER = phantom(jax.random.key(1), n_patients=80, size=16)
TRAIN, TEST = cohort.part(IMAGES, "train"), cohort.part(IMAGES, "test")
NOISE = (variability.NOISE,)
KEY = jax.random.key(3)


def chosen(text, **options):
    [one] = design.select([text], **{"steps": 4} | options)
    return one


# ---- a line of text


def test_a_line_stands_for_every_combination_and_the_table_gets_its_text():
    texts = ["contrastive+noise[n_labelled=32|64,probe=ridge|logistic]", "untrained", "jigsaw@residual[label_flip=0.1]"]
    found = design.select(texts, steps=7)
    grid = [
        f"contrastive+noise[n_labelled={n},probe={probe}]"
        for n, probe in itertools.product((32, 64), ("ridge", "logistic"))
    ]
    assert [d.name for d in found] == [*grid, "untrained", "jigsaw@residual[label_flip=0.1]"]
    assert [(d.n_labelled, d.probe) for d in found[:4]] == [
        (32, "ridge"),
        (32, "logistic"),
        (64, "ridge"),
        (64, "logistic"),
    ]
    assert found[5].encoder.name == "residual"
    assert found[5].label_flip == 0.1
    assert [d.steps for d in found] == [7] * 4 + [0, 7]
    assert chosen("jigsaw[steps=9]", steps=7).steps == 9  # the nearer word counts


def test_figures_know_the_family_behind_the_choices():
    assert canvas.family("untrained[n_labelled=32]") == "untrained"
    assert canvas.folded("untrained[n_labelled=32]") == "untrained\n[n_labelled=32]"
    assert canvas.folded("untrained") == "untrained"
    assert canvas.family("contrastive+noise[pretrain_on=a+b@c]") == "contrastive"


def test_every_choice_is_one_of_a_design():
    values = {"pretrain_on": "phantom", "weighting": "class", "resampling": "none", "probe": "logistic", "flip_in": "A"}
    values |= {key: "1" for key, kind in choices.KEYS.items() if kind is not str}
    values |= {"group": "site", "precision": "bfloat16", "pooling": "max", "sampling": "random", "head": "decoder"}
    fields = set(design.Design.__dataclass_fields__)
    assert set(choices.KEYS) - fields == {"strength", "views"}
    assert fields - set(choices.KEYS) == {
        "name",
        "proxy",
        "encoder",
        "widths",
    }  # which the text before the bracket says
    values |= {"views": "noise"}
    one = chosen(f"contrastive[{','.join(f'{k}={values[k]}' for k in choices.KEYS)}]", like=OTHER)
    for key in set(choices.KEYS) - {"strength", "views", "pretrain_on"}:
        assert getattr(one, key) == choices.KEYS[key](values[key])
    assert one.pretrain_on.image.shape[1:] == OTHER.image.shape[1:]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("jigsaw[labels=3]", "no choice is called 'labels'; choose from pretrain_on, n_unlabelled, n_labelled,"),
        ("jigsaw[n_labelled=many]", "n_labelled=many is not a whole number"),
        ("jigsaw[ridge=]", "ridge has no value; write ridge=value or ridge=one|two"),
        ("jigsaw[ridge=1|]", "ridge has no value"),
        ("jigsaw[ridge=1,ridge=2]", "ridge is chosen twice"),
        ("jigsaw[]", "no choice is called ''"),
        ("nothing[ridge=1]", "no design is called 'nothing'"),
        ("jigsaw[strength=0.5]", "jigsaw makes no views whose strength could be chosen"),
        ("contrastive+crop[strength=3]", "strength 3 must be above 0 and at most 2"),
        ("contrastive+crop[pretrain_on=nowhere]", "nowhere"),
    ],
)
def test_a_line_that_cannot_be_read_is_told(text, told):
    with pytest.raises(InputError, match=told.replace("|", r"\|").replace("[", r"\[")):
        design.select([text])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("untrained[n_labelled=4000]", "4000 labels are asked for, but .* give"),
        ("untrained[n_labelled=100,prevalence=0.9]", "100 labels are asked for"),
        ("untrained[n_unlabelled=9999]", "9999 images are asked for, but phantom has"),
        ("untrained[n_labelled=16,prevalence=0.01]", "0 cases and 16 controls would be labelled"),
        ("untrained[prevalence=1]", "prevalence 1.0 must be a share above 0 and below 1"),
        ("untrained[label_flip=1.5]", "label_flip 1.5 must be a share"),
        ("untrained[flip_case=-0.1]", "flip_case -0.1 must be a share"),
        ("untrained[weighting=sex]", "weighting sex must be one of none, class, group"),
        ("untrained[weighting=class,resampling=class]", "resampling class must be none where weighting is not"),
        ("untrained[probe=svm]", "probe svm must be one of ridge, logistic, finetuned"),
        ("untrained[ridge=0]", "ridge 0.0 must be above 0"),
        ("untrained[batch=1]", "batch 1 must be 2 or more"),
        ("untrained[weighting=group]", "asks for subgroups, but none are named; add --group"),
        ("untrained[flip_in=A]", "asks for subgroups"),
        ("untrained[flip_in=C,group=site]", "no subgroup 'C' to train on; choose from A, B"),
        ("untrained[flip_in=A,group=town]", "no attribute 'town'"),
    ],
)
def test_what_the_cohort_cannot_give_is_told(text, told):
    with pytest.raises(InputError, match=told):
        design.fitted(design.select([text]), IMAGES)


def test_the_studys_group_is_that_of_balancing_and_flips_unless_another_is_chosen():
    texts = ["untrained[weighting=group]", "untrained[flip_in=F,group=sex]", "untrained"]
    assert [d.group for d in design.fitted(design.select(texts), IMAGES, "site")] == ["site", "sex", None]


def test_a_cohort_to_pre_train_on_must_be_of_the_same_kind():
    volume = replace(OTHER, image=np.zeros((len(OTHER.label), 8, 8, 8, 1), np.uint8), name="volumes")
    colour = replace(OTHER, image=np.repeat(OTHER.image, 3, -1))
    one = chosen("contrastive+noise")
    for source in (volume, colour):
        with pytest.raises(InputError, match=r"to pre-train on, are \(.*\) but the cohort's \(16, 16, 1\)"):
            design.fitted([replace(one, pretrain_on=source)], IMAGES)
        with pytest.raises(InputError, match="to pre-train on"):
            simulate.deploy(KEY, IMAGES, TEST, replace(one, pretrain_on=source), NOISE)
        assert transfer.resized(source, IMAGES.image.shape[1:]) is source


def test_the_command_line_tells_in_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys):
    columns = {"labels": IMAGES.label, "split": IMAGES.split, "patient": IMAGES.patient, **IMAGES.attributes}
    np.savez(tmp_path / "c.npz", images=IMAGES.image[..., 0], **columns)
    volumes = {"labels": OTHER.label, "split": OTHER.split, "patient": OTHER.patient}
    np.savez(tmp_path / "volumes.npz", images=np.zeros((len(OTHER.label), 8, 8, 8), np.uint8), **volumes)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    refusals = {
        ("untrained[labels=3]",): ["no choice is called 'labels'", "n_labelled"],
        ("untrained[n_labelled=9999]",): ["9999 labels are asked for"],
        ("untrained[weighting=group]",): ["add --group"],
        ("untrained[flip_in=C]", "--group", "site"): ["no subgroup 'C'", "A, B"],
        ("jigsaw[pretrain_on=volumes.npz]",): ["to pre-train on, are (8, 8, 8, 1) but the cohort's (16, 16, 1)"],
        ("jigsaw[pretrain_on=nowhere]",): ["nowhere"],
        ("untrained", "--executor", "slurm"): ["--executor slurm: choose threads[:N]"],
        ("untrained", "--dry-run", "--executor", "local:x"): ["--executor local:x"],
    }
    for options, words in refusals.items():
        with pytest.raises(SystemExit) as ended:
            cli.main(["study", "--cohort", "c.npz", "--designs", *options])
        told = capsys.readouterr().err
        assert ended.value.code == 2
        assert told.startswith("rafmodel: ")
        assert told.count("\n") == 1
        assert all(word in told for word in words), told
    assert sorted(tmp_path.iterdir()) == before


def test_a_task_says_what_it_leaves_out_of_the_images():
    told = "location: sides (16, 16) are no multiples of 3 cells, so the last pixels are not shown"
    assert design.remark(chosen("location"), (16, 16, 1)) == told
    assert design.remark(chosen("location"), (15, 15, 1)) == design.remark(chosen("jigsaw"), (16, 16, 1)) == ""
    assert "2 cells" in design.remark(chosen("jigsaw"), (15, 16, 1))
    assert "3 cells" in design.remark(chosen("jigsaw"), (28, 28, 28, 1))


def test_classes_must_be_there_where_they_are_learned():
    unlabelled = replace(OTHER, label=np.full(len(OTHER.label), -1, np.int8), name="no classes")
    with pytest.raises(InputError, match="supervised learns classes, but no classes has not both to train on"):
        design.fitted([replace(chosen("supervised"), pretrain_on=unlabelled)], IMAGES)
    design.fitted([replace(chosen("jigsaw"), pretrain_on=unlabelled)], IMAGES)
    with pytest.raises(InputError, match="all 20 labels as given are of one class"):
        labels.lesson(KEY, TRAIN, replace(chosen("untrained"), n_labelled=20, flip_case=1.0))


# ---- labels


@pytest.mark.parametrize(("n", "prevalence"), [(40, 0.1), (40, 0.5), (41, 0.25), (30, 0.9), (256, 0.3), (256, 0.97)])
def test_prevalence_by_count(n, prevalence):
    """Against a search over all numbers of controls and cases that there are."""
    one = replace(chosen("untrained"), n_labelled=n, prevalence=prevalence)
    have = [int((TRAIN.label == c).sum()) for c in (0, 1)]
    fits = [
        (m - round(m * prevalence), round(m * prevalence))
        for m in range(1, n + 1)
        if m * prevalence <= have[1] and m * (1 - prevalence) <= have[0]
    ]
    assert design.n_by_class(one, TRAIN.label) == fits[-1]
    learned = labels.lesson(KEY, TRAIN, one)
    assert np.bincount(learned.label, minlength=2).tolist() == list(fits[-1])
    assert len({image.tobytes() for image in learned.cohort.image}) == sum(fits[-1])


def test_half_cases_is_the_usual_and_draws_the_same_images():
    one = replace(chosen("untrained"), n_labelled=40)
    usual, half = (labels.lesson(KEY, TRAIN, d) for d in (one, replace(one, prevalence=0.5)))
    assert np.array_equal(usual.cohort.image, half.cohort.image)


def test_labels_are_wrong_where_the_design_says_and_nowhere_else():
    many = np.arange(4000)
    cohort_ = cohort.take(TRAIN, many % len(TRAIN.label))
    site = cohort_.attributes["site"]
    one = replace(chosen("untrained"), flip_case=0.4, flip_control=0.1)
    everywhere = labels.flipped(KEY, cohort_.label, labels.flip_rate(one, cohort_)) != cohort_.label
    for c, rate in ((1, 0.4), (0, 0.1)):
        member = cohort_.label == c
        assert abs(everywhere[member].mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / member.sum())
    inside = replace(one, flip_control=None, flip_in="B", group="site")
    there = labels.flipped(KEY, cohort_.label, labels.flip_rate(inside, cohort_)) != cohort_.label
    case_in_b = (cohort_.label == 1) & (site == "B")
    assert not there[~case_in_b].any()
    assert abs(there[case_in_b].mean() - 0.4) < 4 * np.sqrt(0.24 / case_in_b.sum())


def test_balanced_weights_are_sklearns_and_repeats_fill_every_cell():
    one = replace(chosen("untrained"), n_labelled=90, prevalence=0.3, group="site", label_flip=0.1)
    for balance in ("class", "group"):
        weighted = labels.lesson(KEY, TRAIN, replace(one, weighting=balance))
        who = weighted.cohort.attributes["site"] if balance == "group" else np.full(90, "")
        named = [f"{c}{w}" for c, w in zip(weighted.label, who, strict=True)]
        np.testing.assert_allclose(weighted.weight, compute_sample_weight("balanced", named))
        assert np.array_equal(weighted.row, np.arange(90))
        repeated = labels.lesson(KEY, TRAIN, replace(one, resampling=balance))
        counts = np.unique(np.array(named)[repeated.row], return_counts=True)[1]
        assert set(counts) == {np.unique(named, return_counts=True)[1].max()}
        assert np.array_equal(np.unique(repeated.row), np.arange(90))
        assert repeated.weight is None
        assert np.array_equal(repeated.learned.label, repeated.label[repeated.row])


# ---- probes


def features(n=90, d=12):
    rng = np.random.default_rng(0)
    label = (np.arange(n) % 3 == 0).astype(np.int8)
    x = rng.normal(size=(n, d)) * np.linspace(0.1, 3, d) + 0.8 * label[:, None] + 5
    return x, label, rng.uniform(0.2, 3, n)


@pytest.mark.parametrize("ridge", [1e-3, 0.05, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_probe_is_sklearns(ridge, weighted):
    x, label, weight = features()
    weight = weight / weight.mean() if weighted else np.ones(len(x))
    centred = x - np.average(x, 0, weight)
    penalty = ridge * (weight[:, None] * centred**2).mean()
    peer = LogisticRegression(C=1 / (len(x) * penalty), solver="newton-cholesky", tol=1e-12, max_iter=1000)
    peer.fit(x, label, sample_weight=weight)
    score = probes.logistic_probe(x, label, ridge, weight if weighted else None)
    np.testing.assert_allclose(score(x), peer.decision_function(x), rtol=1e-6, atol=1e-7)


def test_separable_classes_have_a_finite_logistic_probe():
    x, label, _ = features()
    x[:, 0] += 100 * label
    assert np.isfinite(probes.logistic_probe(x, label, 1e-8)(x)).all()
    with pytest.raises(InputError, match="one class"):
        probes.logistic_probe(x, np.zeros(len(x), int), 0.1)


def test_weighted_ridge_probe_is_sklearns():
    x, label, weight = features()
    weight = weight / weight.mean()
    score = probes.ridge_probe(x, label, 0.05, weight)
    centre = sum(np.average(x[label == c], 0, weight[label == c]) for c in (0, 1)) / 2
    penalty = 0.05 * (weight[:, None] * (x - centre) ** 2).sum() / x.shape[1]
    peer = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(x - centre, 2.0 * label - 1, weight)
    np.testing.assert_allclose(score(x), peer.predict(x - centre), rtol=1e-6, atol=1e-8)


def test_the_probe_that_is_asked_for_is_fitted():
    one = chosen("untrained[n_labelled=60]")
    found = simulate.trained(KEY, IMAGES, one)
    x = np.asarray(found.network(cohort.pixels(found.labelled)), np.float64)
    for name, fit in (("ridge", probes.ridge_probe), ("logistic", probes.logistic_probe)):
        probe = simulate.trained(KEY, IMAGES, replace(one, probe=name)).probe
        np.testing.assert_allclose(probe(x), fit(x, found.labelled.label, one.ridge)(x), rtol=1e-4, atol=1e-5)
    weighted = simulate.trained(KEY, IMAGES, replace(one, weighting="group", group="sex")).probe
    assert np.abs(weighted(x) - found.probe(x)).max() > 1e-3


def test_fine_tuning_moves_the_encoder_and_lowers_the_loss_of_the_labels(monkeypatch):
    monkeypatch.setattr(simulate, "FINE_STEPS", 50)
    one = replace(chosen("untrained"), n_labelled=60, batch=32)
    before, after = (simulate.trained(KEY, IMAGES, replace(one, probe=p)) for p in ("logistic", "finetuned"))
    assert float(abs(before.network.weights[0][...] - after.network.weights[0][...]).max()) > 1e-3
    images, label = cohort.pixels(before.labelled), before.labelled.label
    score = [run.probe(np.asarray(run.network(images))) for run in (before, after)]
    loss = [np.logaddexp(0, np.where(label == 1, -s, s)).mean() for s in score]
    assert loss[1] < loss[0]
    assert roc_auc_score(label, score[1]) > roc_auc_score(label, score[0]) - 0.02
    shifted = simulate.scores_under(KEY, after.network, after.probe, images, (variability.GAIN,))
    np.testing.assert_allclose(shifted[0, 0], score[1], rtol=1e-4, atol=1e-4)
    assert shifted.shape == (1, 6, 60) and np.isfinite(shifted).all()
    frozen = replace(one, encoder=replace(one.encoder, frozen=True), probe="finetuned")
    with pytest.raises(InputError, match="is frozen, so it cannot be trained"):
        design.check(frozen, IMAGES.image.shape[1:])


# ---- pre-training elsewhere, views


@pytest.mark.parametrize("name", ["jigsaw", "supervised"])
def test_pre_training_on_the_cohort_itself_is_the_plain_design(name):
    one = replace(chosen(name), n_labelled=40, batch=16)
    plain, itself, other = (
        simulate.deploy(KEY, IMAGES, TEST, replace(one, pretrain_on=c), NOISE) for c in (None, IMAGES, OTHER)
    )
    assert np.array_equal(plain.score, itself.score)
    assert plain.threshold == itself.threshold
    assert not np.array_equal(plain.score, other.score)
    assert np.array_equal(plain.source_row, other.source_row)  # the probe's images are the cohort's own


def test_only_training_images_of_the_other_cohort_are_seen():
    one = replace(chosen("jigsaw"), n_labelled=40, batch=16)
    spoiled = replace(OTHER, image=np.where((OTHER.split == "train")[:, None, None, None], OTHER.image, 1))
    here, there = (simulate.pretrain(KEY, simulate.shown(KEY, IMAGES, labels.lesson(KEY, TRAIN, d), d), d).weights[0][...]
                   for d in (replace(one, pretrain_on=c) for c in (OTHER, spoiled)))  # fmt: skip
    assert np.array_equal(here, there)


def test_theory_makes_its_pairs_of_the_other_cohorts_training_images_only(monkeypatch):
    monkeypatch.setattr(predict, "PAIRED", 50)
    part = cohort.pixels(OTHER)[..., 0].mean((1, 2))  # each image gets a grey of its own
    flat = replace(OTHER, image=np.broadcast_to(part[:, None, None, None], OTHER.image.shape).astype(np.float32))
    seen, counts = (cohort.pixels(TRAIN), TRAIN.label, TRAIN.label), (np.ones(1), np.ones(1))
    surveyed = predict.Survey((), (), *seen, counts, charts.APART, Once())
    for name in ("jigsaw", "supervised"):
        one = replace(chosen(name), pretrain_on=flat)
        grey = predict._pairs(KEY, predict._shown(KEY, surveyed, one), one)[0].reshape(50, -1)
        assert np.isin(grey, flat.image[flat.split == "train"]).all()
        assert len(np.unique(grey)) > 20
        small = replace(one, n_unlabelled=3, n_labelled=4)
        few = predict._pairs(KEY, predict._shown(KEY, surveyed, small), small)[0]
        assert len(np.unique(few)) == (3 if name == "jigsaw" else 4)


def test_a_finetuned_probe_answers_for_all_levels_of_a_shift_at_once():
    """Features under the five levels come together; each level has the log odds of its two logits, by hand their difference."""
    logits = np.random.default_rng(0).normal(size=(5, 7, 2))
    np.testing.assert_allclose(probes.decided(logits, IMAGES.asked), logits[..., 1] - logits[..., 0])


def test_theory_says_what_it_does_not_see():
    one = chosen("contrastive+noise")
    rare = {"prevalence": 0.2}
    for change in ({}, rare, rare | {"weighting": "class"}, {"flip_case": 0.1}, rare | {"probe": "logistic"}):
        assert not design.unforeseen(replace(one, **change))
    for change, told in (
        ({"flip_in": "A"}, "wrong in one subgroup"),
        ({"resampling": "group"}, "balanced by subgroup"),
        ({"probe": "finetuned"}, "finetuned probe"),
        ({"pretrain_on": OTHER}, "pre-training on another"),
    ):
        assert any(told in why for why in predict.outside(IMAGES, replace(one, **change)))


def test_what_a_probe_is_taught_is_told_to_theory():
    label = np.repeat([0, 1], [300, 100])
    one = chosen("untrained")
    assert teaching.taught(one, label) == ((100, 100), (0.0, 0.0), (1.0, 1.0), "squared", (0.0, 0.0))
    assert teaching.taught(one, label).alike
    rare = replace(one, n_labelled=100, prevalence=0.2, flip_case=0.3, label_flip=0.1, probe="logistic")
    assert teaching.taught(rare, label) == ((80, 20), (0.1, 0.3), (1.0, 1.0), "logistic", (0.0, 0.0))
    for change in ({"weighting": "class"}, {"resampling": "class"}):
        shown = teaching.taught(replace(rare, **change), label)
        assert shown.weight == (100 / 160, 100 / 40)
        assert shown.again == ((0.0, 3.0) if "resampling" in change else (0.0, 0.0))  # 80 draws of 20 cases
    assert not any(
        teaching.taught(replace(one, **{k: v}), label).alike for k, v in (("prevalence", 0.2), ("flip_case", 0.1))
    )


def test_cells_of_other_cohorts_and_choices_have_other_names(tmp_path):
    one = chosen("contrastive+noise")
    variants = [one, replace(one, pretrain_on=OTHER), replace(one, probe="logistic"), design.strengthened(one, 0.5)]
    plan = running.Plan(IMAGES, None, tuple(variants), NOISE, seeds=1)
    assert len(set(running.cells(plan, tmp_path).values())) == 4
    itself = replace(plan, designs=(replace(one, pretrain_on=IMAGES),))
    assert set(running.cells(itself, tmp_path).values()) < set(running.cells(plan, tmp_path).values())


def test_strength_scales_every_severity_of_the_views():
    for name in (
        "contrastive+all",
        "vicreg+noise",
        "barlow+crop",
        "byol+all",
        "rotation",
        "masked",
        "cpc",
        "exemplar+all",
    ):
        one = design.select([name])[0]
        half = design.select([f"{name}[strength=0.5]"])[0]
        assert [(v, s / 2) for v, s in one.proxy.law] == list(half.proxy.law)
        for field in ("name", "siamese", "labelled", "patched", "cells", "turned", "momentum", "on"):
            assert getattr(half.proxy, field) == getattr(one.proxy, field)
    one = design.strengthened(chosen("supervised+crop"), 1e-6)
    image = cohort.pixels(TRAIN)[0]
    np.testing.assert_allclose(one.proxy.pairs(KEY, image, 0)[0], image, atol=1e-4)
    assert design.strengthened(chosen("contrastive+noise"), 1.0).proxy.pairs is chosen("contrastive+noise").proxy.pairs
