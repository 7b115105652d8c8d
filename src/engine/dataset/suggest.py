"""A mapping to begin with, told from the names of columns and what stands in them.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from engine.dataset.mapping import Mapping

# The likeliest first. A name fits when it is one of these, else when it holds one.
QUESTIONS = (
    "instruction", "question", "prompt", "query", "problem", "user", "human", "input", "source",
    "问题", "提问", "指令", "提示词", "提示", "用户", "题目", "问", "输入", "原文",
)  # fmt: skip
ANSWERS = (
    "output", "answer", "response", "completion", "reply", "solution", "assistant", "target",
    "chosen", "回答", "答案", "回复", "答复", "输出", "解答", "译文", "答",
)  # fmt: skip
SYSTEMS = (
    "system_prompt",
    "system_message",
    "system",
    "系统提示词",
    "系统提示",
    "系统",
    "角色设定",
)
EXTRAS = ("input", "context", "passage", "background", "上下文", "背景", "材料", "输入", "补充")
ROLE_KEYS = ("role", "from", "speaker", "author", "角色", "身份")
TEXT_KEYS = ("content", "value", "text", "message", "内容", "文本")
ROLES = {
    "system": "system",
    "user": "question",
    "human": "question",
    "prompter": "question",
    "客户": "question",
    "用户": "question",
    "assistant": "answer",
    "gpt": "answer",
    "chatgpt": "answer",
    "bot": "answer",
    "bing": "answer",
    "bard": "answer",
    "model": "answer",
    "助手": "answer",
    "客服": "answer",
    "系统": "system",
}
"""The names that datasets give to the sides of a talk."""
LOSS_KEYS = ("loss", "train", "output_with_loss")


def suggest(rows: Iterable[Any]) -> Mapping | None:
    """The likeliest mapping for `rows` (the first ones of a file); None where there is no text."""
    known = [row for row in rows if isinstance(row, dict)]
    columns = list(dict.fromkeys(name for row in known for name in row))
    texts = [name for name in columns if any(_is_text(row.get(name)) for row in known)]
    messages = _messages(known, columns, texts)
    if messages is not None:
        return messages
    named = by_names(texts)
    if named is not None:
        return named
    if not texts:
        return None
    system = _pick(texts, SYSTEMS)
    rest = [name for name in texts if name != system]
    answer = _pick(rest, ANSWERS) or (rest[1:2] or rest or texts)[0]
    question = next((name for name in rest if name != answer), "")
    return Mapping(question=question, answer=answer, system="" if system == answer else system)


def by_names(columns: Sequence[str]) -> Mapping | None:
    """The mapping that the names of `columns` tell; None when they name no question and answer."""
    system = _pick(columns, SYSTEMS)
    rest = [name for name in columns if name != system]
    answer = _pick(rest, ANSWERS)
    question = _pick([name for name in rest if name != answer], QUESTIONS)
    if not answer or not question:
        return None
    extra = _pick([name for name in rest if name not in (answer, question)], EXTRAS)
    return Mapping(question=question, answer=answer, extra=(extra,) if extra else (), system=system)


def _messages(rows: list[dict[str, Any]], columns: list[str], texts: list[str]) -> Mapping | None:
    """The mapping for a column that holds lists of messages."""
    for column in columns:
        lists = [row[column] for row in rows if isinstance(row.get(column), list)]
        members = [one for found in lists for one in found if isinstance(one, dict)]
        keys = list(dict.fromkeys(key for one in members for key in one))
        role = _pick([key for key in keys if _has_text(members, key)], ROLE_KEYS)
        text = _pick([key for key in keys if key != role], TEXT_KEYS)
        if not role or not text:
            continue
        names = dict.fromkeys(one[role] for one in members if isinstance(one.get(role), str))
        sides = {name: ROLES[name.lower()] for name in names if name.lower() in ROLES}
        if "answer" in sides.values():
            return Mapping(
                messages=column,
                role=role,
                text=text,
                roles=tuple(sides.items()),
                loss=next((key for key in LOSS_KEYS if key in keys), ""),
                system=_pick(texts, SYSTEMS),
            )
    return None


def _has_text(members: list[dict[str, Any]], key: str) -> bool:
    return any(isinstance(one.get(key), str) for one in members)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _pick(names: Sequence[str], likely: Sequence[str]) -> str:
    """The name in `names` that is the likeliest, or ""."""
    plain = {name: re.sub(r"[\W]+", "_", str(name)).strip("_").lower() for name in names}
    for word in likely:
        for name, short in plain.items():
            if short == word:
                return name
    for word in likely:
        for name, short in plain.items():
            parts = short.split("_")
            if word in parts or (not word.isascii() and word in short):
                return name
    return ""
