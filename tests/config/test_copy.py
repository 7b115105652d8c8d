"""Copies of the catalogue's configs, pointed at one's own data and model."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.config.checks.loaded import load
from engine.config.making import copy, pairs
from engine.config.making.copy import Copied
from engine.config.stock.entry import Entry
from engine.config.stock.reading import read
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.joined.copying import copy_config, training_data
from engine.settings import Settings
from engine.worker.client import WorkerClient

SHAPES = {
    "xtuner": ({"conversation": [{"input": "a", "output": "b"}]}, None),
    "alpaca": (
        {"instruction": "a", "input": "", "output": "b"},
        {"$ref": "xtuner.dataset.map_fns:alpaca_map_fn"},
    ),
    "openai": (
        {"messages": [{"role": "user", "content": "a"}]},
        {"$ref": "xtuner.dataset.map_fns:openai_map_fn"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name",
    [
        "internlm2_5_chat_7b_qlora_alpaca_e3",
        "internlm2_chat_7b_qlora_custom_sft_e1",
        "internlm_7b_qlora_alpaca_enzh_oasst1_e3",  # three datasets
        "qwen_7b_chat_qlora_alpaca_enzh_e3",
        "internlm_7b_qlora_medical_e1",  # load_dataset with name=…
        "llama2_7b_full_pgbooks_400iters_sp1",
        "smollm2_135m_instruct_lora_supernova_e3",
    ],
)
def test_a_copy_trains_on_the_given_file_only(
    tmp_path: Path, settings: Settings, warm: WorkerClient, name: str, shape: str
) -> None:
    row, function = SHAPES[shape]
    data = tmp_path / "it's data.jsonl"
    data.write_text(json.dumps(row) + "\n")
    done = copy_config(
        name,
        tmp_path / "mine.py",
        settings=settings,
        data=data,
        model=str(tmp_path),
        values={"max_epochs": "2", "work_dir": "x"},
    )
    config = load(done.path, settings, worker=warm)
    assert config.error is None
    assert config.wrong == []
    dataset = config.get("train_dataloader.dataset")
    assert dataset["type"] == {"$ref": "xtuner.dataset:process_hf_dataset"}
    assert dataset["dataset"] == {
        "type": {"$ref": "datasets:load_dataset"},
        "path": "json",
        "data_files": {"train": str(data)},
    }
    assert dataset["dataset_map_fn"] == function
    assert config.get("model.llm.pretrained_model_name_or_path") == str(tmp_path)
    assert config.get("work_dir") == "x"
    assert {"pretrained_model_name_or_path"} <= {change.name for change in done.changes}


def test_a_copy_knows_its_origin(tmp_path: Path, settings: Settings) -> None:
    name = "internlm2_5_chat_7b_qlora_alpaca_e3"
    done = copy_config(name, tmp_path, settings=settings, values={"lr": "1e-4"})
    assert done.path == tmp_path / f"{name}.py"
    source = ConfigSource.open(done.path)
    assert "(XTuner 0.2.0)" in source.text.splitlines()[0]
    origin = copy.origin(source, settings)
    assert origin is not None
    assert [(one.name, one.before, one.after) for one in source.changes(origin)] == [
        ("lr", "2e-4", "1e-4")
    ]


def test_nothing_is_overwritten_or_left_when_a_copy_fails(
    tmp_path: Path, settings: Settings
) -> None:
    name = "internlm2_5_chat_7b_qlora_alpaca_e3"
    target = tmp_path / "c.py"
    with pytest.raises(Problem, match="no setting"):
        copy_config(name, target, settings=settings, values={"lrr": "1"})
    assert not target.exists()
    target.write_text("mine")
    with pytest.raises(Problem, match="exists already"):
        copy_config(name, target, settings=settings)
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}]', "no shape"),
        ("[]", "no shape"),
        ('[{"conversation": []},\n {"conversation" []}]', "line 2, column 18"),
        ('{"instruction": "a"\n', "line 1"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    tmp_path: Path, settings: Settings, content: str, message: str
) -> None:
    data = tmp_path / "d.json"
    data.write_text(content)
    name = "internlm2_5_chat_7b_qlora_alpaca_e3"
    with pytest.raises(Problem, match=message):
        copy_config(name, tmp_path / "c.py", settings=settings, data=data)
    assert not (tmp_path / "c.py").exists()


def test_a_config_for_pairs_cannot_take_conversations(
    tmp_path: Path, settings: Settings, rows: Path
) -> None:
    with pytest.raises(Problem, match="build_preference_dataset"):
        copy_config("internlm2_chat_1_8b_dpo_full", tmp_path, settings=settings, data=rows)


def test_an_unknown_template_is_refused_with_the_near_one(
    tmp_path: Path, settings: Settings
) -> None:
    name = "internlm2_5_chat_7b_qlora_alpaca_e3"
    with pytest.raises(Problem, match="internlm2_chat"):
        copy_config(name, tmp_path, settings=settings, template="internlm2_chatt")


# Every config of the catalogue

FITTING = {
    "conversations": {"conversation": [{"system": "Be kind.", "input": "你是谁？", "output": "b"}]},
    "text": {"text": "plain text"},
    "pairs": {"prompt": "a", "chosen": "b", "rejected": "c"},
}
UNFIT = ("LLaVADataset", "InternVL", "RefCOCO", "build_packed_dataset", "beside a reference")
"""Said of the only ones that cannot be pointed: images, folders in a form of their own, POLAR."""


def fitting(entry: Entry) -> str:
    """The kind of data that the config trains on."""
    kind = entry.method.removesuffix(" vision")
    pairs = kind in ("dpo", "orpo", "reward")
    return "pairs" if pairs else "text" if kind == "pretrain" else "conversations"


@pytest.fixture(scope="module")
def copies(
    entries: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Copied | Problem]:
    """Each config of the catalogue copied onto data and model, or why that was refused."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    data = {}
    for name, row in FITTING.items():
        path = folder / f"{name}.jsonl"
        path.write_text(json.dumps(row, ensure_ascii=False) + "\n")
        data[name] = training_data(path)

    def attempt(entry: Entry) -> Copied | Problem:
        target = folder / "out" / f"{entry.name}.py"
        rows, model = data[fitting(entry)], str(folder / "model")
        try:
            return copy.copy(entry.path, target, settings=Settings(), data=rows, model=model)
        except Problem as problem:
            return problem

    return {entry.name: attempt(entry) for entry in entries}


