"""Any columns made into conversations: the mapping, the module that is written, the suggestion."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.cli.main import main
from engine.dataset import mapping, shapes, suggest
from engine.dataset.mapping import Mapping, apply, read_map_module, write_map_module
from engine.errors import Problem

QA = Mapping(question="问题", extra=("背景", "more"), answer="回答", system="系统")
TALK = Mapping(
    messages="talk",
    role="who",
    text="says",
    roles=(("boss", "system"), ("me", "question"), ("you", "answer")),
    loss="loss",
    system_text="S",
)
ODD = Mapping(
    question='it\'s "quoted"',
    extra=("a\nb\\", "tab\t", "\x1b[2J\u2028\ud800", "x" * 60),
    answer='"""',
    system_text="{input} %s 😀 " + "very long " * 20,
)


def said(*turns):
    return {"talk": [{"who": who, "says": says} for who, says in turns]}


def test_columns_become_one_turn():
    row = {"问题": "q", "背景": "b", "more": None, "回答": 42, "系统": "s", "id": 1}
    assert apply(QA, row) == [{"system": "s", "input": "q\nb", "output": "42"}]
    assert apply(QA, {"问题": None, "回答": "a"}) == [{"system": "", "input": "", "output": "a"}]
    assert apply(QA, {"问题": "q", "回答": ""}) == [], "which XTuner drops"
    assert apply(Mapping(answer="a", system_text="S"), {"a": "b"})[0]["system"] == "S"


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"回答": "a"}, KeyError),
        ({"问题": "q"}, KeyError),
        ({"问题": ["q"], "回答": "a"}, TypeError),
    ],
)
def test_a_row_that_does_not_fit_is_an_error_as_in_training(row, error):
    with pytest.raises(error):
        apply(QA, row)


def test_messages_become_turns():
    row = said(("boss", "s"), ("me", "q"), ("you", "a"), ("me", "q2"), ("you", "a2"))
    row["talk"][4]["loss"] = False
    assert apply(TALK, row) == [
        {"system": "s", "input": "q", "output": "a", "output_with_loss": True},
        {"system": "", "input": "q2", "output": "a2", "output_with_loss": False},
    ]


def test_messages_out_of_order_are_joined_or_left_out():
    row = said(("you", "hello"), ("me", "q"), ("me", "r"), ("you", "a"), ("you", "b"), ("me", "?"))
    (turn,) = apply(TALK, row)
    assert (turn["system"], turn["input"], turn["output"]) == ("S", "q\nr", "a\nb")
    assert apply(TALK, said(("me", "q"))) == []
    assert apply(TALK, {"talk": None}) == []


def test_parts_of_a_message_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    (turn,) = apply(TALK, said(("me", parts), ("you", None)))
    assert (turn["input"], turn["output"]) == ("ab", "")
    with pytest.raises(TypeError, match="not text"):
        apply(TALK, said(("me", [{"type": "image_url"}]), ("you", "a")))
    with pytest.raises(KeyError, match="tool"):
        apply(TALK, said(("tool", "a")))


@pytest.mark.parametrize("wanted", [QA, TALK, ODD, Mapping(answer="a")])
def test_a_module_that_was_written_is_read_back(tmp_path, wanted):
    path = write_map_module(wanted, tmp_path / "data_map.py")
    assert read_map_module(path) == wanted
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"from {path.stem} import map_fn" in path.read_text(encoding="utf-8")


def test_a_module_stands_alone_and_is_formatted(tmp_path):
    row = said(("me", "你是谁"), ("you", "尖米"))
    paths = [
        write_map_module(wanted, tmp_path / f"m{number}.py")
        for number, wanted in enumerate((QA, TALK, ODD, Mapping(answer="a")))
    ]
    code = f"import json, m1; print(json.dumps(m1.map_fn({row!r})))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["conversation"] == apply(TALK, row)
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "format", "--check", "--line-length", "100", *paths], check=True)
    subprocess.run([*ruff, "check", "--select", "E9,F,I,D1", *paths], check=True)


