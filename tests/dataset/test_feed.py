"""Rows fed in the worker: map modules, text without a template, tokenizers that do not fit."""

from __future__ import annotations

import json
import shutil

import pytest

from engine.dataset.checking.check import check
from engine.dataset.mapping import Mapping, write_map_module
from engine.dataset.preview import Preview, map_functions
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.settings import Settings

pytestmark = pytest.mark.slow

TALK = {"conversation": [{"input": "a", "output": "b"}]}
WITH_SYSTEM = {"conversation": [{"input": "a", "output": "b", "system": "s"}]}


@pytest.fixture(scope="module")
def preview():
    with Preview(Settings()) as preview:
        yield preview


@pytest.fixture
def tokenizer(tiny_model, tmp_path):
    """Make a folder with the tiny model's tokenizer, less some of its settings."""

    def make(*without):
        folder = tmp_path / "-".join(without)
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
            shutil.copy(tiny_model / name, folder)
        if "chat_template" not in without:
            shutil.copy(tiny_model / "chat_template.jinja", folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        for name in without:
            settings.pop(name, None)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return folder

    return make


def test_an_answer_behind_max_length_is_told_from_none(preview, tiny_model, tmp_path):
    """XTuner drops both in silence; one is mended by another max_length, the other is not."""
    rows = [
        {"conversation": [{"input": "长" * 100, "output": "好"}]},
        {"conversation": [{"input": "长" * 100, "output": ""}]},
        {"conversation": [{"input": "短", "output": "好" * 100}]},
    ]
    rows.append({"conversation": [rows[0]["conversation"][0] | {"output_with_loss": False}]})
    preview.open(tiny_model, "qwen_chat", 50, shape="xtuner")
    with pytest.raises(Failed, match=r"behind max_length: \d+ tokens, cut at 50") as told:
        preview.sample(rows[0], "xtuner")
    assert "Raise max_length" in told.value.todo
    with pytest.raises(Failed, match="No token of it"):
        preview.sample(rows[3], "xtuner")
    assert preview.sample(rows[2], "xtuner").tokens == 50
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows[:3]))
    wishes = {"model": tiny_model, "template": "qwen_chat", "max_length": 50}
    with Dataset.open(path) as dataset:
        found = check(dataset, settings=Settings(), **wishes)
    assert (found.behind, found.behind_total, found.dropped, found.cut) == ([0, 1], 2, 2, [2])


def test_plain_text_needs_no_template(preview, tokenizer):
    base = tokenizer("chat_template")
    assert preview.open(base, shape="text") == ""
    sample = preview.sample({"text": " 从前有一座山 \n"}, "text")
    assert sample.text == "<|endoftext|>从前有一座山"
    assert [segment.loss for segment in sample.segments] == [False, True]
    with pytest.raises(Failed, match="drops"):
        preview.sample({"text": " "}, "text")
    with pytest.raises(Problem, match="need a prompt template"):
        preview.sample(TALK, "xtuner")
    with pytest.raises(Problem, match="does not say which prompt template"):
        preview.open(base, shape="xtuner")


@pytest.mark.parametrize("name", ["bos_token", "eos_token"])
def test_a_tokenizer_with_which_xtuner_fails_is_refused(preview, tokenizer, name):
    with pytest.raises(Problem, match="cannot use this tokenizer") as caught:
        preview.open(tokenizer(name), "internlm2_chat" if name == "bos_token" else "default")
    assert name in caught.value.why and "tokenizer_config.json" in caught.value.todo


def test_an_end_token_is_asked_for_only_where_xtuner_adds_one(preview, tokenizer):
    endless = tokenizer("eos_token")
    preview.open(endless, "internlm2_chat")  # its own suffix ends the answer
    assert preview.sample(TALK, "xtuner").text.endswith("b<|im_end|>\n")
    preview.open(endless, shape="text")
    assert preview.sample({"text": "a"}, "text").loss_tokens == 1


def test_a_template_without_a_place_for_a_system_text(preview, tiny_model):
    preview.open(tiny_model, "minicpm")
    assert preview.sample(TALK, "xtuner").loss_tokens > 0
    with pytest.raises(Problem, match="no place for a system text") as caught:
        preview.sample(WITH_SYSTEM, "xtuner")
    assert "minicpm" in caught.value.what


def test_marks_that_the_tokenizer_does_not_know_are_named(preview, tiny_model):
    preview.open(tiny_model, "internlm2_chat")
    assert preview.split_marks == []
    preview.open(tiny_model, "llama3_chat")
    assert "<|start_header_id|>" in preview.split_marks
    preview.open(tiny_model, "default")
    assert preview.split_marks == [], "it is meant for models without marks"


def test_rows_go_through_a_module_of_the_users(preview, tiny_model, tmp_path):
    (tmp_path / "helps.py").write_text("WORD = 'x'\n")
    own = tmp_path / "own.py"
    own.write_text(
        "from helps import WORD\nprint('noise')\n"
        "def map_fn(row):\n"
        "    row['talk'].append(WORD)  # its copy\n"
        "    return {'conversation': [{'input': row['q'][0], 'output': ''.join(row['talk'])}]}\n"
    )
    row = {"q": "a", "talk": ["b"]}
    assert preview.mapped(row, str(own)) == [{"input": "a", "output": "bx"}]
    preview.open(tiny_model, "default", shape=str(own))
    assert preview.sample(row, str(own)).text.endswith("bx<|im_end|>\n")
    with pytest.raises(Failed, match="cannot take this row") as caught:
        preview.mapped({"q": [], "talk": []}, str(own))
    assert "IndexError: list index out of range" in caught.value.why


@pytest.mark.parametrize("text", ["import no_such_thing\ndef map_fn(row): ...", "def map_fn(row):"])
def test_a_module_that_does_not_run(preview, tmp_path, text):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(Problem, match="Cannot use the map module") as caught:
        preview.mapped({}, str(path))
    assert "no_such_thing" in caught.value.why or "line 1" in caught.value.why


def test_a_module_that_was_changed_is_read_again(preview, tiny_model, tmp_path):
    path = tmp_path / "data_map.py"
    row = {"a": "1", "b": "2"}
    for column in ("a", "b"):
        write_map_module(Mapping(answer=column), path, force=True)
        assert preview.mapped(row, str(path))[0]["output"] == row[column]
        preview.open(tiny_model, "default", shape=str(path))
        assert preview.sample(row, str(path)).text.endswith(f"{row[column]}<|im_end|>\n")


def test_xtuners_functions_are_offered_by_name(preview):
    offered = map_functions(Settings())
    assert offered["openorca_map_fn"] == ["system_prompt", "question", "response"]
    assert offered["pretrain_map_fn"] == ["text"]
    assert len(offered) > 15
    row = {"text": "### Human: q ### Assistant: a"}
    assert preview.mapped(row, "oasst1_map_fn") == [{"input": "q", "output": "a"}]
    with pytest.raises(Problem, match="no map function called nope_map_fn") as caught:
        preview.mapped(row, "nope_map_fn")
    assert "openorca_map_fn" in caught.value.todo
