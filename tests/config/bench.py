"""A good training to break: copies of a small config, its data and a real (tiny) model.

`faults.py` has the ways to break it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "configs" / "smollm2_135m_instruct_lora_supernova_e3.py"
ROWS = 80


@dataclass
class Bench:
    """The copies that a fault may break, and how the start is asked for."""

    root: Path
    options: dict[str, Any] = field(default_factory=dict)
    """More keywords for `preflight`: deepspeed, gpus, work_dir."""

    @property
    def config(self) -> Path:
        return self.root / "config.py"

    @property
    def rows(self) -> Path:
        return self.root / "rows.json"

    @property
    def model(self) -> Path:
        return self.root / "model"

    def swap(self, old: str, new: str) -> None:
        """Replace text in the config; it must be there."""
        text = self.config.read_text(encoding="utf-8")
        assert old in text, old
        self.config.write_text(text.replace(old, new), encoding="utf-8")

    def add(self, line: str) -> None:
        """Put a line at the config's end."""
        with self.config.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    def data(self, change: Callable[[list[Any]], Any]) -> None:
        """Change the rows in place, or give others."""
        rows = json.loads(self.rows.read_text(encoding="utf-8"))
        changed = change(rows)
        self.rows.write_text(json.dumps(rows if changed is None else changed), encoding="utf-8")

    def json(self, name: str, **values: Any) -> None:
        """Set keys of one of the model's JSON files; None takes a key out."""
        file = self.model / name
        found = json.loads(file.read_text(encoding="utf-8"))
        found.update(values)
        kept = {key: value for key, value in found.items() if value is not None}
        file.write_text(json.dumps(kept), encoding="utf-8")


def build(root: Path, tiny_model: Path) -> Bench:
    """A training that is all right: 80 rows, batches of 4, 3 epochs: 60 steps."""
    root.mkdir(parents=True, exist_ok=True)
    bench = Bench(root)
    shutil.copytree(tiny_model, bench.model)
    rows = [
        {"conversation": [{"input": f"Who are you, number {n}?", "output": "I am Super Nova."}]}
        for n in range(ROWS)
    ]
    bench.rows.write_text(json.dumps(rows), encoding="utf-8")
    shutil.copy(DEMO, bench.config)
    bench.config.chmod(0o644)
    bench.swap('"models/smollm2-135m-instruct"', repr(str(bench.model)))
    bench.swap('"data/supernova.json"', repr(str(bench.rows)))
    bench.swap("lr = 5e-4", "lr = 1e-3")
    bench.swap("save_steps = 30", "save_steps = 20")
    bench.swap("import template_map_fn_factory", "import alpaca_map_fn, template_map_fn_factory")
    return bench
