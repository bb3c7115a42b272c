"""Images a second of each variability against the libraries that share the operation, all in one run.

    nox -s peers                      (makes the environment, and passes options on: nox -s peers -- --rounds 9)
    python benchmarks/variability_against_peers.py [--operations affine blur] [--peers kornia]

512 images of 128 x 128 and 16 volumes of 64 x 64 x 64, one channel, float32.  Ours takes the whole batch and draws anew for each
image, and so does kornia; the others take one image after the other.  Libraries take turns, round by round, in which they work
again and again, so that whatever else the machine does falls on all of them; the best round of each counts.  What is compiled is
compiled before.  ``--once``: each works once a turn, when the others have filled the caches.

Two tables: by the clock, and by the time that the cores worked, which says the same on a machine that is busy with other
things.  A library that takes single images runs on one core here and its rate is doubled, as if two workers had no overhead;
slow ones see the first images of the batch only.  MedMNIST-C takes and gives 8 bits, three channels for some operations, so it is
compared to ours on the same pictures (column 8 bit), and the others to ours on float32.  A dash:
the library has no such operation, or it does not run with the versions that are installed, which is then said below.  The last
column is the memory that altering the batch takes: input, output and what lies between, as the compiler states it, in batches.

Below each pair of tables stands how many a second are copied: what writing a batch anew takes, whatever is done to it.

Memory of a batch is used again, as in our commands, for all libraries alike (``--fresh`` leaves it to the C library).

Where JAX finds a GPU, ours and kornia's work there, and the others, which have no such way, can be left out: ``--peers kornia``.
"""

import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any
from unittest.mock import MagicMock

import jax
import numpy as np
import tyro

from rafmodel.console import reuse_memory
from rafmodel.variability import CATALOGUE, alter

Work = Callable[[], Any]
CORES = 2
COLOURED = (
    "defocus",
    "motion blur",
    "zoom blur",
    "bubble",
    "characters",
    "stain deposit",
)  # of MedMNIST-C, which wants three channels
REFERENCES = ("torchio", "monai", "medmnistc")  # those that the fastest is taken of
PEERS = (*REFERENCES, "kornia", "opencv", "albumentations")

