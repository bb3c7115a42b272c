"""L0 trains nothing, never reads a test image or a test label's place, and moves the way it must."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy.stats import norm

from rafmodel import charts, cohort, design, labels, metrics, predict, probes, teaching, theory, variability
from rafmodel.asked import BINARY
from rafmodel.once import Once
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=400)
TEST = cohort.part(IMAGES, "test")
SHIFTS = variability.select(["noise", "rotation"])
KEY = jax.random.key(1)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Fewer directions and pairs: the claims here do not need the accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"NETWORKS": 1, "FOLDS": 1, "DIRECTIONS": 60, "ALTERED": 200, "AT_ONCE": 500}.items():
            patch.setattr(charts, name, value)
        patch.setattr(predict, "PAIRED", 200)
        yield


@pytest.fixture(scope="module")
def survey(small):
    return predict.survey(KEY, IMAGES, TEST, (16, 32, 64), SHIFTS, group="site")


def named(name, **changes):
    return replace(design.select([name])[0], **changes)


def test_test_pixels_are_never_read():
    blank = replace(TEST, image=np.zeros_like(TEST.image))
    one, other = (
        predict.predict(KEY, IMAGES, test, named("supervised"), SHIFTS, group="site") for test in (TEST, blank)
    )
    assert np.array_equal(one.auc, other.auc)


def test_which_test_image_has_which_label_is_never_read():
    shuffled = replace(TEST, label=np.random.default_rng(0).permutation(TEST.label))
    one, other = (predict.predict(KEY, IMAGES, test, named("untrained"), SHIFTS) for test in (TEST, shuffled))
    assert np.array_equal(one.auc, other.auc)


def test_shapes_and_subgroups(survey):
    outcome = predict.foresee(KEY, survey, named("untrained"))
    names, code = cohort.groups(TEST, "site")
    assert outcome.auc.shape == (2, 6, 1 + len(names))
    assert list(outcome.n_case[1:]) == [int(TEST.label[code == g].sum()) for g in range(len(names))]
    assert np.isfinite(outcome.auc).all()
    np.testing.assert_allclose(outcome.auc[0, 0], outcome.auc[1, 0])  # clean is clean


def test_degradation_is_foreseen(survey):
    auc = predict.foresee(KEY, survey, named("contrastive+crop")).auc
    assert auc[0, 0, 0] > 0.65
    assert auc[0, 5, 0] < auc[0, 0, 0] - 0.1
    assert (np.diff(auc[0, :, 0]) < 0.02).all()


def test_the_harder_site_is_foreseen(survey):
    """Site B has less contrast and more noise; exchanging the two must fail here."""
    names, _ = cohort.groups(TEST, "site")
    auc = predict.foresee(KEY, survey, named("untrained")).auc[0, 0, 1:]
    assert auc[names.index("A")] > auc[names.index("B")]


def test_fewer_and_wrong_labels_cost(survey):
    many, few, wrong = (
        predict.foresee(KEY, survey, named("untrained", **change)).auc[0, 0, 0]
        for change in ({"n_labelled": 256}, {"n_labelled": 32}, {"label_flip": 0.3})
    )
    assert few < many - 0.03
    assert wrong < many - 0.03


def test_noise_views_are_foreseen_to_help_under_noise(survey):
    plain, noisy = (
        predict.foresee(KEY, survey, named(n)).auc[0, 3:, 0] for n in ("contrastive+crop", "contrastive+noise")
    )
    assert noisy.mean() > plain.mean()


def test_the_mixture_follows_training_time(survey):
    """No steps: the untrained encoder's own features; few: all layers alike; many: the predictor alone, at the task's pace."""
    one = named("contrastive+noise")
    untrained = np.asarray(predict.representations(KEY, survey, replace(one, steps=0))[0])
    own = survey.charts[0].axes[:64]
    np.testing.assert_allclose(untrained / np.trace(untrained), own.T @ own / np.trace(own.T @ own), atol=1e-6)
    long = np.asarray(predict.representations(KEY, survey, replace(one, steps=10**6))[0])
    brief = np.asarray(predict.representations(KEY, survey, replace(one, steps=50))[0])
    spread = theory.total_covariance(survey.charts[0].clean)
    np.testing.assert_allclose(np.trace(spread @ untrained), np.trace(spread), rtol=1e-4)
    alike = np.eye(len(untrained))  # whose variance on the source is that of the coordinates themselves
    share = 50 * one.learning_rate / (50 * one.learning_rate + predict.LEARNING_TIME)
    np.testing.assert_allclose(brief, (1 - share) * alike + share * long, rtol=0.01, atol=1e-3 * brief.max())
    slow = replace(one, steps=500, proxy=replace(one.proxy, pace=0.1))
    np.testing.assert_allclose(predict.representations(KEY, survey, slow)[0], brief, rtol=1e-4, atol=1e-5 * brief.max())


def test_a_task_that_needs_labels_sees_only_labelled_images(survey):
    few = named("supervised", n_labelled=16)
    inputs, targets = predict._pairs(KEY, predict._shown(KEY, survey, few), few)
    assert len(np.unique(inputs.reshape(len(inputs), -1), axis=0)) == 16
    np.testing.assert_allclose(targets[:, :2].mean(0), 0.5, atol=0.05)
    every = named("masked")
    inputs = predict._pairs(KEY, predict._shown(KEY, survey, every), every)[0]
    assert len(np.unique(inputs.reshape(200, -1), axis=0)) == 200


def test_pairs_are_made_once_for_designs_that_share_their_law(survey, monkeypatch):
    """Not for other images, views, keys or charts; and what is foreseen is the same whoever comes first."""
    one = named("contrastive+noise")
    variants = {
        "ridge": replace(one, ridge=10 * one.ridge),
        "steps": replace(one, steps=2 * one.steps),
        "few": replace(one, n_unlabelled=50),
        "crop": named("contrastive+crop"),
        "supervised": named("supervised"),
        "few labels": named("supervised", n_labelled=16),
        "as few elsewhere": replace(one, n_unlabelled=50, pretrain_on=replace(IMAGES, image=1 - IMAGES.image)),
    }
    alone = {}
    for name, variant in variants.items():
        alone[name] = predict.foresee(KEY, survey._replace(moments=Once()), variant).auc
    made, pairs = [], predict._pairs
    monkeypatch.setattr(predict, "_pairs", lambda *given: made.append(given[2].name) or pairs(*given))
    fresh = survey._replace(moments=Once(100))
    predict.foresee(KEY, fresh, one)
    assert len(made) == 1
    for name, variant in variants.items():
        before = len(made)
        np.testing.assert_array_equal(predict.foresee(KEY, fresh, variant).auc, alone[name])
        assert len(made) - before == (name not in ("ridge", "steps"))
    predict.foresee(jax.random.fold_in(KEY, 1), fresh, one)
    predict.foresee(KEY, fresh._replace(charts=tuple(chart._replace() for chart in fresh.charts)), one)
    assert len(made) == 8


def test_questions_are_answered_once_and_the_last_few_kept():
    once, made = Once(2), []

    def answer(question: str) -> str:
        return once(question, lambda: made.append(question) or question.upper())

    def failing() -> str:
        made.append("e")
        raise ValueError("no answer")

    assert [answer(q) for q in "aabab"] == ["A", "A", "B", "A", "B"]
    assert made == ["a", "b"]
    assert answer("c") == "C"
    assert answer("b") == "B"
    assert answer("a") == "A"  # of the three the first was forgotten
    assert made == ["a", "b", "c", "a"]
    for _ in range(2):
        with pytest.raises(ValueError, match="no answer"):
            once("e", failing)
    assert made[4:] == ["e"]
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(once, "s", lambda: time.sleep(0.1) or made.append("s") or "S") for _ in range(8)]
        assert [one.result() for one in slow] == ["S"] * 8
    assert made[5:] == ["s"]


def test_no_patient_is_both_deployed_on_and_learned_from():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "FOLDS", 2)
        folds = charts.folds(KEY, IMAGES)
        alone = charts.folds(KEY, replace(IMAGES, patient=np.zeros_like(IMAGES.patient)))
    who = [set(IMAGES.patient[fold].tolist()) for fold in folds]
    assert all(who)
    assert not who[0] & who[1] | who[0] & who[2] | who[1] & who[2]
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(len(IMAGES.label)))
    np.testing.assert_array_equal(np.sort(np.concatenate(alone)), np.arange(len(IMAGES.label)))  # one patient: by image
    assert min(map(len, alone)) > len(IMAGES.label) // 4


def dealt(own: int, images: int = 120, patients: int = 40) -> cohort.Cohort:
    """Training images of patients, all of whose images are of one class; the cases are ``own`` patients'."""
    patient = np.arange(images) % patients
    some = cohort.take(IMAGES, np.arange(images))
    label, split = (patient < own).astype(int), np.full(images, "train")
    return replace(some, label=label, split=split, patient=patient.astype(str))


