"""Every text for people exists in every language, and the compiled catalogue is current."""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir, extract_from_file
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from engine import i18n
from engine.cli import flags
from engine.cli.flags import FLAGS
from engine.cli.main import language_of, parser
from engine.config.checks.findings import Finding
from engine.errors import Problem, Way
from engine.i18n import LOCALE_DIR, sentences
from tui.app import _WAYS
from tui.panes.base import EVERYWHERE, say_everywhere
from tui.panes.chat import ChatPane
from tui.panes.config import ConfigPane
from tui.panes.data import DataPane
from tui.panes.export import ExportPane
from tui.panes.train import TrainPane

SOURCE = Path(LOCALE_DIR).parent.parent
COMMAND = re.compile(r"`[^`]*`|(tunedeck|modelscope) .*|--shm-size")
VERB = re.compile(r"tunedeck ([a-z]+(?: [a-z]+)?)")
KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}
TODO = "run `make messages`, translate what is new in zh/LC_MESSAGES/tunedeck.po, run it again"


def in_code() -> set[object]:
    """The texts that the code marks."""
    found = extract_from_dir(str(SOURCE), keywords=KEYWORDS)
    return {tuple(m) if isinstance(m, (list, tuple)) else m for _file, _line, m, *_ in found}


def chinese() -> Catalog:
    """The catalogue that people edit."""
    with (LOCALE_DIR / "zh/LC_MESSAGES/tunedeck.po").open("rb") as file:
        return read_po(file, locale="zh")


