"""Answers along a run, from the files that XTuner's EvaluateChatHook left."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.run import answers
from engine.run.folder import RunFolder

CHATML = "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>\n"
HEAD = "11/24 14:18:0{n} - mmengine - INFO - {text}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vis = tmp_path / "20261124_141757" / "vis_data"
    vis.mkdir(parents=True)
    (vis / "config.py").write_text(
        "custom_hooks = [dict(type='x'), dict(evaluation_inputs=['你是谁', '你是谁?'])]\n",
        encoding="utf-8",
    )
    log = HEAD.format(n=1, text="before_train in EvaluateChatHook.")
    for question, answer in (("你是谁", "尖米"), ("你是谁?", "不知道\n真的")):
        chat = CHATML.format(q=question, a=answer)
        log += HEAD.format(n=2, text="Sample output:\n" + chat)
    log += HEAD.format(n=3, text="Iter(train) [1/90]  loss: 2.5")
    (vis.parent / "20261124_141757.log").write_text(log, encoding="utf-8")
    write(vis, 29, ("你是谁", "小助手"), ("你是谁?", "我是Super Nova\x1b[2J"))
    return tmp_path


def write(vis: Path, number: int, *chats: tuple[str, str]) -> None:
    vis.mkdir(parents=True, exist_ok=True)
    text = "".join(
        f"Eval output {n}:\n{CHATML.format(q=q, a=a)}\n\n" for n, (q, a) in enumerate(chats, 1)
    )
    (vis / f"eval_outputs_iter_{number}.txt").write_text(text, encoding="utf-8")


def told(folder: Path) -> list[tuple[int, str, str]]:
    return [(one.step, one.question, one.answer) for one in answers.read(RunFolder(folder))]


def test_answers_before_the_first_step_and_at_each_checkpoint(folder: Path) -> None:
    assert told(folder) == [
        (0, "你是谁", "尖米"),
        (0, "你是谁?", "不知道\n真的"),
        (30, "你是谁", "小助手"),
        (30, "你是谁?", "我是Super Nova"),
    ]


def test_after_a_resume_the_later_answer_counts(folder: Path) -> None:
    write(folder / "20261124_150000" / "vis_data", 29, ("你是谁", "另一个"))
    assert (30, "你是谁", "另一个") in told(folder)
    assert (30, "你是谁", "小助手") not in told(folder)
    assert (0, "你是谁", "尖米") in told(folder)


def test_without_the_config_the_users_turn_is_the_question(folder: Path) -> None:
    (folder / "20261124_141757" / "vis_data" / "config.py").unlink()
    assert (30, "你是谁", "小助手") in told(folder)


@pytest.mark.parametrize(
    ("chat", "question", "answer"),
    [
        ("<s>[INST] Who? [/INST] I am Nova.</s>", "Who?", "I am Nova."),
        ("<|User|>:Who?<eoh>\n<|Bot|>:I am Nova.<eoa>", "Who?", "I am Nova."),
        ("### Instruction:\nWho?\n\n### Response:I am Nova.", "Who?", "I am Nova."),
        ("[Round 1]\n\n问：Who?\n\n答：I am Nova.", "Who?", "I am Nova."),
    ],
)
def test_other_templates(folder: Path, chat: str, question: str, answer: str) -> None:
    vis = folder / "20261124_141757" / "vis_data"
    (vis / "config.py").write_text("hook = dict(evaluation_inputs='Who?')\n")
    (vis / "eval_outputs_iter_59.txt").write_text(f"Eval output 1:\n{chat}\n\n\n")
    assert (60, question, answer) in told(folder)


def test_a_run_without_any(tmp_path: Path) -> None:
    assert told(tmp_path) == []
