"""A callable, an ONNX file, a table and a network trained on another cohort are scored and foreseen as frozen encoders."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from rafmodel import (
    cli,
    design,
    encoder,
    external,
    labels,
    masks,
    phantoms,
    predict,
    pretrain,
    probes,
    segment,
    simulate,
    study,
    variability,
)
from rafmodel import cohort as cohorts
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

def cells(images):
    n, h, w, c = images.shape
    parts = images[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return np.concatenate([parts.mean((2, 4)), parts.max((2, 4))], -1)

def one_number(images):
    return float(images.mean())

def weighted_cells(images):
    return cells(images) @ np.load(WEIGHTS)

def weighted(images):
    return quadrants(images) @ np.load(WEIGHTS)

LIST = [1, 2]
"""
RAISES = "raise OSError('no weights\\nwere found')"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A module with encoders of somebody else's making."""
    (tmp_path / "somebody.py").write_text(QUADRANTS + f"WEIGHTS = {str(tmp_path / 'weights.npy')!r}\n")
    (tmp_path / "unwell.py").write_text(RAISES)
    monkeypatch.delitem(sys.modules, "somebody", raising=False)
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


def test_other_weights_of_the_same_function_are_another_cell(place):
    found = []
    for seed in (0, 0, 1):
        np.save(place / "weights.npy", np.random.default_rng(seed).normal(size=(8, 3)))
        found.append(only("external:somebody:weighted").encoder.content)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("external:nowhere.onnx", "no such file"),
        ("external:nowhere", "not module:function"),
        ("external:nowhere:f", "No module named"),
        ("external:somebody:absent", "no attribute"),
        ("external:somebody:LIST", "is a list"),
        ("external:unwell:f", "OSError: no weights were found"),
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


# ---- pixels


def test_maps_of_a_callable_lie_on_the_image(place):
    """Each position in the middle of its pixels, and features are the mean over positions."""
    images = np.random.default_rng(0).uniform(size=(3, 12, 8, 1)).astype(np.float32)
    images[1, 6:8, 2:4] = 5.0
    features, dense = (
        answer("external:somebody:cells", images, part) for part in (encoder.features, encoder.dense_features)
    )
    np.testing.assert_allclose(features[:, 0], images.mean((1, 2, 3)), atol=1e-5)
    assert dense.shape == (3, 12, 8, 2)
    bright = dense[1, ..., 0] > 0.75 * dense[1, ..., 0].max()
    assert np.argwhere(bright).tolist() == [[6, 2], [6, 3], [7, 2], [7, 3]]


@pytest.mark.parametrize("head", ["probe", "decoder"])
def test_a_head_learns_from_maps_from_outside_as_from_the_same_maps_within(head):
    """A network of this package and a function that answers the same maps end in the same pixels."""
    cohort, asked = masks.segmented(phantoms.phantom(jax.random.key(3), n_patients=24, size=16), head=head)
    test, inside = cohorts.part(cohort, "test"), encoder.encoder(jax.random.key(5), 1, (8,))

    class Patches(nnx.Module):
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, images):
            return self.inner(images)

        def maps(self, images):
            return encoder.Maps(self.inner.layers(images), corner=False)

    def called(images):
        return np.asarray(inside.layers(images)[0])

    found = []
    for network in (Patches(inside), external.Foreign("somebody", called)):
        one = replace(design.select(["untrained"])[0], encoder=external.transferred("it", network, "it"), steps=0)
        found.append(segment.deploy(jax.random.key(1), cohort, test, one, SHIFTS, task=asked).pixels)
    assert found[0].sum() == found[1].sum() > 0
    assert (
        np.abs(found[0].astype(int) - found[1]).sum() < 0.01 * found[0].sum()
    )  # bins of scores that differ by rounding


