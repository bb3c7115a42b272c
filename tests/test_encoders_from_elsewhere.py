"""A callable, an ONNX file, a table and a network trained on another cohort are scored and foreseen as frozen encoders."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import cohort as cohorts
from rafmodel import design, encoder, external, labels, phantoms, predict, pretrain, probes, simulate, variability
from rafmodel.errors import InputError

COHORT = phantoms.phantom(jax.random.key(0), n_patients=300)
TEST = cohorts.part(COHORT, "test")
SHIFTS = (variability.NOISE,)
QUADRANTS = """
import numpy as np

def quadrants(images):
    n, h, w, c = images.shape
    parts = images[:, : h // 2 * 2, : w // 2 * 2].reshape(n, 2, h // 2, 2, w // 2, c)
    return np.concatenate([f((2, 4)) .reshape(n, -1) for f in (lambda a: parts.mean(a), lambda a: parts.std(a))], 1)

def one_number(images):
    return float(images.mean())

LIST = [1, 2]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A module with encoders of somebody else's making."""
    (tmp_path / "somebody.py").write_text(QUADRANTS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def only(name):
    return design.fitted(design.select([name]), COHORT)[0]


def test_a_callable_is_scored_and_foreseen(place):
    import somebody  # pyright: ignore

    one = only("external:somebody:quadrants")
    found = simulate.deploy(jax.random.key(1), COHORT, TEST, one, SHIFTS)
    key_label = jax.random.split(jax.random.key(1), 3)[0]
    source = cohorts.part(COHORT, "train")
    rows = labels.drawn(key_label, source.label, design.n_by_class(one, source.label))
    by_hand = probes.ridge_probe(somebody.quadrants(cohorts.pixels(source)[rows]), source.label[rows], one.ridge)
    np.testing.assert_allclose(found.score[0, 0], by_hand(somebody.quadrants(cohorts.pixels(TEST))), atol=1e-4)
    assert np.isfinite(found.score).all()
    observed = simulate.score(found, TEST, None)
    foreseen = predict.predict(jax.random.key(1), COHORT, TEST, one, SHIFTS)
    assert foreseen.auc.shape == observed.auc.shape == (1, 6, 1)
    # theory sees the source alone: within 4 standard errors of the test part's AUC, 0.05 at 30 cases and 30 controls or more
    assert np.abs(foreseen.auc - observed.auc).max() < 4 * 0.05
    assert any("external:somebody" in why for why in predict.outside(COHORT, one))


def test_a_table_knows_clean_images_only(place, tmp_path):
    import somebody  # pyright: ignore

    table = tmp_path / "features.npz"
    np.savez(table, features=somebody.quadrants(cohorts.pixels(COHORT)))
    by_table, by_call = (
        simulate.deploy(jax.random.key(1), COHORT, TEST, only(name), SHIFTS)
        for name in (f"external:{table}", "external:somebody:quadrants")
    )
    np.testing.assert_allclose(by_table.score[0, 0], by_call.score[0, 0], atol=1e-4)
    assert np.isnan(by_table.score[0, 1:]).all()
    assert not by_table.failed
    observed = simulate.score(by_table, TEST, None)
    assert np.isfinite(observed.auc[0, 0]).all()
    assert np.isnan(observed.auc[0, 1:]).all()
    foreseen = predict.predict(jax.random.key(1), COHORT, TEST, only(f"external:{table}"), SHIFTS)
    assert np.isfinite(foreseen.auc[0, 0]).all()
    assert np.isnan(foreseen.auc[0, 1:]).all()
    assert any("no altered image" in why for why in predict.outside(COHORT, only(f"external:{table}")))


def test_another_file_or_function_is_another_cell(place, tmp_path):
    first = design.select(["external:somebody:quadrants"])[0].encoder
    again = design.select(["external:somebody:quadrants"])[0].encoder
    assert repr(first) == repr(again)
    for number in (1.0, 2.0):
        np.save(tmp_path / f"{number}.npy", np.full((len(COHORT.label), 2), number))
    one, two = (design.select([f"external:{tmp_path}/{number}.npy"])[0].encoder for number in (1.0, 2.0))
    assert one.content != two.content


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("external:nowhere.onnx", "no such file"),
        ("external:nowhere", "not module:function"),
        ("external:nowhere:f", "No module named"),
        ("external:somebody:absent", "no attribute"),
        ("external:somebody:LIST", "is a list"),
    ],
)
def test_what_is_not_there_is_said(place, name, told):
    with pytest.raises(InputError, match=told) as raised:
        design.select([name])
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_is_said(place, tmp_path):
    with pytest.raises(InputError, match=r"returned float64 \(\) for 4 images"):
        encoder.features(
            design.select(["external:somebody:one_number"])[0].encoder.build(jax.random.key(0), (), ()),
            np.zeros((4, 8, 8, 1), np.float32),
            chunk=4,
        )
    np.save(tmp_path / "short.npy", np.zeros((7, 3)))
    with pytest.raises(InputError, match="7 rows for a cohort of"):
        only(f"external:{tmp_path}/short.npy")
    np.savez(tmp_path / "other.npz", x=np.zeros((7, 3)))
    with pytest.raises(InputError, match="features"):
        design.select([f"external:{tmp_path}/other.npz"])
    np.save(tmp_path / "holes.npy", np.full((7, 3), np.nan))
    with pytest.raises(InputError, match="finite"):
        design.select([f"external:{tmp_path}/holes.npy"])
    with pytest.raises(InputError, match="frozen"):
        design.check(replace(design.select(["external:somebody:quadrants"])[0], steps=10), (28, 28, 1))


