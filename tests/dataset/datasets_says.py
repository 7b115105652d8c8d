"""What the datasets library makes of files: asked of once for all, in a process of its own.

Reads a JSON list of arguments (`Dataset.load_args`) from stdin, writes a list of
answers: ``{"rows": [...]}`` or ``{"error": "..."}``.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from typing import Any

import datasets


def rows(arguments: dict[str, Any]) -> list[Any]:
    if "dataset_path" in arguments:
        loaded = datasets.load_from_disk(**arguments)
    else:
        loaded = datasets.load_dataset(**arguments)["train"]
    return [loaded[index] for index in range(len(loaded))]


def answer(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"rows": rows(arguments)}
    except (Exception, StopIteration) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else str(value)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    datasets.disable_progress_bars()
    answers = [answer(arguments) for arguments in json.load(sys.stdin)]
    json.dump(answers, sys.stdout, default=plain)
