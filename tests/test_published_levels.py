"""Published corruptions by name and level: all are covered, doses grow, oddities are reported and not copied."""

import csv
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from rafmodel.errors import InputError
from rafmodel.variability import published
from rafmodel.variability.geometry import ELASTIC
from rafmodel.variability.law import alter, grid

TABLE = json.loads((Path(published.__file__).parent / "medmnistc.json").read_text())
EVERY = [(name, corruption) for name, each in published.benchmarks().items() for corruption in each.levels]


def unordered(dataset, corruption):
    """Steps, counted from 1, at which the dose does not grow."""
    return [step for step, more in enumerate(np.diff(published.doses(corruption, dataset)[1]), 1) if more <= 0]


def test_the_table_is_the_reference(cohort_folder):
    reference = cohort_folder.parent / "reference" / "medmnistc_severities.json"
    if not reference.exists():
        pytest.skip("no reference figures beside the cohorts")
    assert json.loads(reference.read_text()) == TABLE


def test_every_corruption_of_every_data_set_has_an_equivalent():
    assert len({corruption for table in TABLE.values() for corruption in table}) == 21
    assert len(TABLE) == 12
    known = published.benchmarks()
    assert set(known) == {*TABLE, "cifar10c", "imagenetc"}
    assert [len(known[name].levels) for name in ("cifar10c", "imagenetc")] == [15, 15]  # of 19, four of them weather
    for dataset, corruption in EVERY:
        law, dose = published.doses(corruption, dataset)
        assert dose.shape == (5,)
        assert (dose > 0).all(), (dataset, corruption)
        assert dose.max() < 6 * law.levels[4], (dataset, corruption)


def test_known_values():
    assert published.doses("gaussian_noise", "dermamnist")[1].tolist() == TABLE["dermamnist"]["gaussian_noise"]
    np.testing.assert_allclose(published.doses("jpeg_compression", "pathmnist")[1], [1, 50 / 30, 50 / 15, 5, 50 / 7])
    np.testing.assert_allclose(np.exp(published.doses("contrast_up", "pathmnist")[1]), [1.1, 1.2, 1.3, 1.4, 1.6])
    zoomed = [0.11, 0.15, 0.2, 0.24, 0.3]  # as numpy rounds: the first range holds its stop
    for dataset in ("dermamnist", "imagenetc"):
        np.testing.assert_allclose(published.doses("zoom_blur", dataset)[1], zoomed, atol=1e-9)
    wide = published._motion([400, 10], 224)  # nothing is cut: the variance of a half normal, but for whole steps
    assert wide * 224 == pytest.approx((12 * 100 * (1 - 2 / np.pi)) ** 0.5, rel=0.03)
    short = published._motion([1, 400], 32)  # as good as even: three pixels
    assert short * 32 == pytest.approx(8**0.5, rel=1e-4)
    np.testing.assert_allclose(published.doses("shot_noise", "cifar10c")[1] ** -2, [500, 250, 100, 75, 50])
    np.testing.assert_allclose(np.exp(-published.doses("contrast", "imagenetc")[1]), [0.4, 0.3, 0.2, 0.1, 0.05])
    np.testing.assert_allclose(published.doses("gaussian_blur", "cifar10c")[1], np.array([0.4, 0.6, 0.7, 0.8, 1]) / 32)
    np.testing.assert_allclose(published.doses("pixelate", "cifar10c")[1] + 1, 32 / np.array([30, 28, 27, 24, 20]))


def test_a_defocus_is_as_wide_as_the_kernel_that_is_used():
    """A disc of many pixels is a disc; one of a single pixel is what smoothing makes of it; a plus of five by hand."""
    assert published._defocus([60, 0.1], 224) * 224 == pytest.approx(60, rel=0.01)
    pixel = np.zeros(9)
    pixel[4] = 1
    smooth = ndimage.gaussian_filter1d(pixel, 0.4, radius=1)
    assert published._defocus([0.3, 0.4], 32) * 32 == pytest.approx(2 * (smooth @ (np.arange(9) - 4) ** 2) ** 0.5)
    assert published._defocus([1, 0.01], 32) * 32 == pytest.approx(2 * 0.4**0.5)


