"""Cohorts of noisy images with patterns in them: which one is a class, which ones are findings, how strong one is a grade."""

import numpy as np

from rafmodel.cohort import Cohort

SIDE = 16
_ROW = np.sin(2 * np.pi * np.arange(SIDE) / 4)
PATTERNS = np.stack(
    [
        np.exp(-((np.arange(SIDE)[:, None] - 8.0) ** 2 + (np.arange(SIDE) - 8.0) ** 2) / 20),  # a blob
        np.tile(_ROW[:, None], (1, SIDE)),  # stripes across
        np.tile(_ROW[None, :], (SIDE, 1)),  # stripes along
    ]
)


def patterned(strength: np.ndarray, columns: dict[str, np.ndarray], *, seed: int = 0, noise: float = 0.12) -> Cohort:
    """Images (N, 16, 16, 1) with each pattern as strong as ``strength`` (N, 3) says, none of which has a class yet.

    Two images a patient, patients 60/20/20; attribute ``site`` A or B, where B is noisier.
    """
    rng = np.random.default_rng(seed)
    n = len(strength)
    patient = np.arange(n) // 2
    site = np.where(patient % 3 == 0, "B", "A")
    spread = noise * np.where(site == "B", 1.5, 1.0)[:, None, None]
    image = 0.45 + np.einsum("np,pij->nij", strength, PATTERNS) + spread * rng.normal(size=(n, SIDE, SIDE))
    split = np.array(["train", "train", "train", "val", "test"])[patient % 5]
    return Cohort(
        np.clip(image, 0, 1).astype(np.float32)[..., None],
        np.full(n, -1, np.int8),
        np.array([f"p{i:04d}" for i in patient]),
        split,
        {"site": site, **columns},
        name="patterns",
        source="made up for tests",
        licence="none",
        contrast="none",
    )


def classes(n: int = 360, *, names: tuple[str, ...] = ("blob", "across", "along"), seed: int = 0) -> Cohort:
    """One of three patterns, or of the first two where two names are given; column ``which``."""
    which = np.random.default_rng(seed + 1).integers(0, len(names), n)
    return patterned(0.05 * np.eye(3)[which], {"which": np.array(names)[which]}, seed=seed)


def findings(n: int = 360, *, seed: int = 0) -> Cohort:
    """Patterns that come and go each on its own, the last one rarely; column ``seen``, a list."""
    there = np.random.default_rng(seed + 2).random((n, 3)) < [0.4, 0.3, 0.2]
    names = ("one", "two", "three")
    seen = ["|".join(name for name, yes in zip(names, row, strict=True) if yes) or "nothing" for row in there]
    return patterned(0.05 * there, {"seen": np.array(seen)}, seed=seed)


def grades(n: int = 360, *, seed: int = 0) -> Cohort:
    """Stripes that are the stronger the higher the grade, 0 to 3; column ``grade``."""
    grade = np.random.default_rng(seed + 3).integers(0, 4, n)
    return patterned(0.025 * grade[:, None] * np.eye(3)[1], {"grade": grade.astype(str)}, seed=seed)
