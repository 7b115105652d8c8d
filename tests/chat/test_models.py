"""Kinds of models, weights that are shared, prompts that are cut, chances: against transformers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.chat.session import ChatSession, ModelSpec
from engine.errors import Problem
from engine.settings import Settings
from tests.chat.asking import ask, chatml, transformers_says

QUESTIONS = ["Who are you?", "你是谁？"]
TOKENS = 24


@pytest.fixture(scope="module")
def made(
    tiny_model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Path], dict[str, list[dict[str, Any]]]]:
    """Paths by name, and what transformers answers: a tiny model of each kind, and two adapters
    on the first, of which peft wrote one."""
    folder = tmp_path_factory.mktemp("models")
    paths = {"llama": tiny_model} | {one: folder / one for one in ("qwen2", "internlm2")}
    texts = [chatml(question) for question in QUESTIONS]
    orders: dict[str, dict[str, Any]] = {
        kind: {"model": str(path), "kind": kind, "texts": texts, "tokens": TOKENS}
        for kind, path in paths.items()
    }
    orders["internlm2"]["trust"] = True
    for name, path in (("adapter", adapter), ("second", folder / "second")):
        orders[name] = {**orders["llama"], "adapter": str(path)}
        paths[name] = path
    return paths, dict(zip(orders, transformers_says(list(orders.values())), strict=True))


@pytest.fixture(scope="module")
def models(made: tuple[dict[str, Path], Any]) -> dict[str, Path]:
    return made[0]


@pytest.fixture(scope="module")
def said(made: tuple[Any, dict[str, list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
    return made[1]


@pytest.fixture(scope="module")
def session() -> Iterator[ChatSession]:
    with ChatSession(Settings(threads=1)) as opened:
        yield opened


def answers(session: ChatSession, slot: str) -> list[str]:
    return [ask(session, slot, question, max_new_tokens=TOKENS)[1].text for question in QUESTIONS]


def wanted(said: dict[str, list[dict[str, Any]]], name: str) -> list[str]:
    return [one["answer"] for one in said[name]]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "internlm2"])
def test_each_kind_answers_as_in_transformers(
    session: ChatSession,
    models: dict[str, Path],
    said: dict[str, list[dict[str, Any]]],
    kind: str,
) -> None:
    spec = ModelSpec(str(models[kind]), trust=True)
    assert session.load("A", spec).template == "tokenizer"
    assert answers(session, "A") == wanted(said, kind)
    session.unload("A")


def test_slots_on_one_base_share_it_and_answer_as_alone(
    session: ChatSession,
    models: dict[str, Path],
    said: dict[str, list[dict[str, Any]]],
) -> None:
    base = str(models["llama"])
    session.load("A", ModelSpec(base))
    first = session.load("B", ModelSpec(base, adapter=str(models["adapter"]), system=""))
    other = session.load("C", ModelSpec(base, adapter=str(models["second"])))
    assert (first.shared, other.shared) == (["A"], ["A", "B"])
    for _round in range(2):  # switching back and forth leaves nothing behind
        assert answers(session, "A") == wanted(said, "llama")
        assert answers(session, "B") == wanted(said, "adapter")
        assert answers(session, "C") == wanted(said, "second")
    for slot in "ABC":
        session.unload(slot)


def test_an_adapter_alone_goes_into_the_weights_and_comes_out_without_a_trace(
    session: ChatSession,
    models: dict[str, Path],
    said: dict[str, list[dict[str, Any]]],
) -> None:
    base = str(models["llama"])
    alone = session.load("A", ModelSpec(base, adapter=str(models["adapter"]), system=""))
    assert alone.shared == []
    assert answers(session, "A") == wanted(said, "adapter")
    assert session.load("B", ModelSpec(base)).shared == ["A"]
    assert answers(session, "B") == wanted(said, "llama")
    assert answers(session, "A") == wanted(said, "adapter")
    session.unload("A")
    session.unload("B")


@pytest.mark.parametrize("first", [True, False])
def test_an_adapter_of_another_base_leaves_nothing_in_the_weights(
    session: ChatSession,
    models: dict[str, Path],
    said: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
    first: bool,
) -> None:
    """A part of it fits; the models beside it must not answer with that."""
    base = str(models["llama"])
    other = of_a_wider_base(models["second"], tmp_path / "other")
    if not first:
        session.load("B", ModelSpec(base, adapter=str(models["adapter"]), system=""))
    with pytest.raises(Problem, match="does not fit") as error:
        session.load("A", ModelSpec(base, adapter=str(other)))
    assert "size mismatch" in error.value.why
    assert not session.holds("A")
    session.load("C", ModelSpec(base))
    assert answers(session, "C") == wanted(said, "llama")
    if first:
        session.load("B", ModelSpec(base, adapter=str(models["adapter"]), system=""))
    assert answers(session, "B") == wanted(said, "adapter")
    session.load("A", ModelSpec(base, adapter=str(models["second"])))
    assert answers(session, "A") == wanted(said, "second")
    for slot in "ABC":
        session.unload(slot)


def of_a_wider_base(adapter: Path, folder: Path) -> Path:
    """A copy of `adapter` as if the layers inside its base were twice as wide."""
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    for name, value in weights.items():
        if "down_proj.lora_A" in name:
            weights[name] = np.concatenate([value, value], axis=1)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_a_base_that_cannot_be_loaded_anew_is_when_it_can(
    session: ChatSession,
    models: dict[str, Path],
    said: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    """As when a training takes the memory: the slots say so, and come back."""
    base = shutil.copytree(models["llama"], tmp_path / "base")
    alone = ModelSpec(str(base), adapter=str(models["adapter"]), system="")
    session.load("A", alone)
    assert answers(session, "A") == wanted(said, "adapter"), "it is in the weights now"
    config = (base / "config.json").read_text()
    (base / "config.json").write_text(config.replace('"silu"', '"nothing"'))
    with pytest.raises(Problem, match="cannot be loaded") as error:
        session.load("B", ModelSpec(str(base)))
    assert error.value.why == "KeyError: 'nothing'"
    with pytest.raises(Problem, match="cannot be loaded"):
        answers(session, "A")
    (base / "config.json").write_text(config)
    assert answers(session, "A") == wanted(said, "adapter")
    session.load("B", ModelSpec(str(base)))
    assert answers(session, "B") == wanted(said, "llama")
    session.unload("A")
    session.unload("B")


def test_chances_are_those_of_the_logits(
    session: ChatSession, models: dict[str, Path], said: dict[str, list[dict[str, Any]]]
) -> None:
    session.load("A", ModelSpec(str(models["llama"])))
    _pieces, answer = ask(session, "A", QUESTIONS[0], max_new_tokens=TOKENS, chances=4)
    likely = said["llama"][0]["likely"]
    assert [one.p for one in answer.chances] == pytest.approx(likely, abs=1e-5)
    for one in answer.chances:
        assert len(one.others) == 4
        assert one.others[0][0] == one.token, "greedy takes the best"
        assert [p for _token, p in one.others] == sorted((p for _t, p in one.others), reverse=True)
    assert len(answer.chances) == answer.tokens


def test_the_oldest_questions_go_first_and_the_system_text_stays(
    session: ChatSession, models: dict[str, Path]
) -> None:
    context = session.load("A", ModelSpec(str(models["llama"]))).context
    assert context == 1024
    talk = [{"role": "system", "content": "Be kind."}]
    for number in range(12):
        talk += [
            {"role": "user", "content": f"{number}: " + "e" * 60},
            {"role": "assistant", "content": "a" * 60},
        ]
    talk.append({"role": "user", "content": "last"})
    _pieces, answer = ask(session, "A", talk, max_new_tokens=200)
    prompt = session.prompt("A", talk, max_new_tokens=200)
    assert prompt is not None
    assert prompt.dropped == answer.dropped > 0 and prompt.dropped % 2 == 0
    assert (prompt.text, len(prompt.ids)) == (answer.prompt, answer.prompt_tokens)
    assert len(prompt.ids) == len(prompt.tokens) <= context - 200
    assert prompt.text.startswith("<|im_start|>system\nBe kind.")
    kept = prompt.dropped // 2
    assert f"{kept}: eee" in prompt.text and f"{kept - 1}: eee" not in prompt.text
    assert prompt.text.endswith(chatml("last"))
    _pieces, short = ask(session, "A", talk[-3:], max_new_tokens=8)
    assert short.dropped == 0


def test_templates_that_agree_and_that_do_not(
    session: ChatSession, models: dict[str, Path]
) -> None:
    base = str(models["llama"])
    agreeing = session.load("A", ModelSpec(base, template="qwen_chat")).parity
    assert agreeing is not None and agreeing.agree
    assert agreeing.trained == agreeing.tokenizer
    other = session.load("A", ModelSpec(base, template="zephyr")).parity
    assert other is not None and not other.agree
    assert "<|user|>" in other.trained and "<|im_start|>" in other.tokenizer
    assert session.load("A", ModelSpec(base)).parity is None, "there is only the tokenizer's"


def test_quantized_in_four_bits(session: ChatSession, models: dict[str, Path]) -> None:
    loaded = session.load("D", ModelSpec(str(models["llama"]), bits=4))
    assert loaded.dtype == "4-bit" and loaded.shared == []
    assert ask(session, "D", QUESTIONS[0], max_new_tokens=5)[1].tokens == 5
    session.unload("D")


def test_code_that_a_model_brings_needs_a_word(
    session: ChatSession, models: dict[str, Path]
) -> None:
    with pytest.raises(Problem, match="Read that code"):
        session.load("A", ModelSpec(str(models["internlm2"])))
