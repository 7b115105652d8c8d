"""Runs of a model that is small, but of a size for which a GPU is worth it (0.4e9 parameters)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.run import launch, planning
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config

ROOT = Path(__file__).parents[2]
_MODEL = """
import sys, torch
from tests.support import tiny
tokenizer = tiny.tokenizer()
tokenizer.save_pretrained(sys.argv[1])
torch.manual_seed(0)
sizes = dict(vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=4096,
             num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=8,
             max_position_embeddings=65536, tie_word_embeddings=False)
with torch.device("cuda"):
    model = tiny.builtin("llama", sizes)
model.to(torch.bfloat16).save_pretrained(sys.argv[1], safe_serialization=True)
print(sum(parameter.numel() for parameter in model.parameters()))
"""
ON_GPU = {
    "LinearLR, OptimWrapper": "AmpOptimWrapper, LinearLR",
    "type=OptimWrapper,": 'type=AmpOptimWrapper, dtype="float16", loss_scale="dynamic",',
    'backend="gloo"': 'backend="nccl"',
}
"""What of `tiny_config` is for a CPU, and what a GPU takes in its place."""


def make_model(folder: Path) -> Path:
    """A random Llama with a tokenizer, made on the GPU."""
    command = [sys.executable, "-c", _MODEL, str(folder)]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    print("parameters:", told.strip().rpartition("\n")[2])
    return folder


def begin(
    workspace: Workspace,
    model: Path,
    name: str,
    changes: Mapping[str, str],
    *,
    epochs: int = 1,
    save: int = 4,
    rows: Sequence[Mapping[str, str]] = (),
    **plan: Any,
) -> RunFolder:
    """Start `tiny_config` with texts of it changed; its run is called `name`-run.

    `rows` are trained on in place of its own; `plan` is what `launch.plan` takes besides.
    """
    folder = workspace.root / name
    folder.mkdir(exist_ok=True)
    config = tiny_config.write(folder, model, epochs=epochs, save=save)
    if rows:
        config.with_suffix(".json").write_text(json.dumps(rows), encoding="utf-8")
    text = config.read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text)
    planned = planning.plan(
        config, workspace=workspace, settings=Settings(), name=f"{name}-run", **plan
    )
    return launch.start(planned, Settings())
