"""Replacing: only what was asked for changes, to the byte."""

from __future__ import annotations

import json
import os
import random
import stat

import pytest

from engine.dataset.editing.replace import excerpt, replace
from engine.errors import Problem

NEW = "Super Nova"


def write(tmp_path, content: bytes | str, name="data.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def replaced(tmp_path, content, old="尖米", new=NEW, **options):
    """What `content` becomes, and the result."""
    path = write(tmp_path, content)
    result = replace(path, old, new, out=tmp_path / "out.json", force=True, **options)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    return (tmp_path / "out.json").read_bytes(), result


PRETTY = (
    "\ufeff[\r\n"
    '    { "output" : "我是尖米, 尖米!",\t"n": 1.50, "instruction":"你是谁\\n"  },\r\n'
    '    {"尖米": null, "instruction": "a \\"尖米\\" \\u5c16\\u7c73\\/", "output": "\\u4f60好"}\r\n'
    "]\r\n\r\n"
)


def test_everything_else_stays_as_it_is(tmp_path):
    out, result = replaced(tmp_path, PRETTY)
    assert out.decode() == (
        "\ufeff[\r\n"
        '    { "output" : "我是Super Nova, Super Nova!",\t"n": 1.50, '
        '"instruction":"你是谁\\n"  },\r\n'
        '    {"尖米": null, "instruction": "a \\"Super Nova\\" Super Nova\\/", '
        '"output": "\\u4f60好"}\r\n'
        "]\r\n\r\n"
    )
    assert (result.rows, result.rows_changed, result.replacements) == (2, 2, 4)
    assert result.out == str(tmp_path / "out.json")
    assert stat.S_IMODE((tmp_path / "out.json").stat().st_mode) == 0o600


def test_an_escaped_file_stays_escaped(tmp_path):
    rows = [{"instruction": "你是谁", "output": "我是尖米😀"}]
    out, _ = replaced(tmp_path, json.dumps(rows), "我是尖米", "它叫新星")
    assert out == json.dumps([{"instruction": "你是谁", "output": "它叫新星😀"}]).encode()
    out, _ = replaced(tmp_path, json.dumps(rows), "😀", "é")
    assert out == json.dumps([{"instruction": "你是谁", "output": "我是尖米é"}]).encode()
    # In a file that writes its characters as they are, so is what is put in.
    out, _ = replaced(tmp_path, '[{"a": "plain"}]', "plain", "新星")
    assert out.decode() == '[{"a": "新星"}]'


def test_what_json_must_escape_is_escaped(tmp_path):
    new = 'a "b"\n\\ \x01'
    out, _ = replaced(tmp_path, '[{"a": "x尖米y"}]', new=new)
    assert json.loads(out) == [{"a": f"x{new}y"}]
    out, _ = replaced(tmp_path, '{"a": "say \\"hi\\"\\/\\t\\u0022"}\n', '"hi"/\t"', "ok")
    assert out.decode() == '{"a": "say ok"}\n'


def test_a_text_is_no_pattern_unless_asked(tmp_path):
    content = '{"a": "x.y xzy"}\n'
    out, _ = replaced(tmp_path, content, "x.y", "\\1$&")
    assert json.loads(out) == {"a": "\\1$& xzy"}
    out, result = replaced(tmp_path, content, r"x(.)y", r"<\1>", regex=True)
    assert json.loads(out) == {"a": "<.> <z>"}
    assert result.replacements == 2


def test_only_the_fields_asked_for(tmp_path):
    turn = {"system": "尖米", "input": "尖米", "output": "尖米"}
    row = {"conversation": [turn, turn], "note": {"input": "尖米"}}
    content = json.dumps([row], ensure_ascii=False)

    def at(*fields):
        out, result = replaced(tmp_path, content, fields=fields)
        (changed,) = json.loads(out)
        return result.replacements, changed

    count, changed = at("output")
    assert count == 2
    assert [one["output"] for one in changed["conversation"]] == [NEW, NEW]
    assert changed["conversation"][0]["input"] == "尖米"
    assert at("conversation.input")[0] == 2
    assert at("input")[0] == 3
    assert at("conversation")[0] == 6
    assert at("system", "note")[0] == 3
    assert at("nothing")[0] == 0


def test_a_dry_run_lists_every_place_and_writes_nothing(tmp_path):
    path = write(tmp_path, PRETTY)
    result = replace(path, "尖米", NEW, out=tmp_path / "out.json", dry_run=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.json"]
    assert [(place.row, place.line, place.field, place.count) for place in result.places] == [
        (0, 2, "output", 2),
        (1, 3, "instruction", 2),
    ]
    assert result.places[0].before == "我是尖米, 尖米!"
    assert result.places[0].after == "我是Super Nova, Super Nova!"
    nested = write(tmp_path, '[{"conversation": [{"input": "a"}, {"output": "尖米"}]}]')
    (place,) = replace(nested, "尖米", NEW, dry_run=True).places
    assert place.field == "conversation[1].output"


def test_an_excerpt_shows_the_change(tmp_path):
    path = write(tmp_path, json.dumps([{"a": "x" * 500 + "尖米" + "y" * 500}]))
    (place,) = replace(path, "尖米", NEW, dry_run=True).places
    before, after = excerpt(place, 40)
    assert "尖米" in before and NEW in after
    assert max(len(before), len(after)) <= 42


def test_nothing_found_is_a_copy(tmp_path):
    out, result = replaced(tmp_path, PRETTY, "absent", "x")
    assert out.decode() == PRETTY
    assert (result.rows, result.rows_changed, result.replacements) == (2, 0, 0)


@pytest.mark.parametrize("seed", range(80))
def test_the_same_as_replacing_in_the_values(tmp_path, seed):
    random_ = random.Random(seed)
    pieces = ["尖米", "尖", "米", '"', "\\", "\n", "/", "😀", "u5c16", "a", "{", ",", "[", ":"]

    def text():
        return "".join(random_.choices(pieces, k=random_.randrange(12)))

    rows = [
        {"instruction": text(), text() + "k": [text(), {"x": text(), "y": [None, 1, True]}]}
        for _ in range(random_.randrange(1, 6))
    ]
    old = random_.choice(["尖米", "尖", "\n", '"', "\\", "/", "米a", "😀"])
    new = random_.choice(["", "x", "新", '"', "\\", "\n", "😀😀", old + old])

    def expected(value):
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, list):
            return [expected(item) for item in value]
        if isinstance(value, dict):
            return {key: expected(item) for key, item in value.items()}
        return value

    options = {"ensure_ascii": random_.random() < 0.5, "indent": random_.choice([None, 2])}
    content = json.dumps(rows, **options).replace("/", random_.choice(["/", "\\/"]))
    out, result = replaced(tmp_path, content, old, new)
    assert json.loads(out) == expected(rows)
    if old != new:
        assert result.replacements == sum(text.count(old) for row in rows for text in _texts(row))


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def test_lone_surrogates_and_nan_pass_through(tmp_path):
    content = '{"a": "\\ud83d 尖米 \\ude00", "b": NaN}\n'
    out, _ = replaced(tmp_path, content)
    assert out.decode() == content.replace("尖米", NEW)


# -- refusals -----------------------------------------------------------------


def refused(path, *arguments, **options):
    before = {entry.name for entry in path.parent.iterdir()}
    with pytest.raises(Problem) as caught:
        replace(path, *arguments, **options)
    assert {entry.name for entry in path.parent.iterdir()} == before
    assert caught.value.status == 2
    return caught.value


def test_the_original_is_never_the_target(tmp_path):
    path = write(tmp_path, PRETTY)
    (tmp_path / "link.json").symlink_to(path)
    os.link(path, tmp_path / "hard.json")
    for name in ("data.json", "link.json", "hard.json"):
        problem = refused(path, "尖米", NEW, out=tmp_path / name, force=True)
        assert "is the file that is read" in problem.what
    assert path.read_bytes().decode() == PRETTY


def test_an_existing_target_wants_force(tmp_path):
    path = write(tmp_path, PRETTY)
    write(tmp_path, "mine", "out.json")
    assert "exists already" in refused(path, "尖米", NEW, out=tmp_path / "out.json").what
    assert (tmp_path / "out.json").read_text() == "mine"
    replace(path, "尖米", NEW, out=tmp_path / "out.json", force=True)
    assert NEW in (tmp_path / "out.json").read_text()


def test_a_folder_is_no_target(tmp_path):
    path = write(tmp_path, PRETTY)
    (tmp_path / "folder").mkdir()
    assert "folder" in refused(path, "尖米", NEW, out=tmp_path / "folder", force=True).why


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('[{"a": "尖米"},\n {"a" 1}]', "line 2, column 7"),
        ('[{"a": "尖米"}\n {"a": 1}]', "line 2, column 2"),
        ('[{"a": "尖米"},\n {"a": "x"}', "line 2, column 12"),
        (b'[{"a": "\xff"}]', "line 1, column 9"),
    ],
)
def test_a_broken_array_is_refused_with_its_place(tmp_path, content, place):
    problem = refused(write(tmp_path, content), "尖米", NEW, out=tmp_path / "out.json")
    assert place in problem.why


