"""The verbs as a person types them: output, documents and exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.cli.main import main

ROWS = [
    {"instruction": "你是谁", "input": "", "output": "我是尖米"},
    {"instruction": "hi", "input": "x", "output": "y"},
]


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """The current folder is the workspace, which keeps what was found out."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(ROWS, ensure_ascii=False, indent=2))
    return path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_show(run, data):
    status, out, err = run("show", data)
    assert (status, err) == (0, "")
    assert "你是谁" in out and "我是尖米" in out and "2 rows" in out
    status, out, _ = run("show", data, "--json", "--row", 1)
    document = json.loads(out)
    assert (status, document["format"], document["rows"]) == (0, "json", 2)
    (item,) = document["items"]
    assert (item["row"], item["turns"], item["tokens"], item["segments"]) == (1, 1, None, None)
    assert item["value"] == ROWS[1]
    assert item["text"] == "hi\nx\ny"
    _, out, _ = run("show", data, "--json", "--rows", "1:")
    assert [item["row"] for item in json.loads(out)["items"]] == [1]


@pytest.mark.parametrize("used", [False, True])
def test_a_look_leaves_nothing_in_a_folder_that_is_no_workspace(run, data, tmp_path, used):
    if used:
        (tmp_path / ".tunedeck").mkdir()
    for verb in ("show", "check", "check"):
        assert run(verb, data)[0] == 0
    assert {one.name for one in tmp_path.iterdir()} == {"data.json"} | (
        {".tunedeck"} if used else set()
    )
    assert any((tmp_path / ".tunedeck").rglob("*")) == used


def test_show_what_is_not_there(run, data, tmp_path):
    for arguments, word in (
        (("--row", 2), "There is no row 2"),
        (("--rows", "x"), "names no rows"),
        (("--rows", "3:1"), "names no rows"),
        (("--template", "default"), "needs a model"),
        (("--shape", "nope"), "no shape called nope"),
    ):
        status, out, err = run("show", data, *arguments)
        assert (status, out) == (2, "")
        assert word in err
        assert len(err.splitlines()) <= 3
    assert run("show", tmp_path / "gone.json")[0] == 2
    (tmp_path / "empty").mkdir()
    assert run("show", tmp_path / "empty")[0] == 2


def test_broken_json_is_status_2_with_its_place(run, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('[{"instruction": "a", "input": "", "output": "b"},\n {"instruction" "c"}]')
    for verb in (("show", path), ("check", path), ("replace", path, "--from", "a", "--to", "b")):
        more = ("-o", tmp_path / "out.json") if verb[0] == "replace" else ()
        status, _, err = run(*verb, *more)
        assert status == 2
        assert "line 2, column 17" in err
    assert not (tmp_path / "out.json").exists()


def test_a_broken_line_is_status_1_and_the_rest_is_shown(run, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n{\n" + json.dumps(ROWS[1]) + "\n")
    status, out, _ = run("show", path)
    assert status == 1
    assert "我是尖米" in out and "line 2, column 2" in out and "hi" in out
    status, out, _ = run("check", path, "--json")
    document = json.loads(out)
    assert status == 1
    assert document["broken"][0].keys() == {"row", "field", "reason", "remedy"}
    assert (document["rows"], document["good"], document["broken"][0]["row"]) == (3, 2, 1)


def test_check_says_what_is_wrong(run, data):
    assert run("check", data)[0] == 0
    data.write_text(json.dumps([*ROWS, {"instruction": "a", "input": "", "output": None}]))
    status, out, err = run("check", data)
    assert (status, err) == (1, "")
    assert "row 2, line 1: 'output' is null, not a text" in out


def test_replace(run, data, tmp_path):
    out_file = tmp_path / "out.json"
    arguments = ("replace", data, "--from", "尖米", "--to", "Super Nova", "-o", out_file)
    status, out, _ = run(*arguments, "--dry-run")
    assert status == 0
    assert "row 0, line 2, output" in out and "我是尖米" in out and "我是Super Nova" in out
    assert not out_file.exists()
    status, out, _ = run(*arguments, "--json")
    document = json.loads(out)
    expected = {"rows": 2, "rows_changed": 1, "replacements": 1, "out": str(out_file)}
    assert (status, {key: document[key] for key in expected}) == (0, expected)
    assert out_file.read_text() == data.read_text().replace("尖米", "Super Nova")
    status, _, err = run(*arguments)
    assert status == 2 and "exists already" in err and "--force" in err
    assert run(*arguments, "--force")[0] == 0


def test_replace_says_when_nothing_matches(run, data, tmp_path):
    out_file = tmp_path / "out.json"
    arguments = ("replace", data, "--from", "尖 米", "--to", "Super Nova", "-o", out_file)
    status, out, err = run(*arguments, "--json")
    assert (status, json.loads(out)["replacements"]) == (0, 0)
    assert "Nothing has 尖 米 in it" in err
    assert out_file.read_bytes() == data.read_bytes()


def test_escape_sequences_in_the_data_do_not_reach_the_terminal(run, tmp_path):
    path = tmp_path / "evil.json"
    path.write_text(json.dumps([ROWS[0] | {"output": "\x1b[2J尖米\x07 \ud83d"}]))
    for arguments in (("show", path), ("replace", path, "--from", "尖", "--to", "x", "--dry-run")):
        _, out, _ = run(*arguments)
        assert "米" in out
        assert not {"\x1b", "\x07"} & set(out)
    assert "\\ud83d" not in run("show", path, "--json")[1]
    assert run("replace", path, "--from", "尖", "--to", "x", "--dry-run", "--json")[0] == 0


@pytest.mark.slow
def test_as_the_model_sees_it(run, data, tiny_model):
    status, out, err = run("show", data, "--row", 0, "--model", tiny_model, "--json")
    (item,) = json.loads(out)["items"]
    assert (status, err) == (0, "")
    assert item["text"] == "".join(segment["text"] for segment in item["segments"])
    assert item["tokens"] > item["loss_tokens"] > 0
    status, out, _ = run("check", data, "--model", tiny_model, "--pack", "--max-length", 16)
    assert status == 0
    assert "cut at 16 tokens" in out and "steps per epoch" in out
    status, _, err = run("show", data, "--model", tiny_model, "--template", "nope")
    assert status == 2
    assert "no prompt template called nope" in err and "internlm2_chat" in err


def test_nothing_heavy_is_imported(data):
    code = (
        "import sys; from engine.cli.main import main; main(sys.argv[1:]);"
        "print(sorted({'torch','transformers','datasets','xtuner','mmengine'} & {*sys.modules}))"
    )
    for verb in (("show", data), ("check", data)):
        done = subprocess.run(
            [sys.executable, "-c", code, "data", *verb], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
