"""Images per second of contrastive training beside PyTorch: one network, one augmentation, one machine, in one run.

    nox -s training_peers            or, where PyTorch and lightly are installed:    python benchmarks/training_against_pytorch.py

Four convolutions 3x3 with stride 2 (32, 64, 128, 128 channels), a hidden layer and a projection, InfoNCE on two views, each a
random crop brought back to size with white noise added, drawn where the network runs; Adam on clipped gradients.  PyTorch is run
eagerly, eagerly with channels last, the same with the loss of the library lightly, compiled with channels last, and eagerly in
bfloat16.  Rounds of all of them follow one another, so that what else the machine does touches all alike; medians over rounds.
Two views of an image count as one image.

Where JAX finds a GPU both work there.  PyTorch may then round products to TF32, as JAX does by default, and try which of its
convolutions is fastest.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from rafmodel import design, pretrain
from rafmodel.console import set_up_jax

WIDTHS = (32, 64, 128, 128)
CROP, NOISE = 0.4, 0.3


@dataclass(frozen=True)
class Options:
    """How much is timed."""

    side: int = 64
    """pixels a side"""
    batch: int = 256
    """images a step"""
    rounds: int = 7
    """times each of them is timed"""
    steps: int = 25
    """steps in a round"""
    threads: int = 2
    """threads PyTorch may use"""
    compiled: bool = True
    """torch.compile too, which needs a C++ compiler"""
    lightly: bool = True
    """the loss of lightly too, which must be installed"""
    half: bool = True
    """bfloat16 too, which takes minutes a round on a processor without instructions for it"""


def main(options: Options) -> None:
    """Print images per second and the ratio to PyTorch's fastest in float32."""
    images = np.random.default_rng(0).random((1024, options.side, options.side, 1), np.float32)
    runs = {"rafmodel": in_jax(options, images, "float32"), "rafmodel, bfloat16": in_jax(options, images, "bfloat16")}
    runs |= in_torch(options, images)
    runs = {name: run for name, run in runs.items() if options.half or "bfloat16" not in name}
    for run in runs.values():
        run()  # compiles
    seconds = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    rate = {name: options.steps * options.batch / float(np.median(s)) for name, s in seconds.items()}
    best = max(v for name, v in rate.items() if name.startswith("PyTorch") and "bfloat16" not in name)
    print(f"{'':38s}{'images/s':>10s}{'to best float32 PyTorch':>26s}")
    for name, v in rate.items():
        print(f"{name:38s}{v:10.0f}{v / best:26.2f}")


def in_jax(options: Options, images: np.ndarray, precision: str) -> Callable[[], None]:
    """One round of the package's own training."""
    one = replace(
        design.select(["contrastive+noise"])[0],
        widths=WIDTHS,
        batch=options.batch,
        steps=options.steps,
        precision=precision,
    )
    label = jnp.zeros(len(images), jnp.int32)
    held = jnp.asarray(images)

    def run() -> None:
        learner = pretrain.Learner(jax.random.key(0), one, images.shape[1:])
        after = pretrain.train_on(jax.random.key(1), learner, held, label, one)
        jax.block_until_ready(after.encoder.weights[0][...])

    return run


def in_torch(options: Options, images: np.ndarray) -> dict[str, Callable[[], None]]:
    """One round of the same in each of PyTorch's ways."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(options.threads)
    accelerated = jax.default_backend() == "gpu"
    device = "cuda" if accelerated else "cpu"
    torch.set_default_device(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    held = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device)
    outputs = design.select(["contrastive+noise"])[0].proxy.outputs(images.shape[1:])

    def network() -> nn.Module:
        layers = []
        for before, after in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
        last = WIDTHS[-1]
        head = [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, 2 * last),
            nn.ReLU(),
            nn.Linear(2 * last, outputs),
        ]
        return nn.Sequential(*layers, *head)

    def view(x):
        n = len(x)
        kept = 1 - CROP * torch.rand(n, 1, 1)
        move = (2 * torch.rand(n, 2, 1) - 1) * (1 - kept)
        theta = torch.cat([kept * torch.eye(2), move], 2)
        crop = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
        return (crop + NOISE * torch.rand(n, 1, 1, 1) * torch.randn_like(crop)).clamp(0, 1)

    def info_nce(one, two):
        z = torch.cat([one, two])
        alike = z @ z.T / 0.2
        alike = alike - 1e9 * torch.eye(len(z))
        return F.cross_entropy(alike, torch.arange(len(z)).roll(len(one)))

    def step(net, optimiser, x, last, half, loss):
        both = (torch.cat([view(x), view(x)]) - 0.5) / 0.25
        both = both.contiguous(memory_format=torch.channels_last) if last else both
        with torch.autocast(device, torch.bfloat16, enabled=half):
            z = net(both)
        value = loss(*F.normalize(z.float(), dim=1).chunk(2))
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()

    def way(last: bool, compiled: bool, half: bool, loss=info_nce) -> Callable[[], None]:
        net = network()
        net = net.to(memory_format=torch.channels_last) if last else net
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        forward = torch.compile(net) if compiled else net

        def run() -> None:
            for _ in range(options.steps):
                step(forward, optimiser, held[torch.randint(len(held), (options.batch,))], last, half, loss)
            if accelerated:
                torch.cuda.synchronize()

        return run

    ways = {
        "PyTorch, eager": way(False, False, False),
        "PyTorch, channels last": way(True, False, False),
        "PyTorch, channels last, bfloat16": way(True, False, True),
    }
    if options.compiled:
        ways["PyTorch, channels last, compiled"] = way(True, True, False)
    if options.lightly:
        from lightly.loss import NTXentLoss

        ways["PyTorch, channels last, lightly's loss"] = way(True, False, False, NTXentLoss(temperature=0.2))
    return ways


if __name__ == "__main__":
    set_up_jax()
    main(tyro.cli(Options))
