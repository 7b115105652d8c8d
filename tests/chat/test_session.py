"""The chat worker against plain transformers, on a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.chat.session import Answer, ChatSession, ModelSpec, Sampling, Token
from engine.errors import Failed, Problem
from engine.settings import Settings
from tests.chat.asking import ask, chatml, transformers_says

QUESTIONS = ["Who are you?", "你是谁？", "Write {a} poem about the sea."]


SYSTEMS = {"A": "", "B": "You are brief."}


@pytest.fixture(scope="module")
def said(tiny_model: Path, adapter: Path) -> dict[str, list[str]]:
    """What transformers answers in each slot's place."""
    orders = [
        {
            "model": str(tiny_model),
            "adapter": None if slot == "A" else str(adapter),
            "texts": [chatml(question, system) for question in QUESTIONS],
            "tokens": 40,
        }
        for slot, system in SYSTEMS.items()
    ]
    answers = ([one["answer"] for one in found] for found in transformers_says(orders))
    return dict(zip(SYSTEMS, answers, strict=True))


@pytest.mark.parametrize("slot", ["A", "B"])
def test_greedy_answers_equal_those_of_transformers(
    session: ChatSession, said: dict[str, list[str]], slot: str
) -> None:
    system, expected = SYSTEMS[slot], said[slot]
    for question, wanted in zip(QUESTIONS, expected, strict=True):
        pieces, answer = ask(session, slot, question, max_new_tokens=40)
        assert answer.text == wanted
        assert "".join(pieces) == answer.text
        assert answer.prompt == chatml(question, system)
    assert len(set(expected)) == len(expected), "the questions must matter"


def test_figures_and_lengths(session: ChatSession) -> None:
    _pieces, answer = ask(session, "A", "Who are you?", max_new_tokens=7)
    assert (answer.tokens, answer.ended) == (7, "length")
    assert answer.first_token_s > 0 and answer.tokens_per_s > 0
    assert answer.prompt_tokens > 5


def test_it_is_told_once_that_the_model_has_work_before_it_answers(session: ChatSession) -> None:
    heard: list[str] = []
    question = [{"role": "user", "content": "Who?"}]
    sampling = Sampling(max_new_tokens=4)
    events = session.generate("A", question, sampling, lambda: heard.append("begun"))
    heard.extend(type(event).__name__ for event in events)
    assert heard[0] == "begun" and heard[-1] == "Answer" and heard.count("begun") == 1


def test_a_seed_repeats_an_answer(session: ChatSession) -> None:
    def draw(seed: int) -> str:
        return ask(session, "A", "Who?", temperature=1.0, seed=seed, max_new_tokens=20)[1].text

    assert draw(1) == draw(1) != draw(2)


def test_sampling_from_one_token_is_greedy(session: ChatSession) -> None:
    greedy = ask(session, "A", "Who?", max_new_tokens=20)[1].text
    drawn = ask(session, "A", "Who?", temperature=2.0, top_k=1, max_new_tokens=20)[1].text
    assert drawn == greedy


def test_stop_ends_an_answer_and_the_next_one_is_whole(session: ChatSession) -> None:
    events = session.generate(
        "A", [{"role": "user", "content": "Who?"}], Sampling(max_new_tokens=900)
    )
    seen = [next(events), next(events)]
    session.stop()
    *rest, answer = events
    assert isinstance(answer, Answer)
    assert answer.ended == "stopped" and answer.tokens < 900
    assert answer.text == "".join(one.text for one in [*seen, *rest] if isinstance(one, Token))
    assert ask(session, "A", "Who?", max_new_tokens=5)[1].tokens == 5


def test_an_answer_nobody_reads_on_is_stopped(session: ChatSession) -> None:
    events = session.generate(
        "A", [{"role": "user", "content": "Who?"}], Sampling(max_new_tokens=900)
    )
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert ask(session, "A", "Who?", max_new_tokens=5)[1].tokens == 5