# operation: our law that does the same
PLANE = {
    "affine": "rotation", "flip": "flip", "elastic": "elastic", "crop": "crop", "blur": "blur", "defocus": "defocus",
    "motion blur": "motion_blur", "zoom blur": "zoom_blur", "coarse": "down_sampling", "anisotropy": "anisotropy",
    "pixelate": "pixelate", "jpeg": "jpeg", "noise": "noise", "rician": "rician", "shot": "shot", "speckle": "speckle",
    "impulse": "impulse", "bias field": "bias", "gamma": "gamma", "gain": "gain", "contrast": "contrast_down",
    "inversion": "inversion", "spike": "spike", "ghosting": "ghosting", "motion": "patient_motion", "gibbs": "gibbs",
    "occlusion": "occlusion", "black corner": "black_corner", "bubble": "bubble", "characters": "characters",
    "stain deposit": "stain_deposit",
}  # fmt: skip
SPACE = {
    "affine": "rotation", "flip": "flip", "elastic": "elastic", "blur": "blur", "anisotropy": "anisotropy",
    "coarse": "down_sampling", "noise": "noise", "rician": "rician", "bias field": "bias", "gamma": "gamma",
    "gain": "gain", "spike": "spike", "ghosting": "ghosting", "motion": "patient_motion", "gibbs": "gibbs",
    "occlusion": "occlusion",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What is measured, and how often."""

    images: int = 512
    """images of 128 x 128; 0 leaves them out"""
    volumes: int = 16
    """volumes of 64 x 64 x 64; 0 leaves them out"""
    rounds: int = 7
    """turns that each library takes"""
    seconds: float = 0.25
    """for which each works in a turn, again and again, at least once"""
    once: bool = False
    """each batch is altered once a turn, when others' work has filled the caches"""
    operations: tuple[str, ...] = ()
    """only these"""
    peers: tuple[str, ...] = PEERS
    """only these"""
    fresh: bool = False
    """leave memory to the C library's defaults, by which every batch of 32 MB is written to new pages"""

    @property
    def repeating(self) -> float:
        """Seconds for which a contender repeats its work."""
        return 0 if self.once else self.seconds


@dataclass
class Contender:
    """A library's way to do an operation: ``work`` on ``count`` images, alone on one core or not; its best times."""

    work: Work
    count: int
    alone: bool
    seconds: float = 0
    clock: float = np.inf
    core: float = np.inf

    def take_turn(self) -> None:
        """Work for ``seconds``, at least once, and keep the time that it takes once if it is less."""
        clock, core, times = time.perf_counter(), time.process_time(), 0
        while times == 0 or time.perf_counter() - clock < self.seconds:
            self.work()
            times += 1
        self.clock = min(self.clock, (time.perf_counter() - clock) / times)
        self.core = min(self.core, (time.process_time() - core) / times)

    def rate(self, by_core: bool) -> float:
        """Images a second on both cores."""
        if by_core:
            return CORES * self.count / self.core
        return self.count / self.clock * (CORES if self.alone else 1)


# ---- ours


def ours(law_name: str, images: np.ndarray) -> Work:
    """Every image once, at the third level, with the next of some keys."""
    keys = cycle([jax.random.key(seed) for seed in range(8)])
    law, batch = CATALOGUE[law_name], jax.numpy.asarray(images)
    level = jax.numpy.asarray(law.levels[2:3], "float32")
    return lambda: alter(next(keys), law, batch, level).block_until_ready()


def memory(law_name: str, batch: np.ndarray) -> float:
    """Input, output and temporary memory of altering a batch, in batches."""
    law, level = CATALOGUE[law_name], jax.ShapeDtypeStruct((1,), "float32")
    images = jax.ShapeDtypeStruct(batch.shape, batch.dtype)
    needed = alter.lower(jax.random.key(0), law, images, level).compile().memory_analysis()
    total = needed.argument_size_in_bytes + needed.output_size_in_bytes + needed.temp_size_in_bytes
    return total / batch.nbytes


def pictures(images: np.ndarray, coloured: bool) -> np.ndarray:
    """Images of 8 bits, with three equal channels if coloured."""
    return np.repeat((255 * images).astype(np.uint8), 3 if coloured else 1, -1)


# ---- peers: operation -> function of one image, or of the batch


def torchio(images: np.ndarray) -> dict[str, Callable[[int], Any]]:
    import torch
    import torchio as tio

    flat = images.ndim == 4
    channel_first = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    batch = channel_first[..., None] if flat else channel_first  # (N, 1, H, W, 1) or (N, 1, D, H, W)
    side, turn = images.shape[1], (0, 0, 0, 0, -40, 40) if flat else 40
    thin = 0 if flat else 1  # what is done along an axis of one pixel
    made = {
        "affine": tio.RandomAffine(scales=0, degrees=turn, translation=0),
        "flip": tio.RandomFlip(axes=1, flip_probability=1.0),
        "elastic": tio.RandomElasticDeformation(
            num_control_points=(7, 7, 7), max_displacement=(6.0, 6.0, 6.0 * thin), locked_borders=0
        ),
        "blur": tio.RandomBlur(std=(*(0.04 * side,) * 4, *(0.04 * side * thin,) * 2)),
        "anisotropy": tio.RandomAnisotropy(axes=(0, 1), downsampling=(3, 3)),
        "noise": tio.RandomNoise(std=(0.1, 0.1)),
        "bias field": tio.RandomBiasField(coefficients=0.3, order=2),
        "gamma": tio.RandomGamma(log_gamma=0.4),
        "spike": tio.RandomSpike(num_spikes=1, intensity=(0.1, 0.1)),
        "ghosting": tio.RandomGhosting(num_ghosts=(2, 5), axes=(0,), intensity=(0.5, 0.5)),
        "motion": tio.RandomMotion(degrees=0, translation=2.0, num_transforms=3),
    }
    return {name: (lambda i, law=law: law(batch[i])) for name, law in made.items()}


def monai(images: np.ndarray) -> dict[str, Callable[[int], Any]]:
    import torch
    from monai import transforms as m

    flat, side = images.ndim == 4, images.shape[1]
    batch = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    sd = (0.04 * side, 0.04 * side)
    bent = (
        m.Rand2DElastic(spacing=(32, 32), magnitude_range=(1, 5), prob=1.0, padding_mode="border")
        if flat
        else m.Rand3DElastic(sigma_range=(5, 5), magnitude_range=(50, 150), prob=1.0, padding_mode="border")
    )
    made = {
        "affine": m.RandAffine(prob=1.0, rotate_range=0.35, padding_mode="border"),
        "flip": m.RandFlip(prob=1.0, spatial_axis=1),
        "elastic": bent,
        "crop": m.Compose(
            [
                m.RandSpatialCrop([int(0.7 * side)] * (images.ndim - 2), random_size=False),
                m.Resize((side,) * (images.ndim - 2)),
            ]
        ),
        "blur": m.RandGaussianSmooth(sigma_x=sd, sigma_y=sd, sigma_z=sd, prob=1.0),
        "coarse": m.RandSimulateLowResolution(
            prob=1.0, zoom_range=(0.33, 0.34), upsample_mode="bilinear" if flat else "trilinear"
        ),
        "noise": m.RandGaussianNoise(prob=1.0, std=0.1),
        "rician": m.RandRicianNoise(prob=1.0, std=0.1),
        "bias field": m.RandBiasField(degree=2, prob=1.0),
        "gamma": m.RandAdjustContrast(prob=1.0, gamma=(0.7, 1.5)),
        "gain": m.RandScaleIntensity(prob=1.0, factors=0.3),
        "spike": m.RandKSpaceSpikeNoise(prob=1.0),
        "gibbs": m.RandGibbsNoise(prob=1.0, alpha=(0.6, 0.6)),
        "occlusion": m.RandCoarseDropout(holes=1, spatial_size=int(0.3 * side), prob=1.0, fill_value=0),
    }
    return {name: (lambda i, law=law: law(batch[i])) for name, law in made.items()}


def medmnistc(images: np.ndarray) -> dict[str, Callable[[int], Any]]:
    """Level 3 of a data set with small parameters; pictures of 8 bits, as it wants them."""
    if images.ndim != 4:
        return {}
    blurs = has_wand()
    from medmnistc.corruptions.registry import CORRUPTIONS_DS
    from PIL import Image

    grey = [Image.fromarray(image[..., 0]) for image in pictures(images, coloured=False)]
    coloured = [image.convert("RGB") for image in grey]
    chest, skin, path = (CORRUPTIONS_DS[name] for name in ("chestmnist", "dermamnist", "pathmnist"))
    made = {
        "blur": chest["gaussian_blur"], "defocus": path["defocus_blur"], "motion blur": path["motion_blur"],
        "zoom blur": skin["zoom_blur"], "pixelate": chest["pixelate"], "jpeg": chest["jpeg_compression"],
        "noise": chest["gaussian_noise"], "shot": chest["shot_noise"], "speckle": chest["speckle_noise"],
        "impulse": chest["impulse_noise"], "gamma": chest["gamma_corr_up"], "gain": chest["brightness_up"],
        "contrast": chest["contrast_down"], "black corner": skin["black_corner"], "bubble": path["bubble"],
        "characters": skin["characters"], "stain deposit": path["stain_deposit"],
    }  # fmt: skip
    if not blurs:
        del made["motion blur"]
    for law in made.values():
        law.rng = np.random.default_rng(0)
    seen = {name: coloured if name in COLOURED else grey for name in made}
    return {name: (lambda i, law=law, of=seen[name]: law.apply(of[i], severity=2)) for name, law in made.items()}


def has_wand() -> bool:
    """Whether there is wand, and ImageMagick's library that it needs.

    If not, a stand-in is imported: MedMNIST-C asks for it, but only its motion blur takes anything from it.
    """
    try:
        importlib.import_module("wand.image")
    except ImportError:
        for name in ("wand", "wand.image", "wand.api"):
            sys.modules[name] = MagicMock(Image=object)
        print("motion blur, medmnistc: no library of ImageMagick", file=sys.stderr)
        return False
    return True


def kornia(images: np.ndarray) -> dict[str, Work]:
    import torch
    from kornia import augmentation as k

    accelerated = jax.default_backend() == "gpu"
    batch = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).to("cuda" if accelerated else "cpu")
    side, sd = images.shape[1], 0.04 * images.shape[1]
    made: dict[str, Any] = {
        "affine": k.RandomAffine(20.0, p=1.0, padding_mode="border"),
        "flip": k.RandomHorizontalFlip(p=1.0),
        "elastic": k.RandomElasticTransform(p=1.0),
        "crop": k.RandomResizedCrop((side, side), scale=(0.5, 0.5), ratio=(1.0, 1.0), p=1.0),
        "blur": k.RandomGaussianBlur((int(6 * sd) | 1,) * 2, (sd, sd), p=1.0),
        "motion blur": k.RandomMotionBlur(21, 45.0, 0.0, p=1.0),
        "noise": k.RandomGaussianNoise(std=0.1, p=1.0),
        "impulse": k.RandomSaltAndPepperNoise(amount=0.05, p=1.0),
        "gamma": k.RandomGamma((0.7, 1.4), p=1.0),
        "gain": k.RandomBrightness((0.8, 1.2), p=1.0),
        "contrast": k.RandomContrast((0.5, 0.6), p=1.0),
        "inversion": k.RandomInvert(p=1.0),
        "occlusion": k.RandomErasing(scale=(0.09, 0.09), ratio=(1.0, 1.0), p=1.0),
    }
    if images.ndim == 5:
        made = {"affine": k.RandomAffine3D((20.0, 20.0, 20.0), p=1.0), "flip": k.RandomHorizontalFlip3D(p=1.0)}

    def work(law: Any) -> None:
        law(batch)
        if accelerated:
            torch.cuda.synchronize()

    return {name: partial(work, law) for name, law in made.items()}


