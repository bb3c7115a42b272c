"""A batch divided among devices trains what one device trains; half precision changes little."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from rafmodel import cohort, design, encoder, pretrain
from rafmodel.phantoms import phantom

IMAGES = phantom(jax.random.key(0), n_patients=60)
ONE = replace(design.select(["contrastive+crop"])[0], steps=12, batch=32, widths=(4, 8), learning_rate=1e-3)
SCRIPT = """
import json, sys
import jax, numpy as np
from flax import nnx
sys.path.insert(0, "tests")
from test_training_on_several_devices import IMAGES, ONE
from rafmodel import pretrain
where = pretrain.over_devices(ONE.batch)
network = pretrain.pretrain(jax.random.key(3), IMAGES, ONE)
weights = jax.tree.leaves(nnx.state(network))
print(json.dumps({
    "parts": None if where is None else where.num_devices,
    "held_by": max(len(w.sharding.device_set) for w in weights),
    "uneven": pretrain.over_devices(ONE.batch + 1) is None,
    "weights": [np.asarray(w).ravel().tolist() for w in weights],
}))
"""


def test_eight_devices_train_what_one_does():
    """Every image is drawn by its own key and InfoNCE compares the whole batch, so only rounding may differ."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["parts"], told["held_by"], told["uneven"]) == (8, 8, True)
    alone = jax.tree.leaves(nnx.state(pretrain.pretrain(jax.random.key(3), IMAGES, ONE)))
    start = jax.tree.leaves(nnx.state(pretrain.pretrain(jax.random.key(3), IMAGES, replace(ONE, steps=0))))
    for seen, here, before in zip(told["weights"], alone, start, strict=True):
        moved = np.abs(np.asarray(here) - np.asarray(before)).max()
        assert moved > 1e-3
        assert np.abs(np.array(seen) - np.asarray(here).ravel()).max() < 0.05 * moved


def test_one_device_divides_nothing():
    assert pretrain.over_devices(32) is None


@pytest.mark.parametrize("name", ["supervised", "byol+crop", "cpc"])
def test_half_precision_trains_nearly_the_same(name):
    """Weights stay single, and move where they would; but not exactly there, or nothing was rounded."""
    one = replace(design.select([name])[0], steps=6, batch=16, widths=(4, 8), learning_rate=1e-3)
    images = cohort.pixels(IMAGES)[:64]
    found = {}
    for precision in ("float32", "bfloat16"):
        network = pretrain.pretrain(jax.random.key(1), IMAGES, replace(one, precision=precision))
        assert {w.dtype for w in jax.tree.leaves(nnx.state(network))} == {np.dtype(np.float32)}
        found[precision] = encoder.features(network, images)
    before = encoder.features(pretrain.pretrain(jax.random.key(1), IMAGES, replace(one, steps=0)), images)
    moved = np.abs(found["float32"] - before).max()
    apart = np.abs(found["bfloat16"] - found["float32"]).max()
    assert 0 < apart < 0.5 * moved
