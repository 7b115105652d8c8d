"""The catalogue, and copies pointed at one's own data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import catalogue, copy, searching
from engine.config.loaded import load
from engine.config.source import ConfigSource
from engine.copying import copy_config
from engine.errors import Problem
from engine.settings import Settings
from engine.worker.client import WorkerClient


def test_the_catalogue_tells_model_method_size_and_dataset(settings: Settings) -> None:
    entries = {entry.name: entry for entry in catalogue.load(settings)}
    found = entries["internlm2_5_chat_7b_qlora_alpaca_e3"]
    assert (found.model, found.method, found.size, found.dataset) == (
        "internlm/internlm2_5-7b-chat",
        "qlora",
        "7b",
        "tatsu-lab/alpaca",
    )
    assert entries["smollm2_135m_instruct_lora_supernova_e3"].method == "lora"
    assert entries["internlm2_chat_7b_full_finetune_custom_dataset_e1"].method == "full"
    assert entries["internlm2_chat_1_8b_dpo_full"].method == "dpo"
    assert entries["qwen1_5_0_5b_chat_qlora_alpaca_e3"].size == "0.5b"
    assert entries.keys() >= {"llama3_8b_instruct_qlora_alpaca_e3"}
    assert "convert_to_official" not in entries  # a program, no config


def test_every_name_that_xtuner_knows_is_there(settings: Settings) -> None:
    entries = {entry.name for entry in catalogue.load(settings)}
    known = subprocess.run(
        [
            sys.executable,
            "-c",
            "import runpy, importlib.util as u, json\n"
            "p = u.find_spec('xtuner').submodule_search_locations[0]\n"
            "m = runpy.run_path(p + '/configs/__init__.py')['cfgs_name_path']\n"
            "print(json.dumps([k for k, v in m.items() if v.endswith('.py')]))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    programs = {name for name in json.loads(known.stdout) if name.startswith("convert_")}
    assert set(json.loads(known.stdout)) - programs <= entries


def test_search_finds_entries_with_every_word(settings: Settings) -> None:
    found = searching.search(catalogue.load(settings), "internlm2_5 QLORA 7b")
    assert {entry.name for entry in found} >= {
        "internlm2_5_chat_7b_qlora_alpaca_e3",
        "internlm2_5_chat_7b_qlora_oasst1_e3",
    }


def test_without_xtuner_our_own_configs_are_left(tmp_path: Path) -> None:
    entries = catalogue.load(Settings(interpreter=str(tmp_path / "python")))
    assert "smollm2_135m_instruct_lora_supernova_e3" in {entry.name for entry in entries}
    assert len(entries) < 50


def test_a_wrong_name_gets_the_near_ones(settings: Settings) -> None:
    with pytest.raises(Problem, match="internlm2_5_chat_7b_qlora_alpaca_e3"):
        catalogue.find("internlm2_5_chat_7b_qlora_alpaca", settings)


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
