"""``TASK[views=NAME+NAME]``: views vary as the line says, theory reads the same law, and no other cell has its name."""

import re
from dataclasses import replace

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import backend, canvas, design, experience, predict, proxies, running
from rafmodel import cohort as cohorts
from rafmodel.errors import InputError
from rafmodel.phantoms import phantom
from rafmodel.variability import CATALOGUE, GAIN, NOISE
from rafmodel.variability.law import settled

IMAGES = phantom(jax.random.key(0), n_patients=160, size=16)
VOLUMES = phantom(jax.random.key(1), n_patients=20, size=8, volumes=True)
PAIRED = ("contrastive", "vicreg", "barlow", "byol", "exemplar")  # two views of an image
TASKS = (*PAIRED, "supervised", "rotation", "jigsaw", "masked", "cpc", "location")  # all but the one that has no views


def chosen(text):
    [one] = design.select([text])
    return one


def views(text, image, n=400):
    """Both views of n pairs of one image, (2, n, *space, C)."""
    pairs = jax.vmap(chosen(text).proxy.pairs, (0, None, None))
    return np.asarray(pairs(jax.random.split(jax.random.key(2), n), image, jnp.zeros((), int)))


@pytest.mark.skipif(not backend.on_cpu(), reason="of programs as a CPU's compiler makes them")
def test_a_turn_reads_a_crop_and_does_not_make_it_again_for_each_neighbour():
    """No loop of the compiled program looks up neighbours of both: 4 in two axes, where one loop had 4 within 4."""
    law = chosen("contrastive+rotation").proxy.law
    seen = jax.jit(jax.vmap(lambda key, image: proxies.view(key, image, law)))
    compiled = seen.lower(jax.random.split(jax.random.key(0), 8), jnp.zeros((8, 28, 28, 1))).compile().as_text()
    lookups = [len(re.findall(r" gather\(", loop)) for loop in compiled.split("\n\n")]
    assert sorted(lookups)[-2:] == [4, 4]


@pytest.mark.parametrize("shape", [(28, 28, 1), (7, 7, 3), (6, 5, 5, 1)])
def test_a_settled_image_is_itself(shape):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(4, *shape)), jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.vmap(settled))(image), image)


def test_every_variability_of_the_catalogue_is_a_view_up_to_its_third_level():
    for name, variability in CATALOGUE.items():
        one = chosen(f"contrastive[views={name}]")
        assert one.proxy.law == ((variability, variability.levels[2]),)
        assert one.proxy is proxies.contrastive(one.proxy.law)  # equal tasks share compiled programs
        assert cloudpickle.loads(cloudpickle.dumps(one)).proxy.law[0][0].name == name


def test_every_task_with_views_takes_them():
    with_views = {d.name.partition("+")[0] for d in (*design.DESIGNS, *design.MORE)} - {"untrained"}
    assert with_views == set(TASKS)
    for task in TASKS:
        one = chosen(f"{task}@residual[views=speckle+shadow]")
        assert [v.name for v, _ in one.proxy.law] == ["speckle", "shadow"]
        assert one.encoder.name == "residual"


@pytest.mark.parametrize(("suffix", "strength"), [("", 1.0), (",strength=0.5", 0.5), (",strength=2", 2.0)])
def test_pairs_vary_by_the_law_of_the_line_up_to_its_severity(suffix, strength):
    """Severity is uniform from 0 to s, the middle level times strength: a variance of its law is s² / 3 on the average."""
    image = np.full((16, 16, 1), 0.5, np.float32)
    one, two = views(f"vicreg[views=noise{suffix}]", image) - image
    assert not np.array_equal(one, two)
    variance, s = np.concatenate([one, two]).var((1, 2, 3), ddof=1), 0.1 * strength
    assert abs(variance.mean() - s**2 / 3) < 4 * s**2 * np.sqrt(1 / 5 - 1 / 9) / np.sqrt(len(variance))
    tones = np.log(views(f"byol[views=gain{suffix}]", image * 0.1) / 0.05).reshape(800, -1)
    squared, s = tones[:, 0] ** 2, 0.35 * strength
    assert np.ptp(tones, 1).max() < 1e-5  # one gain an image
    assert abs(squared.mean() - s**2 / 3) < 4 * s**2 * np.sqrt(3 / 5 - 1 / 9) / np.sqrt(len(squared))


def test_variabilities_act_in_the_order_of_the_line():
    """Noise that is blurred afterwards is smooth, noise on top is not."""
    image = np.full((48, 48, 1), 0.5, np.float32)
    rough = [
        np.diff(views(f"contrastive[views={order}]", image, 100), axis=2).std()
        for order in ("noise+blur", "blur+noise")
    ]
    assert rough[0] < 0.7 * rough[1]


