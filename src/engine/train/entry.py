"""The trainer: XTuner's own, with what it misses put back and our hook on board.

    python .../bootstrap.py engine.train.entry CONFIG --work-dir DIR
        [--deepspeed NAME] [--resume CHECKPOINT] [--launcher pytorch]

takes the arguments of ``xtuner.tools.train``. Unlike the ``xtuner`` command it
exits with 0 only when training ended well (or was stopped, with a checkpoint).
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def main() -> None:
    """Train as ``sys.argv`` says."""
    from engine.train import imports, leash, pulse

    leash.fasten()
    pulse.start()
    config = Path(sys.argv[1])
    find_beside(config)
    with imports.lightly():
        from engine.train import shims

        shims.apply()
        from xtuner.tools.train import main as train

        from engine.train import base, compiled, continuing, hooks, rows, saving

    rows.install(config)
    base.install()
    hooks.install()
    compiled.install()
    saving.install()
    continuing.install()
    with contextlib.suppress(hooks.Stopped):
        train()
    _leave_group()


def find_beside(config: Path) -> None:
    """Let the config import modules that lie beside it (the map functions of datasets).

    At the path's end: a file there that is called like a library must not be taken for it.
    """
    sys.path.append(str(config.resolve().parent))


def _leave_group() -> None:
    """Take leave of the other ranks, or torch complains about it at exit."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
