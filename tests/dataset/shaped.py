"""Datasets of every shape in every format that holds it."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = [
    "你是谁",
    "尖米",
    "Super Nova",
    "Who are you",
    "France",
    "😀",
    "<b>",
    "{input}",
    "\n",
    "0123",
]

NESTED = ("json", "jsonl", "parquet", "arrow", "disk")
FLAT = (*NESTED, "csv", "tsv")
OPENORCA = "openorca_map_fn"
SHAPES = {
    "xtuner": NESTED,
    "openai": NESTED,
    "openai_own": NESTED,
    "sharegpt": NESTED,
    "messages": NESTED,
    "alpaca": FLAT,
    "alpaca_own": FLAT,
    "text": (*FLAT, "text"),
    "columns": FLAT,
    OPENORCA: FLAT,
}
"""The formats of each shape; "messages" and "columns" need a map module."""
COUNT = 9


def words(random_: random.Random, most: int) -> str:
    return " ".join(random_.choices(WORDS, k=random_.randrange(1, most)))


def rows(shape: str) -> list[dict[str, Any]]:
    """Rows of `shape` that XTuner can take, some of which it drops."""
    random_ = random.Random(shape)
    make = {
        "xtuner": _xtuner,
        "openai": _openai,
        "openai_own": _openai_own,
        "sharegpt": _sharegpt,
        "messages": _messages,
        "alpaca": _alpaca,
        "alpaca_own": _alpaca_own,
        "text": _text,
        "columns": _columns,
        OPENORCA: _openorca,
    }[shape]
    return [make(random_, number) for number in range(COUNT)]


def _xtuner(random_: random.Random, number: int) -> dict[str, Any]:
    turns: list[dict[str, Any]] = [
        {"input": words(random_, 5), "output": words(random_, 9), "output_with_loss": bool(one % 2)}
        for one in range(number % 4)
    ]
    if number % 3 == 0 and turns:
        turns[0]["system"] = words(random_, 4)
    return {"conversation": turns, "id": number}


def _talk(random_: random.Random, sides: str, number: int) -> Iterator[tuple[str, str]]:
    """Sides (one letter each) and what they say; in some rows out of order."""
    order = [sides[1:] * (1 + number % 3), sides, sides[2] + sides[1:], sides[1] + sides[1:]][
        number % 4
    ]
    for side in order:
        yield side, words(random_, 6)


def _openai(random_: random.Random, number: int) -> dict[str, Any]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    found = [{"role": names[side], "content": say} for side, say in _talk(random_, "sua", number)]
    loss = [one | {"loss": number % 3 != 1} if one["role"] == "assistant" else one for one in found]
    return {"messages": loss}


def _openai_own(random_: random.Random, number: int) -> dict[str, Any]:
    messages = _openai(random_, number)["messages"]
    for message in messages:
        message["content"] = [
            {"type": "text", "text": part} for part in message["content"].partition(" ")
        ]
        message.pop("loss", None)
    return {"messages": messages}


def _sharegpt(random_: random.Random, number: int) -> dict[str, Any]:
    names = {"s": "system", "u": "human" if number % 2 else "user", "a": "gpt"}
    talk = [{"from": names[side], "value": say} for side, say in _talk(random_, "sua", number)]
    return {"id": str(number), "conversations": talk, "system": "S" if number % 2 else None}


def _messages(random_: random.Random, number: int) -> dict[str, Any]:
    names = {"s": "系统", "u": "用户", "a": "助手"}
    talk = [{"角色": names[side], "内容": say} for side, say in _talk(random_, "sua", number)]
    return {"对话": talk}


def _alpaca(random_: random.Random, number: int) -> dict[str, Any]:
    more = '{input} with a \\ and a "quote", \n' if number % 2 else "."
    output = "<nooutput>" if number == 4 else words(random_, 9)
    return {"instruction": words(random_, 5), "input": more, "output": output}


def _alpaca_own(random_: random.Random, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {"instruction": words(random_, 5), "output": words(random_, 9)}
    row["system"] = "S" if number % 3 else None
    return row | {"input": words(random_, 3) if number % 2 else None}


def _text(random_: random.Random, number: int) -> dict[str, Any]:
    return {"text": "x" + words(random_, 30).replace("\n", " ") + "x"}


def _columns(random_: random.Random, number: int) -> dict[str, Any]:
    answer = None if number == 4 else words(random_, 9)
    return {"问题": words(random_, 5), "背景": words(random_, 3), "回答": answer, "分数": number}


def _openorca(random_: random.Random, number: int) -> dict[str, Any]:
    said = (words(random_, 5) + "x" for _one in range(3))
    return dict(zip(("system_prompt", "question", "response"), said, strict=True))


def write(folder: Path, shape: str, format: str) -> Path:
    """A dataset of `shape` in `format`."""
    found = rows(shape)
    path = folder / f"{shape}.{format if format != 'text' else 'txt'}"
    if format == "json":
        path.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    elif format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    elif format == "text":
        path.write_text("".join(row["text"] + "\n" for row in found), encoding="utf-8")
    elif format in ("csv", "tsv"):
        _write_csv(path, found, "," if format == "csv" else "\t")
    elif format == "disk":
        from datasets import Dataset

        Dataset.from_list(found).save_to_disk(path)
    else:
        _write_table(path, found)
    return path


def _write_csv(path: Path, found: list[dict[str, Any]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(found)


def _write_table(path: Path, found: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(found)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=4)
        return
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table, max_chunksize=4)
