"""Faults are found by their own code, cheap ones without a tokenizer; good configs pass."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.config import catalogue, copy, findings, loaded
from engine.config import preflight as module
from engine.config.preflight import Report, preflight
from engine.config.source import ConfigSource
from engine.errors import Problem
from engine.joined import every_row
from engine.settings import Settings
from engine.worker.client import WorkerClient

Demo = Callable[..., Path]


Check = Callable[..., Report]


@pytest.fixture
def check(settings: Settings, warm: WorkerClient) -> Check:
    """`preflight` with a warm worker."""
    return functools.partial(preflight, settings=settings, worker=warm)


def codes(report: Report) -> set[str]:
    return {one.code for one in report.findings if one.level != findings.INFO}


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cheap faults must be found before the dataset worker is asked."""

    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("the dataset worker was asked")

    monkeypatch.setattr(module, "_count", refuse)


FAULTS = [
    ("config-syntax", "never closed", ("lr = 1e-3", "lr = (")),
    ("config-load", "max_lenght", ("max_length = 128", "max_lenght = 128")),
    ("config-load", "ZeroDivisionError", ("lr = 1e-3", "lr = 1 / 0")),
    ("unknown-key", "lora_alpha", ("lora_alpha=", "lora_alhpa=")),
    ("unknown-key", "max_keep_ckpts", ("max_keep_ckpts=", "max_keep_ckpt=")),
    ("unknown-key", "betas", ("betas=betas", "beta=betas")),
    ("unknown-name", "optim_wrapper", ("optim_wrapper = dict", "optim_wraper = dict")),
    ("unknown-name", "resume", ("resume = False", "resme = True")),
    ("name-missing", "qwen_chat", ("TEMPLATE.qwen_chat", "TEMPLATE.qwen_chatt")),
    ("name-missing", "process_hf_dataset", ("process_hf_dataset", "process_hf_datasets")),
    ("module-missing", "mmengine.hookz", ("from mmengine.hooks", "from mmengine.hookz")),
    ("module-missing", "peftt", ("from peft", "from peftt")),
    ("data-missing", "data_path", ("rows.json", "nowhere.json")),
    ("map-fn", "dataset_map_fn = None", ("dataset_map_fn=None", "dataset_map_fn=alpaca_map_fn")),
    ("model-missing", "no-model", ('/model"', '/no-model"')),
    ("model-missing", "models/nope", ("FAKE_MODEL", "models/nope")),
    ("template", "<|start_header_id|>", ("TEMPLATE.qwen_chat", "TEMPLATE.llama3_chat")),
    ("amp-cpu", "on_gpu = False", ("on_gpu = False", "on_gpu = True")),
    ("remote-code", "", ()),
]


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(("code", "words", "swap"), FAULTS)
def test_a_cheap_fault_is_found_by_its_code(
    demo: Demo,
    check: Check,
    settings: Settings,
    fake_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    words: str,
    swap: tuple[str, str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if code == "remote-code":
        config = json.loads((fake_model / "config.json").read_text())
        (fake_model / "config.json").write_text(json.dumps(config | {"auto_map": {"A": "b.C"}}))
        monkeypatch.setattr(module, "_count", lambda *_args: None)
    if code in ("template", "unknown-key"):
        monkeypatch.setattr(module, "_count", lambda *_args: None)
    imports = ("import template_map_fn_factory", "import alpaca_map_fn, template_map_fn_factory")
    if swap:
        swap = (swap[0].replace("FAKE_MODEL", str(fake_model)), swap[1])
    report = check(demo(*([swap] if swap else []), imports))
    found = [one for one in report.findings if one.code == code]
    assert len(found) == 1, report.findings
    assert words in f"{found[0].what} {found[0].why} {found[0].todo}"
    assert codes(report) == {code}


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("code", "break_model"),
    [
        ("model-not-a-model", lambda folder: (folder / "config.json").unlink()),
        ("model-not-a-model", lambda folder: (folder / "model.safetensors").unlink()),
        (
            "model-adapter",
            lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"),
        ),
        (
            "model-incomplete",
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'
            ),
        ),
        ("tokenizer-missing", lambda folder: [p.unlink() for p in folder.glob("tokenizer*")]),
        (
            "tokenizer-bos",
            lambda folder: (folder / "tokenizer_config.json").write_text(
                '{"tokenizer_class": "PreTrainedTokenizerFast"}'
            ),
        ),
    ],
)
def test_a_model_that_is_none_is_found(
    demo: Demo,
    check: Check,
    settings: Settings,
    fake_model: Path,
    code: str,
    break_model: Callable[[Path], object],
) -> None:
    break_model(fake_model)
    assert codes(check(demo())) == {code}


@pytest.mark.usefixtures("no_worker")
@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ('[{"conversation": []},\n {"conversation" 1}]', "data-broken", "line 2, column 18"),
        ("[]", "data-empty", ""),
        ('[{"messages": [{"role": "user", "content": "a"}]}]', "map-fn", "openai_map_fn"),
        ('[{"conversations": []}]', "map-fn", "conversations"),
    ],
)
def test_data_that_does_not_suit_is_found(
    demo: Demo, check: Check, settings: Settings, rows: Path, content: str, code: str, words: str
) -> None:
    rows.write_text(content)
    report = check(demo())
    assert codes(report) == {code}
    assert words in str(report.findings[0].why) + report.findings[0].todo


@pytest.mark.usefixtures("no_worker")
def test_every_row_is_looked_at_when_the_data_part_is_given(
    demo: Demo, check: Check, settings: Settings, rows: Path
) -> None:
    data = json.loads(rows.read_text())
    del data[50]["conversation"][0]["output"]
    rows.write_text(json.dumps(data))
    report = check(demo(), rows=every_row(settings))
    assert codes(report) == {"data-row"}
    assert "50" in report.findings[0].what


