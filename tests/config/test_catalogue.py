"""The catalogue: what it tells of each config, search, facets, a closer look, the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config import families, packages
from engine.config.stock import catalogue, reading, searching
from engine.config.stock.entry import Entry
from engine.config.stock.outline import Outline
from engine.errors import Problem
from engine.settings import Settings


def test_the_catalogue_tells_model_method_size_and_dataset(entries: list[Entry]) -> None:
    known = {entry.name: entry for entry in entries}
    found = known["internlm2_5_chat_7b_qlora_alpaca_e3"]
    assert (found.model, found.method, found.size, found.dataset) == (
        "internlm/internlm2_5-7b-chat",
        "qlora",
        "7b",
        "tatsu-lab/alpaca",
    )
    assert (found.family, found.template, found.max_length) == (
        "internlm2.5",
        "internlm2_chat",
        2048,
    )
    assert (found.packed, found.epochs, found.lr, found.batch_size, found.accumulation) == (
        True,
        3,
        2e-4,
        1,
        1,
    )
    assert known["smollm2_135m_instruct_lora_supernova_e3"].method == "lora"
    assert known["internlm2_chat_7b_full_finetune_custom_dataset_e1"].method == "full"
    dpo = known["internlm2_chat_7b_dpo_qlora_varlenattn"]
    assert (dpo.method, dpo.tuning, dpo.packed) == ("dpo", "qlora", True)
    assert known["qwen1_5_0_5b_chat_qlora_alpaca_e3"].size == "0.5b"
    long = known["llama2_70b_full_alpaca_enzh_256k_sp16"]
    assert (long.max_length, long.sequence_parallel, long.deepspeed) == (
        262144,
        16,
        "deepspeed_zero3",
    )
    assert long.dataset == "tatsu-lab/alpaca, silk-road/alpaca-data-gpt4-chinese"
    assert known["llama2_7b_qlora_moss_sft_all_e2_gpu8"].gpus == 8
    assert known["internvl_v2_internlm2_26b_lora_finetune"].method == "lora vision"
    assert known["internlm2_chat_7b_qlora_custom_sft_e1"].dataset == ""  # a place for one's own
    assert "convert_to_official" not in known  # a program, no config


def test_every_config_tells_what_it_is(entries: list[Entry]) -> None:
    """Of the whole catalogue: told from each file, none left blank."""
    assert len(entries) > 580
    for entry in entries:
        assert entry.model and entry.family and entry.size, entry
        assert families.parameters(entry.size), entry
        assert entry.max_length or "vision" in entry.method, entry
        kind = entry.method.removesuffix(" vision")
        assert kind in ("full", "lora", "qlora", "dpo", "orpo", "reward", "pretrain"), entry
        # The name agrees with what was read, where it says anything.
        for word in ("qlora", "dpo", "orpo", "reward"):
            if f"_{word}_" in entry.name and "openmind" not in entry.name:  # which is plain LoRA
                assert word in (kind, entry.tuning), entry


def test_every_name_that_xtuner_knows_is_there(entries: list[Entry]) -> None:
    names = {entry.name for entry in entries}
    known = subprocess.run(
        [
            sys.executable,
            "-c",
            "import runpy, importlib.util as u\n"
            "p = u.find_spec('xtuner').submodule_search_locations[0]\n"
            "m = runpy.run_path(p + '/configs/__init__.py')['cfgs_name_path']\n"
            "print(*(k for k, v in m.items() if v.endswith('.py')))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    programs = {name for name in known.stdout.split() if name.startswith("convert_")}
    assert set(known.stdout.split()) - programs <= names


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("internlm2_5 QLORA 7b alpaca", "internlm2_5_chat_7b_qlora_alpaca_e3"),
        ("internlm2.5-7b qlora", "internlm2_5_chat_7b_qlora_custom_sft_e3"),  # ours first
        ("llama3 dpo", "llama3_8b_instruct_dpo_qlora_varlenattn"),
        ("qwne2.5 1.5b", "qwen2_5_1_5b_instruct_lora_custom_sft_e3"),  # a slip
        ("ilm25qloa", "internlm2_5_chat_7b_qlora_custom_sft_e3"),  # letters left out
        ("法律 baichuan2 7b chat", "baichuan2_7b_chat_qlora_lawyer_e3"),  # in a file's name
    ],
)
def test_search_puts_the_best_fit_first(entries: list[Entry], query: str, first: str) -> None:
    assert first in [entry.name for entry in searching.search(entries, query)[:2]]


def test_a_word_that_stands_somewhere_is_not_taken_for_another(entries: list[Entry]) -> None:
    found = searching.search(entries, "orpo")
    assert {entry.method for entry in found} <= {"orpo", "dpo", "reward"}
    assert searching.search(entries, "orpo zzzzzz") == []


@pytest.mark.parametrize(
    ("wish", "holds"),
    [
        ({"method": "dpo qlora"}, lambda one: (one.method, one.tuning) == ("dpo", "qlora")),
        ({"method": "vision"}, lambda one: "vision" in one.method),
        ({"model": "InternLM2-5"}, lambda one: one.family == "internlm2.5"),
        ({"size": "7b"}, lambda one: one.size == "7b"),
        ({"size": "7-14"}, lambda one: one.size in ("7b", "8b", "13b", "14b")),
        ({"size": "-0.5"}, lambda one: one.size in ("0.5b", "135m")),
        ({"size": "100b-"}, lambda one: one.size in ("104b", "110b", "236b")),
    ],
)
def test_entries_are_narrowed(entries: list[Entry], wish: dict[str, str], holds: object) -> None:
    assert callable(holds)
    found = searching.narrow(entries, **wish)
    assert set(found) == {entry for entry in entries if holds(entry)} != set()


def test_facets_count_what_narrowing_leaves(entries: list[Entry]) -> None:
    facets = searching.facets(entries)
    assert list(facets) == ["method", "family", "size"]
    for key, option in (("method", "method"), ("size", "size")):
        for facet in facets[key]:
            assert len(searching.narrow(entries, **{option: facet.value})) == facet.count, facet
    sizes = [families.parameters(facet.value) or 0 for facet in facets["size"]]
    assert sizes == sorted(sizes)


def test_a_preview_says_what_a_person_wants_to_know(entries: list[Entry]) -> None:
    known = {entry.name: entry for entry in entries}
    preview = searching.preview(known["internlm2_5_chat_7b_lora_custom_sft_e3"])
    facts = dict(preview.facts)
    assert facts["About"].startswith("InternLM2.5-7B-Chat learns")
    assert facts["Trains"] == "LoRA: an adapter"
    assert facts["Data"] == "your own"
    assert facts["Sample"] == "2048 tokens, rows packed together"
    assert facts["GPUs"] == "deepspeed_zero2 suits it"
    assert preview.settings.startswith("# Model\npretrained_model_name_or_path")
    assert "PART 2" not in preview.settings
    for entry in entries:
        assert searching.preview(entry).settings


def test_without_xtuner_our_own_configs_are_left(tmp_path: Path) -> None:
    entries = catalogue.load(Settings(interpreter=str(tmp_path / "python")))
    assert {"smollm2_135m_instruct_lora_supernova_e3"} < {entry.name for entry in entries}
    assert {entry.source for entry in entries} == {"tunedeck"}


@pytest.fixture
def older(tmp_path: Path) -> Settings:
    """An interpreter with another release of XTuner: two configs and a program."""
    site = tmp_path / "site"
    configs = site / "xtuner" / "configs" / "old"
    configs.mkdir(parents=True)
    (site / "xtuner" / "__init__.py").touch()
    (site / "xtuner-0.1.9.dist-info").mkdir()
    shutil.copy(catalogue.find("internlm_7b_qlora_alpaca_e3", Settings()), configs / "first.py")
    (configs / "second.py").write_text('pretrained_model_name_or_path = "Qwen/Qwen-7B"\n')
    (configs / "convert.py").write_text("import sys\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return Settings(interpreter=str(python))


def test_the_configs_of_the_users_own_xtuner_are_read(older: Settings) -> None:
    entries = {entry.name: entry for entry in catalogue.load(older) if entry.source == "xtuner"}
    assert {name: entry.model for name, entry in entries.items()} == {
        "first": "internlm/internlm-7b",
        "second": "Qwen/Qwen-7B",
    }


def test_a_folder_of_the_workspace_is_not_taken_for_xtuner(
    older: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has cloned it there, say, to look at its configs."""
    (tmp_path / "workspace" / "xtuner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "workspace")
    assert packages.folder("xtuner", older) == tmp_path / "site" / "xtuner"
    assert packages.version("xtuner", older) == "0.1.9"


def test_a_file_is_read_once_and_again_when_it_changed(
    older: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalogue.load(older)
    asked: list[str] = []
    read = reading.read
    monkeypatch.setattr(
        reading, "read", lambda path, source: (asked.append(path.name), read(path, source))[1]
    )
    assert catalogue.load(older) == first
    assert asked == []
    path = next(entry.path for entry in first if entry.name == "second")
    path.write_text('pretrained_model_name_or_path = "Qwen/Qwen-72B"\n')
    assert "Qwen/Qwen-72B" in {entry.model for entry in catalogue.load(older)}
    assert asked == ["second.py"]
    path.unlink()
    assert "second" not in {entry.name for entry in catalogue.load(older)}


def test_a_cache_that_is_broken_or_cannot_be_written_costs_nothing_but_time(
    older: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # one of its own, to spoil
    first = catalogue.load(older)
    for file in (tmp_path / "cache" / "tunedeck" / "catalogue").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        file.write_text("{torn")
    assert catalogue.load(older) == first
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert catalogue.load(older) == first


def test_the_workspaces_own_config_stands_for_one_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    name = "smollm2_135m_instruct_lora_supernova_e3"
    own = tmp_path / "configs" / f"{name}.py"
    own.write_text('pretrained_model_name_or_path = "mine/tiny-3b"\n')
    (tmp_path / "configs" / "broken.py").write_text("pretrained_model_name_or_path = (")
    (tmp_path / "configs" / "latin.py").write_bytes(b'pretrained_model_name_or_path = "\xe9"')
    alone = Settings(interpreter=str(tmp_path / "python"))
    entries = {entry.name: entry for entry in catalogue.load(alone, tmp_path)}
    assert (entries[name].model, entries[name].source) == ("mine/tiny-3b", "own")
    assert {"broken", "latin"}.isdisjoint(entries)
    assert catalogue.find(name, alone, tmp_path) == own


def test_a_wrong_name_gets_the_near_ones(settings: Settings) -> None:
    with pytest.raises(Problem, match="internlm2_5_chat_7b_qlora_alpaca_e3"):
        catalogue.find("internlm2_5_chat_7b_qlora_alpaca", settings)


def test_an_outline_runs_nothing_and_follows_names() -> None:
    text = (
        "import os\nos.abort()\nsize = 2\nsize *= 8\ntext = f'{size}'\n"
        "a = b\nb = a\nmodel = dict(size=size, kind=Some.kind, rest=[size, call(1)])\n"
    )
    outline = Outline(text)
    assert outline.get("size") == 16
    assert outline.get("model")["size"] == 16
    assert str(outline.get("model")["kind"]) == "Some.kind"
    assert str(outline.get("a")) in ("a", "b")  # names that define each other
    assert outline.get("none", 3) == 3


@pytest.mark.parametrize(
    ("name", "size", "family", "template"),
    [
        ("internlm/internlm2_5-7b-chat", "7b", "internlm2.5", "internlm2_chat"),
        ("internlm/internlm2-chat-1_8b", "1.8b", "internlm2", "internlm2_chat"),
        ("Qwen/Qwen1.5-0.5B-Chat", "0.5b", "qwen1.5", "qwen_chat"),
        ("Qwen/Qwen2.5-7B", "7b", "qwen2.5", ""),  # a base model: no template is its own
        ("meta-llama/Meta-Llama-3-8B-Instruct", "8b", "llama3", "llama3_chat"),
        ("meta-llama/Llama-3.2-1B-Instruct", "1b", "llama3.x", "llama3_chat"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "8x7b", "mixtral", "mixtral"),
        ("microsoft/Phi-3-mini-4k-instruct", "3.8b", "phi3", "phi3_chat"),
        ("01-ai/Yi-34B-Chat", "34b", "yi", ""),
        ("somebody/something-new", "", "", ""),
    ],
)
def test_a_models_name_tells_size_family_and_template(
    name: str, size: str, family: str, template: str
) -> None:
    known = families.family(name)
    assert (families.size(name), known.name if known else "", families.template(name)) == (
        size,
        family,
        template,
    )