@pytest.mark.exhaustive
def test_a_segmentation_of_hearts_by_encoders_of_every_making(cohort_folder, place, tmp_path, monkeypatch, capsys):
    """From the command line: finite Dice of each design, and the same command knows that outside weights have changed."""
    monkeypatch.setenv("RAFMODEL_DATA", str(cohort_folder))

    def weights(seed):
        exported(tmp_path / "a.onnx", seed)
        np.save(place / "weights.npy", np.random.default_rng(seed).normal(size=(2, 3)))

    def to_do(*dry):
        cli.main([*line.split(), *dry, "--designs", *designs])
        return capsys.readouterr().out

    weights(0)
    designs = ["rotation@stn", "untrained@orbit", "external:somebody:weighted_cells", f"external:{tmp_path}/a.onnx"]
    line = "study --cohort sunnybrook_cmr --task segmentation --size 32 --shifts gain --seeds 1 --steps 2 "
    line += f"--out {tmp_path / 'out'}"
    to_do()
    table = study.load(tmp_path / "out" / "study.nc")
    assert [str(name) for name in table["design"].values] == designs
    for name in ("observed_dice", "predicted_dice"):
        assert np.isfinite(table[name].sel(group="all")).all()
    clean = table["observed_dice"].sel(group="all", severity=0, seed=0, shift="gain").values
    assert (clean > table.attrs["chance"]).all()
    assert len(set(np.round(clean, 6))) == len(designs)
    assert "4 done already" in to_do("--dry-run")
    weights(1)
    assert "2 done already" in to_do("--dry-run")


# ---- an ONNX file


def exported(file: Path, seed: int = 0, **how) -> np.ndarray:
    """A convolution 3x3 to four channels and a ReLU, written to a file; its filters (4, 1, 3, 3)."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, number = onnx.helper, onnx.TensorProto.FLOAT
    filters = np.random.default_rng(seed).normal(size=(4, 1, 3, 3)).astype(np.float32)
    nodes = [
        make.make_node("Conv", ["x", "filters"], ["inner"], pads=[1, 1, 1, 1]),
        make.make_node("Relu", ["inner"], ["y"]),
    ]
    shapes = [make.make_tensor_value_info(name, number, ["n", k, "h", "w"]) for name, k in (("x", 1), ("y", 4))]
    graph = make.make_graph(nodes, "g", shapes[:1], shapes[1:], [onnx.numpy_helper.from_array(filters, "filters")])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, file, **how)
    return filters


def answer(name: str, images: np.ndarray, part=encoder.features):
    return part(design.select([name])[0].encoder.build(jax.random.key(0), (), ()), images)


def by_scipy(images: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """What the exported network answers, (n, h, w, 4)."""
    scaled = 2 * images[..., 0] - 1
    found = [[ndimage.correlate(image, one[0], mode="constant") for one in filters] for image in scaled]
    return np.maximum(np.moveaxis(np.array(found), 1, -1), 0)


@pytest.mark.parametrize("tensor", ["", "#inner"])
def test_weights_beside_an_onnx_file_are_found_from_any_folder_and_process(tmp_path, monkeypatch, tensor):
    there, images = tmp_path / "there", np.random.default_rng(1).uniform(size=(5, 6, 7, 1)).astype(np.float32)
    there.mkdir()
    monkeypatch.chdir(there)
    how = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    filters = exported(Path("a.onnx"), **how)
    one = only(f"external:a.onnx{tensor}")
    sent = cloudpickle.dumps(one)
    monkeypatch.chdir(tmp_path)
    external._session.cache_clear()
    found = cloudpickle.loads(sent).encoder.build(jax.random.key(0), (), ())
    expected = by_scipy(images, filters)
    if not tensor:
        np.testing.assert_allclose(found(images), expected.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(np.maximum(found.maps(images).layers[0], 0), expected, atol=1e-5)
    exported(there / "a.onnx", seed=1, **how)
    assert design.select([f"external:{there}/a.onnx"])[0].encoder.content != one.encoder.content.split("-")[0]


def test_a_network_of_slices_takes_volumes_slice_by_slice(tmp_path):
    filters = exported(tmp_path / "a.onnx")
    volumes = np.random.default_rng(1).uniform(size=(2, 5, 6, 7, 1)).astype(np.float32)
    expected = by_scipy(volumes.reshape(10, 6, 7, 1), filters).reshape(2, 5, 6, 7, 4)
    np.testing.assert_allclose(answer(f"external:{tmp_path}/a.onnx", volumes), expected.mean((1, 2, 3)), atol=1e-5)


@pytest.mark.parametrize("tensor", ["", "#inner"])
def test_a_broken_onnx_file_is_told_in_one_line(tmp_path, tensor, capsys):
    exported(tmp_path / "a.onnx")
    whole = (tmp_path / "a.onnx").read_bytes()
    (tmp_path / "broken.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit) as stopped:
        cli.main(["study", "--dry-run", "--designs", f"external:{tmp_path}/broken.onnx{tensor}"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "broken.onnx" in told and "no ONNX network that can be opened" in told and told.count("\n") == 1
    how = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    exported(tmp_path / "beside.onnx", **how)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"weights\.bin"):
        design.select([f"external:{tmp_path}/beside.onnx{tensor}"])


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
