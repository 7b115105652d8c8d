"""Opening and paging, against Python's own json on the same bytes."""

from __future__ import annotations

import json
import random

import pytest

from engine.dataset.files import offsets
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem


def write(tmp_path, content: bytes | str, name="data.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(dataset):
    return [row.value for row in dataset.records()]


def as_rows(elements, text):
    """What datasets makes of an array: objects, or else texts (whatever they are)."""
    objects = "{" in text[:100].split('"', 1)[0]
    return elements if objects else [{"text": element} for element in elements]


ROWS = [
    {"instruction": "你是谁 [", "input": "", "output": 'a "quoted" } \\'},
    {"instruction": "\\\\", "input": "{[", "output": "ends in a backslash \\"},
    {"instruction": "tab\tand\nline", "input": "😀", "output": "x"},
]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("kind", ["compact", "indented", "lines", "blank lines"])
def test_rows_and_their_lines(tmp_path, bom, newline, ascii_only, kind):
    if kind == "compact":
        text = json.dumps(ROWS, ensure_ascii=ascii_only)
        lines = [1, 1, 1]
    elif kind == "indented":
        text = json.dumps(ROWS, ensure_ascii=ascii_only, indent=4) + "\n"
        lines = [2, 7, 12]
    else:
        between = "\n" if kind == "lines" else "\n  \n\n"
        text = between.join(json.dumps(row, ensure_ascii=ascii_only) for row in ROWS)
        lines = [1, 2, 3] if kind == "lines" else [1, 4, 7]
    path = write(tmp_path, bom + text.replace("\n", newline).encode())
    with Dataset.open(path) as dataset:
        assert dataset.format == ("jsonl" if "lines" in kind else "json")
        assert dataset.shape == "alpaca"
        assert values(dataset) == ROWS
        assert dataset.rows == 3
        assert [row.line for row in dataset.page(0, 10)] == lines
        assert [dataset.line(index) for index in range(3)] == lines
        assert [json.loads(dataset.raw(index)) for index in range(3)] == ROWS
        assert dataset.row(2) == ROWS[2]
        assert [row.index for row in dataset.page(1, 1)] == [1]
        assert dataset.faults() == []


def random_text(random_):
    pieces = ['"', "\\", "\\\\", "[", "]", "{", "}", ",", ":", "尖", "😀", "\n", " ", "x" * 30]
    return "".join(random_.choices(pieces, k=random_.randrange(8)))


def random_value(random_, depth=0):
    kind = random_.randrange(7 if depth < 4 else 5)
    if kind < 2:
        return random_text(random_)
    if kind < 5:
        return [None, True, 12.5][kind - 2]
    if kind == 5:
        return [random_value(random_, depth + 1) for _ in range(random_.randrange(4))]
    return {random_text(random_): random_value(random_, depth + 1) for _ in range(3)}


@pytest.mark.parametrize("seed", range(60))
def test_any_rows_in_chunks_of_any_size(tmp_path, monkeypatch, seed):
    random_ = random.Random(seed)
    monkeypatch.setattr(offsets, "CHUNK", random_.choice([1, 2, 3, 7, 64, 1000]))
    monkeypatch.setattr(offsets, "MARK", random_.choice([1, 2, 1024]))
    rows = [random_value(random_) for _ in range(random_.randrange(1, 12))]
    options = {"ensure_ascii": random_.random() < 0.5}
    if random_.random() < 0.5:
        text = json.dumps(rows, indent=random_.choice([None, 0, 1, 4]), **options)
        path = write(tmp_path, text)
        rows = as_rows(rows, text)
    else:
        rows[0] = {"a": rows[0]}
        path = write(tmp_path, "\n".join(json.dumps(row, **options) for row in rows))
    with Dataset.open(path) as dataset:
        assert values(dataset) == rows
        assert dataset.faults() == []
        whole = dataset.head() + b"".join(span for _row, span in dataset.spans()) + dataset.tail()
        assert whole == path.read_bytes()
        at = len(dataset.head())
        for index, span in dataset.spans():
            assert dataset.line(index) == whole.count(b"\n", 0, at) + 1
            at += len(span)


def test_the_first_page_comes_before_the_rest_is_read(tmp_path):
    row = json.dumps({"conversation": [{"input": "x" * 1000, "output": "y"}]})
    path = write(tmp_path, "[" + ",\n".join([row] * 20_000) + "]")
    with Dataset.open(path) as dataset:
        assert len(dataset.page(0, 50)) == 50
        assert dataset.rows is None
        assert dataset.known < 5000
        seen = []
        assert dataset.index(lambda done, total: seen.append((done, total))) == 20_000
        assert dataset.rows == 20_000
        assert seen == sorted(seen) and seen[-1] == (path.stat().st_size,) * 2
        assert dataset.page(19_999, 5)[0].line == 20_000


def test_indexing_can_be_cancelled_and_taken_up_again(tmp_path):
    path = write(tmp_path, '{"instruction": "a", "output": "b"}\n' * 200_000)
    with Dataset.open(path) as dataset:
        with pytest.raises(Failed):
            dataset.index(cancelled=lambda: True)
        assert dataset.rows is None
        assert dataset.index() == 200_000


def test_one_object_on_one_line_is_one_row(tmp_path):
    with Dataset.open(write(tmp_path, '{"instruction": "a", "output": "b"}')) as dataset:
        assert dataset.index() == 1


def test_an_empty_array_has_no_rows(tmp_path):
    with Dataset.open(write(tmp_path, " [ ] \n")) as dataset:
        assert (dataset.index(), dataset.page(0, 5), dataset.faults()) == (0, [], [])


def test_an_array_called_jsonl_is_read_as_what_it_is(tmp_path):
    path = write(tmp_path, json.dumps(ROWS, indent=1), "data.jsonl")
    with Dataset.open(path) as dataset:
        assert dataset.format == "json"
        assert values(dataset) == ROWS


def test_rows_that_are_no_objects_keep_their_numbers(tmp_path):
    rows = [1, {"a": [1, 2]}, None, "x, [y", [], -2.5e3, {"b": {}}, True]
    with Dataset.open(write(tmp_path, json.dumps(rows))) as dataset:
        assert values(dataset) == rows


def test_a_row_that_is_not_there(tmp_path):
    with Dataset.open(write(tmp_path, json.dumps(ROWS))) as dataset:
        for index in (3, -1):
            with pytest.raises(Problem, match="There is no row") as caught:
                dataset.row(index)
            assert "3 rows" in caught.value.why


def test_the_fingerprint_follows_the_content(tmp_path):
    path = write(tmp_path, json.dumps(ROWS))
    with Dataset.open(path) as dataset:
        first = dataset.fingerprint()
        assert dataset.fingerprint() == first
    write(tmp_path, json.dumps(ROWS).replace("x", "y"))
    with Dataset.open(path) as dataset:
        assert dataset.fingerprint() != first


# -- bad input ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PAR1\x00", "Parquet"),
        (b"\xff\xfe[\x00", "UTF-16"),
        (b"\n\n  hello", "Line 3, column 3"),
        (b'{\n  "data": [1, 2]\n}', "one object"),
    ],
)
def test_what_is_no_dataset_is_said(tmp_path, content, why):
    with pytest.raises(Problem) as caught:
        Dataset.open(write(tmp_path, content))
    assert caught.value.status == 2
    assert why in caught.value.why
    assert caught.value.todo


