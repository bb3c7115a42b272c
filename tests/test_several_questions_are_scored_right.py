"""Classes, findings and grades are sets of binary questions: AUC as scikit-learn's, two classes as the binary task."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import patterns
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from rafmodel import (
    charts,
    classes,
    classes_predict,
    cohort,
    design,
    early,
    labels,
    metrics,
    predict,
    probes,
    proxies,
    simulate,
    study,
    task,
    variability,
)
from rafmodel.asked import BINARY, Asked
from rafmodel.errors import InputError
from rafmodel.running import Plan

KEY = jax.random.key(0)
NOISE = (variability.NOISE,)
THREE = classes.asked(patterns.classes(), "which", "multi-class")
FOUND = classes.asked(patterns.findings(), "seen", "multi-label", ("one", "two", "three"))
GRADED = classes.asked(patterns.grades(), "grade", "ordinal")
EXACT = 1e-12


@pytest.fixture(scope="module", autouse=True)
def small():
    """Fewer directions and pairs: the claims here do not need the accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"NETWORKS": 2, "FOLDS": 1, "DIRECTIONS": 40, "POOLED": 60, "AT_ONCE": 500}.items():
            patch.setattr(charts, name, value)
        patch.setattr(predict, "PAIRED", 240)
        yield


def chosen(name, like=THREE, **changes):
    [one] = design.fitted(design.select([name]), like)
    return replace(one, **{"steps": min(one.steps, 40), "batch": 32, "widths": (8, 16)} | changes)