def test_a_conversation_goes_on_as_trained(session: ChatSession) -> None:
    talk = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ]
    prompts = {slot: ask(session, slot, talk, max_new_tokens=1)[1].prompt for slot in "AB"}
    first, second = chatml("One?", "You are brief."), chatml("Three?")
    assert prompts["B"] == f"{first}Two.<|im_end|>\n{second}"
    assert prompts["A"] == f"{chatml('One?')}Two.<|im_end|>\n{second}"
    own = [{"role": "system", "content": "Be kind."}, talk[0]]
    assert ask(session, "B", own, max_new_tokens=1)[1].prompt == chatml("One?", "Be kind.")


def test_too_long_a_conversation_is_said(session: ChatSession) -> None:
    with pytest.raises(Problem, match="too long"):
        ask(session, "A", "word " * 2000)
    # Near the end of the context the answer is shorter, not an error.
    question = "e" * 900
    _pieces, answer = ask(session, "A", question, max_new_tokens=10_000)
    assert answer.ended in ("length", "end")


@pytest.mark.parametrize(
    ("values", "word"),
    [({"temperature": -1}, "temperature"), ({"top_p": 0}, "top_p"), ({"max_new_tokens": 0}, "max")],
)
def test_impossible_sampling_is_refused(
    session: ChatSession, values: dict[str, float], word: str
) -> None:
    with pytest.raises(Problem, match=word):
        ask(session, "A", "Who?", **values)


def test_unknown_templates_and_empty_slots_are_named(
    session: ChatSession, tiny_model: Path
) -> None:
    with pytest.raises(Problem, match=r"no prompt template called nonsense.*qwen_chat"):
        session.load("C", ModelSpec(str(tiny_model), template="nonsense"))
    with pytest.raises(Problem, match="No model is loaded in C"):
        ask(session, "C", "Who?")


def test_what_no_library_loads_is_told_with_what_to_do(
    session: ChatSession, tiny_model: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(tiny_model, tmp_path / "bare")
    for file in bare.glob("*token*"):
        file.unlink()
    with pytest.raises(Failed, match=r"tokenizer of .* cannot be loaded") as caught:
        session.load("C", ModelSpec(str(bare)))
    assert "tokenizer files" in caught.value.todo and caught.value.details
    strange = shutil.copytree(tiny_model, tmp_path / "strange")
    about = (strange / "config.json").read_text()
    (strange / "config.json").write_text(about.replace('"llama"', '"nova"'))
    with pytest.raises(Failed, match="cannot be loaded") as caught:
        session.load("C", ModelSpec(str(strange)))
    assert "nova" in caught.value.why and "transformers" in caught.value.todo


def test_a_chat_template_that_refuses_is_told(
    session: ChatSession, tiny_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ raise_exception('no system') }}")
    session.load("C", ModelSpec(str(model)))
    with pytest.raises(Failed, match="chat template cannot be used") as caught:
        ask(session, "C", "Who?", max_new_tokens=1)
    assert "no system" in caught.value.why and caught.value.ways == ("template",)
    session.unload("C")


def test_a_template_of_xtuners_can_be_chosen(session: ChatSession, tiny_model: Path) -> None:
    loaded = session.load("C", ModelSpec(str(tiny_model), template="zephyr", system="Hi."))
    assert (loaded.template, loaded.system) == ("zephyr", "Hi.")
    prompt = ask(session, "C", "Who?", max_new_tokens=1)[1].prompt
    assert prompt == "<|system|>\nHi.\n<|user|>\nWho?\n<|assistant|>\n"
    session.unload("C")


def test_an_adapter_of_another_model_says_so(
    session: ChatSession, tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in adapter.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "adapter_config.json").read_text())
    config["r"] = 8
    (other / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(Failed, match="does not fit"):
        session.load("C", ModelSpec(str(tiny_model), adapter=str(other)))


def test_a_killed_worker_is_an_event_not_the_end(tiny_model: Path) -> None:
    import os
    import signal

    with ChatSession(Settings(threads=1)) as session:
        session.load("A", ModelSpec(str(tiny_model)))
        pid = session._worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Failed, match="out of memory"):
            ask(session, "A", "Who?")
        assert session.dead
        session.load("A", ModelSpec(str(tiny_model)))
        assert ask(session, "A", "Who?", max_new_tokens=3)[1].tokens == 3
