"""Labels of images of one patient are worth fewer independent ones, as analysis of variance and Kish's design effect say."""

import jax.numpy as jnp
import numpy as np
import pytest

from rafmodel import charts, metrics, theory

SHARED, OWN = 0.6, 0.4  # variance between patients, and between images of one


def clustered(rng, patients: int, images: int, *, dimension: int = 20, gap: float = 0.0):
    """Features, label and patient; of each class as many patients, of each patient as many images."""
    label = np.repeat([0, 1], patients)
    centre = np.sqrt(SHARED) * rng.normal(size=(2 * patients, dimension)) + gap * label[:, None]
    x = np.repeat(centre, images, 0) + np.sqrt(OWN) * rng.normal(size=(2 * patients * images, dimension))
    return x, np.repeat(label, images), np.repeat(np.arange(2 * patients), images)


def test_correlation_is_the_share_of_variance_between_patients():
    found = charts.alike(*clustered(np.random.default_rng(0), 400, 5), 2)
    se = np.sqrt(2 / (400 * 20))  # of a variance of so many patients and features, and of its share no more
    np.testing.assert_allclose(found.correlation, SHARED, atol=4 * se)
    np.testing.assert_allclose((found.size, found.n), ((5, 5), (2000, 2000)))


def test_unequal_patients_have_the_same_correlation():
    x, label, patient = clustered(np.random.default_rng(1), 800, 6)
    kept = np.arange(len(x)) % 6 < 1 + patient % 6  # one to six images
    found = charts.alike(x[kept], label[kept], patient[kept], 2)
    np.testing.assert_allclose(found.correlation, SHARED, atol=4 * np.sqrt(2 / (600 * 20)))
    sizes = np.bincount(patient[kept & (label == 0)])
    np.testing.assert_allclose(found.size[0], (sizes**2).sum() / sizes.sum())


def test_copies_are_worth_one_and_strangers_all():
    rng = np.random.default_rng(2)
    x, label, patient = clustered(rng, 50, 1)
    assert charts.alike(x, label, patient, 2).worth((50, 50)) == 1
    copies = charts.alike(*(np.repeat(v, 4, 0) for v in (x, label, patient)), 2)
    np.testing.assert_allclose(copies.worth((200, 200)), 1 / 4)
    np.testing.assert_allclose(
        copies.worth((100, 100)), 1 / 2.5
    )  # half of them labelled: 1.5 others of a patient on average
    alone = charts.alike(x[label == 0], label[label == 0], np.zeros(50), 2)  # one patient, and no case
    assert alone.correlation.tolist() == [1, 0] and charts.APART.worth((30, 30)) == 1


@pytest.mark.parametrize("images", [1, 6])
def test_a_probe_learns_as_from_so_many_independent_labels(images):
    """Ridge probes on 20 patients a class, simulated, against the law for as many labels as these are worth."""
    rng, gap, ridge, patients = np.random.default_rng(3), 0.25, 0.3, 20
    areas = []
    for _ in range(400):
        x, label, _ = clustered(rng, patients, images, gap=gap)
        centre = (x[label == 0].mean(0) + x[label == 1].mean(0)) / 2
        z, y = x - centre, 2.0 * label - 1
        weight = np.linalg.solve(z.T @ z / len(z) + ridge * np.eye(20), z.T @ y / len(z))
        new, their, _ = clustered(rng, 200, 1, gap=gap)
        areas.append(metrics.auc(new @ weight, their))
    moments = theory.Moments(jnp.stack([jnp.zeros(20), jnp.full(20, gap)]), jnp.stack([jnp.eye(20)] * 2), jnp.ones(2))

    def foreseen(n: float) -> float:
        return float(theory.deploy(theory.probe(moments, n, flip=0.0, ridge=ridge), moments)[0])

    n = 2 * patients * images
    whole = charts.alike(*clustered(rng, 400, images, gap=gap), 2)._replace(n=np.full(2, n / 2))
    told, se = foreseen(n * whole.worth((n / 2, n / 2))), np.std(areas) / np.sqrt(len(areas))
    assert abs(told - np.mean(areas)) < 4 * se + 0.01  # Kish's number is that of a mean, and not quite that of a ridge
    if images > 1:
        assert foreseen(n) > np.mean(areas) + 0.03  # images of a patient are not so many patients