def test_constants_may_be_changed_by_hand_and_nothing_else(tmp_path):
    path = write_map_module(QA, tmp_path / "data_map.py")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('("背景", "more")', '("more",)  # not 背景'), encoding="utf-8")
    assert read_map_module(path) == Mapping(
        question="问题", extra=("more",), answer="回答", system="系统"
    )
    for old, new in (
        ('"\\n".join', '" ".join'),
        ('ANSWER: str = "回答"', "ANSWER: str = 5"),
        ('ANSWER: str = "回答"', 'ANSWER: str = input("")'),
        ('ANSWER: str = "回答"', 'ANSWER: str = ""'),
        ("from typing", "import os\nfrom typing"),
    ):
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        assert read_map_module(path) is None, new


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "no such file"), ("def map_fn(", "not Python"), ("def other(row): ...", "map_fn")],
)
def test_a_module_that_cannot_be_used(tmp_path, text, why):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Problem) as caught:
        shapes.by_name(str(path))
    assert str(path) in caught.value.what and why in caught.value.why


@pytest.mark.parametrize("name", ["my-map.py", "data_map.txt", "1map.py", "class.py", "json.py"])
def test_a_name_that_no_config_can_import_is_refused(tmp_path, name):
    with pytest.raises(Problem, match="cannot be the name") as caught:
        write_map_module(QA, tmp_path / name)
    assert "_map.py" in caught.value.todo
    assert not (tmp_path / name).exists()


def test_names_for_modules():
    assert mapping.module_name("my-data.v2") == "my_data_v2_map"
    assert mapping.module_name("2024 问答") == "data_2024_问答_map"
    assert mapping.module_name("---") == "data_map"


def test_what_is_there_is_not_overwritten_and_what_is_incomplete_not_written(tmp_path):
    path = write_map_module(QA, tmp_path / "data_map.py")
    with pytest.raises(Problem, match="exists already"):
        write_map_module(TALK, path)
    write_map_module(TALK, path, force=True)
    assert read_map_module(path) == TALK
    for unfinished in (Mapping(question="q"), Mapping(messages="m", role="r", text="t")):
        with pytest.raises(Problem, match="where the answers are"):
            write_map_module(unfinished, tmp_path / "other_map.py")


def test_a_module_is_a_shape(tmp_path):
    shape = shapes.by_name(str(write_map_module(QA, tmp_path / "data_map.py")))
    row = {"问题": "q", "回答": "a"}
    assert shape.turns(row) == [("q", "a", "")]
    assert shape.check(3, row) == []
    (finding,) = shape.check(3, {"问题": "q"})
    assert (finding.row, finding.field, finding.level) == (3, "回答", shapes.ERROR)
    own = tmp_path / "own.py"
    own.write_text("raise SystemExit\ndef map_fn(row): ...\n")
    other = shapes.by_name(str(own))
    assert other.module == str(own), "it is not run here"
    assert (other.turns(row), other.check(0, row)) == ([], [])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "q", "response": "a"}, Mapping(question="prompt", answer="response")),
        (
            {"id": "7", "问题": "q", "标准答案": "a", "背景": "b", "系统提示词": "s"},
            Mapping(question="问题", answer="标准答案", extra=("背景",), system="系统提示词"),
        ),
        (
            {"instruction": "q", "input": "x", "output": "a"},
            Mapping(question="instruction", answer="output", extra=("input",)),
        ),
        ({"User Query": "q", "bot-reply": "a"}, Mapping(question="User Query", answer="bot-reply")),
        ({"title": "q", "body": "a", "n": 1}, Mapping(question="title", answer="body")),
        ({"body": "a", "n": 1}, Mapping(answer="body")),
        (
            {"id": "a", "chat": [{"Role": "Human", "text": "q"}, {"Role": "Bot", "text": "a"}]},
            Mapping(
                messages="chat",
                role="Role",
                text="text",
                roles=(("Human", "question"), ("Bot", "answer")),
            ),
        ),
        ({"n": 1, "tags": ["a"]}, None),
        ("text", None),
    ],
)
def test_a_mapping_is_suggested(row, expected):
    assert suggest.suggest([row, {"id": None}]) == expected


