"""How many steps XTuner says an epoch has: it trains, and its log is read. A program.

Reads a list of configs' paths as JSON on stdin; prints a list of steps as JSON. All
of them train in this one process, since importing XTuner is most of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path


class Enough(Exception):
    """The first step has been made and logged."""


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    from engine.train import imports, shims

    with imports.lightly():
        shims.apply()
        from mmengine.hooks import Hook
        from mmengine.runner import Runner
        from xtuner.tools.train import main as train

    class Once(Hook):
        def after_train_iter(self, *_arguments: object, **_options: object) -> None:
            raise Enough

    register = Runner.register_hooks

    def register_hooks(runner: Runner, *arguments: object, **options: object) -> None:
        register(runner, *arguments, **options)
        runner.register_hook(Once(), priority="LOWEST")  # behind the logger's

    Runner.register_hooks = register_hooks
    json.dump([_steps(Path(config), train) for config in json.load(sys.stdin)], out)


def _steps(config: Path, train: Callable[[], None]) -> int:
    sys.argv = ["train", str(config), "--work-dir", str(config.with_suffix(""))]
    with contextlib.suppress(Enough):
        train()
    (log,) = config.with_suffix("").glob("*/*.log")
    found = re.search(r"Iter\(train\) \[ *1/(\d+)\]", log.read_text())
    assert found is not None, log.read_text()[-2000:]
    return int(found[1])


if __name__ == "__main__":
    main()