def test_missing_file_folder_and_pipe(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for name, why in (("gone.json", "no such file"), (".", "folder"), ("pipe", "regular")):
        with pytest.raises(Problem) as caught:
            Dataset.open(tmp_path / name)
        assert why in caught.value.why
        assert caught.value.status == 2


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ('{"instruction": "a" "output": "b"}', 21, "a comma or a closing bracket is missing"),
        ('{"instruction": "a", }', 22, "a name in double quotes"),
        ('{"尖米" "a"}', 7, "a colon is missing"),
        ('{"a": "\\q"}', 8, "a backslash that escapes nothing"),
        ('{"a": }', 7, "a value is missing"),
        ('{"a": "x}', 7, "a string that is not closed"),
        ('{"a": 1} 2', 10, "more text behind the row"),
        ("[" * 100_000 + "]" * 100_000, 1, "nested too deep"),
    ],
)
def test_a_broken_line_is_one_broken_row(tmp_path, row, column, reason):
    good = '{"instruction": "a", "output": "b"}'
    path = write(tmp_path, f"{good}\n{row}\n{good}\n", "data.jsonl")
    with Dataset.open(path) as dataset:
        page = dataset.page(0, 10)
        assert [found.value is not None for found in page] == [True, False, True]
        assert page[1].problem.startswith(f"line 2, column {column}: ")
        assert reason in page[1].problem
        with pytest.raises(Problem) as caught:
            dataset.row(1)
        assert f"line 2, column {column}" in caught.value.why
        assert dataset.row(2)["output"] == "b"