def test_every_config_is_pointed_or_says_why_not(
    entries: list[Entry], copies: dict[str, Copied | Problem]
) -> None:
    for entry in entries:
        done = copies[entry.name]
        if isinstance(done, Problem):
            assert any(word in done.why for word in UNFIT), (entry.name, done.lines())
            assert done.todo, entry.name
            continue
        made = read(done.path)
        assert made is not None, entry.name
        folder = done.path.parent.parent
        assert made.dataset == str(folder / f"{fitting(entry)}.jsonl"), entry.name
        assert made.model == str(folder / "model"), entry.name
        assert (made.tuning, made.max_length) == (entry.tuning, entry.max_length), entry.name
        outline = done.path.read_text()
        if fitting(entry) == "conversations" and "evaluation_inputs =" in outline:
            assert 'evaluation_inputs = ["你是谁？"]' in outline, entry.name
            assert 'SYSTEM = "Be kind."' in outline, entry.name
    refused = [name for name, done in copies.items() if isinstance(done, Problem)]
    assert len(refused) == 62


@pytest.mark.slow
def test_mmengine_loads_every_copy(
    copies: dict[str, Copied | Problem], settings: Settings, warm: WorkerClient
) -> None:
    for name, done in copies.items():
        if isinstance(done, Copied):
            config = load(done.path, settings, worker=warm)
            assert config.error is None, (name, config.error)
            model = str(done.path.parent.parent / "model")
            place = "model.llm" if config.get("model.llm") else "model"
            assert config.get(f"{place}.pretrained_model_name_or_path") == model, name


# Data of every kind

NAME = "internlm2_5_chat_7b_qlora_alpaca_e3"


def pointed(path: Path, **options: Any) -> tuple[ConfigSource, Copied]:
    done = copy_config(NAME, path, settings=Settings(), **options)
    return ConfigSource.open(done.path), done


