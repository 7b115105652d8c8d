"""Trains the tiny model with compiled layers and without, in this one process, on packed samples.

    python tests/support/compiled_training.py WORK_DIR MODEL

prints one JSON line a case: ``case``, ``losses``, ``keys`` and ``weights`` (a checkpoint's, and
the sum of what is in it), ``compiled`` (kernels that torch made), ``said`` (lines of the log
about the setting).
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.support import tiny_config

SAVE = 2


def write(folder: Path, model: Path, packed: bool = True, **more: Any) -> Path:
    """The tiny config, packed (a chat every other step), or not, in four steps."""
    folder.mkdir()
    config = tiny_config.write(folder, model, save=SAVE)
    text = config.read_text(encoding="utf-8")
    changes = [("max_length = 128", "max_length = 64")]
    if packed:
        changes.append(("    pack_to_max_length=pack_to_max_length,\n", ""))  # XTuner's default
    else:
        changes.append(("batch_size = 2", f"batch_size = {tiny_config.ROWS // 4}"))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    lines = "".join(f"{name} = {value!r}\n" for name, value in more.items())
    config.write_text(text + lines, encoding="utf-8")
    return config


def train(case: str, config: Path, *arguments: str) -> dict[str, Any]:
    """Train as our entry does; what came of it."""
    import torch
    from torch._dynamo.utils import counters
    from xtuner.tools.train import main

    torch._dynamo.reset()
    counters.clear()
    work = config.parent / "work"
    sys.argv = ["train", str(config), "--work-dir", str(work), *arguments]
    main()
    [scalars] = work.glob("*/vis_data/scalars.json")
    [log] = work.glob("*/*.log")
    points = [json.loads(line) for line in scalars.read_text().splitlines()]
    saved = max(work.glob("iter_*.pth"), key=lambda one: int(one.stem.partition("_")[2]))
    weights = torch.load(saved, map_location="cpu", weights_only=False)["state_dict"]
    return {
        "case": case,
        "losses": [one["loss"] for one in points],
        "keys": sorted(weights),
        "weights": float(sum(value.double().abs().sum() for value in weights.values())),
        "compiled": counters["stats"]["unique_graphs"],
        "said": [line for line in log.read_text().splitlines() if "compile_layers:" in line],
    }


def main() -> None:
    """Train each case."""
    root, model = Path(sys.argv[1]), Path(sys.argv[2])
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # libraries greet there
        import torch._inductor.config as inductor

        from engine.train import compiled, imports

        with imports.lightly():
            from engine.train import shims

            shims.apply()
    compiled.install()
    worth, compiled.WORTH = compiled.WORTH, 0

    def tell(*told: Any) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            found = train(*told)
        print(json.dumps(found), file=out, flush=True)

    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        tell("broken", write(root / "broken", model, compile_layers=True))
    tell("plain", write(root / "plain", model))
    tell("compiled", write(root / "compiled", model, compile_layers=True, strategy=None))
    saved = root / "compiled" / "work" / f"iter_{SAVE}.pth"
    tell("resumed", write(root / "resumed", model), "--resume", str(saved))
    tell("unpacked", write(root / "unpacked", model, packed=False, compile_layers=True))
    compiled.WORTH = worth
    tell("short", write(root / "short", model, compile_layers=True), "--resume", str(saved))


if __name__ == "__main__":
    main()