def test_elastic_images_are_as_steep_as_the_published_ones():
    """Displacements drawn as the benchmark draws them, and by our law at the equivalent severity: the same mean square slope."""
    rng = np.random.default_rng(0)
    for dataset, side, level in (("cifar10c", 32, 1), ("cifar10c", 32, 4), ("imagenetc", 224, 2)):
        amplitude, width, corner = published.benchmarks()[dataset].levels["elastic_transform"][level - 1]
        half = side // 3
        corners = np.array([[half, half, 1], [half, -half, 1], [-half, -half, 1]])
        theirs = []
        for _ in range(200 if side == 32 else 15):
            affine = np.linalg.solve(corners, rng.uniform(-corner, corner, (3, 2)))
            white = rng.uniform(-1, 1, (2, side, side))
            field = [amplitude * ndimage.gaussian_filter(one, width, truncate=3) if width else 0 * one for one in white]
            for axis in (0, 1):
                steeper = np.diff(np.stack(field, -1), axis=axis) + affine[axis]
                theirs.append((steeper**2).mean())
        severity = published.doses("elastic_transform", dataset)[1][level - 1]
        place = grid(jnp.zeros((64, 64, 1)))

        def slope2(key, severity=severity, place=place):
            moved = ELASTIC.warp(ELASTIC.draw(key, (64, 64, 1)), place, severity) - place
            return jnp.mean(jnp.diff(32 * moved, axis=2) ** 2)  # in pixels

        ours = np.asarray(jax.vmap(slope2)(jax.random.split(jax.random.key(1), 400)))
        error = np.hypot(np.std(ours) / len(ours) ** 0.5, np.std(theirs) / len(theirs) ** 0.5)
        assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=4 * error + 0.02 * np.mean(theirs)), (dataset, level)


def test_glass_scatters_as_far_as_the_published_exchanges():
    """Places written into an image that is then stirred as the benchmark says."""
    rng, side = np.random.default_rng(3), 64
    for reach, sweeps in ((1, 1), (1, 2), (3, 2)):
        image = np.moveaxis(np.indices((side, side)), 0, -1).copy()
        for _ in range(sweeps):
            for h in range(side - reach, reach, -1):
                for w in range(side - reach, reach, -1):
                    dx, dy = rng.integers(-reach, reach, 2)
                    image[[h, h + dy], [w, w + dx]] = image[[h + dy, h], [w + dx, w]]
        moved = (image - np.moveaxis(np.indices((side, side)), 0, -1))[9:-9, 9:-9]
        assert published._scattered(reach, sweeps) == pytest.approx((moved**2).mean() ** 0.5, rel=0.08)
    glass = published.doses("glass_blur", "cifar10c")[1]
    assert glass[0] == glass[2] < glass[3] == glass[4]


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
    for dataset, corruption in EVERY:
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
    assert found == {
        ("dermamnist", "black_corner"),
        ("bloodmnist", "stain_deposit"),
        ("cifar10c", "glass_blur"),
        ("cifar10c", "saturate"),
        ("cifar10c", "elastic_transform"),
        ("imagenetc", "saturate"),
        ("imagenetc", "elastic_transform"),
    }
    assert unordered("cifar10c", "elastic_transform") == [1]
    assert unordered("imagenetc", "elastic_transform") == [2]
    assert unordered("cifar10c", "glass_blur") == [1, 2, 4]
    assert unordered("cifar10c", "saturate") == unordered("imagenetc", "saturate") == [2]


def test_errors_fall_where_the_dose_does_not_grow_and_nowhere_else(cohort_folder):
    """Median error of 23 published models on CIFAR-10-C, from level to level."""
    file = cohort_folder.parent / "reference" / "robustbench_cifar10.csv"
    if not file.exists():
        pytest.skip("no reference figures beside the cohorts")
    names, levels, *rows = csv.reader(file.read_text().splitlines())
    accuracy = np.array([row[1:] for row in rows], float)
    assert accuracy.shape == (23, 75)
    columns = {(name, int(level)): i for i, (name, level) in enumerate(zip(names[1:], levels[1:], strict=True))}
    falls = {}
    for corruption in {name for name, _ in columns}:
        error = 1 - np.median(accuracy[:, [columns[corruption, level] for level in range(1, 6)]], 0)
        falls[corruption] = [step for step, more in enumerate(np.diff(error), 1) if more < 0]
    assert {corruption: steps for corruption, steps in falls.items() if steps} == {
        "glass_blur": [1, 2, 4],
        "elastic_transform": [1],
    }
    mapped = set(falls) - set(published.WEATHER)
    assert len(mapped) == 12
    assert {corruption: unordered("cifar10c", corruption) for corruption in mapped} == {c: falls[c] for c in mapped}


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="'xmnist' is in no published benchmark; choose from pathmnist"):
        published.doses("pixelate", "xmnist")
    with pytest.raises(InputError, match="MedMNIST-C on octmnist: no 'bubble'; choose from pixelate"):
        published.doses("bubble", "octmnist")
    with pytest.raises(InputError, match="CIFAR-10-C on cifar10c: 'snow' is weather"):
        published.doses("snow", "cifar10c")
