"""The verbs as a process: results, exit status, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main

MAIN = "import sys; from engine.cli.main import main; sys.exit(main(sys.argv[1:]))"
NAME = "smollm2_135m_instruct_lora_supernova_e3"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a verb in an empty workspace: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = main.main([str(one) for one in arguments])
        seen = capsys.readouterr()
        return status, seen.out, seen.err

    return call


def test_list_gives_the_catalogue_as_json(run: Any) -> None:
    status, out, _err = run("config", "list", "smollm2", "lora", "--json")
    assert status == 0
    (entry,) = json.loads(out)
    assert entry.keys() >= {"name", "model", "method", "size", "dataset", "path"}
    assert entry["name"] == NAME


def test_list_is_narrowed_by_method_model_and_size(run: Any) -> None:
    status, out, _err = run(
        "config", "list", "--method", "dpo", "--model", "internlm2", "--size", "-2", "--json"
    )
    found = json.loads(out)
    assert status == 0
    assert len(found) == 3
    assert {(one["method"], one["family"], one["size"]) for one in found} == {
        ("dpo", "internlm2", "1.8b")
    }


def test_copy_takes_several_files_and_says_what_it_guessed(run: Any) -> None:
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text("question,answer\nWho are you?,Super Nova\n")
    status, out, err = run("config", "copy", NAME, "mine.py", "--data", "a.csv", "b.csv", "--json")
    copied = json.loads(out)
    assert status == 0
    assert copied["module"] == str(Path("mine_map.py").resolve())
    assert copied["notes"] and copied["notes"][-1] in err
    status, out, _err = run("config", "get", "mine.py", "data_path", "--json")
    files = json.loads(out)["fields"][0]["value"]
    assert [Path(one).name for one in files] == ["a.csv", "b.csv"]


def test_list_says_when_nothing_matches(run: Any) -> None:
    status, out, err = run("config", "list", "no-such-thing")
    assert (status, out) == (1, "")
    assert "No config matches" in err


def test_a_config_is_copied_read_changed_and_compared(run: Any, rows: Path) -> None:
    status, out, _err = run(
        "config",
        "copy",
        NAME,
        "--data",
        rows,
        "--set",
        "lr=3e-7",
        "lora.r=16",
        "SYSTEM=Be kind.",
        "--json",
    )
    assert status == 0
    copied = json.loads(out)
    path = Path(copied["path"])
    assert path == Path.cwd().resolve() / "configs" / f"{NAME}.py"
    assert {"lr", "data_path"} <= {change["name"] for change in copied["changes"]}
    assert path.stat().st_mode & 0o777 == 0o600

    status, out, _err = run("config", "get", path, "lora.r", "--json")
    (field,) = json.loads(out)["fields"]
    assert (status, field["value"], field["code"]) == (0, 16, "16")

    before = path.read_text()
    status, out, _err = run("config", "set", path, "lora.r=8", "SYSTEM=Be short.", "--json")
    assert status == 0
    assert [field["value"] for field in json.loads(out)["fields"]] == [8, "Be short."]
    expected = before.replace("r=16", "r=8").replace('"Be kind."', '"Be short."')
    assert path.read_text() == expected != before

    status, out, _err = run("config", "diff", path, "--json")
    changes = {one["name"]: one["after"] for one in json.loads(out)["changes"]}
    assert changes["model.lora.r"] == "8"
    assert changes["SYSTEM"] == '"Be short."'

    status, out, _err = run("config", "show", path, "--json")
    fields = json.loads(out)["fields"]
    assert {"name", "value", "line", "section", "help"} <= fields[0].keys()
    assert {field["name"]: field["value"] for field in fields}["model.lora.r"] == 8


def test_get_prints_the_bare_value(run: Any) -> None:
    run("config", "copy", NAME, "c.py", "--set", "lr=1e-3", "SYSTEM=Be kind.")
    assert run("config", "get", "c.py", "lr")[:2] == (0, "0.001\n")
    assert run("config", "get", "c.py", "SYSTEM")[1] == "Be kind.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("config", "copy", "no_such_config"), "catalogue has no config"),
        (("config", "copy", NAME, "--data", "none.json"), "none.json"),
        (("config", "show", "none.py"), "Cannot read"),
        (("config", "show", "."), "folder"),
        (("config", "set", "good.py", "lrr=1"), "Did you mean lr?"),
        (("config", "set", "good.py", "lr"), "KEY=VALUE"),
        (("config", "get", "good.py", "nothing.at.all"), "no setting"),
        (("config", "diff", "bare.py"), "--against"),
        (("preflight", "none.py"), "Cannot read"),
        (("preflight", "."), "folder"),
    ],
)
def test_wrong_input_ends_with_2_and_a_message(
    run: Any, arguments: tuple[str, ...], words: str
) -> None:
    run("config", "copy", NAME, "good.py")
    Path("bare.py").write_text("lr = 1\n")
    before = sorted(Path.cwd().rglob("*"))
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert 1 <= len(err.splitlines()) <= 3
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_failed_preflight_ends_with_1_and_names_the_findings(run: Any) -> None:
    run("config", "copy", NAME, "c.py")
    status, out, _err = run("preflight", "c.py", "--json")
    report = json.loads(out)
    assert status == 1
    assert report["ok"] is False
    assert report.keys() >= {"findings", "estimate", "samples", "steps", "disk_bytes"}
    codes = {one["code"] for one in report["findings"]}
    assert "data-missing" in codes
    keys = {"level", "code", "what", "why", "fix", "field"}
    assert all(keys <= one.keys() for one in report["findings"])


def test_no_verb_imports_a_heavy_library(tmp_path: Path) -> None:
    code = MAIN.replace("sys.exit(main(sys.argv[1:]))", "main(sys.argv[1:])")
    heavy = "{'torch', 'transformers', 'datasets', 'xtuner', 'peft', 'mmengine', 'numpy'}"
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}; print(sorted({heavy} & set(sys.modules)), file=sys.stderr)",
            *("config", "copy", NAME, str(tmp_path / "c.py"), "--set", "lr=1e-4"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.stderr.strip() == "[]"
