"""Edits change the value meant and no other byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.known import fields
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.errors import Problem

TEXT = '''"""A config."""
from peft import LoraConfig  # adapters
from x import PROMPT_TEMPLATE

#######################################################################
#                          PART 1  Settings                           #
#######################################################################
# Model
path = 'models/尖米'  # the base

# Scheduler & Optimizer
lr   =  2e-4   # keep these spaces
betas = (0.9, 0.999)
sp = 2
accumulative_counts = 16
accumulative_counts *= sp
warmup_ratio = 0.03
max_epochs = 3
prompt_template = PROMPT_TEMPLATE.qwen_chat

#######################################################################
#                      PART 2  Model & Tokenizer                      #
#######################################################################
model = dict(
    path=path,
    lora=dict(
        type=LoraConfig,
        r=64,  # rank
    ),
    extra={"a": 1, 'b': [1, 2]},
)
optim = dict(optimizer=dict(lr=lr), end=warmup_ratio * max_epochs)
'''


def source(text: str = TEXT) -> ConfigSource:
    return ConfigSource(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "models/尖米"),
        ("lr", 2e-4),
        ("betas", (0.9, 0.999)),
        ("accumulative_counts", 32),
        ("model.path", "models/尖米"),
        ("model.lora.r", 64),
        ("lora.r", 64),
        ("model.extra.b.1", 2),
        ("optim.optimizer.lr", 2e-4),
        ("optim.end", 0.09),
        ("prompt_template", Code("PROMPT_TEMPLATE.qwen_chat")),
        ("model.lora", {"type": Code("LoraConfig"), "r": 64}),
    ],
)
def test_get_says_what_a_key_evaluates_to(key: str, value: object) -> None:
    got = source().get(key)
    assert got == (pytest.approx(value) if isinstance(value, float) else value)
    assert isinstance(got, Code) == isinstance(value, Code)


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("lr", 1e-3, "lr   =  2e-4   #", "lr   =  0.001   #"),
        ("lr", Code("1e-3"), "lr   =  2e-4   #", "lr   =  1e-3   #"),
        ("path", "/a 'b' \"c\"", "'models/尖米'  #", "'/a \\'b\\' \"c\"'  #"),
        ("betas", (0.9, 0.95), "(0.9, 0.999)", "(0.9, 0.95)"),
        ("model.lora.r", 8, "r=64,  # rank", "r=8,  # rank"),
        ("optim.optimizer.lr", 0.5, "lr   =  2e-4", "lr   =  0.5"),
        ("model.extra.b.0", 7, "[1, 2]", "[7, 2]"),
        ("accumulative_counts", 4, "counts = 16", "counts = 4"),
        ("optim.end", 1, "end=warmup_ratio * max_epochs", "end=1"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_set_changes_only_the_value(
    key: str, value: object, old: str, new: str, newline: str, bom: str
) -> None:
    text = bom + TEXT.replace("\n", newline)
    edited = source(text)
    edited.set(key, value)
    assert edited.text == text.replace(old, new)
    assert edited.text != text


@pytest.mark.parametrize(
    ("key", "added"),
    [
        ("model.lora.lora_alpha", "        r=64,  # rank\n        lora_alpha=1,\n"),
        ("optim.optimizer.eps", "optimizer=dict(lr=lr, eps=1)"),
        ("model.extra.c", "'b': [1, 2], \"c\": 1}"),
        ("model.use", "    use=1,\n)"),
        ("work_dir", "max_epochs)\nwork_dir = 1\n"),
    ],
)
def test_a_key_is_added_in_the_style_around_it_and_taken_out_again(key: str, added: str) -> None:
    edited = source()
    edited.set(key, 1)
    assert added in edited.text
    assert edited.get(key) == 1
    edited.unset(key)
    assert edited.text == TEXT


def test_a_key_that_nothing_reads_is_refused_with_the_near_one() -> None:
    with pytest.raises(Problem, match=r"max_epochs"):
        source().set("max_epoch", 3)
    with pytest.raises(Problem, match=r"no setting lr\.x"):
        source().set("lr.x", 3)


def test_an_ambiguous_end_of_a_key_is_refused() -> None:
    text = "a = dict(x=dict(k=1))\nb = dict(x=dict(k=2))\n"
    with pytest.raises(Problem, match=r"a\.x\.k, b\.x\.k"):
        source(text).get("x.k")


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("2e-5", "2e-5"),
        ("True", "True"),
        ("hello world", "'hello world'"),
        ("PROMPT_TEMPLATE.llama3_chat", "PROMPT_TEMPLATE.llama3_chat"),
        ("Unknown.llama3_chat", "'Unknown.llama3_chat'"),
        ("'007'", "'007'"),
    ],
)
def test_assign_takes_what_a_person_types(typed: str, code: str) -> None:
    edited = source("from x import PROMPT_TEMPLATE\nvalue = None\nother = 'a'\n")
    edited.assign("value", typed)
    assert edited.code("value") == code.replace("'", '"')


def test_assign_keeps_text_where_text_stands() -> None:
    edited = source()
    edited.assign("path", "007")
    assert edited.get("path") == "007"
    edited.assign("path", "None")
    assert edited.get("path") is None


def test_a_value_that_is_no_python_is_refused_and_changes_nothing() -> None:
    edited = source()
    with pytest.raises(Problem, match="would break"):
        edited.set("lr", Code("2e-4)"))
    assert edited.text == TEXT


def test_rename_puts_a_misspelt_name_right() -> None:
    edited = source(TEXT.replace("r=64", "rr=64").replace("betas =", "beta ="))
    edited.rename("model.lora.rr", "r")
    edited.rename("beta", "betas")
    assert edited.text == TEXT


def test_fields_tell_section_line_and_meaning() -> None:
    found = {field.name: field for field in fields.fields(source())}
    assert found["path"].section == "Model"
    assert found["lr"].line == 12
    assert "learning rate" in found["lr"].help
    assert found["betas"].code == "(0.9, 0.999)"
    assert found["model.lora.r"].value == 64
    assert not found["prompt_template"].literal


def test_changes_name_what_was_set_added_and_removed() -> None:
    edited = source()
    edited.set("lr", 0.5)
    edited.set("model.lora.lora_alpha", 16)
    edited.unset("sp")
    changes = {change.name: (change.before, change.after) for change in edited.changes(source())}
    assert changes == {
        "lr": ("2e-4", "0.5"),
        "model.lora.lora_alpha": (None, "16"),
        "sp": ("2", None),
    }


def test_save_refuses_to_lose_an_edit_made_outside(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text(TEXT)
    mine = ConfigSource.open(path)
    mine.set("lr", 0.5)
    path.write_text(TEXT + "# vim was here\n")
    with pytest.raises(Problem, match="changed by someone else"):
        mine.save()
    assert path.read_text().endswith("# vim was here\n")
    mine.save(force=True)
    assert ConfigSource.open(path).get("lr") == 0.5
    mine.set("lr", 0.25)
    mine.save()  # its own last save is no outside edit
    assert ConfigSource.open(path).get("lr") == 0.25


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = 1\nlr = (\n", "line 2, column 6: .* never closed"),
        (b"a = 1\nb = = 2\n", "line 2, column 5"),
        ("x = '\u5c16'".encode("gbk"), "not UTF-8"),
    ],
)
def test_a_file_that_is_no_config_is_a_problem(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "c.py"
    path.write_bytes(data)
    with pytest.raises(Problem, match=message):
        ConfigSource.open(path)


def test_a_folder_and_a_missing_file_are_problems(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="folder"):
        ConfigSource.open(tmp_path)
    with pytest.raises(Problem, match="No such file"):
        ConfigSource.open(tmp_path / "none.py")


def test_names_that_define_each_other_do_not_hang() -> None:
    edited = source("a = b\nb = a\nc = c + 1\n")
    assert isinstance(edited.get("a"), Code)
    assert edited.get("c") == Code("c + 1")


def test_a_name_means_what_it_meant_where_it_stands() -> None:
    edited = source("lr = 1\nmodel = dict(a=lr, b=lr * 2)\nlr = 5\nlr *= 2\nend = dict(a=lr)\n")
    assert [edited.get(key) for key in ("model.a", "model.b", "lr", "end.a")] == [1, 2, 10, 10]
    edited.set("model.a", 3)
    assert edited.text.startswith("lr = 3\nmodel") and edited.get("end.a") == 10


@pytest.mark.parametrize(
    "after",
    [
        "if x:\n    x = 2\n",
        "x['a'] = 2\n",
        "x.update(a=2)\n",
        "for x in []:\n    pass\n",
    ],
)
def test_a_value_that_only_a_run_can_tell_is_shown_as_code(after: str) -> None:
    assert isinstance(source(f"x = dict(a=1)\n{after}y = x\n").get("y"), Code)


def test_names_doubled_over_and_over_take_no_time() -> None:
    lines = ["a0 = 1", *(f"a{n} = a{n - 1} + a{n - 1}" for n in range(1, 64))]
    assert source("\n".join(lines)).get("a63") == 2**63


@pytest.mark.parametrize(
    ("code", "new"),
    [
        ("x = (  # why (\n    16\n)\n", "x = 1\n"),
        ("x = (\n    'a'\n    'b'  # )\n)\n", "x = 1\n"),
        ("x = dict(a=(1 + 2) * 3)\n", None),
        ("x = [(1), # a (\n 2]\n", None),
        (
            "\tx = 1\n".lstrip() + "y = dict(\n\ta=1,\t# tab\n)\n",
            "x = 1\ny = dict(\n\ta=1,\t# tab\n)\n",
        ),
    ],
)
def test_parentheses_belong_to_the_value(code: str, new: str | None) -> None:
    edited = source(code)
    old = edited.code("x")
    edited.set("x", 1)
    assert new is None or edited.text == new
    edited.set("x", Code(old))
    assert edited.text == code


def test_readers_say_what_else_changes() -> None:
    text = source()
    assert text.readers("lr") == ["optim.optimizer.lr"]
    assert text.readers("sp") == []
    assert text.readers("max_epochs") == ["optim.end"]
    assert source("a = 1\nb = a * 2\nc = dict(d=b)\n").readers("a") == ["b", "c.d"]
    assert source("a = 1\nc = dict(d=a, e=a)\n").readers("c.d") == ["c.e"]