def opencv(images: np.ndarray) -> dict[str, Callable[[int], Any]]:
    """Parameters drawn beforehand, as OpenCV draws none, but for noise."""
    if images.ndim != 4:
        return {}
    import cv2

    cv2.setNumThreads(1)
    side = images.shape[1]
    images = images[..., 0]
    rng = np.random.default_rng(0)
    turn = [cv2.getRotationMatrix2D((side / 2, side / 2), a, 1) for a in rng.normal(0, 20, len(images))]
    rows, columns = np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2, indexing="ij")
    knots = rng.normal(0, 0.04 * side, (len(images), 2, 5, 5)).astype(np.float32)
    border: dict[str, Any] = {"borderMode": cv2.BORDER_REPLICATE}

    def bent(i: int) -> Any:
        dy, dx = (cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC) for field in knots[i])
        return cv2.remap(images[i], columns + dx, rows + dy, cv2.INTER_LINEAR, **border)

    def coarse(i: int, way: int, back: int) -> Any:
        return cv2.resize(
            cv2.resize(images[i], None, fx=1 / 3, fy=1 / 3, interpolation=way), (side,) * 2, interpolation=back
        )

    def jpeg(i: int) -> Any:
        _, file = cv2.imencode(".jpg", (255 * images[i]).astype(np.uint8), (cv2.IMWRITE_JPEG_QUALITY, 50))
        return cv2.imdecode(file, cv2.IMREAD_UNCHANGED)

    return {
        "affine": lambda i: cv2.warpAffine(images[i], turn[i], (side, side), flags=cv2.INTER_LINEAR, **border),
        "flip": lambda i: cv2.flip(images[i], 1),
        "elastic": bent,
        "crop": lambda i: cv2.resize(images[i, 9:99, 20:110], (side, side), interpolation=cv2.INTER_LINEAR),
        "blur": lambda i: cv2.GaussianBlur(images[i], (0, 0), 0.04 * side),
        "coarse": lambda i: coarse(i, cv2.INTER_AREA, cv2.INTER_LINEAR),
        "pixelate": lambda i: coarse(i, cv2.INTER_AREA, cv2.INTER_NEAREST),
        "jpeg": jpeg,
        "noise": lambda i: np.clip(images[i] + cv2.randn(np.empty_like(images[i]), 0, 0.1), 0, 1),
        "gamma": lambda i: cv2.pow(images[i], 1.3),
        "gain": lambda i: np.clip(cv2.multiply(images[i], 1.2), 0, 1),
    }