def test_columns_are_mapped_by_a_module_beside_the_config(
    tmp_path: Path, settings: Settings, warm: WorkerClient
) -> None:
    data = tmp_path / "faq.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), ("你是谁？", "我是Super Nova。")])
    source, done = pointed(tmp_path / "my-config.py", data=data)
    assert done.module == tmp_path / "my_config_map.py"
    assert done.module.stat().st_mode & 0o777 == 0o600
    assert "from my_config_map import map_fn" in source.text
    assert source.code("alpaca_en.dataset_map_fn") == "map_fn"
    assert source.get("alpaca_en.dataset.path") == "csv"
    assert source.get("evaluation_inputs") == ["你是谁？"]
    assert any("question" in note and "answer" in note for note in done.notes)
    assert load(done.path, settings, worker=warm).error is None
    space: dict[str, Any] = {}
    exec(done.module.read_text(), space)
    assert space["map_fn"]({"question": "q", "answer": "a"})["conversation"][0]["output"] == "a"


def test_a_given_map_module_goes_along(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"q": "a", "x": "b"}\n')
    module = tmp_path / "given.py"
    module.write_text("def map_fn(row):\n    return {'conversation': []}\n")
    _source, done = pointed(tmp_path / "c.py", data=tmp_path / "d.jsonl", shape=str(module))
    assert done.module is not None
    assert done.module.read_text() == module.read_text()


def test_several_files_and_a_folder_are_one_dataset(tmp_path: Path) -> None:
    files = [tmp_path / "data" / name for name in ("a.jsonl", "b.jsonl")]
    files[0].parent.mkdir()
    for file in files:
        file.write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    for number, data in enumerate((files, files[0].parent)):
        source, _done = pointed(tmp_path / f"{number}.py", data=data)
        assert source.get("alpaca_en_path") == [str(file) for file in files]
        assert source.code("alpaca_en.dataset") == (
            'dict(type=load_dataset, path="json", data_files=dict(train=alpaca_en_path))'
        )


def test_what_belonged_to_the_old_data_goes(tmp_path: Path, settings: Settings, rows: Path) -> None:
    name = "llama2_7b_full_pgbooks_400iters_sp1"  # made for tokens, not for text
    done = copy_config(name, tmp_path / "a.py", settings=settings, data=rows)
    source = ConfigSource.open(done.path)
    assert not source.has("train_dataset.do_dataset_tokenization")
    assert source.code("train_dataset.template_map_fn") == (
        "dict(type=template_map_fn_factory, template=prompt_template)"
    )

    bare = done.path.read_text().replace("prompt_template = ", "other = ")
    bare = re.sub(r"template_map_fn=dict.*", "template_map_fn=None,", bare)
    (tmp_path / "bare.py").write_text(bare.replace("prompt_template=prompt_template,", ""))
    with pytest.raises(Problem, match="no prompt template"):
        copy_config(tmp_path / "bare.py", tmp_path / "b.py", settings=settings, data=rows)
    done = copy_config(
        tmp_path / "bare.py", tmp_path / "b.py", settings=settings, data=rows, template="vicuna"
    )
    code = ConfigSource.open(done.path).code("train_dataset.template_map_fn")
    assert code == "dict(type=template_map_fn_factory, template=PROMPT_TEMPLATE.vicuna)"


def test_one_process_prepares_few_rows_and_several_many(
    tmp_path: Path, rows: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _done = pointed(tmp_path / "few.py", data=rows)
    assert source.get("alpaca_en.map_num_proc") == 1
    monkeypatch.setattr("engine.config.making.pointing.SMALL", 10)
    ours = "internlm2_5_chat_7b_qlora_custom_sft_e3"
    done = copy_config(ours, tmp_path / "many.py", settings=settings, data=rows)
    assert ConfigSource.open(done.path).get("map_num_proc") == 8


@pytest.mark.parametrize(
    ("row", "function"),
    [
        ({"prompt": [{"role": "user", "content": "a"}]}, None),
        ({}, "orpo_dpo_mix_40k_map_fn"),
    ],
)
def test_pairs_of_messages_need_xtuners_own_function_or_none(
    row: dict[str, Any], function: str | None
) -> None:
    answer = [{"role": "assistant", "content": "b"}]
    before = [] if row else [{"role": "user", "content": "a"}]
    found, text = pairs.mapping([{**row, "chosen": before + answer, "rejected": before + answer}])
    assert (found[1] if found else None, text) == (function, "")


def test_pairs_of_texts_are_made_into_messages() -> None:
    found, text = pairs.mapping(
        [{"instruction": "a", "input": "b", "system": "s", "chosen": "c", "rejected": "d"}]
    )
    assert found == ("", "map_fn")
    space: dict[str, Any] = {}
    exec(text, space)
    row = {"instruction": "it's", "input": None, "system": "", "chosen": "c", "rejected": "d"}
    assert space["map_fn"](row) == {
        "prompt": [{"role": "user", "content": "it's"}],
        "chosen": [{"role": "assistant", "content": "c"}],
        "rejected": [{"role": "assistant", "content": "d"}],
    }
    assert space["map_fn"]({**row, "input": "b", "system": "s"})["prompt"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "it's\nb"},
    ]


