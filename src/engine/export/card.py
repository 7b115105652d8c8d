"""A model's card (README.md): what it was made of, and how it was trained."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from engine import __version__
from engine.chart.picture import as_svg
from engine.chart.series import Series, Shown
from engine.export import trained_config, training
from engine.export.output import Output
from engine.export.training import Training
from engine.paths import expanded

NAME = "README.md"
CURVE = "loss.svg"

_HASHED = 1 << 36
"""Bytes of a data file up to which its hash is taken (a minute, for the largest)."""
_COUNTED = 1 << 26
"""Bytes of one JSON array up to which its rows are counted: it is held in memory for that."""
_BLOCK = 1 << 20
_BETWEEN = re.compile(r"[\s,]*")


def merged(base: str, adapter: Mapping[str, Any], config: str) -> str:
    """What a merged model is, in words, from its adapter's config."""
    kind = "DoRA" if adapter.get("use_dora") else "rsLoRA" if adapter.get("use_rslora") else "LoRA"
    known = trained_config.read(config)
    bits = " The base was quantized for the training." if known and known.quantized else ""
    return (
        f"A {kind} adapter merged into `{base}` by Tunedeck {__version__}.\n"
        f"Rank {adapter.get('r')}, alpha {adapter.get('lora_alpha')},"
        f" on {_listed(adapter.get('target_modules'))}.{bits}"
    )


def whole(base: str) -> str:
    """What a model is of which every weight was trained, in words."""
    return f"All weights of `{base}`, fine-tuned; written by Tunedeck {__version__}."


def write(output: Output, base: str, made: str, config: str, trained: Training | None) -> None:
    """Write the card, with the head that model hubs read, and the losses' curve beside it.

    Args:
        output: the model's folder.
        base: the name or path of the model that training began with.
        made: what this model is, from `merged` or `whole`.
        config: the text of the XTuner config, "" when there is none.
        trained: where it was trained, None when nothing tells.
    """
    lines = [
        "---",
        f"base_model: {json.dumps(base, ensure_ascii=False)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "---",
        "",
        f"# {Path(base).name}, fine-tuned",
        "",
        made,
        "",
        "`SHA256SUMS` has the sums of all files (`sha256sum -c SHA256SUMS`).",
    ]
    losses = training.losses(trained) if trained else []
    if trained:
        lines += ["", "## Training", "", *_training(trained, losses)]
    if losses:
        steps, values = zip(*losses, strict=True)
        output.text(CURVE, as_svg(Shown([Series("loss", steps, values)])))
        lines += ["", f"![The loss over the steps]({CURVE})"]
    lines += _table("Settings", "setting", trained_config.main_values(config))
    lines += _data(config, Path(trained.workspace) if trained else Path())
    if trained:
        lines += _table("Versions", "library", {**trained.versions, "tunedeck": __version__})
    if config:
        lines += ["", "## Config", "", "```python", config.rstrip(), "```"]
    output.text(NAME, "\n".join(lines) + "\n")


def _training(trained: Training, losses: list[tuple[int, float]]) -> Iterator[str]:
    run = f"Run `{trained.run}`, c" if trained.run else "C"
    step = f" of step {trained.step}" if trained.step is not None else ""
    yield f"{run}heckpoint `{Path(trained.checkpoint).name}`{step}."
    finite = [loss for _step, loss in losses if math.isfinite(loss)]
    if finite:
        yield f"Loss {finite[0]:.4g} at the start, {finite[-1]:.4g} at the end."


def _table(title: str, what: str, values: Mapping[str, str]) -> list[str]:
    if not values:
        return []
    rows = (f"| {name} | `{_cell(value)}` |" for name, value in values.items())
    return ["", f"## {title}", "", f"| {what} | value |", "| --- | --- |", *rows]


def _data(config: str, root: Path) -> list[str]:
    """The data files that the config names; relative ones start from `root`."""
    rows = [_described(root / expanded(name)) for name in trained_config.data_files(config)]
    if not rows:
        return []
    head = ["| file | rows | SHA-256, when this model was made |", "| --- | --- | --- |"]
    return ["", "## Data", "", *head, *rows]


def _described(path: Path) -> str:
    name = _cell(path.name)
    try:
        size = path.stat().st_size
        if size > _HASHED:
            return f"| `{name}` | ? | not taken: {size / 1e9:.0f} GB |"
        with path.open("rb") as file:
            rows, digest = _read(file, path.suffix, size)
    except OSError:
        return f"| `{name}` | ? | the file was not there |"
    return f"| `{name}` | {'?' if rows is None else rows} | `{digest}` |"


def _read(file: IO[bytes], suffix: str, size: int) -> tuple[int | None, str]:
    """How many rows, where the bytes alone tell, and the hash."""
    digest = hashlib.sha256()
    start = file.read(_BLOCK)
    file.seek(0)
    array = suffix == ".json" and start.lstrip()[:1] == b"["
    if suffix == ".jsonl" or (suffix == ".json" and not array):
        rows = 0
        for line in file:
            digest.update(line)
            rows += not line.isspace()
        return rows, digest.hexdigest()
    if array and size <= _COUNTED:
        content = file.read()
        return _elements(content), hashlib.sha256(content).hexdigest()
    while block := file.read(_BLOCK):
        digest.update(block)
    return None, digest.hexdigest()


def _elements(content: bytes) -> int | None:
    """The elements of a JSON array, one in memory at a time; None when it is not one."""
    decoder = json.JSONDecoder()
    try:
        text = content.decode()
        at, count = text.index("[") + 1, 0
        while (between := _BETWEEN.match(text, at)) and text[between.end()] != "]":
            at = decoder.raw_decode(text, between.end())[1]
            count += 1
        return count
    except (ValueError, IndexError, RecursionError):
        return None


def _cell(text: str) -> str:
    """Text inside of a table."""
    return text.replace("|", "\\|")


def _listed(value: object) -> str:
    return ", ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)
