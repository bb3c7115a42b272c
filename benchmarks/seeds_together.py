"""Do several seeds trained together, as a study does, make as many images a second as one alone?

    python benchmarks/seeds_together.py

A study trains ``running.AT_ONCE`` cells in as many threads; seeds of a design share one compiled program.  Images a second of
all of them, beside those of one after the other, in turns; medians over rounds.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import jax
import numpy as np
import tyro

from rafmodel import design, pretrain, running
from rafmodel.console import set_up_jax


@dataclass(frozen=True)
class Options:
    """How much is timed."""

    rounds: int = 5
    """times each of them is timed"""
    seconds: float = 2.0
    """about how long a seed is trained"""


def main(options: Options) -> None:
    """Print a line for each size of images."""
    print(f"{'':34s}{'one by one':>12s}{f'{running.AT_ONCE} at a time':>14s}{'ratio':>8s}   images a second")
    for side, batch, widths in ((28, 128, (16, 32, 64)), (64, 256, (32, 64, 128, 128))):
        one = replace(design.select(["contrastive+noise"])[0], batch=batch, widths=widths, steps=pretrain.SCAN)
        images = np.random.default_rng(0).random((1024, side, side, 1), np.float32)

        def trained(seed: int, one=one, images=images) -> None:
            learner = pretrain.Learner(jax.random.key(seed), one, images.shape[1:])
            after = pretrain.train_on(jax.random.key(seed), learner, images, np.zeros(len(images), int), one)
            jax.block_until_ready(after.encoder.weights[0][...])

        trained(0)  # compiles
        start = time.perf_counter()
        trained(0)
        each = max(1, round(options.seconds / (time.perf_counter() - start)))
        many = range(running.AT_ONCE * each)
        seconds = {"alone": [], "together": []}
        with ThreadPoolExecutor(running.AT_ONCE) as pool:
            for _ in range(options.rounds):
                for name, run in (("alone", map), ("together", pool.map)):
                    start = time.perf_counter()
                    list(run(trained, many))
                    seconds[name].append(time.perf_counter() - start)
        alone, together = (len(many) * one.steps * batch / np.median(s) for s in seconds.values())
        print(
            f"{f'{side} pixels, batch {batch}, {widths}':34s}{alone:12,.0f}{together:14,.0f}{together / alone:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    set_up_jax()
    main(tyro.cli(Options, description=__doc__))
