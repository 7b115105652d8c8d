"""Commands, GGUF files and notes for a finished model."""

from __future__ import annotations

import json
import shlex
import shutil
import stat
import sys
from pathlib import Path

import pytest

from engine.errors import Failed, Problem
from engine.export import gguf, handover, template
from engine.settings import Settings
from tests.export.test_convert import command

CONVERTER = """
import sys, time
model, out, outfile, kind, form = sys.argv[1:]
assert (out, kind) == ("--outfile", "--outtype"), sys.argv
assert open(model + "/config.json").read(1) == "{"
if form == "bf16":
    print("Traceback"); sys.exit("NotImplementedError: Architecture not supported")
if form == "f32":
    open(outfile, "wb").write(b"half"); time.sleep(60)
open(outfile, "wb").write(b"GGUF " + form.encode())
"""
QUANTIZER = """#!/bin/sh
set -e
test $# = 3
test "$(cat "$1")" = "GGUF f16"
printf 'GGUF %s' "$3" > "$2"
"""


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "my model 模型")


@pytest.fixture
def llama_cpp(tmp_path: Path) -> Settings:
    folder = tmp_path / "llama.cpp"
    (folder / "build" / "bin").mkdir(parents=True)
    (folder / gguf.CONVERTER).write_text(CONVERTER)
    quantizer = folder / "build" / "bin" / gguf.QUANTIZER
    quantizer.write_text(QUANTIZER)
    quantizer.chmod(0o755)
    return Settings(llama_cpp=str(folder))


def test_the_commands_name_this_path(model: Path) -> None:
    found = handover.describe(model, rsync="box:/models/")
    lines = {one.tool: one.command for one in found.commands}
    assert shlex.split(lines["vllm"])[:3] == ["vllm", "serve", str(model)]
    assert shlex.split(lines["lmdeploy"])[3:] == [str(model), "--model-name", model.name]
    assert shlex.split(lines["sglang"])[4] == str(model)
    first, create, _run = lines["ollama"].split(" && ")
    assert shlex.split(first)[2] == str(model) and "> my-model.Modelfile" in first
    assert create == "ollama create my-model -f my-model.Modelfile"
    assert shlex.split(lines["rsync"])[-2:] == [str(model), "box:/models/"]
    assert "--trust-remote-code" not in "".join(lines.values())
    assert found.gguf_bytes["f16"] * 2 == found.gguf_bytes["f32"]
    assert found.gguf_bytes["q4_k_m"] < found.gguf_bytes["q8_0"]


def test_code_of_its_own_and_an_unknown_architecture_are_said(model: Path) -> None:
    told = json.loads((model / "config.json").read_text())
    told |= {"architectures": ["InternLM2ForCausalLM"], "auto_map": {"AutoModel": "m.X"}}
    (model / "config.json").write_text(json.dumps(told))
    found = handover.describe(model)
    lines = {one.tool: one for one in found.commands}
    for tool in ("vllm", "lmdeploy", "sglang"):
        assert "--trust-remote-code" in lines[tool].command
    assert "-Q4_K_M.gguf" in lines["ollama"].command
    assert "InternLM2ForCausalLM" in lines["ollama"].note
    assert any("code of its own" in note for note in found.notes)
    assert not handover.trusted(model)


def test_templates_that_differ_are_said(model: Path) -> None:
    (model / "xtuner_config.py").write_text(
        "prompt_template = PROMPT_TEMPLATE.qwen_chat\nmodel = 1"
    )
    differ = template.Templates(False, "a", "b")
    [note] = handover.describe(model, templates=differ).notes
    assert "qwen_chat" in note and "differs" in note
    assert handover.describe(model, templates=template.Templates(True)).notes == []
    (model / "tokenizer_config.json").write_text("{}")
    (model / "chat_template.jinja").unlink(missing_ok=True)
    assert "no chat template" in handover.describe(model).notes[0]


def test_templates_that_cannot_be_compared_are_no_error(model: Path) -> None:
    assert template.compare(model, Settings()) == template.Templates(None)  # never trained
    broken = template.compare(model, Settings(interpreter="/nowhere/python"))
    assert broken.agree is None and broken.why
    assert "/nowhere" not in broken.trained
    assert broken.why in handover.describe(model, templates=broken).notes[0]


def test_a_gguf_file_is_made_by_llama_cpp(model: Path, llama_cpp: Settings) -> None:
    heard: list[tuple[int, int]] = []
    made = gguf.make(model, "Q4_K_M", settings=llama_cpp, progress=lambda *now: heard.append(now))
    assert made.path == model.with_name(f"{model.name}-Q4_K_M.gguf")
    assert made.path.read_text() == "GGUF Q4_K_M"
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert heard and heard[-1][1] == sum(gguf.sizes(model)[one] for one in ("f16", "q4_k_m"))
    out = model.with_name("direct.gguf")
    assert gguf.make(model, "q8_0", out, settings=llama_cpp).path.read_text() == "GGUF q8_0"
    with pytest.raises(Problem, match="exists already"):
        gguf.make(model, "q8_0", out, settings=llama_cpp)


def test_a_gguf_file_that_fails_or_is_cancelled_leaves_nothing(
    model: Path, llama_cpp: Settings
) -> None:
    with pytest.raises(Failed, match="Architecture not supported"):
        gguf.make(model, "bf16", settings=llama_cpp)
    parent = model.parent
    with pytest.raises(Failed, match="cancelled"):
        gguf.make(
            model, "f32", settings=llama_cpp,
            cancelled=lambda: any(one.name.endswith(".part") for one in parent.iterdir()),
        )  # fmt: skip
    assert not [one for one in parent.iterdir() if "gguf" in one.name]


def test_what_is_missing_is_said(
    model: Path, llama_cpp: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Problem, match=gguf.CONVERTER):
        gguf.make(model, "f16", settings=Settings())
    with pytest.raises(Problem, match="Choose one of: f32"):
        gguf.make(model, "q17", settings=llama_cpp)
    shutil.rmtree(Path(llama_cpp.llama_cpp) / "build")
    with pytest.raises(Problem, match=gguf.QUANTIZER):
        gguf.make(model, "q4_k_m", settings=llama_cpp)
    with pytest.raises(Problem, match="is not a whole model"):
        handover.describe(model.parent)


def test_the_verb_prints_lines_to_copy(model: Path) -> None:
    done = command("handover", model, "--no-templates", "--for", "sglang", "--rsync", "box:/m")
    assert done.returncode == 0, done.stderr
    assert f"python -m sglang.launch_server --model-path {shlex.quote(str(model))}" in done.stdout
    assert "rsync -a" in done.stdout and "q4_k_m" in done.stdout
    assert sys.executable not in done.stdout
    assert command("handover", model, "--upload", "nowhere").returncode == 2
