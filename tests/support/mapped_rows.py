"""Rows that the trainer's ``datasets`` maps, against those of ``datasets`` alone.

    python tests/support/mapped_rows.py FOLDER

Run as a program, so that the methods of Dataset are changed here only. Prints JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

from engine.train import rows

ROWS = [{"text": "ab" * (number % 7), "number": number} for number in range(37)]


def main(folder: Path) -> None:
    """Map some rows before and after the change of `Dataset`; then edit a map module."""
    (folder / "rows.json").write_text(json.dumps(ROWS))
    alone = [mapped(number) for number in (1, 5)]
    facts: dict[str, Any] = {"pieces matter": alone[0] != alone[1], "alone": processes()}
    rows.install(folder / "config.py")
    facts["same"] = [mapped(number) for number in (1, 5)] == alone
    facts["few"] = processes()
    rows.FEW = 0
    facts["many"] = processes()
    facts["words"] = words(folder)
    print(json.dumps(facts))


def processes() -> int:
    """How many other processes map rows when five are asked for."""
    data = Dataset.from_list(ROWS)
    by_row = data.map(lambda row: {"by": os.getpid()}, num_proc=5)["by"]
    by_batch = data.map(lambda rows: {"by": [os.getpid()] * len(rows["text"])}, batched=True,
                        num_proc=5)["by"]  # fmt: skip
    return len({*by_row, *by_batch} - {os.getpid()})


def mapped(processes: int) -> list[Any]:
    """Rows that went through what XTuner does with them, packing included."""
    data = Dataset.from_list(ROWS).map(marked, num_proc=processes)
    data = data.filter(odd, num_proc=processes).shuffle(seed=3)
    data = data.flatten_indices(num_proc=processes)
    data = data.map(packed, batched=True, remove_columns=data.column_names, num_proc=processes)
    return [data.to_list(), str(data.features)]


def marked(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": f"{row['text']}{row['number']};"}


def odd(row: dict[str, Any]) -> bool:
    return bool(row["number"] % 2)


def packed(batch: dict[str, Any]) -> dict[str, Any]:
    """Like XTuner's Packer: what comes out depends on where the batch ends."""
    text = "".join(batch["text"])
    return {"text": [text[at : at + 8] for at in range(0, len(text), 8)]}


def words(folder: Path) -> list[str]:
    """The word that two versions of a map module put before a row, each mapped twice."""
    sys.path.append(str(folder))
    found = []
    for word in ("one", "two"):
        lines = ["import other", "def mapped(row):", "    return {'word': other.WORD}"]
        (folder / "beside.py").write_text("\n".join(lines))
        (folder / "other.py").write_text(f"WORD = {word!r}  # {'long ' * len(found)}")
        for name in ("other", "beside"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        function = importlib.import_module("beside").mapped
        rows.know_by_content(folder / "config.py")
        for _time in range(2):
            data = load_dataset("json", data_files=str(folder / "rows.json"), split="train")
            data = data.map(function)
            found.append(data[0]["word"])
            found.append(data.cache_files[0]["filename"])
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