def test_patients_are_dealt_until_each_part_to_deploy_on_has_enough_of_every_class(monkeypatch):
    """Eight of 40 patients with three images each: by chance a part lacks three of them more often than not."""
    monkeypatch.setattr(charts, "FOLDS", 2)
    for seed in range(8):
        parts = charts.folds(jax.random.key(seed), few := dealt(8))
        assert min(np.bincount(few.label[part], minlength=2).min() for part in parts[: charts.FOLDS]) >= charts.FEWEST
        assert not set(few.patient[parts[0]]) & set(few.patient[parts[1]])
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(120))
    first = [min(int(few.label[part].sum()) for part in charts._dealt(jax.random.key(s), few)[:2]) for s in range(8)]
    assert min(first) < charts.FEWEST


def test_where_no_deal_has_enough_the_one_with_most_is_kept(monkeypatch):
    """Of two patients one comes into each part, and of one there is nothing to choose."""
    monkeypatch.setattr(charts, "FOLDS", 2)
    two = charts.folds(KEY, dealt(2))
    assert [int(dealt(2).label[part].sum()) for part in two] == [3, 3, 0]
    one = charts.folds(KEY, dealt(1))
    assert sum(int(dealt(1).label[part].sum()) for part in one) == 3


def test_the_untrained_level_is_the_one_measured_on_the_source(survey):
    """Whatever the Gaussian theory gets wrong for the untrained encoder is taken off again."""
    foreseen = predict.foresee(KEY, survey, named("untrained"))
    chart = survey.charts[0]
    shown = predict.independent(teaching.Taught((128, 128), (0.0, 0.0)), survey.alike)
    assert shown.count[0] < 120  # the phantom's patients have several images
    theory = predict._rates(chart, chart.untrained, shown, 0.01)[0, ..., 0]
    assert np.abs(norm.ppf(foreseen.auc[..., 0]) - norm.ppf(theory) - chart.offset[0]).max() < 1e-3
    assert np.abs(chart.offset).max() > 0.02
    _, key_images, key_shift, key_probe = jax.random.split(KEY, 4)
    source = cohort.take(IMAGES, np.flatnonzero(IMAGES.split != "test"))
    first, rest = charts.folds(key_images, source)
    deployed, fixed = cohort.take(source, first[: charts.ALTERED]), cohort.take(source, rest)
    features = charts.statistics(chart.networks, cohort.pixels(fixed))[:, :64], fixed.label
    shifted = charts.under_shifts(jax.random.fold_in(key_shift, 0), chart.networks, cohort.pixels(deployed), SHIFTS)
    n = design.n_labels(named("untrained"), cohort.part(IMAGES, "train").label)
    measured = charts.measured(key_probe, *features, shifted[..., :64], deployed.label, n, 0.01)
    for rate, told in zip(measured, foreseen[:3], strict=True):
        np.testing.assert_allclose(told[..., 0], rate, atol=1e-3)


