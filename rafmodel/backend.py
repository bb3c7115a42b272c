"""What programs are compiled for: a CPU, where caches decide how fast they are, or an accelerator, where sizes of batches do."""

import jax

ROOMY = 2**28  # bytes of images worked on together on an accelerator


def on_cpu() -> bool:
    """Whether arrays are worked on by a CPU."""
    return jax.default_backend() == "cpu"


def together(on_a_cpu: int) -> int:
    """Bytes of images worked on together: so many on a CPU, ROOMY on an accelerator."""
    return on_a_cpu if on_cpu() else ROOMY