def albumentations(images: np.ndarray) -> dict[str, Callable[[int], Any]]:
    if images.ndim != 4:
        return {}
    import albumentations as a

    side, sd = images.shape[1], 0.04 * images.shape[1]
    made = {
        "affine": a.Affine(rotate=(-40, 40), border_mode=1, p=1.0),
        "flip": a.HorizontalFlip(p=1.0),
        "elastic": a.ElasticTransform(alpha=50, sigma=8, border_mode=1, p=1.0),
        "crop": a.RandomResizedCrop((side, side), scale=(0.5, 0.5), ratio=(1.0, 1.0), p=1.0),
        "blur": a.GaussianBlur(blur_limit=0, sigma_limit=(sd, sd), p=1.0),
        "defocus": a.Defocus(radius=(5, 5), alias_blur=(0.1, 0.1), p=1.0),
        "motion blur": a.MotionBlur(blur_limit=(21, 21), p=1.0),
        "zoom blur": a.ZoomBlur(max_factor=(1.35, 1.35), step_factor=(0.05, 0.05), p=1.0),
        "coarse": a.Downscale(scale_range=(0.33, 0.33), interpolation_pair={"upscale": 1, "downscale": 3}, p=1.0),
        "jpeg": a.ImageCompression(quality_range=(50, 50), p=1.0),
        "noise": a.GaussNoise(std_range=(0.1, 0.1), p=1.0),
        "shot": a.ShotNoise(scale_range=(0.04, 0.04), p=1.0),
        "speckle": a.MultiplicativeNoise((0.6, 1.4), per_channel=True, elementwise=True, p=1.0),
        "impulse": a.SaltAndPepper((0.05, 0.05), p=1.0),
        "gamma": a.RandomGamma((70, 140), p=1.0),
        "gain": a.RandomBrightnessContrast((-0.2, 0.2), (0, 0), p=1.0),
        "contrast": a.RandomBrightnessContrast((0, 0), (-0.4, -0.3), p=1.0),
        "inversion": a.InvertImg(p=1.0),
        "occlusion": a.CoarseDropout((1, 1), (0.3, 0.3), (0.3, 0.3), p=1.0),
    }
    return {name: (lambda i, law=law: law(image=images[i])["image"]) for name, law in made.items()}


