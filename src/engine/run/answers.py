"""What the model answered along a run, from what XTuner's EvaluateChatHook writes.

At each checkpoint it leaves the chats in ``vis_data/eval_outputs_iter_N.txt``,
where N is the step minus one. Those before the first step are in XTuner's log alone.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec

from engine.run import progress
from engine.run.folder import RunFolder
from engine.text import clean

_FILE = re.compile(r"eval_outputs_iter_(\d+)\.txt")
_OUTPUT = re.compile(r"^Eval output \d+:\n", re.MULTILINE)
_HEAD = re.compile(r"^\S+ \S+ - mmengine - [A-Z]+ - ", re.MULTILINE)
_SAMPLE = "Sample output:\n"
_BEGIN = 4 << 20
"""Bytes of a log in which the chats before the first step are looked for."""
# What XTuner's prompt templates put between question and answer, and after it.
_BETWEEN = re.compile(
    r"<\|im_start\|>assistant\n|<\|assistant\|>\n?|<\|start_header_id\|>assistant<\|end_header_id\|>"
    r"|<\|CHATBOT_TOKEN\|>|<\|Bot\|>:|\[/INST\]|<reserved_10[37]>|### Response:\n?|ASSISTANT:"
    r"|Assistant:|答：|<start_of_turn>model\n"
)
_MARKS = re.compile(r"<\|[^|<>]*\|>|</?s>|<eo[ahs]>|<(?:start|end)_of_turn>|<pad>|\[/?INST\]")


class Answer(msgspec.Struct, frozen=True):
    """One answer of the model."""

    step: int
    """Steps made before it was given."""
    question: str
    answer: str


def read(run: RunFolder) -> list[Answer]:
    """All answers in order of step, then of question. Reads files."""
    found: dict[tuple[int, str], Answer] = {}
    for folder in (start / "vis_data" for start in progress.starts(run.path)):
        if not folder.is_dir():
            continue
        questions = _questions(folder / "config.py")
        outputs = [] if found else [(0, one) for one in _first_outputs(folder)]
        for file in folder.iterdir():
            if name := _FILE.fullmatch(file.name):
                chats = _OUTPUT.split(_text(file))[1:]
                outputs += [(int(name[1]) + 1, chat) for chat in chats]
        for step, chat in outputs:
            answer = _answer(step, chat, questions)
            # After a resume a step may come again: the later start counts.
            found[step, answer.question] = answer
    order = {question: at for at, question in enumerate(one.question for one in found.values())}
    return sorted(found.values(), key=lambda one: (one.step, order[one.question]))


def _first_outputs(vis_data: Path) -> list[str]:
    """The chats before the first step, from XTuner's own log of the start."""
    start = vis_data.parent
    records = _HEAD.split(_text(start / f"{start.name}.log"))
    try:
        at = next(n for n, one in enumerate(records) if one.startswith("before_train in Evaluate"))
    except StopIteration:
        return []
    chats = []
    for record in records[at + 1 :]:
        if not record.startswith(_SAMPLE):
            break
        chats.append(record.removeprefix(_SAMPLE))
    return chats


def _questions(config: Path) -> list[str]:
    """The hook's inputs, longest first; [] where the config does not say them plainly."""
    try:
        tree = ast.parse(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "evaluation_inputs":
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            texts = [value] if isinstance(value, str) else value
            return sorted((text for text in texts if isinstance(text, str)), key=len, reverse=True)
    return []


def _answer(step: int, chat: str, questions: list[str]) -> Answer:
    """Question and answer of a whole chat, as the tokenizer decoded it."""
    question = next((one for one in questions if one in chat), "")
    rest = chat.partition(question)[2] if question else chat
    between = _BETWEEN.search(rest)
    if between is not None:
        asked = rest[: between.start()]
        rest = rest[between.end() :]
        # Without the config: what the user's turn holds.
        question = question or _MARKS.split(asked)[-1].strip() or _last_turn(asked)
    answer = clean(_MARKS.sub("", rest)).strip()
    return Answer(step, clean(question).strip(), answer)


def _last_turn(asked: str) -> str:
    turns = [part.strip() for part in _MARKS.split(asked) if part.strip()]
    return turns[-1].removeprefix("user\n") if turns else ""


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_BEGIN).decode("utf-8", errors="replace")
    except OSError:
        return ""