def test_answers_stand_in_one_table():
    np.testing.assert_array_equal(THREE.asked.answers(np.array([2, 0])), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(GRADED.asked.answers(np.array([0, 2, 3])), [[0, 0, 0], [1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(FOUND.asked.answers(np.array([0, 5])), [[0, 0, 0], [1, 0, 1]])
    np.testing.assert_array_equal(BINARY.answers(np.array([0, 1])), [[0], [1]])
    assert GRADED.asked.questions == ("1 or higher", "2 or higher", "3 or higher")
    assert THREE.asked.questions[1] == "along against the rest"
    told = patterns.findings().attributes["seen"]
    for place, name in enumerate(FOUND.asked.names):
        there = np.array([name in entry.split("|") for entry in told])
        np.testing.assert_array_equal(FOUND.asked.answers(FOUND.label)[:, place], there)


def test_findings_are_drawn_by_the_rarest_one():
    """By hand, image by image; every stratum gives as many labels."""
    answers, train = FOUND.asked.answers(FOUND.label), FOUND.split == "train"
    order = np.argsort(answers[train].sum(0))
    by_hand = [next((1 + q for q in order if row[q]), 0) for row in answers]
    np.testing.assert_array_equal(FOUND.asked.strata(FOUND.label), by_hand)
    count = design.n_by_class(chosen("untrained", FOUND, n_labelled=40), FOUND.label[train], FOUND.asked)
    assert count == (10, 10, 10, 10)
    rows = labels.drawn(KEY, FOUND.asked.strata(FOUND.label), count)
    np.testing.assert_array_equal(np.bincount(np.array(by_hand)[rows]), 10)


@pytest.mark.parametrize("made", [THREE, FOUND, GRADED], ids=lambda c: c.asked.kind)
def test_auc_is_scikit_learns_macro_mean(made):
    """Of the classes one against the rest, of findings each, of grades each or higher; by subgroup, and of each question."""
    rng, test = np.random.default_rng(1), cohort.part(made, "test")
    answers = made.asked.answers(test.label)
    score = np.round(rng.normal(size=(1, 6, *answers.shape)) + answers, 1)
    found = simulate.judged(score, np.full(3, 0.4), test, "site")
    _, code = cohort.groups(test, "site")
    for g, who in enumerate([np.ones(len(code), bool), code == 0, code == 1]):
        expected = roc_auc_score(answers[who], score[0, 4, who], average="macro")
        assert found.auc[0, 4, g] == pytest.approx(expected, abs=EXACT)
        assert found.tpr[0, 4, g] == pytest.approx(
            np.mean([(score[0, 4, who & (answers[:, q] == 1), q] > 0.4).mean() for q in range(3)]), abs=EXACT
        )
        assert found.of_question[1, 0, 4, g] == pytest.approx(
            roc_auc_score(answers[who, 1], score[0, 4, who, 1]), abs=EXACT
        )
        assert found.n_case[g] == answers[who].sum(0).min()
        assert found.n_control[g] == (1 - answers[who]).sum(0).min()
    if made is THREE:  # scores that are probabilities, as scikit-learn wants them of classes
        share = np.exp(score[0, 2]) / np.exp(score[0, 2]).sum(1, keepdims=True)
        again = simulate.judged(np.broadcast_to(share, score.shape), 0.5, test, None).auc[0, 0, 0]
        assert again == pytest.approx(roc_auc_score(test.label, share, multi_class="ovr", average="macro"), abs=EXACT)


def test_where_a_question_has_no_case_the_mean_has_no_value_and_the_count_says_why():
    test = cohort.part(THREE, "test")
    code = cohort.groups(test, "site")[1]
    short = cohort.take(test, ~((code == 1) & (test.label == 2)))
    found = simulate.judged(np.random.default_rng(0).normal(size=(1, 6, len(short.label), 3)), 0.0, short, "site")
    assert np.isnan(found.auc[0, 0, 2]) and np.isfinite(found.auc[0, 0, :2]).all()
    assert found.n_case[2] == 0 and found.n_control[2] > 0


def test_concordance_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(2)
    grade = rng.integers(0, 4, 60)
    score = np.round(rng.normal(size=(2, 60)) + 0.5 * grade, 1)
    for row, found in zip(score, metrics.concordance(score, grade), strict=True):
        pairs = [(i, j) for i in range(60) for j in range(60) if grade[i] > grade[j]]
        won = [(row[i] > row[j]) + 0.5 * (row[i] == row[j]) for i, j in pairs]
        assert found == pytest.approx(np.mean(won), abs=EXACT)
    assert np.isnan(metrics.concordance(score, np.ones(60, int))).all()
    two = (grade > 1).astype(int)
    np.testing.assert_allclose(metrics.concordance(score, two), metrics.auc(score, two), atol=EXACT)


def test_ridge_of_several_columns_is_scikit_learns():
    """Where classes are equally frequent with an intercept, else with the centre between the classes."""
    rng = np.random.default_rng(3)
    for label, weight in ((np.arange(90) % 3, None), (rng.choice(3, 90, p=[0.6, 0.3, 0.1]), rng.gamma(2.0, size=90))):
        weight = None if weight is None else weight / weight.mean()
        each = np.ones(90) if weight is None else weight
        x = rng.normal(size=(90, 8)) * np.linspace(0.2, 2, 8) + np.eye(3)[label] @ rng.normal(size=(3, 8))
        found = probes.ridge_probes(x, np.eye(3)[label], 0.05, weight, label)(x)
        centre = np.mean([np.average(x[label == c], 0, each[label == c]) for c in range(3)], axis=0)
        alpha = 0.05 * (each[:, None] * (x - centre) ** 2).sum() / 8
        peer = Ridge(alpha=alpha, solver="svd", fit_intercept=weight is None)
        peer.fit(x - centre, 2 * np.eye(3)[label] - 2 / 3, sample_weight=weight)
        np.testing.assert_allclose(found, (x - centre) @ peer.coef_.T, atol=1e-9)


def test_log_odds_of_every_question_from_logits():
    """Against probabilities summed by hand."""
    logits = np.random.default_rng(4).normal(size=(5, 4))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for q, asked in ((2, GRADED.asked), (2, Asked("multi-class", ("a", "b", "c", "d")))):
        yes = asked.table[:, q] == 1
        expected = np.log(share[:, yes].sum(1) / share[:, ~yes].sum(1))
        np.testing.assert_allclose(probes.decided(logits, asked)[:, q], expected)
        levels = np.stack([logits, 2 * logits])  # as of images under several levels of a shift
        np.testing.assert_array_equal(probes.decided(levels, asked)[0], probes.decided(logits, asked))
    np.testing.assert_allclose(probes.decided(logits[:, :2], BINARY), logits[:, 1] - logits[:, 0])
    np.testing.assert_allclose(probes.decided(levels[..., :2], BINARY), levels[..., 1] - levels[..., 0])


TWO = patterns.classes(names=("no", "yes"))
PLAIN = replace(TWO, label=(TWO.attributes["which"] == "yes").astype(np.int8))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("multi-class", {"label_flip": 0.2}),
        ("ordinal", {"label_flip": 0.2}),
        ("multi-class", {"probe": "logistic"}),
        ("multi-label", {"probe": "logistic"}),  # findings are wrong each on its own, by other draws
    ],
    ids=str,
)
def test_two_classes_are_the_binary_task(kind, changes):
    """Same images, same labels, same wrong ones, same network and same scores, foreseen alike too."""
    names = ("yes",) if kind == "multi-label" else ("no", "yes")
    made = classes.asked(TWO, "which", kind, names)
    one, other = (chosen("supervised", like, steps=15, n_labelled=60, **changes) for like in (PLAIN, made))
    if kind == "multi-label":  # one logit is not two, so a task without labels is compared
        one, other = (replace(d, proxy=proxies.untrained(), steps=0) for d in (one, other))
    expected = simulate.deploy(KEY, PLAIN, cohort.part(PLAIN, "test"), one, NOISE)
    found = simulate.deploy(KEY, made, cohort.part(made, "test"), other, NOISE)
    np.testing.assert_allclose(found.score[..., -1], expected.score, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.ravel(found.threshold)[-1], expected.threshold, atol=1e-5)
    scored = [simulate.score(d, cohort.part(c, "test"), "site") for d, c in ((found, made), (expected, PLAIN))]
    np.testing.assert_allclose(scored[0].auc, scored[1].auc, atol=1e-9)


@pytest.mark.parametrize("kind", ["multi-class", "ordinal", "multi-label"])
def test_two_classes_are_foreseen_as_the_binary_task(kind):
    made = classes.asked(TWO, "which", kind, ("yes",) if kind == "multi-label" else ("no", "yes"))
    test, flip = cohort.part(made, "test"), {"label_flip": 0.1, "n_labelled": 60}
    seen = classes_predict.survey(KEY, made, test, (8, 16), NOISE, group="site")
    plain = predict.survey(KEY, PLAIN, cohort.part(PLAIN, "test"), (8, 16), NOISE, group="site")
    for name in ("untrained", "contrastive+noise"):
        found = classes_predict.foresee(KEY, seen, chosen(name, made, **flip))
        expected = predict.foresee(KEY, plain, chosen(name, PLAIN, **flip))
        for rate in ("auc", "tpr", "fpr"):
            value = getattr(found, rate) if kind != "multi-class" or rate == "auc" else getattr(expected, rate)
            np.testing.assert_allclose(value, getattr(expected, rate), atol=2e-4)
        assert (found.n_case == np.minimum(expected.n_case, found.n_case)).all()
        if kind == "ordinal":
            np.testing.assert_allclose(found.concordance, expected.auc, atol=2e-4)
    assert expected.auc[0, 0, 0] > 0.65  # there is something to be equal about


def test_names_in_another_order_are_other_columns_of_the_same_scores():
    other = classes.asked(patterns.classes(), "which", "multi-class", ("blob", "across", "along"))
    one = simulate.deploy(KEY, THREE, cohort.part(THREE, "test"), chosen("untrained", n_labelled=10**4), NOISE)
    two = simulate.deploy(KEY, other, cohort.part(other, "test"), chosen("untrained", other, n_labelled=10**4), NOISE)
    aucs = [
        simulate.score(d, cohort.part(c, "test"), None).of_question[:, 0, 0, 0] for d, c in ((one, THREE), (two, other))
    ]
    assert abs(aucs[0][[2, 0, 1]] - aucs[1]).max() < 0.05  # which of the commoner classes' images are labelled differs
    exchanged = replace(other, asked=THREE.asked, label=other.label)  # names swapped, labels not
    wrong = simulate.score(two, cohort.part(exchanged, "test"), None)
    swapped = replace(cohort.part(other, "test"), label=(cohort.part(other, "test").label + 1) % 3)
    assert simulate.score(two, swapped, None).auc[0, 0, 0] < 0.5 < 0.8 < wrong.auc[0, 0, 0]


def test_wrong_labels_name_any_other_class_and_findings_are_wrong_each_on_its_own():
    label, n = np.repeat(np.arange(4), 5000), 20_000
    asked = Asked("multi-class", tuple("abcd"))
    given = labels.flipped(KEY, label, 0.3, asked)
    shares = np.stack([np.bincount(given[label == c], minlength=4) / 5000 for c in range(4)])
    se = np.sqrt(0.21 / 5000)
    assert np.abs(shares - (0.7 * np.eye(4) + 0.1 * (1 - np.eye(4)))).max() < 4.5 * se  # sixteen at once
    codes = np.random.default_rng(0).integers(0, 8, n).astype(np.int16)
    wrong = FOUND.asked.answers(labels.flipped(KEY, codes, 0.3, FOUND.asked)) != FOUND.asked.answers(codes)
    assert np.abs(wrong.mean(0) - 0.3).max() < 4 * np.sqrt(0.21 / n)
    assert np.abs(np.corrcoef(wrong.T) - np.eye(3)).max() < 4 / np.sqrt(n)


def test_a_supervised_task_is_taught_every_class():
    """A target for each class, or each finding; the loss is scikit-learn's cross-entropy; learning helps every question."""
    from sklearn.metrics import log_loss

    image, output = jnp.zeros((16, 16, 1)), np.random.default_rng(5).normal(size=(4, 3))
    for made, label in ((THREE, [0, 1, 2, 1]), (FOUND, [0, 3, 5, 7]), (GRADED, [0, 1, 2, 3])):
        proxy = chosen("supervised", made).proxy
        targets = np.stack([proxy.pairs(KEY, image, jnp.int32(code))[1] for code in label])
        expected = made.asked.table[label] if made is FOUND else np.eye(4 if made is GRADED else 3)[label]
        np.testing.assert_array_equal(targets, expected)
        assert proxy.outputs((16, 16, 1)) == targets.shape[1]
        assert proxy.on(()).asked == made.asked
    softmax = np.exp(output) / np.exp(output).sum(1, keepdims=True)
    targets = np.eye(3)[[0, 1, 2, 1]]
    assert float(proxies.cross_entropy(output, targets)) == pytest.approx(log_loss(targets, softmax))
    apart = np.mean(
        [log_loss(column, 1 / (1 + np.exp(-o)), labels=[0, 1]) for column, o in zip(targets.T, output.T, strict=True)]
    )
    assert float(proxies.each_apart(output, targets)) == pytest.approx(apart)
    test = cohort.part(THREE, "test")
    before, after = (
        simulate.simulate(KEY, THREE, test, chosen("supervised", steps=steps), NOISE).of_question[:, 0, 0, 0]
        for steps in (0, 80)
    )
    assert (after > before).all()
    assert after.min() > 0.9


def test_theory_of_a_supervised_task_has_all_class_directions():
    """The learned inner product, apart from what all layers share, has rank K − 1; every pair of classes is told apart."""
    seen = classes_predict.survey(KEY, THREE, cohort.part(THREE, "test"), (8, 16), NOISE)
    one = chosen("supervised", steps=10**6, batch=128, n_labelled=60)
    metric = np.asarray(predict.representations(KEY, seen.images, one)[0])
    power = np.linalg.eigvalsh(metric)[::-1]
    assert power[1] > 1e-3 * power[0]
    assert power[2] < 1e-3 * power[1]
    inputs, targets = predict._pairs(KEY, predict._shown(KEY, seen.images, one), one)
    np.testing.assert_allclose(targets[:, :3].mean(0), 1 / 3, atol=0.02)
    assert len(np.unique(inputs.reshape(len(inputs), -1), axis=0)) == 60


def test_fine_tuning_goes_on_from_the_probe_of_every_question():
    """At no rate it is the logistic probe; at a rate it changes."""
    found = []
    for rate in (0.0, 1.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulate, "FINE_STEPS", 20)
            patch.setattr(simulate, "FINE_RATE", rate)
            run = simulate.trained(KEY, FOUND, chosen("untrained", FOUND, probe="finetuned"))
        found.append(run.probe(simulate.features(run.network, cohort.pixels(cohort.part(FOUND, "test")))))
    logistic = simulate.trained(KEY, FOUND, chosen("untrained", FOUND, probe="logistic"))
    expected = logistic.probe(simulate.features(logistic.network, cohort.pixels(cohort.part(FOUND, "test"))))
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)
    assert np.abs(found[1] - found[0]).max() > 0.1


def unrun(done, total):
    """Fails where a cell that was kept is run again."""
    assert done == total


@pytest.mark.parametrize(
    "made",
    [GRADED, *(pytest.param(c, marks=pytest.mark.exhaustive) for c in (THREE, FOUND))],
    ids=lambda c: c.asked.kind,
)
def test_a_study_lands_in_the_table(made, tmp_path):
    """Predict, simulate, keep, read again, assemble: means of the questions, concordance of grades, early warnings, intervals."""
    from rafmodel import running

    designs = (chosen("untrained", made, n_labelled=60, steps=0), chosen("supervised", made, n_labelled=60, steps=10))
    plan = Plan(made, "site", designs, NOISE, 2, 0, task.classification(made.asked))
    forecast = study.predicted(plan, lambda *_: None)
    cells = running.simulated(plan, tmp_path / "cells", lambda *_: None, "threads:1")
    again = running.simulated(plan, tmp_path / "cells", lambda _, done, total: unrun(done, total))
    for name in ("score", "threshold"):
        np.testing.assert_array_equal(getattr(again[1][0], name), getattr(cells[1][0], name))
    study.save(study.assemble(plan, forecast, again, "test"), tmp_path / "study.nc")
    table = study.load(tmp_path / "study.nc")
    assert table.attrs["task"] == made.asked.kind
    assert list(table["question"].values) == list(made.asked.questions)
    with pytest.raises(InputError, match="'predicted_auc_of_question' is missing"):
        study.check_schema(table.drop_vars("predicted_auc_of_question"), "here")
    for side in ("observed", "predicted"):
        mean = table[f"{side}_auc_of_question"].mean("question", skipna=False)
        np.testing.assert_allclose(mean, table[f"{side}_auc"])
    assert ("observed_concordance" in table) == ("predicted_concordance" in table) == (made is GRADED)
    assert np.isfinite(table["performance_observed"]).all()
    low, high = (table["performance_observed_interval"].sel(bound=b) for b in ("lower", "upper"))
    middle = table["performance_observed"].mean("seed")
    assert ((low < middle) & (middle < high)).all()
    cell, test = again[1][1], cohort.part(made, "test")
    assert cell.score.shape == (1, 6, len(test.label), len(made.asked.questions))
    answers = made.asked.answers(made.label[cell.source_row])
    short = study.piloted(plan, lambda *_: None)[1]  # under another key
    assert short.shape == (1, 6, 3) and abs(short[0, 0, 0] - table["observed_auc"][1, :, 0, 0, 0].mean()) < 0.15
    apart = [early.warn(cell.score[..., q], cell.source_score[..., q], answers[:, q])["L1"] for q in range(3)]
    np.testing.assert_allclose(table["early_auc"].sel(estimator="L1", group="all")[1, 1], np.mean(apart, 0), atol=1e-6)


def test_a_cell_that_raised_is_told_apart_whatever_was_asked(tmp_path):
    found = task.classification(GRADED.asked).lost(7, 2, "it broke")
    assert found.score.shape == (2, 6, 7, 3) and found.failed == "error"
    scored = simulate.score(found, cohort.take(cohort.part(GRADED, "test"), np.arange(7)), None)
    assert np.isnan(scored.auc).all() and np.isnan(scored.concordance).all()


def test_subgroups_are_weighed_by_class_or_stratum():
    one = replace(chosen("untrained", FOUND, weighting="group", n_labelled=60), group="site")
    lesson = labels.lesson(KEY, cohort.part(FOUND, "train"), one)
    cell = [*zip(FOUND.asked.strata(lesson.label), lesson.cohort.attributes["site"], strict=True)]
    total = {c: sum(w for w, other in zip(lesson.weight, cell, strict=True) if other == c) for c in set(cell)}
    np.testing.assert_allclose(list(total.values()), 60 / len(total))
    assert len(total) > 4


def test_real_cohorts_answer_as_often_as_published(cohort_folder):
    """BUSI's three classes, and findings of the NIH images as counted beside the file."""
    breast = cohort.load(cohort_folder / "busi_ultrasound", label="diagnosis", classed=False, size=16)
    made = classes.asked(breast, "diagnosis", "multi-class", ("normal", "benign", "malignant"))
    assert np.bincount(made.label).tolist() == [133, 437, 210]
    chest = cohort.load(cohort_folder / "nih_cxr1000", label="findings", classed=False, size=16)
    made = classes.asked(chest, "findings", "multi-label", ("Effusion", "Infiltration", "Atelectasis", "Cardiomegaly"))
    assert made.asked.answers(made.label).sum(0).tolist() == [170, 162, 95, 83]
    assert {"sex", "view", "age"} <= set(made.attributes)