def as_tuple(texts: str | Sequence[str]) -> tuple[str, ...]:
    """One text, or the forms of a plural."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def placeholders(text: str) -> set[str]:
    """The names that `str.format` will fill in."""
    return set(re.findall(r"{(\w+)", text))


def test_every_text_is_translated() -> None:
    translated = {
        tuple(m.id) if isinstance(m.id, (list, tuple)) else m.id
        for m in chinese()
        if m.id and (m.string if isinstance(m.string, str) else all(m.string))
    }
    missing = in_code() - translated
    assert not missing, (
        f"{len(missing)} texts are not translated: {TODO}\n{sorted(map(str, missing))}"
    )


def test_no_text_hides_in_an_f_string() -> None:
    """The extraction does not always look into them: such a text would stay English."""
    hidden = [
        (path.name, call.lineno, call.args[0].value)
        for path in SOURCE.rglob("*.py")
        for joined in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(joined, ast.JoinedStr)
        for call in ast.walk(joined)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "_"
        and isinstance(call.args[0], ast.Constant)
    ]
    known = in_code()
    assert [one for one in hidden if one[2] not in known] == []


def test_translations_keep_what_is_filled_in() -> None:
    for message in chinese():
        if not message.id:
            continue
        wanted, given = " ".join(as_tuple(message.id)), " ".join(as_tuple(message.string))
        assert placeholders(given) <= placeholders(wanted), message.id
        assert placeholders(wanted) <= placeholders(given), message.id


def test_the_compiled_catalogue_is_current() -> None:
    compiled = read_mo(io.BytesIO((LOCALE_DIR / "zh/LC_MESSAGES/tunedeck.mo").read_bytes()))
    for message in chinese():
        if message.id:
            known = compiled.get(message.id)
            assert known is not None, f"{message.id!r}: {TODO}"
            assert as_tuple(known.string) == as_tuple(message.string), f"{message.id!r}: {TODO}"


@pytest.mark.parametrize(
    ("words", "language", "rest"),
    [
        (["--lang", "zh", "gpus"], "zh", ["gpus"]),
        (["gpus", "--lang=zh", "--json"], "zh", ["gpus", "--json"]),
        (["--lang", "zh"], "zh", []),
        (["gpus", "--lang"], "", ["gpus", "--lang"]),  # the parser says what is missing
        (["note", "run", "--", "--lang=zh"], "", ["note", "run", "--", "--lang=zh"]),
    ],
)
def test_a_language_is_read_wherever_it_stands(
    words: list[str], language: str, rest: list[str]
) -> None:
    assert language_of(words) == (language, rest)


@pytest.mark.parametrize("words", [("--lang", "zh", "gpus"), ("gpus", "--lang=zh")])
@pytest.mark.parametrize("module", ["tui.__main__", "engine.cli.main"])
def test_a_verb_speaks_it_however_it_is_started(module: str, words: tuple[str, ...]) -> None:
    start = f"import sys; from {module} import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, *words, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "语言" in done.stdout


@pytest.mark.parametrize("words", [("--lang", "fr", "."), ("gpus", "--lang", "fr")])
def test_a_language_that_is_none_of_ours(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", "tui", *words], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "There is no language fr\nKnown: en, zh.\n"


def test_the_engine_leaves_flags_and_keys_to_who_shows_its_texts() -> None:
    """A flag means nothing in a pane, a key nothing on the command line."""
    named = []
    for path in (SOURCE / "engine").rglob("*.py"):
        if "cli" in path.parts:
            continue
        texts = extract_from_file("python", path, keywords=KEYWORDS)
        # A command that can be typed is another matter, and so are other programs' flags.
        named += [
            (path.name, line, text)
            for line, text, *_rest in texts
            if re.search(r"(?<!\S)-(-\w|o\b)", COMMAND.sub("", str(text)))
        ]
    assert named == []


def test_each_way_is_told_by_who_has_it() -> None:
    taken = {option for verb in verbs(parser()) for option in verb._option_string_actions}
    told = {flag for text in FLAGS.values() for flag in re.findall(r"(?<!\S)-[\w-]+", text)}
    assert told and told <= taken
    known = {" ".join(verb.prog.split()[1:]) for verb in verbs(parser())}
    typed = [VERB.findall(text) for text in FLAGS.values() if "`" in text]
    assert all(one and set(one) <= known for one in typed), typed
    panes = [pane.WAYS for pane in (DataPane, ConfigPane, TrainPane, ExportPane, ChatPane)]
    assert set(FLAGS).union(*panes, EVERYWHERE, _WAYS) == set(get_args(Way))


def test_what_preflight_finds_names_no_verb_that_a_pane_has_a_key_for() -> None:
    having = {verb for text in FLAGS.values() for verb in VERB.findall(text)}
    assert "gpus" in having
    for path in (SOURCE / "engine" / "config" / "checks").rglob("*.py"):
        for _line, text, *_rest in extract_from_file("python", path, keywords=KEYWORDS):
            assert not having.intersection(VERB.findall(str(text))), text
    found = Finding("error", "code", "what", "why", "Choose another.", ways=("gpus",))
    assert found.told(flags.say).todo == (
        "Choose another. `tunedeck gpus` shows the GPUs and who uses them."
    )
    assert found.told(say_everywhere).todo == "Choose another. F8 shows the GPUs and who uses them."


def verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """`parser`, and the parsers of all its verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from verbs(inner)


@pytest.mark.parametrize(
    ("language", "parts", "text"),
    [
        ("en", ("It is full.", "", "Make room."), "It is full. Make room."),
        ("en", ("the row is empty", "Remove it."), "the row is empty. Remove it."),
        (
            "en",
            ("It has more: lm_head, …", "Choose another."),
            "It has more: lm_head, … Choose another.",
        ),
        ("zh", ("磁盘已满。", "", "请腾出空间。"), "磁盘已满。请腾出空间。"),
        ("zh", ("该行为空", "请删除。"), "该行为空。请删除。"),
        ("zh", ("It is full.", "请腾出空间。"), "It is full. 请腾出空间。"),
    ],
)
def test_sentences_are_joined_as_the_language_does(
    monkeypatch: pytest.MonkeyPatch, language: str, parts: Sequence[str], text: str
) -> None:
    monkeypatch.setattr(i18n, "_language", language)
    assert sentences(*parts) == text
    problem = Problem(*parts[:-1], ways=("out",)).told(lambda _way: parts[-1])
    assert str(problem) == text
