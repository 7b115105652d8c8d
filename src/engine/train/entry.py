"""The trainer: XTuner's own, with what it misses put back and our hook on board.

    python .../bootstrap.py engine.train.entry CONFIG --work-dir DIR
        [--deepspeed NAME] [--resume CHECKPOINT] [--launcher pytorch]

takes the arguments of ``xtuner.tools.train``. Unlike the ``xtuner`` command it
exits with 0 only when training ended well (or was stopped, with a checkpoint).
"""

from __future__ import annotations

import contextlib


def main() -> None:
    """Train as ``sys.argv`` says."""
    from engine.train import shims

    shims.apply()
    from xtuner.tools.train import main as train

    from engine.train import hooks

    hooks.install()
    with contextlib.suppress(hooks.Stopped):
        train()
    _leave_group()


def _leave_group() -> None:
    """Take leave of the other ranks, or torch complains about it at exit."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
