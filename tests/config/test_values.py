"""Evaluating and writing values."""

from __future__ import annotations

import ast

import pytest

from engine.config.known.fields import fields
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code, Unknown, evaluate, render


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5e-7,
        "",
        "it's",
        'say "hi"',
        "both ' and \"",
        "back\\slash\\",
        "\\'\"",
        "line\nbreak\t尖米",
        [1, "a", None],
        (1,),
        (),
        {"a b": [1], "c": {"d": ()}},
    ],
)
@pytest.mark.parametrize("like", ["", "'x'", '"x"'])
def test_what_is_written_evaluates_to_the_value(value: object, like: str) -> None:
    code = render(value, like)
    assert evaluate(code, _no_names) == value
    if isinstance(value, str) and like:
        assert code[0] == like[0]


def test_a_dict_with_plain_keys_is_written_as_mmengine_configs_write_it() -> None:
    assert render({"train": Code("data_path")}) == "dict(train=data_path)"


@pytest.mark.parametrize(
    "code",
    [
        *("f(1)", "a.b", "9**9**9", "[x for x in y]", "__import__('os')", "1 / 0", "("),
        *("'x' * 10**9", "b'x' * 10**9", "'%99999999d' % 1", "b'%99999999d' % 1"),
    ],
)
def test_nothing_is_run_and_nothing_grows(code: str) -> None:
    with pytest.raises(Unknown):
        evaluate(code, _no_names)


@pytest.mark.parametrize("code", ["1 + 2 * 3", "2 if 1 > 2 else 3", "(1, 2)", "not True", "-2e-3"])
def test_arithmetic_is_pythons(code: str) -> None:
    assert evaluate(code, _no_names) == eval(compile(ast.parse(code, mode="eval"), "", "eval"))


def _no_names(name: str) -> object:
    raise Unknown(name)


@pytest.mark.parametrize(
    "lines",
    [
        ["a = [1, 2]", *["a = [a, a]"] * 60],
        ["a = dict(b=1)", *["a = dict(b=a, c=a)"] * 60],
        ["a = 'x'", *["a += a"] * 60],
        ["a = '%9999999999999d' % 1"],
        ["a = ['x' * 99999]", *["a = a * 99999"] * 4],
    ],
)  # fmt: skip
def test_a_config_of_a_few_lines_fills_no_memory(lines: list[str]) -> None:
    """Each member of a list is counted as often as it stands there: that is how it is written."""
    source = ConfigSource("\n".join(lines) + "\n")
    assert len(repr(source.get("a"))) < 1_000_000
    fields(source)