def test_a_broken_first_line_is_one_broken_row_too(tmp_path):
    path = write(tmp_path, '{"instruction": \n{"instruction": "a", "input": "", "output": "b"}\n')
    with Dataset.open(path) as dataset:
        assert [row.problem is None for row in dataset.page(0, 9)] == [False, True]
        assert dataset.shape == "alpaca"


def test_bytes_that_are_not_utf8(tmp_path):
    path = write(tmp_path, b'{"a": "x"}\n{"a": "\xe5\xb0"}\n', "data.jsonl")
    with Dataset.open(path) as dataset:
        assert dataset.page(1, 1)[0].problem.startswith(
            "line 2, column 8: a byte that is not UTF-8"
        )


@pytest.mark.parametrize("text", ["我是尖米，你好", "某某人", "你好"])
@pytest.mark.parametrize(
    ("name", "line"), [("a.jsonl", '{"a": "x", "b": "%s"}\n'), ("a.csv", "x,%s\n")]
)
def test_a_row_in_the_encoding_of_chinese_windows_is_known(tmp_path, text, name, line):
    """Rows from several machines: the rest is UTF-8, so the file is no GBK."""
    others = (line % "b" + line % "中文" * 3).encode()
    path = write(tmp_path, others + (line % text).encode("gbk") + others, name)
    with Dataset.open(path) as dataset:
        told = [row.problem for row in dataset.page(0, 20) if row.problem]
    column = line.index("%") + 1
    assert told == [f"line 5, column {column}: not UTF-8 but GBK: {text}"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("ÄÖÜß", "latin-1"),
        ("Привет", "cp1251"),
        ("こんにちは", "euc-jp"),
        ("人地".encode()[:4], ""),
    ],
)
def test_a_row_in_another_encoding_is_not_called_gbk(tmp_path, text, encoding):
    raw = text.encode(encoding) if encoding else text
    path = write(tmp_path, b'{"a": "x"}\n{"a": "%s"}\n' % raw, "data.jsonl")
    with Dataset.open(path) as dataset:
        assert dataset.page(1, 1)[0].problem.endswith(": a byte that is not UTF-8")


def test_a_broken_row_inside_an_array(tmp_path):
    text = '[\n  {"a": 1},\n  {\n    "a" 2\n  },\n  {"a": 3}\n]'
    with Dataset.open(write(tmp_path, text)) as dataset:
        page = dataset.page(0, 10)
        assert [row.value for row in page] == [{"a": 1}, None, {"a": 3}]
        assert page[1].problem.startswith("line 4, column 9: a colon is missing")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('[{"a": 1} {"a": 2}]', "line 1, column 11", "a comma is missing between two rows"),
        ('[{"a": 1},\n]', "line 2, column 1", "a comma with no row behind it"),
        ('[{"a": 1},,{"a": 2}]', "line 1, column 11", "separates nothing"),
        ('[,{"a": 1}]', "line 1, column 2", "separates nothing"),
        ('[{"a": "尖"}] 5', "line 1, column 14", "behind the end"),
        ('[{"a": 1}] {"a": 2}', "line 1, column 13", "behind the end"),
        ('[{"a": 1}]]', "line 1, column 11", "closes nothing"),
        ('[{"a": 1},\n {"a": 2}', "line 2, column 10", "before the array is closed"),
        ('[{"a": 1}}', "line 1, column 10", "should stand"),
        ("[\n1", "line 2, column 2", "before the array is closed"),
    ],
)
def test_what_is_wrong_between_the_rows_of_an_array(tmp_path, text, place, reason):
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    with Dataset.open(write(tmp_path, text)) as dataset:
        dataset.index()
        faults = [fault for _row, fault in dataset.faults()]
        assert faults
        assert faults[0].startswith(place)
        assert reason in faults[0]


@pytest.mark.parametrize("seed", range(300))
def test_no_broken_array_passes_for_a_right_one(tmp_path, seed):
    """Any byte taken out, doubled or changed: what json refuses, the reader notices."""
    random_ = random.Random(seed)
    content = bytearray(json.dumps(ROWS, indent=random_.choice([None, 1])).encode())
    at = random_.randrange(1, len(content))
    random_.choice(
        [
            lambda: content.pop(at),
            lambda: content.insert(at, content[at]),
            lambda: content.__setitem__(at, random_.choice(b'"\\{}[],: x\n')),
        ]
    )()
    try:
        expected = json.loads(bytes(content))
    except ValueError:
        expected = None
    with Dataset.open(write(tmp_path, bytes(content))) as dataset:
        rows = list(dataset.records())
        if expected is None:
            assert dataset.faults() or any(row.problem for row in rows)
        else:
            assert [row.value for row in rows] == expected
            assert not dataset.faults()