# Model and template


def model(folder: Path, kind: str, chat: str = "") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if chat:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": chat}))
    return folder


@pytest.mark.parametrize(
    ("kind", "chat", "template"),
    [
        ("llama", "<|start_header_id|>", "llama3_chat"),
        ("qwen2", "<|im_start|>", "qwen_chat"),
        ("internlm2", "<|im_start|>", "internlm2_chat"),
        ("gemma2", "<start_of_turn>", "gemma"),
        ("llama", "", "internlm2_chat"),  # not sure: the config's stays
        ("deepseek_v3", "<|im_start|>", "internlm2_chat"),
    ],
)
def test_the_template_is_the_models_where_that_is_sure(
    tmp_path: Path, kind: str, chat: str, template: str
) -> None:
    folder = model(tmp_path / "m", kind, chat)
    source, done = pointed(tmp_path / "c.py", model=str(folder))
    assert source.code("prompt_template") == f"PROMPT_TEMPLATE.{template}"
    stays = [note for note in done.notes if "stays internlm2_chat" in note]
    assert bool(stays) is (not chat or kind == "deepseek_v3")
    source, _done = pointed(tmp_path / "d.py", model=str(folder), template="vicuna")
    assert source.code("prompt_template") == "PROMPT_TEMPLATE.vicuna"


def test_lora_leaves_the_layers_named_for_another_model(tmp_path: Path, settings: Settings) -> None:
    ours = "internlm2_5_chat_7b_lora_custom_sft_e3"
    for kind, kept in (("internlm2", True), ("qwen2", False)):
        folder = model(tmp_path / kind, kind)
        done = copy_config(ours, tmp_path / f"{kind}.py", settings=settings, model=str(folder))
        assert ConfigSource.open(done.path).has("model.lora.target_modules") is kept


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no model in"):
        pointed(tmp_path / "c.py", model=str(tmp_path / "none"))


@pytest.mark.parametrize(
    "name",
    ["ms:Qwen/Qwen2.5-7B-Instruct", "https://modelscope.cn/models/Qwen/Qwen2.5-7B-Instruct"],
)
def test_a_modelscope_name_is_its_folder_or_fetched_by_xtuner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: WorkerClient, name: str
) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    there = SimpleNamespace(folder=lambda *_arguments: tmp_path)
    monkeypatch.setattr("engine.config.making.base_model.packages", there)
    source, done = pointed(tmp_path / "c.py", model=name)
    assert source.get("pretrained_model_name_or_path") == "Qwen/Qwen2.5-7B-Instruct"
    assert source.code("model_resource") == "dict(fn=snapshot_download, args=dict())"
    assert any("modelscope download" in note for note in done.notes)
    assert load(done.path, Settings(), worker=warm).error is None

    there.folder = lambda *_arguments: None
    with pytest.raises(Problem, match="not on this machine"):
        pointed(tmp_path / "d.py", model=name)
    folder = tmp_path / "cache" / "hub" / "models" / "Qwen" / "Qwen2___5-7B-Instruct"
    folder.parent.mkdir(parents=True)
    model(folder, "qwen2", "<|im_start|>")
    source, done = pointed(tmp_path / "e.py", model=name)
    assert source.get("pretrained_model_name_or_path") == str(folder)
    assert source.code("prompt_template") == "PROMPT_TEMPLATE.qwen_chat"