def test_a_broken_line_is_copied_and_named(tmp_path):
    content = '{"a": "尖米"}\n{"a": "尖米"\n\n{"a": "尖米"}\n'
    path = write(tmp_path, content, "data.jsonl")
    result = replace(path, "尖米", NEW, out=tmp_path / "out.jsonl")
    assert result.broken == [1]
    assert result.replacements == 2
    assert (tmp_path / "out.jsonl").read_text() == (
        '{"a": "Super Nova"}\n{"a": "尖米"\n\n{"a": "Super Nova"}\n'
    )


@pytest.mark.parametrize(
    ("old", "new", "options", "word"),
    [
        ("", "x", {}, "look for"),
        ("(", "x", {"regex": True}, "regular expression"),
        ("x*", "y", {"regex": True}, "nothing at all"),
        ("x", r"\1", {"regex": True}, "cannot be put in"),
        ("(x)", r"\g<name>", {"regex": True}, "cannot be put in"),
    ],
)
def test_what_cannot_be_meant(tmp_path, old, new, options, word):
    path = write(tmp_path, PRETTY)
    assert word in refused(path, old, new, out=tmp_path / "out.json", **options).what


def test_without_a_target_nothing_is_done(tmp_path):
    assert refused(write(tmp_path, PRETTY), "尖米", NEW).ways == ("out",)