def test_alternatives_are_designs_of_their_own():
    found = design.select(["vicreg[views=shadow|gamma+crop,strength=0.5|1]"], steps=7)
    texts = [
        f"vicreg[views={views},strength={strength}]" for views in ("shadow", "gamma+crop") for strength in ("0.5", "1")
    ]
    assert [d.name for d in found] == texts
    assert [[round(s, 9) for _, s in d.proxy.law] for d in found] == [[0.3], [0.6], [0.2, 0.15], [0.4, 0.3]]
    assert {d.steps for d in found} == {7}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("contrastive[views=blurr]", "views=blurr: no variability is called 'blurr'; choose from gain, gamma,"),
        ("contrastive[views=blur+]", "no variability is called ''"),
        ("contrastive[views=]", "views has no value"),
        (
            "contrastive+crop[views=blur]",
            "no proxy task that makes views is called 'contrastive+crop'; choose from supervised,",
        ),
        ("untrained[views=blur]", "no proxy task that makes views is called 'untrained'"),
        ("contrastive", "no design is called 'contrastive'"),
        (
            "vicreg[views=blur+gibbs,strength=1.5]",
            "gibbs would be beyond its strongest level; choose a strength of at most 1.3",
        ),
        ("vicreg[views=blur,strength=3]", "choose a strength of at most 2"),
        ("vicreg[views=blur,strength=2.1]", "strength 2.1 must be above 0 and at most 2"),
        ("vicreg[views=blur,strength=0]", "strength 0 must be above 0"),
        ("external:os:getcwd[views=blur]", "makes no views that could be chosen"),
        ("contrastive[views=nowhere.nc:A]", "nowhere.nc: no such file"),
    ],
)
def test_what_cannot_be_views_is_told_in_one_line(text, told):
    with pytest.raises(InputError) as raised:
        design.select([text])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "cohort", "told"),
    [
        ("contrastive[views=noise+hue]", IMAGES, "hue: needs red, green and blue, but images have 1 channel"),
        ("jigsaw[views=jpeg]", VOLUMES, "jpeg: made for 2 axes of space"),
    ],
)
def test_a_law_that_does_not_suit_the_images_is_told_before_training(text, cohort, told):
    with pytest.raises(InputError, match=told):
        design.fitted([chosen(text)], cohort)


@pytest.fixture(scope="module")
def surveyed():
    return predict.survey(jax.random.key(4), IMAGES, cohorts.part(IMAGES, "test"), design.Design.widths, (NOISE,))


@pytest.mark.parametrize("task", [t if t in PAIRED else pytest.param(t, marks=pytest.mark.exhaustive) for t in TASKS])
def test_theory_reads_the_same_law_for_every_task(task, surveyed, monkeypatch):
    """Its forecast is finite and another one for other views; that no study has these is said."""
    monkeypatch.setattr(predict, "PAIRED", 256)
    plain, inverted = (chosen(f"{task}[views={views}]") for views in ("gain", "inversion"))
    first, second = (predict.foresee(jax.random.key(5), surveyed, one).auc for one in (plain, inverted))
    assert np.isfinite(first).all() and np.isfinite(second).all()
    assert np.abs(first - second).max() > 1e-4
    told = predict.outside(IMAGES, plain)
    assert any(f"proxy task and views of {task}[views=gain] (checked" in why for why in told)
    assert not any("another strength" in why for why in told)


def test_cells_of_other_views_have_other_names(tmp_path):
    texts = ["views=gain", "views=gain,strength=0.5", "views=gain+noise", "views=noise+gain", "views=gain+gain"]
    designs = [chosen(f"contrastive[{text}]") for text in texts]
    fitted = (replace(GAIN, name="site=B", unit=f"dose of site B (chest, {digest})") for digest in "12")
    designs += [replace(designs[0], name="own", proxy=proxies.contrastive(((law, 1.0),))) for law in fitted]
    plan = running.Plan(IMAGES, None, tuple(designs), (NOISE,), seeds=1)
    assert len(set(running.cells(plan, tmp_path).values())) == len(designs)


def test_views_of_a_line_are_not_those_that_other_cohorts_saw():
    """What is known of ``jigsaw`` says nothing of ``jigsaw[views=blur]``, whatever else stands in its brackets."""
    name = "jigsaw@residual[n_labelled=32,views=blur,probe=logistic]"
    assert experience.studied_as(name) == "jigsaw[views=blur]"
    assert experience.studied_as("jigsaw@vit[n_labelled=32]") == "jigsaw"
    assert canvas.family(name) == canvas.family("jigsaw")
    other, same = (
        replace(chosen(text), steps=experience.STEPS)
        for text in (name, "jigsaw@residual[n_labelled=32,probe=logistic]")
    )
    assert experience.unstudied(other, []) and not experience.unstudied(same, [])
