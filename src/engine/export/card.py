"""The merged model's card (README.md): what it was made of, and how it was trained."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from engine import __version__
from engine.export.base_model import BaseModel

_DATA = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst")
_MOST = 1 << 30  # bytes of data that are read to hash them


def text(model: BaseModel, adapter: Path, config: str) -> str:
    """The card, in Markdown with the head that model hubs read.

    Args:
        model: the base.
        adapter: the adapter's folder; its config says what was trained.
        config: the text of the XTuner config, "" when there is none.
    """
    told = json.loads((adapter / "adapter_config.json").read_bytes())
    base = str(told.get("base_model_name_or_path") or model.path)
    kind = "DoRA" if told.get("use_dora") else "rsLoRA" if told.get("use_rslora") else "LoRA"
    lines = [
        "---",
        f"base_model: {json.dumps(base, ensure_ascii=False)}",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "---",
        "",
        f"# {Path(base).name}, fine-tuned",
        "",
        f"A {kind} adapter merged into `{base}` by Tunedeck {__version__}.",
        f"Rank {told.get('r')}, alpha {told.get('lora_alpha')},"
        f" on {_listed(told.get('target_modules'))}.",
        "",
        "`SHA256SUMS` has the sums of all files (`sha256sum -c SHA256SUMS`).",
    ]
    data = list(_data(config))
    if data:
        lines += ["", "## Data", "", "| file | rows | SHA-256 |", "| --- | --- | --- |", *data]
    if config:
        lines += ["", "## Config", "", "```python", config.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _data(config: str) -> Iterator[str]:
    """A table row for each data file that the config names and that is still there."""
    try:
        tree = ast.parse(config)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    names = dict.fromkeys(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    for name in names:
        if name.endswith(_DATA):
            yield from _described(Path(name))


def _described(path: Path) -> Iterator[str]:
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            return
        content = path.read_bytes()
    except OSError:
        return
    digest = hashlib.sha256(content).hexdigest()
    yield f"| `{path.name}` | {_rows(path, content)} | `{digest}` |"


def _rows(path: Path, content: bytes) -> str:
    """How many rows, where that can be told from the bytes alone."""
    if path.suffix == ".jsonl":
        return str(sum(1 for line in content.splitlines() if line.strip()))
    if path.suffix == ".json":
        try:
            found = json.loads(content)
        except ValueError:
            return "?"
        return str(len(found)) if isinstance(found, list) else "?"
    return "?"


def _listed(value: object) -> str:
    return ", ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)
