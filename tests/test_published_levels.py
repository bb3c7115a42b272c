"""Published corruptions by name and level: all are covered, doses grow, oddities are reported and not copied."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rafmodel.errors import InputError
from rafmodel.variability import published
from rafmodel.variability.law import alter

TABLE = json.loads((Path(published.__file__).parent / "medmnistc.json").read_text())


def test_the_table_is_the_reference(cohort_folder):
    reference = cohort_folder.parent / "reference" / "medmnistc_severities.json"
    if not reference.exists():
        pytest.skip("no reference figures beside the cohorts")
    assert json.loads(reference.read_text()) == TABLE


def test_every_corruption_of_every_data_set_has_an_equivalent():
    assert {name for table in TABLE.values() for name in table} == set(published.EQUIVALENT)
    assert len(published.EQUIVALENT) == 21
    assert len(TABLE) == 12
    for dataset, table in TABLE.items():
        for corruption in table:
            law, dose = published.doses(corruption, dataset)
            assert dose.shape == (5,)
            assert (dose > 0).all(), (dataset, corruption)
            assert dose.max() < 6 * law.levels[4], (dataset, corruption)


def test_known_values():
    assert published.doses("gaussian_noise", "dermamnist")[1].tolist() == TABLE["dermamnist"]["gaussian_noise"]
    np.testing.assert_allclose(published.doses("jpeg_compression", "pathmnist")[1], [1, 50 / 30, 50 / 15, 5, 50 / 7])
    np.testing.assert_allclose(np.exp(published.doses("contrast_up", "pathmnist")[1]), [1.1, 1.2, 1.3, 1.4, 1.6])
    np.testing.assert_allclose(published.doses("zoom_blur", "dermamnist")[1], [0.1, 0.15, 0.19, 0.24, 0.28], atol=1e-9)
    wide = published._motion([400, 10])  # nothing is cut: the variance of a half normal, but for whole steps
    assert wide * published.SIDE == pytest.approx((12 * 100 * (1 - 2 / np.pi)) ** 0.5, rel=0.03)


def test_pixels_of_a_published_size():
    """Half the side, as Pillow's box filter does it."""
    law, dose = published.doses("pixelate", "bloodmnist")
    level = TABLE["bloodmnist"]["pixelate"].index(0.5)
    picture = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    theirs = Image.fromarray(picture).resize((16, 16), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    image = jnp.asarray(picture[None, ..., None] / 255, jnp.float32)
    ours = alter(jax.random.key(0), law, image, jnp.asarray([dose[level]], jnp.float32))[0, 0, ..., 0]
    np.testing.assert_allclose(ours, np.asarray(theirs) / 255, atol=1.1 / 255)


def test_levels_never_fall_with_the_dose():
    for dataset, table in TABLE.items():
        for corruption in table:
            _, dose = published.doses(corruption, dataset)
            ladder = np.linspace(0, 1.2 * dose.max(), 40)
            level = [published.equivalent_level(corruption, dataset, severity) for severity in ladder]
            assert level[0] == 0
            assert (np.diff(level) >= 0).all()
            assert level[-1] == pytest.approx(5, abs=1)  # equal doses share a mean level
    _, dose = published.doses("speckle_noise", "octmnist")
    for number, severity in enumerate(dose, 1):
        assert published.equivalent_level("speckle_noise", "octmnist", severity) == pytest.approx(number)


def test_tables_out_of_order_are_found():
    found = {(dataset, corruption) for dataset, corruption, _ in published.out_of_order()}
    assert ("dermamnist", "black_corner") in found
    assert ("bloodmnist", "stain_deposit") in found
    assert len(found) < 8


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="not in MedMNIST-C"):
        published.doses("pixelate", "xmnist")
    with pytest.raises(InputError, match="no 'bubble' on octmnist"):
        published.doses("bubble", "octmnist")
