"""Replacing in every format, in large files, and where it cannot be done."""

from __future__ import annotations

import gzip
import json
import random
import resource
import signal

import pytest

from engine.dataset.editing import blocks
from engine.dataset.editing.needles import Needles
from engine.dataset.editing.replace import replace
from engine.errors import Failed, Problem

OLD, NEW = "尖米", "Super Nova"
ROWS = [
    {"instruction": f"你是谁 {n}", "output": "我是尖米" if n % 7 == 0 else "我"} for n in range(60)
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "SIZE", 300)


def changed(rows):
    return json.loads(json.dumps(rows, ensure_ascii=False).replace(OLD, NEW))


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_blocks_of_an_array(tmp_path, indent, ascii_only, nested):
    rows = [{"conversation": [row, row]} for row in ROWS] if nested else ROWS
    path = tmp_path / "data.json"
    text = json.dumps(rows, ensure_ascii=ascii_only, indent=indent)
    path.write_text(text)
    result = replace(path, OLD, NEW, out=tmp_path / "out.json")
    out = (tmp_path / "out.json").read_text()
    assert out == text.replace(OLD, NEW).replace("\\u5c16\\u7c73", NEW)
    assert (result.rows, result.rows_changed) == (60, 9)
    assert result.replacements == (18 if nested else 9)
    listed = replace(path, OLD, NEW, dry_run=True)
    assert listed.replacements == result.replacements
    lines = out.split("\n")
    assert all(NEW in lines[place.line - 1] or indent for place in listed.places)
    assert [place.row for place in listed.places[:: 2 if nested else 1]] == list(range(0, 60, 7))


def test_blocks_of_lines(tmp_path):
    lines = [json.dumps(row, ensure_ascii=number % 2 == 0) for number, row in enumerate(ROWS)]
    lines[20] = '{"broken": "尖米"'
    text = "\n".join([*lines[:30], "", *lines[30:]])
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    result = replace(path, OLD, NEW, out=tmp_path / "out.jsonl")
    found = (tmp_path / "out.jsonl").read_text().split("\n")
    assert found[20] == lines[20] and result.broken == [20] and result.rows == 60
    rows = [json.loads(line) for line in found if line and "broken" not in line]
    assert rows == changed([row for number, row in enumerate(ROWS) if number != 20])
    listed = replace(path, OLD, NEW, dry_run=True).places
    assert [(place.row, place.line) for place in listed[3:7]] == [
        (21, 22),
        (28, 29),
        (35, 37),
        (42, 44),
    ]


def test_names_are_left_and_strange_rows_are_found(tmp_path):
    rows = ['{"尖米" : "尖米", "a": {"尖米": "\\n尖米\\\\"}}', '{"a": NaN, "b": "尖米"}'] * 9
    text = "[" + ", ".join(rows) + "]"
    path = tmp_path / "data.json"
    path.write_text(text)
    assert replace(path, OLD, NEW, out=tmp_path / "out.json").replacements == 27
    expected = text.replace('"尖米", "a"', '"Super Nova", "a"').replace("\\n尖米", "\\nSuper Nova")
    expected = expected.replace('"b": "尖米"', '"b": "Super Nova"')
    assert (tmp_path / "out.json").read_text() == expected


@pytest.mark.parametrize("seed", range(40))
def test_no_spelling_is_overlooked(seed):
    random_ = random.Random(seed)
    old = "".join(random_.choices('尖a/"\n\\😀', k=random_.randrange(1, 4)))

    def spelled(character):
        escaped = "".join(f"\\u{unit:04x}" for unit in units(character))
        ways = [json.dumps(character)[1:-1], escaped, escaped.upper().replace("\\U", "\\u")]
        ways += ["\\/"] if character == "/" else []
        ways += [character] if character not in '"\\\n' else []
        return random_.choice(ways)

    def units(character):
        raw = character.encode("utf-16-be")
        return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]

    for _try in range(30):
        literal = "xy" + "".join(map(spelled, old)) + "z"
        assert old in json.loads(f'"{literal}"')
        places = Needles(old).places(literal.encode())
        assert places is None or 2 in places, literal