# -- the verb -----------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"编号": "1", "问题": "你是谁", "背景": "b", "回答": "我是尖米"},
        {"编号": "2", "问题": "q", "背景": "", "回答": "a"},
    ]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_map_writes_the_suggestion(run, data, tmp_path):
    status, out, err = run("map", data)
    module = tmp_path / "configs" / "qa_map.py"
    assert status == 0 and str(module) in out
    assert "? 你是谁\n? b\n▌ 我是尖米" in out
    assert "from qa_map import map_fn" in err
    assert read_map_module(module) == Mapping(question="问题", answer="回答", extra=("背景",))
    status, out, _ = run("show", data, "--map", module, "--json")
    document = json.loads(out)
    assert (status, document["shape"]) == (0, str(module))
    assert [item["text"] for item in document["items"]] == ["你是谁\nb\n我是尖米", "q\na"]
    assert run("check", data, "--map", module)[0] == 0
    status, _, err = run("map", data)
    assert status == 2 and "exists already" in err and "--force" in err


def test_map_takes_what_it_is_told(run, data, tmp_path):
    out_file = tmp_path / "mine.py"
    status, out, _ = run(
        "map", data, "--question", "背景", "--answer", "问题", "--system-text", "S", "-o", out_file,
        "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert (status, document["out"], document["map_fn"]) == (0, str(out_file), "map_fn")
    assert document["mapping"]["question"] == "背景" and document["mapping"]["extra"] == []
    assert document["items"][0]["conversation"] == [
        {"system": "S", "input": "b", "output": "你是谁"}
    ]


def test_map_takes_roles(run, data, tmp_path):
    data.write_text(json.dumps({"messages": [{"role": "user", "content": "q"},
        {"role": "tool", "content": "7"}, {"role": "assistant", "content": "a"}]}))  # fmt: skip
    status, out, _ = run("map", data, "--json")
    assert status == 1 and "'tool'" in json.loads(out)["items"][0]["problem"]
    status, out, _ = run("map", data, "--role", "tool=question", "--force", "--json")
    assert status == 0
    (turn,) = json.loads(out)["items"][0]["conversation"]
    assert (turn["input"], turn["output"]) == ("q\n7", "a")
    status, _, err = run("map", data, "--role", "tool=nobody", "--force")
    assert status == 2 and "question, answer" in err


def test_map_says_what_is_not_there(run, data, tmp_path):
    for arguments, word in (
        (("--answer", "回"), "no column"),
        (("--answer", "回达"), "Did you mean 回答?"),
        (("-o", tmp_path / "a-b.py"), "cannot be the name"),
        (("--map-fn", "nope_map_fn"), "openorca_map_fn"),
        (("--map-fn", "openorca_map_fn", "-o", tmp_path / "a.py"), "nothing to write"),
    ):
        status, _, err = run("map", data, *arguments)
        assert (status, word in err) == (2, True), err
    data.write_text('{"n": 1}\n')
    status, _, err = run("map", data)
    assert status == 2 and "where the answers are" in err
    assert not (tmp_path / "configs").exists()


@pytest.mark.slow
def test_map_shows_rows_by_a_function_of_xtuners(run, data):
    data.write_text(json.dumps({"system_prompt": "s", "question": "q", "response": "a"}))
    status, out, _ = run("map", data, "--map-fn", "openorca_map_fn", "--json")
    document = json.loads(out)
    assert (status, document["out"], document["map_fn"]) == (0, None, "openorca_map_fn")
    assert document["items"][0]["conversation"] == [{"system": "s", "input": "q", "output": "a"}]
    status, out, _ = run("map", data, "--map-fn", "oasst1_map_fn")
    assert status == 1 and "KeyError: 'text'" in out
