"""A dry run counts the cells, those that are done, and estimates time, memory and disk; nothing is trained or written."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from rafmodel import cli, cost, design, masks, predict, running, simulate, task, variability
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=60, size=16)


def plan(*names, seeds=2, steps=100):
    return running.Plan(IMAGES, None, design.select(names, steps=steps), (variability.GAIN,), seeds)


def test_cells_are_counted_and_nothing_is_run(tmp_path, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("a dry run computes nothing")

    for module, name in ((simulate, "deploy"), (predict, "survey"), (running, "simulated")):
        monkeypatch.setattr(module, name, never)
    columns = {"labels": IMAGES.label, "split": IMAGES.split, "patient": IMAGES.patient}
    np.savez(tmp_path / "c.npz", images=IMAGES.image[..., 0], **columns)
    monkeypatch.chdir(tmp_path)
    line = [
        "study",
        "--cohort",
        "c.npz",
        "--designs",
        "untrained[n_labelled=8|16]",
        "jigsaw",
        "--shifts",
        "gain",
        "--dry-run",
    ]
    cli.main(line)
    told = capsys.readouterr().out
    assert "cells    6 (3 designs, 2 seeds), 0 done already" in told
    assert "jigsaw: 400 steps of 128" in told
    assert "untrained[n_labelled=8]: 0 steps of 128, 8 labels" in told
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_cells_that_are_done_cost_nothing(tmp_path):
    asked = plan("untrained", "jigsaw")
    places = running.cells(asked, tmp_path)
    for place in list(places.values())[:2]:
        place.touch()
    missing = [cell for cell, place in places.items() if not place.exists()]
    whole, rest, none = (cost.estimate(asked, cells, "threads", 2) for cells in (list(places), missing, []))
    assert whole.core_seconds > rest.core_seconds > none.core_seconds
    assert whole.memory == none.memory
    assert whole.worker == 0 < cost.estimate(asked, missing, "local:2", 2).worker < whole.memory
    assert "4 (2 designs, 2 seeds), 2 done already" in cost.told(asked, places, rest, "threads")


def test_time_grows_with_steps_images_and_shifts_and_shrinks_with_cores():
    one = plan("contrastive+crop")
    [base] = one.designs
    seconds = cost.core_seconds(one, base)
    for change in ({"steps": 200}, {"batch": 256}, {"probe": "finetuned"}):
        assert cost.core_seconds(one, replace(base, **change)) > seconds
    assert cost.core_seconds(replace(one, shifts=variability.VARIABILITIES), base) > seconds
    steps = [cost.core_seconds(one, replace(base, steps=n)) for n in (0, 100, 200)]
    assert steps[2] - steps[1] == pytest.approx(steps[1] - steps[0])  # in proportion
    four, eight = (cost.estimate(one, [(0, s) for s in range(20)], "threads", n).seconds for n in (4, 8))
    assert eight < four


def test_a_segmentation_counts_patches_tiles_and_the_head(tmp_path):
    images = replace(IMAGES, mask=(IMAGES.image[..., 0] > 0.5).astype(np.uint8))

    def asked(**choices):
        cohort, chosen = masks.segmented(images, **choices)
        return replace(plan("contrastive+crop", steps=1), cohort=cohort, task=task.segmentation(chosen, cohort))

    whole, halves = asked(), asked(patch=8)
    [one] = whole.designs
    still = replace(one, steps=0)
    trained = [cost.core_seconds(p, one) - cost.core_seconds(p, still) for p in (whole, halves)]
    assert 2.5 < trained[0] / trained[1] < 5  # a quarter of the pixels
    scored = (int((images.split == "test").sum()) + simulate.UNSEEN) * 5
    passes = [cost.core_seconds(p, still) - 256 * scored / cost.ALTERED for p in (whole, halves)]
    assert passes[1] / passes[0] == pytest.approx(
        9 * cost.operations(one, (8, 8, 1)) / cost.operations(one, (16, 16, 1))
    )
    seconds = [cost.core_seconds(asked(head=head), still) for head in masks.HEADS]
    assert seconds == sorted(seconds)
    assert len(set(seconds)) == 3
    told = cost.told(whole, running.cells(whole, tmp_path), cost.estimate(whole, [], "threads", 2), "threads")
    n = int((images.split == "train").sum())
    assert f"contrastive+crop: 1 steps of 128, {min(one.n_labelled, n)} labelled images" in told


def test_operations_of_the_plain_encoder_are_those_of_its_products():
    """Three strided layers of 3x3 filters: multiply and add for each of positions, entries inside the image and channels."""
    inside = [3 * side - 1 for side in (8, 4, 2)]  # along an axis; the first position's filter begins one pixel outside
    channels = [(1, 16), (16, 32), (32, 64)]
    by_hand = 2 * sum(n**2 * a * b for n, (a, b) in zip(inside, channels, strict=True))
    found = cost.operations(design.select(["untrained"])[0], (16, 16, 1))
    assert found == pytest.approx(by_hand, rel=0.05)  # offsets, ReLU and means are the rest


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.14, "3.1 seconds"), (119, "120 seconds"), (330, "5.5 minutes"), (1e6, "12 days")]
)
def test_durations_in_words(seconds, words):
    assert cost.duration(seconds) == words