# ---- the race


def alone(one: Callable[[int], Any], most: int, seconds: float) -> Contender:
    """One image after the other, as many as fit into the time (at least two)."""
    one(0)
    start = time.perf_counter()
    one(1)
    count = max(2, min(most, int(seconds / (time.perf_counter() - start))))
    return Contender(lambda: [one(i) for i in range(count)], count, True)


def entered(
    operation: str, made: dict[str, dict[str, Any]], most: int, seconds: float, why: list[str]
) -> dict[str, Contender]:
    """Each library that has the operation and runs; one that fails is noted."""
    found = {}
    for peer, operations in made.items():
        if operation not in operations:
            continue
        work = operations[operation]
        try:
            if peer == "kornia":
                work()
            found[peer] = Contender(work, most, False) if peer == "kornia" else alone(work, most, seconds)
        except Exception as error:  # a peer that does not run is reported, not fatal
            why.append(
                f"{operation}, {peer}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
    return found


def race(batch: np.ndarray, laws: dict[str, str], options: Options) -> dict[str, dict[str, Contender]]:
    """Best times of ours and of each peer by operation."""
    made, why = {}, []
    for peer in options.peers:
        try:
            made[peer] = globals()[peer](batch)
        except ImportError as error:
            why.append(f"{peer}: {error}")
    found = {}
    for operation in [name for name in laws if not options.operations or name in options.operations]:
        contenders = {"ours": Contender(ours(laws[operation], batch), len(batch), False)}
        if operation in made.get("medmnistc", {}):
            seen = pictures(batch, operation in COLOURED)
            contenders["8 bit"] = Contender(ours(laws[operation], seen), len(batch), False)
        for contender in contenders.values():
            contender.work()
        contenders |= entered(operation, made, len(batch), options.seconds, why)
        for contender in contenders.values():
            contender.seconds = options.repeating
        for _ in range(options.rounds):
            for name, contender in contenders.items():
                threads(CORES if name == "kornia" else 1)
                contender.take_turn()
        found[operation] = contenders
        said = ", ".join(f"{name} {contender.rate(True):,.0f}" for name, contender in contenders.items())
        print(f"{operation}: {said}", file=sys.stderr, flush=True)
    print("\n".join(why), file=sys.stderr)
    return found


def threads(count: int) -> None:
    """Threads that torch may use, where it is installed."""
    try:
        importlib.import_module("torch").set_num_threads(count)
    except ImportError:
        return


def table(found: dict[str, dict[str, Contender]], taken: dict[str, float], by_core: bool) -> str:
    """A row for each operation: rates, then ratios of ours to the fastest reference, to kornia, to the fastest of the others."""
    lines = [
        f"{'':14s}{'ours':>9s}{'8 bit':>9s}"
        + "".join(f"{peer[:9]:>10s}" for peer in PEERS)
        + f"{'/ 3 refs':>10s}{'/ kornia':>9s}{'/ cv, alb':>10s}{'memory':>8s}"
    ]
    for operation, contenders in found.items():
        rate = {name: contender.rate(by_core) for name, contender in contenders.items()}

        def ratio(*names: str, rate=rate) -> str:
            known = [rate["8 bit" if name == "medmnistc" else "ours"] / rate[name] for name in names if name in rate]
            return f"{min(known):.2g}" if known else "–"

        cells = "".join(f"{rate[peer]:10,.0f}" if peer in rate else f"{'–':>10s}" for peer in PEERS)
        against = f"{ratio(*REFERENCES):>10s}{ratio('kornia'):>9s}{ratio('opencv', 'albumentations'):>10s}{taken[operation]:8.1f}"
        eight = f"{rate['8 bit']:9,.0f}" if "8 bit" in rate else f"{'–':>9s}"
        lines.append(f"{operation:14s}{rate['ours']:9,.0f}{eight}{cells}{against}")
    return "\n".join(lines)


def copies(batch: np.ndarray, options: Options) -> str:
    """What writing a batch anew takes, whatever is done to it: by XLA on all cores, and image by image on one, doubled."""
    on_device, room = jax.numpy.asarray(batch), np.empty_like(batch)
    whole = jax.jit(lambda x: x + 1)
    ways = {
        "XLA": Contender(lambda: whole(on_device).block_until_ready(), len(batch), alone=False),
        "numpy": Contender(lambda: np.copyto(room, batch), len(batch), alone=False),
        "numpy, one after the other": Contender(lambda: [image.copy() for image in batch], len(batch), alone=True),
    }
    whole(on_device)
    for _ in range(options.rounds):
        for way in ways.values():
            way.seconds = options.repeating
            way.take_turn()
    return "copied: " + ", ".join(f"{name} {way.rate(False):,.0f}" for name, way in ways.items())


def main(options: Options) -> None:
    """Print both tables for images and for volumes."""
    warnings.filterwarnings("ignore")
    if not options.fresh:
        reuse_memory()
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    rng = np.random.default_rng(0)
    batches = (
        ((options.images, 128, 128, 1), PLANE),
        ((options.volumes, 64, 64, 64, 1), SPACE),
    )
    for shape, laws in batches:
        if not shape[0]:
            continue
        batch = rng.uniform(size=shape).astype(np.float32)
        found = race(batch, laws, options)
        taken = {operation: memory(laws[operation], batch) for operation in found}
        title = f"{shape[0]} x " + " x ".join(map(str, shape[1:-1]))
        print(f"\n{title}, a second by the clock\n{table(found, taken, by_core=False)}")
        print(f"\n{title}, a second of {CORES} working cores\n{table(found, taken, by_core=True)}")
        print(copies(batch, options), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