def test_labels_form_what_several_untrained_encoders_see_together():
    """The representation that labels make, written out on both encoders' statistics side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "NETWORKS", 2)
        seen = predict.survey(KEY, IMAGES, TEST, (4, 6, 8), SHIFTS[:1])
    taught = named("supervised", widths=(4, 6, 8), steps=400)
    assert [len(chart.networks) for chart in seen.charts] == [1, 1]
    assert len(seen.charts[0].axes) * 2 == len(seen.pools[0].axes) == 2 * 2 * (4 + 6 + 8)
    assert len(predict.representations(KEY, seen, named("contrastive+crop", widths=(4, 6, 8), steps=400))) == 2
    (chart,), (found,) = seen.pools, predict.representations(KEY, seen, taught)
    each = len(seen.charts[0].axes)
    np.testing.assert_allclose(chart.centre, np.concatenate([one.centre for one in seen.charts]))
    assert chart.networks == tuple(one.networks[0] for one in seen.charts)
    pooled_scale = np.diag(
        chart.axes @ chart.axes.T
    )  # all directions are kept: what each statistic was multiplied by, squared
    in_layers = np.concatenate([np.diag(one.axes @ one.axes.T) for one in seen.charts])
    assert len(set(np.round(in_layers[:each] / in_layers[0], 3))) == 2  # features, and all other statistics
    assert len(set(np.round(pooled_scale, 3))) > each
    inputs, targets = predict._pairs(KEY, predict._shown(KEY, seen, taught), taught)
    u = (charts.statistics(chart.networks, inputs) - chart.centre) @ chart.axes
    u, v = u - u.mean(0), targets - targets.mean(0)
    uu, uv = u.T @ u / len(u), u.T @ v / len(u)
    penalty = predict.LABEL_RIDGE * np.trace(uu) / len(uu)
    weight = np.linalg.solve(uu + penalty * np.eye(len(uu)), uv)
    share = 400 * taught.learning_rate / (400 * taught.learning_rate + predict.LEARNING_TIME)
    spread = np.asarray(theory.total_covariance(chart.clean))
    learned = weight @ weight.T * np.trace(spread) / np.trace(weight @ weight.T @ spread)
    expected = (1 - share) * np.eye(len(uu)) + share * learned
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())


def test_the_untrained_encoder_in_a_pool_is_the_first_one(survey):
    """Its own features, read back from coordinates that were scaled one by one."""
    raw = np.random.default_rng(0).normal(size=(300, 12)) * np.arange(1, 13)
    for scale in (charts.by_layer(raw, 4), charts.one_by_one(raw)):
        centre, axes = charts.directions(raw, raw[None], scale, 12)
        z = (raw - centre) @ axes
        inner = z @ charts.own_features(axes, scale, 4) @ z.T
        features = (raw - raw.mean(0))[:, :4]
        np.testing.assert_allclose(inner, features @ features.T, rtol=1e-6, atol=1e-6 * np.abs(inner).max())


@pytest.mark.parametrize(
    "choice",
    [
        {"prevalence": 0.1},
        {"prevalence": 0.15, "weighting": "class"},
        {"prevalence": 0.2, "weighting": "class", "flip_case": 0.3},
        {"prevalence": 0.3, "resampling": "class", "probe": "logistic"},
        {"probe": "logistic"},
        {"prevalence": 0.3, "probe": "logistic", "flip_case": 0.3},
    ],
)
def test_unequal_and_logistic_probes_are_foreseen_as_they_are_fitted(choice):
    """Gaussian features of known moments, a representation that is not the identity, and the simulator's own probes."""
    rng = np.random.default_rng(0)
    d, draws = 64, 150  # many features, so that what the classes' counts cost is seen
    mean = 2 + np.stack([np.zeros(d), np.concatenate([rng.normal(0, 0.6, 6), np.zeros(d - 6)])])  # far from the origin
    turned = np.linalg.qr(rng.normal(size=(d, d)))[0]
    roots = np.stack([np.diag(np.geomspace(1.5, 0.3, d)), turned * np.geomspace(1, 0.4, d)])
    metric = np.diag(np.geomspace(4, 0.2, d))
    clean = theory.Moments(*(np.asarray(v, np.float32) for v in (mean, roots @ roots.transpose(0, 2, 1), np.ones(2))))
    shifted = theory.Moments(*(np.asarray(v)[None, None, None] for v in clean))
    chart = charts.Chart((), np.zeros(d), np.eye(d), d, np.eye(d), clean, shifted, np.zeros(()))
    one = named("untrained", n_labelled=300, **choice)
    pool = np.repeat([0, 1], 500)
    shown = teaching.taught(one, pool)
    told = predict._rates(chart, metric, shown, one.ridge)[:, 0, 0, 0]

    def sampled(counts):
        label = np.repeat([0, 1], counts)
        x = np.concatenate([mean[c] + rng.normal(size=(n, d)) @ roots[c].T for c, n in enumerate(counts)])
        return x @ np.sqrt(metric), label

    seen = []
    for i in range(draws):
        x, label = sampled(shown.count)
        given = np.where(rng.random(len(label)) < np.array(shown.flip)[label], 1 - label, label)
        weigh = None if one.weighting == "none" else labels.balancing(given)
        row = np.arange(len(x)) if one.resampling == "none" else labels.oversampled(jax.random.key(i), given)
        probe = probes.fitted(one.probe, x[row], given[row], one.ridge, weigh, BINARY)
        fresh, truth = sampled((1000, 1000))
        score = probe(fresh)
        bar = np.mean([score[truth == c].mean() for c in (0, 1)])
        seen.append([metrics.auc(score[None], truth)[0], *((score[truth == c] > bar).mean() for c in (1, 0))])
    error = np.std(seen, axis=0) / np.sqrt(draws)
    assert (np.abs(told - np.mean(seen, axis=0)) < 4 * error + 0.004).all(), (told, np.mean(seen, axis=0), error)
    plain = predict._rates(chart, metric, teaching.Taught((150, 150), (0.0, 0.0)), one.ridge)[0, 0, 0, 0]
    assert abs(plain - told[0]) > 0.002  # the choice is seen