def test_cells_keep_their_quotes(tmp_path):
    text = 'question,"answer",n\r\n你是谁,"我是尖米, ""尖米""",1\r\n尖米,"a\nb",2\r\nx,y,3\r\n'
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode())
    result = replace(path, OLD, 'Super, "Nova"', out=tmp_path / "out.csv")
    assert (result.rows, result.rows_changed, result.replacements) == (3, 2, 3)
    assert (tmp_path / "out.csv").read_bytes().decode() == (
        'question,"answer",n\r\n'
        '你是谁,"我是Super, ""Nova"", ""Super, ""Nova""""",1\r\n'
        '"Super, ""Nova""","a\nb",2\r\nx,y,3\r\n'
    )
    (place,) = replace(path, OLD, NEW, fields=["question"], dry_run=True).places
    assert (place.row, place.field, place.after) == (1, "question", NEW)


def test_compressed_stays_compressed(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    replace(path, OLD, NEW, out=tmp_path / "out.jsonl.gz")
    text = gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).decode()
    assert [json.loads(line) for line in text.splitlines()] == changed(ROWS)


def test_zst_stays_zst(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    path, out = tmp_path / "data.jsonl.zst", tmp_path / "out.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(lines))
    result = replace(path, OLD, NEW, out=out)
    assert (result.rows, result.replacements) == (60, 9)
    with zstandard.open(out, "rt", encoding="utf-8") as made:
        assert [json.loads(line) for line in made] == changed(ROWS)


def test_columns_keep_their_schema(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    turn = pa.struct([("input", pa.string()), ("n", pa.int32())])
    table = pa.table(
        {
            "text": pa.array([OLD, None, "x"], pa.large_string()),
            "turns": pa.array([[{"input": OLD, "n": 1}], [], None], pa.list_(turn)),
            "number": pa.array([1, 2, 3], pa.int16()),
        }
    ).replace_schema_metadata({"kept": "yes"})
    parquet.write_table(table, tmp_path / "data.parquet", compression="gzip", row_group_size=2)
    with ipc.new_stream(str(tmp_path / "data.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name, read in {
        "parquet": parquet.read_table,
        "arrow": lambda path: ipc.open_stream(path.read_bytes()).read_all(),
    }.items():
        out = tmp_path / f"out.{name}"
        result = replace(tmp_path / f"data.{name}", OLD, NEW, out=out)
        assert (result.rows, result.rows_changed, result.replacements) == (3, 1, 2)
        made = read(out)
        assert made.schema.equals(read(tmp_path / f"data.{name}").schema, check_metadata=True)
        assert made.to_pylist() == changed(table.to_pylist())
        (first, second) = replace(tmp_path / f"data.{name}", OLD, NEW, dry_run=True).places
        assert (first.field, second.field, first.line) == ("text", "turns[0].input", 0)
    written = parquet.ParquetFile(tmp_path / "out.parquet").metadata
    assert (written.num_row_groups, written.row_group(0).column(0).compression) == (2, "GZIP")


def test_a_folder_becomes_a_folder(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    for number in (0, 1):
        rows = ROWS[30 * number : 30 * (number + 1)]
        (source / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = replace(source, OLD, NEW, out=tmp_path / "out")
    assert (result.rows, result.replacements) == (60, 9)
    lines = [line for number in (0, 1) for line in (tmp_path / f"out/{number}.jsonl").open("rb")]
    assert [json.loads(line) for line in lines] == changed(ROWS)
    places = replace(source, OLD, NEW, dry_run=True).places
    assert [place.row for place in places] == list(range(0, 60, 7))
    with pytest.raises(Problem, match="holds the files"):
        replace(source, OLD, NEW, out=tmp_path, force=True)


def test_a_full_disk_leaves_nothing(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS * 20))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(Failed) as caught:
            replace(path, OLD, NEW, out=tmp_path / "out.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "Nothing was written" in caught.value.todo
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.json"]
