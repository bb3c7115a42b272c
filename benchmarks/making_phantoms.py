"""How long do 2,000 images, or 64 volumes of 64 voxels a side, of each phantom take?

    python benchmarks/making_phantoms.py

Seconds of a fresh process each, compilation included, at the phantoms' own sizes, on the cores of this machine.
"""

import subprocess
import sys

MAKE = {  # name: module, function, options
    "lesion in texture, 2,000 of 28 pixels": ("phantoms", "phantom", "n_patients=1000"),
    "lesion in texture, 64 of 64 voxels": ("phantoms", "phantom", "n_patients=32, size=64, volumes=True"),
    "cardiac ultrasound, 2,000 of 112 pixels": ("ultrasound", "cardiac_ultrasound", "n_patients=500"),
    "lung airways, 2,000 of 112 pixels": ("airways", "lung_airways", "n_patients=500"),
    "lung airways, 64 of 64 voxels": ("airways", "lung_airways", "n_patients=64, volumes=True"),
    "factors, 2,000": ("factors", "factor_phantom", "n=2000"),
}
TIMED = """
import time
start = time.perf_counter()
import jax
from rafmodel.{} import {} as make
made = make(jax.random.key(0), {})
print(time.perf_counter() - start, *made.image.shape)
"""


def main() -> None:
    """Print a line a phantom."""
    for name, how in MAKE.items():
        told = subprocess.run(
            [sys.executable, "-c", TIMED.format(*how)], capture_output=True, text=True, check=True
        ).stdout
        seconds, *shape = told.split()
        print(f"{name:42s}{float(seconds):7.1f} s   {' x '.join(shape)}", flush=True)


if __name__ == "__main__":
    main()