def test_a_network_trained_on_another_cohort_is_taken_as_it_is():
    other = phantoms.phantom(jax.random.key(9), n_patients=200)
    taught = replace(design.select(["supervised"])[0], steps=40, batch=64, widths=(8, 16))
    network = pretrain.pretrain(jax.random.key(2), cohorts.part(other, "train"), taught)
    frozen = external.transferred("supervised on another phantom", network, "phantom 9")
    one = replace(taught, name="transferred", encoder=frozen, steps=0)
    again = pretrain.pretrain(jax.random.key(5), cohorts.part(COHORT, "train"), one)
    assert again is network
    outcome = simulate.simulate(jax.random.key(1), COHORT, TEST, one, SHIFTS)
    start = replace(taught, steps=0)
    assert outcome.auc[0, 0, 0] > simulate.simulate(jax.random.key(1), COHORT, TEST, start, SHIFTS).auc[0, 0, 0] - 0.05
    foreseen = predict.predict(jax.random.key(1), COHORT, TEST, one, SHIFTS)
    assert np.isfinite(foreseen.auc).all()


# ---- a pretrained network that a package ships: text direction, a MobileNetV3 (RapidOCR, PaddleOCR; Apache 2.0)


@pytest.fixture(scope="module")
def shipped() -> Path:
    for needed in ("onnx", "onnxruntime", "rapidocr_onnxruntime"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed; `pip install --no-deps rapidocr-onnxruntime` ships the network")
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "models" / "ch_ppocr_mobile_v2.0_cls_infer.onnx"


def test_a_shipped_network_is_run_as_onnx_runs_it(shipped):
    import onnxruntime  # pyright: ignore

    images = np.random.default_rng(0).uniform(size=(3, 48, 192, 1)).astype(np.float32)
    session = onnxruntime.InferenceSession(shipped, providers=["CPUExecutionProvider"])
    fed = np.repeat(np.transpose(images, (0, 3, 1, 2)), 3, axis=1) * 2 - 1
    [expected] = session.run(None, {session.get_inputs()[0].name: fed})
    network = design.select([f"external:{shipped}"])[0].encoder.build(jax.random.key(0), (), ())
    np.testing.assert_allclose(encoder.features(network, images, chunk=3), expected, rtol=1e-4, atol=1e-5)


def test_inner_features_of_a_shipped_network_are_scored_and_foreseen(shipped):
    import onnx  # pyright: ignore

    nodes = onnx.load(shipped).graph.node
    pool = [node.output[0] for node in nodes if node.op_type == "GlobalAveragePool"][-1]
    one = only(f"external:{shipped}#{pool}")
    outcome = simulate.simulate(jax.random.key(1), COHORT, TEST, one, SHIFTS)
    assert outcome.auc[0, 0, 0] > 0.6  # learned from text, it still tells the phantom's classes apart
    foreseen = predict.predict(jax.random.key(1), COHORT, TEST, one, SHIFTS)
    assert np.isfinite(foreseen.auc).all()
    with pytest.raises(InputError, match="no such tensor"):
        design.select([f"external:{shipped}#nothing"])
    assert jnp.isfinite(outcome.auc).all()
