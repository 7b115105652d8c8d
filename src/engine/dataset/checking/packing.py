"""What a check keeps of each row, and how many steps XTuner makes of so many samples."""

from __future__ import annotations

TOKENS, KEPT = "tokens.npy", "kept.npy"
"""Files with a number for each row (uint32): its tokens, and those that are trained on."""
ORDER, SPANS = "order", "spans"
"""Files with the arrays of `packer.Packed`, ``order-NAME.npy`` and ``spans-NAME.npy``."""


def steps(samples: int, batch_size: int, gpus: int) -> int:
    """Iterations of one epoch as XTuner counts and logs them (micro-batches of each GPU).

    Every GPU gets the same number of samples (the sampler repeats some to make
    that come out even), and a last batch that is not full counts.
    """
    per_gpu = -(-samples // gpus)
    return -(-per_gpu // batch_size)