@pytest.mark.usefixtures("no_worker")
def test_an_unknown_deepspeed_setting_and_a_missing_gpu_are_found(
    demo: Demo, check: Check, settings: Settings
) -> None:
    report = check(demo(), deepspeed="deepspeed_zero9", gpus=[97])
    assert codes(report) == {"deepspeed", "gpu-missing"}


@pytest.mark.usefixtures("no_worker")
def test_a_fix_can_be_applied(
    warm: WorkerClient, demo: Demo, check: Check, settings: Settings, rows: Path
) -> None:
    rows.write_text('[{"instruction": "a", "input": "", "output": "b"}]')
    path = demo(("lora_alpha=", "lora_alhpa="))
    source = ConfigSource.open(path)
    for one in check(path).findings:
        assert one.fix is not None, one
        findings.apply(source, one.fix)
    source.save()
    config = loaded.load(path, settings, worker=warm)
    assert config.wrong == []
    assert isinstance(config.get("model.lora.lora_alpha"), int)
    assert config.name("train_dataloader.dataset.dataset_map_fn") == "alpaca_map_fn"


def test_a_config_that_hangs_or_eats_memory_is_stopped(
    warm: WorkerClient,
    demo: Demo,
    check: Check,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = time.monotonic()
    with pytest.raises(loaded.TimedOut):
        loaded.load(demo(("lr = 1e-3", "while True: pass")), settings, timeout=1, worker=warm)
    assert time.monotonic() - started < 20
    config = loaded.load(demo(("lr = 1e-3", "lr = bytearray(1 << 40)")), settings, worker=warm)
    assert config.error is not None
    assert config.error["kind"] == "MemoryError"


def test_a_config_that_ends_the_process_is_a_finding(
    demo: Demo, check: Check, settings: Settings
) -> None:
    report = check(demo(("lr = 1e-3", "import os; os._exit(3)")))
    assert codes(report) == {"config-load"}


@pytest.mark.parametrize("bad", ["none.py", "."])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, check: Check, bad: str) -> None:
    with pytest.raises(Problem):
        check(tmp_path / bad)


def test_loading_a_config_imports_no_heavy_library(demo: Demo) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from engine.config import load_worker\n"
            "answer = load_worker.load({'path': sys.argv[1]}, lambda *a, **k: 0, lambda: False)\n"
            "assert 'error' not in answer, answer\n"
            "heavy = {'torch', 'transformers', 'datasets', 'xtuner', 'peft', 'msgspec'}\n"
            "print(sorted(heavy & set(sys.modules)))",
            str(demo()),
        ],
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_preflight_imports_no_tree_parser() -> None:
    """libcst takes half a second, a quarter of what the cheap checks may take."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, engine.config.preflight; print('libcst' in sys.modules)",
        ],
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "False", ran.stderr


@pytest.mark.slow
def test_a_good_config_passes_with_samples_and_steps(
    demo: Demo, check: Check, settings: Settings, tiny_model: Path
) -> None:
    report = check(demo(model=tiny_model))
    assert report.ok, report.findings
    assert report.findings == []
    assert (report.samples, report.steps) == (80, 60)
    assert report.disk_bytes is not None
    assert report.estimate is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "field", "value", "swaps"),
    [
        ("warmup-zero", "warmup_ratio", 0.05, [("warmup_ratio = 0.1", "warmup_ratio = 0.01")]),
        ("warmup-one-step", "warmup_ratio", 0.05, [("warmup_ratio = 0.1", "warmup_ratio = 0.02")]),
        (
            "pack-pieces",
            "train_dataloader.dataset.map_num_proc",
            1,
            [
                ("pack_to_max_length = False", "pack_to_max_length = True"),
                ("map_num_proc=1", "map_num_proc=32"),
                ("max_length = 128", "max_length = 512"),
            ],
        ),
        ("no-steps", None, None, [("max_length = 128", "max_length = 2")]),
    ],
)
def test_a_silent_trap_is_found_and_its_fix_puts_it_right(
    demo: Demo,
    check: Check,
    settings: Settings,
    tiny_model: Path,
    code: str,
    field: str | None,
    value: object,
    swaps: list[tuple[str, str]],
) -> None:
    path = demo(*swaps, model=tiny_model)
    report = check(path)
    (found,) = [one for one in report.findings if one.code == code]
    if field is None:
        assert not report.ok
        return
    assert found.fix is not None
    assert (found.fix.field, found.fix.value) == (field, value)
    source = ConfigSource.open(path)
    findings.apply(source, found.fix)
    source.save()
    assert code not in codes(check(path))


@pytest.mark.slow
def test_stock_configs_on_real_data_raise_no_false_alarm(
    check: Check,
    tmp_path: Path,
    settings: Settings,
    tiny_model: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every kind of the catalogue that takes conversations; the tokens of one are enough."""
    monkeypatch.setattr(module, "_count", lambda *_args: None)
    tried = 0
    for entry in catalogue.load(settings)[::30]:
        try:
            done = copy.copy(
                entry.path,
                tmp_path / "c.py",
                settings=settings,
                data=rows,
                model=str(tiny_model),
                force=True,
            )
        except Problem:
            continue
        tried += 1
        # No GPU here, and its template is the stock model's: these two alone are right to say.
        alarms = codes(check(done.path)) - {"amp-cpu", "quantised-cpu", "template"}
        assert not alarms, (entry.name, alarms)
    assert tried >= 12
