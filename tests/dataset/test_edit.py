"""Rows edited, deleted and repeated: all others stay the same to the byte, and undo brings back."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.dataset.editing import edit, versions
from engine.dataset.editing import rewrite as rewriting
from engine.dataset.editing.edit import Edit
from engine.dataset.editing.style import style_of
from engine.dataset.editing.versions import Versions
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem

BOM = b"\xef\xbb\xbf"


def row(n: int) -> dict[str, Any]:
    return {"conversation": [{"input": f"问{n}", "output": f"答{n}", "x": 1.50}]}


def spelled(texts: list[str], name: str) -> bytes:
    """A file of rows, in one of the ways in which files are written."""
    joined = {
        "compact.json": "[" + ",".join(texts) + "]",
        "lines.json": "[\n" + ",\n".join(texts) + "\n]\n",
        "odd.json": "\n [ " + " ,\n\n\t".join(texts) + "  ] \n\n",
        "lines.jsonl": "\n".join(texts) + "\n",
        "no-end.jsonl": "\n".join(texts),
        "crlf.jsonl": "".join(text + "\r\n" for text in texts),
        "blank.jsonl": "\n\n" + "\n\n".join(texts) + "\n\n",
    }[name.removeprefix("bom-")]
    return (BOM if name.startswith("bom-") else b"") + joined.encode()


NAMES = [
    "compact.json", "lines.json", "odd.json", "bom-lines.json", "lines.jsonl", "no-end.jsonl",
    "crlf.jsonl", "blank.jsonl", "bom-crlf.jsonl",
]  # fmt: skip
# Spelled as no writer of ours would: what is not touched must stay so.
TEXTS = ['{"a":1.50, "b" : "\\u5c16"}', '{ "a":1e3,"b":"尖" }', '{"a":0,"b":"x","a":2}', '{"a":-0}']


@pytest.fixture
def keep(tmp_path: Path) -> Versions:
    return Versions(tmp_path / "trash")


Act = Callable[[Dataset, Versions], Edit]


def done(path: Path, act: Act, keep: Versions) -> tuple[bytes, Edit]:
    """The file after `act`, and what can be undone."""
    with Dataset.open(path) as dataset:
        made = act(dataset, keep)
    return path.read_bytes(), made


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gone", [{0}, {1, 2}, {3}, {0, 1, 2, 3}, {2, 3}])
def test_delete_leaves_the_file_as_if_the_rows_had_never_been(
    tmp_path: Path, keep: Versions, name: str, gone: set[int]
) -> None:
    path = tmp_path / name
    before = spelled(TEXTS, name)
    path.write_bytes(before)
    after, made = done(path, lambda data, keep: edit.delete(data, gone, keep), keep)
    left = [text for number, text in enumerate(TEXTS) if number not in gone]
    assert made.rows == len(left)
    if left:
        assert after == spelled(left, name)
    elif name.endswith(".json"):
        assert json.loads(after.decode("utf-8-sig")) == []
    edit.undo(made, keep)
    assert path.read_bytes() == before
    assert list(keep.folder.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("twice", [{0}, {1, 3}, {3}])
def test_repeat(tmp_path: Path, keep: Versions, name: str, twice: set[int]) -> None:
    path = tmp_path / name
    path.write_bytes(spelled(TEXTS, name))
    after, made = done(path, lambda data, keep: edit.duplicate(data, twice, keep), keep)
    texts = [text for n, text in enumerate(TEXTS) for _ in range(2 if n in twice else 1)]
    assert after == spelled(texts, name)
    assert made.rows == len(texts)


@pytest.mark.parametrize("name", ["compact.json", "lines.json", "lines.jsonl", "no-end.jsonl"])
def test_the_only_row_can_be_repeated(tmp_path: Path, keep: Versions, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(spelled(TEXTS[:1], name))
    after, _made = done(path, lambda data, keep: edit.duplicate(data, {0}, keep), keep)
    assert after == spelled(TEXTS[:1] * 2, name)


@pytest.mark.parametrize(
    "options",
    [
        {"indent": 2},
        {"indent": 1, "ensure_ascii": True},
        {"indent": "\t"},
        {"separators": (",", ":")},
        {"separators": (", ", ": "), "ensure_ascii": True},
        {"separators": (",", ": ")},
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_changed_row_is_spelled_as_the_file_spells_its_rows(
    tmp_path: Path, keep: Versions, options: dict[str, Any], newline: str
) -> None:
    options = {"ensure_ascii": False} | options
    rows = [row(n) for n in range(4)]

    def text() -> bytes:
        return json.dumps(rows, **options).replace("\n", newline).encode()

    path = tmp_path / "rows.json"
    path.write_bytes(text())
    rows[2] = {"conversation": [{"system": "你", "input": "新\n问", "output": "新答", "y": [1, 2]}]}
    new = json.dumps(rows[2], indent=7)  # as a person may leave it in an editor
    after, _made = done(path, lambda data, keep: edit.change(data, 2, new, keep), keep)
    assert after == text()


def test_what_the_editor_shows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "尖\\n", "b": "\\ud800"}\n{"a": broken 尖\n', encoding="utf-8")
    with Dataset.open(path) as dataset:
        assert json.loads(edit.text_of(dataset, 0)) == {"a": "尖\n", "b": "\ud800"}
        assert edit.text_of(dataset, 0).count("\n") > 2
        assert edit.text_of(dataset, 1) == '{"a": broken 尖'


def test_a_broken_row_is_put_right_in_the_style_of_its_neighbours(
    tmp_path: Path, keep: Versions
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a":"\\u5c16"}\n{"a": broken}\n', encoding="utf-8")
    after, _made = done(path, lambda data, k: edit.change(data, 1, ' {"a": "米"}\n', k), keep)
    assert after == b'{"a":"\\u5c16"}\n{"a":"\\u7c73"}\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('\n{"a": 1,\n  "b": nothing}', "Line 3, column 8"),
        ("", "Line 1, column 1"),
        ('{"a": "尖米" "b"}', "Line 1, column 12"),
    ],
)
def test_text_that_is_no_json_names_the_place(
    tmp_path: Path, keep: Versions, text: str, why: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')
    with Dataset.open(path) as dataset, pytest.raises(Problem, match="not right JSON") as caught:
        edit.change(dataset, 0, text, keep)
    assert why in caught.value.why
    assert path.read_text() == '{"a": 1}\n'
    assert not keep.folder.exists()


def test_halves_of_characters_survive(tmp_path: Path, keep: Versions) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "尖"}\n', encoding="utf-8")
    after, _made = done(path, lambda data, k: edit.change(data, 0, '{"a": "\\ud800"}', k), keep)
    assert after == b'{"a": "\\ud800"}\n'


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path: Path, keep: Versions) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    with Dataset.open(path) as dataset:
        other = tmp_path / "other"
        other.write_text('{"theirs": 1}\n')
        other.replace(path)
        with pytest.raises(Problem, match="has changed"):
            edit.delete(dataset, {0}, keep)
    assert path.read_text() == '{"theirs": 1}\n'
    assert sorted(one.name for one in tmp_path.iterdir()) == ["rows.jsonl"]


def test_undo_does_not_lose_what_others_wrote(tmp_path: Path, keep: Versions) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    _after, made = done(path, lambda data, k: edit.delete(data, {0}, k), keep)
    path.write_text('{"a": 3}\n')
    with pytest.raises(Problem, match="no longer what the edit made of it"):
        edit.undo(made, keep)
    assert path.read_text() == '{"a": 3}\n'


def test_links_and_modes_stay(tmp_path: Path, keep: Versions) -> None:
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text('{"a": 1}\n{"a": 2}\n')
    real.chmod(0o640)
    link.symlink_to(real)
    done(link, lambda data, k: edit.delete(data, {0}, k), keep)
    assert link.is_symlink() and real.read_text() == '{"a": 2}\n'
    assert real.stat().st_mode & 0o777 == 0o640


def test_former_versions_are_bounded(
    tmp_path: Path, keep: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MOST", 3)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n')
    made = [done(path, lambda data, k: edit.duplicate(data, {0}, k), keep)[1] for _ in range(5)]
    assert len(list(keep.folder.iterdir())) == 3
    for one in reversed(made[2:]):
        edit.undo(one, keep)
    assert path.read_text().count("\n") == 3
    with pytest.raises(Problem, match="not kept any more"):
        edit.undo(made[1], keep)


def test_where_there_are_no_hard_links_a_copy_is_kept(
    tmp_path: Path, keep: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_paths: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    after, made = done(path, lambda data, k: edit.delete(data, {0}, k), keep)
    assert after == b'{"a": 2}\n'
    edit.undo(made, keep)
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


def test_other_formats_say_what_to_do(tmp_path: Path, keep: Versions) -> None:
    (tmp_path / "rows.csv").write_text("q,a\n1,2\n3,4\n")
    with (
        Dataset.open(tmp_path / "rows.csv") as dataset,
        pytest.raises(Problem, match="cannot be edited here") as caught,
    ):
        edit.delete(dataset, {0}, keep)
    assert "JSON Lines" in caught.value.todo


@pytest.mark.parametrize("text", ['{"a": [], "b": {}}', "[1, 2]", '"text"', "12", '{\n"a": 1\n}'])
def test_a_style_writes_what_it_was_told_from(text: str) -> None:
    assert style_of([text.encode()]).write(json.loads(text)) == text


@pytest.mark.parametrize("seed", range(60))
def test_what_is_not_looked_at_is_copied_as_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(rewriting, "_STRETCH", 3)
    random_ = random.Random(seed)
    rows = [json.dumps({"a": "x" * random_.randrange(5)}) for _row in range(random_.randrange(12))]
    between = random_.choice(["\n", "\r\n", "\n\n"])
    text = between.join(rows) + random_.choice(["", between, "\n \n"])
    if random_.random() < 0.5:
        text = (
            "[ " + random_.choice([",", ",\n  ", " , "]).join(rows) + random_.choice(["]", "\n]\n"])
        )
    path = tmp_path / "data.json"
    path.write_text(random_.choice(["", "\ufeff"]) + (text if rows else "[]"), newline="")
    times = {row: random_.randrange(3) for row in range(len(rows)) if random_.random() < 0.3}

    def contents(piece: Any) -> list[bytes]:
        return [piece.content] * times.get(piece.row, 1)

    with Dataset.open(path) as dataset:
        slow, fast = io.BytesIO(), io.BytesIO()
        copy = rewriting.Copy(dataset, slow)
        put = rewriting.rewrite(
            dataset, [copy], lambda piece: [(copy, one) for one in contents(piece)]
        )
        other = rewriting.Copy(dataset, fast)
        assert rewriting.rewrite_some(dataset, other, times, contents) == put
    assert fast.getvalue() == slow.getvalue()
    if not times:
        assert fast.getvalue() == path.read_bytes()


@pytest.mark.parametrize("gone", [range(0, 5000, 2), range(900), range(0, 1200, 2)])
def test_who_waits_for_many_rows_sees_them_go_and_can_stop(
    tmp_path: Path, keep: Versions, gone: range
) -> None:
    """Rows with none between them that is copied together."""
    path, told = tmp_path / "data.jsonl", []
    path.write_text("".join(f'{{"n": {number}}}\n' for number in range(5000)))
    before = path.read_bytes()
    with Dataset.open(path) as dataset:
        with pytest.raises(Failed, match="nothing has changed"):
            edit.delete(
                dataset, gone, keep, lambda row, _rows: told.append(row), lambda: bool(told)
            )
        assert told and told[0] < 1200
        assert path.read_bytes() == before
        edit.delete(dataset, gone, keep)
    left = [line for number, line in enumerate(before.splitlines(True)) if number not in gone]
    assert path.read_bytes() == b"".join(left)
