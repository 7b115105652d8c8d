"""Faults are found by their own code, cheap ones without a tokenizer; good configs pass."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config.checks import findings, loaded
from engine.config.preflight import Report, preflight
from engine.config.text.source import ConfigSource
from engine.dataset.checking import check as dataset_check
from engine.errors import Problem
from engine.joined.rows import Rows
from engine.settings import Settings
from engine.worker.client import WorkerClient
from tests.config.bench import Bench, build
from tests.config.faults import FAULTS, Fault

Demo = Callable[..., Path]
Check = Callable[..., Report]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="session")
def counter() -> Iterator[WorkerClient]:
    """One dataset worker for all tests: it starts in seconds."""
    with WorkerClient(dataset_check.WORKER, Settings()) as worker:
        yield worker


@pytest.fixture
def warm_rows(counter: WorkerClient, monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The dataset part, with a worker that stays."""
    monkeypatch.setattr(
        dataset_check, "WorkerClient", lambda *_wanted: contextlib.nullcontext(counter)
    )
    return Rows(Settings())


@pytest.fixture
def check(settings: Settings, warm: WorkerClient) -> Check:
    """`preflight` with a warm loader."""
    return functools.partial(preflight, settings=settings, worker=warm)


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Path) -> Bench:
    return build(tmp_path / "bench", tiny_model)


def codes(report: Report) -> set[str]:
    return {one.code for one in report.findings if one.level != findings.INFO}


def assert_found(fault: Fault, report: Report) -> None:
    found = [one for one in report.findings if one.code == fault.code]
    assert found, report.findings
    assert found[0].what
    assert found[0].todo or found[0].ways, found[0]
    assert codes(report) - {fault.code} <= fault.also, report.findings
    if found[0].level == findings.ERROR:
        assert not report.ok


CHEAP = [one for one in FAULTS if not one.tokens]
DEAR = [one for one in FAULTS if one.tokens]


@pytest.mark.parametrize("fault", CHEAP, ids=lambda fault: f"{fault.code}-{fault.name}")
def test_a_fault_is_found_by_its_own_code(fault: Fault, bench: Bench, check: Check) -> None:
    fault.seed(bench)
    # Without a tokenizer: the structure of the rows is all that is read of the data.
    assert_found(fault, check(bench.config, data=Rows(Settings()), quick=True, **bench.options))


@pytest.mark.parametrize("fault", DEAR, ids=lambda fault: f"{fault.code}-{fault.name}")
def test_a_fault_that_takes_the_tokenizer_is_found(
    fault: Fault, bench: Bench, check: Check, warm_rows: Rows
) -> None:
    fault.seed(bench)
    assert_found(fault, check(bench.config, data=warm_rows, **bench.options))


@pytest.mark.parametrize(
    ("right", "wrong", "field", "level"),
    [
        ("    batch_size=batch_size", "    bach_size=batch_size", "train_dataloader", "error"),
        ("max_norm=max_norm", "max_nrom=max_norm", "optim_wrapper.clip_grad", "error"),
        ("deterministic=", "determinstic=", "randomness", "error"),
        ("cudnn_benchmark=", "cudn_benchmark=", "env_cfg", "warning"),
    ],
)
def test_a_key_misspelt_where_no_class_tells_is_found_with_the_right_one(
    right: str, wrong: str, field: str, level: str, bench: Bench, check: Check
) -> None:
    bench.swap(right, wrong)
    (found,) = check(bench.config, quick=True).findings
    assert (found.level, found.code, found.field) == (
        level, "unknown-key", f"{field}.{wrong.partition('=')[0].strip()}"
    )  # fmt: skip
    assert found.fix is not None and found.fix.rename == right.partition("=")[0].strip()


def test_there_are_faults_enough_and_codes_of_their_own() -> None:
    assert len(FAULTS) >= 30
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len({fault.code for fault in FAULTS}) >= 30


def test_a_good_training_raises_no_alarm(bench: Bench, check: Check, warm_rows: Rows) -> None:
    report = check(bench.config, data=warm_rows)
    assert report.findings == []
    assert (report.ok, report.samples, report.steps) == (True, 80, 60)
    assert report.disk_bytes is not None
    assert report.estimate is not None


def test_the_processes_of_all_nodes_share_the_samples(
    bench: Bench, check: Check, warm_rows: Rows
) -> None:
    report = check(bench.config, data=warm_rows, processes=4)
    assert (report.samples, report.steps) == (80, 15), "a quarter of what one makes"


FIXED = {
    "warmup-zero": ("warmup_ratio", 0.05),
    "warmup-one-step": ("warmup_ratio", 0.05),
    "pack-pieces": ("train_dataloader.dataset.map_num_proc", 1),
    "keep-one": ("save_total_limit", 2),
    "unknown-key": ("model.lora.lora_alhpa", None),
    "unknown-name": ("resme", None),
    "wrong-type": ("lr", 1e-3),
    "system-braces": ("SYSTEM", "Answer as {{json}}. You are a helpful assistant."),
    "varlen-batch": ("batch_size", 1),
    "sequence-sampler": ("train_dataloader.sampler.type", "SequenceParallelSampler"),
    "sequence-length": ("max_length", 126),
    "padding-side": ("tokenizer.padding_side", "right"),
    "beyond-context": ("max_length", 1024),
    "epochs-fraction": ("max_epochs", 2),
    "remote-code": ("model.llm.trust_remote_code", True),
    "flash-missing": ("model.llm.attn_implementation", "sdpa"),
    "amp-cpu": ("on_gpu", False),
    "checkpoint-missing": ("load_from", None),
    "compile-unfit": ("compile_layers", False),
    "map-fn": ("train_dataloader.dataset.dataset_map_fn", None),
}


@pytest.mark.parametrize("code", FIXED)
def test_a_fix_puts_the_fault_right(code: str, bench: Bench, check: Check, warm_rows: Rows) -> None:
    fault = [one for one in FAULTS if one.code == code][-1 if code == "map-fn" else 0]
    if code == "unknown-name":
        fault = next(one for one in FAULTS if "resme" in one.name)
    fault.seed(bench)
    report = check(bench.config, data=warm_rows, quick=not fault.tokens)
    found = next(one for one in report.findings if one.code == code)
    assert found.fix is not None
    assert (found.fix.field, found.fix.value) == FIXED[code]
    source = ConfigSource.open(bench.config)
    findings.apply(source, found.fix)
    source.save()
    assert code not in codes(check(bench.config, data=warm_rows, quick=not fault.tokens))


def test_what_is_cheap_to_see_is_told_before_the_rows_are_counted(
    bench: Bench, check: Check
) -> None:
    told: list[str] = []

    class Data(Rows):
        def count(self, order: Any) -> Any:
            told.append("counting")
            raise Problem("not now")

    bench.swap('side="right"', 'side="left"')
    report = check(
        bench.config,
        data=Data(Settings()),
        found=lambda one: told.append(one.code),
        gpus=[97],
    )
    assert told == ["padding-side", "gpu-missing", "counting", "not-counted"]
    assert {one.code for one in report.findings} == {*told} - {"counting"}


def test_an_error_in_the_config_spares_the_counting(bench: Bench, check: Check) -> None:
    class Data(Rows):
        def count(self, order: Any) -> Any:
            raise AssertionError("the rows were counted")

    bench.swap("lora_alpha=", "lora_alhpa=")
    assert codes(check(bench.config, data=Data(Settings()))) == {"unknown-key"}


# A config is a program, and may be a bad one


BAD_PROGRAMS = [
    ("config-syntax", "x = " + "1+" * 20_000 + "1", "nested too deeply"),
    ("config-exit", "import sys; sys.exit(3)", "SystemExit: 3"),
    ("config-exit", "__import__('os')._exit(3)", "status 3"),
    ("config-exit", "__import__('ctypes').string_at(0)", "signal 11"),
    ("config-memory", "x = bytearray(1 << 40)", "MemoryError"),
    ("module-missing", "x = __import__('swanlabb')", "No module named 'swanlabb'"),
    ("config-load", "x = input('which model? ')", "EOFError"),
    ("config-load", "raise RuntimeError('not today')", "not today"),
    ("config-load", "open('/nowhere/at/all')", "/nowhere/at/all"),
    ("config-load", "import os\nos.chdir('/')", "mmengine keeps only the name"),
]


@pytest.mark.parametrize(("code", "line", "words"), BAD_PROGRAMS)
def test_a_config_that_does_more_than_give_values_is_explained(
    bench: Bench, check: Check, code: str, line: str, words: str
) -> None:
    bench.add(line)
    report = check(bench.config)
    (found,) = report.findings
    assert (found.code, found.level) == (code, findings.ERROR)
    assert words in found.why
    assert found.todo


def test_a_config_that_hangs_is_stopped_with_what_it_started(
    warm: WorkerClient, bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    mark = bench.root / "child"
    bench.add(
        "child = __import__('subprocess').Popen(['sleep', '321'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "__import__('time').sleep(600)"
    )
    monkeypatch.setattr(loaded, "TIMEOUT", 4.0)
    report = preflight(bench.config, settings=settings, worker=warm)
    assert codes(report) == {"config-slow"}
    child = Path(f"/proc/{mark.read_text()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split()[2] == "Z"
    # The next config finds a worker again.
    bench.config.write_text("lr = 1e-3\n")
    assert loaded.load(bench.config, settings, worker=warm).values["lr"] == 1e-3


def test_what_a_config_prints_and_runs_is_named_and_disturbs_nobody(
    bench: Bench, check: Check
) -> None:
    bench.add(
        'print(\'{"id": 1, "event": "done"}\')\n'
        f"__import__('os').system('echo here; touch {bench.root / 'touched'}')"
    )
    report = check(bench.config, quick=True)
    assert report.ok
    assert [one.why for one in report.findings if one.code == "config-code"] != []
    assert {one.what.split()[3] for one in report.findings} == {"print", "__import__"}
    assert (bench.root / "touched").exists()


def test_a_missing_library_of_the_interpreter_is_a_finding(bench: Bench, tmp_path: Path) -> None:
    """A training interpreter without mmengine: the loader cannot even start its work."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    report = preflight(bench.config, settings=Settings(interpreter=str(bare)))
    (found,) = report.findings
    assert (found.code, found.level) == ("no-loader", findings.ERROR)
    assert "mmengine" in f"{found.what} {found.why}"


@pytest.mark.parametrize("bad", ["none.py", ".", "gbk.py"])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, check: Check, bad: str) -> None:
    (tmp_path / "gbk.py").write_bytes("SYSTEM = '你是谁'\n".encode("gbk"))
    with pytest.raises(Problem):
        check(tmp_path / bad)


# What it costs


def test_loading_a_config_imports_no_heavy_library(demo: Demo) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from engine.config.checks import load_worker\n"
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


@pytest.mark.parametrize("name", ['a "quoted" name', "a\nb", "a\\u"])
def test_a_path_that_mmengine_does_not_take_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from engine.cli.main import main

    own = bench.config.with_name(f"{name}.py")
    own.write_bytes(bench.config.read_bytes())
    for config, folder in ((own, tmp_path), (bench.config, tmp_path / name)):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        assert main(["preflight", str(config), "--quick", "--json"]) == 1
        [found] = json.loads(capsys.readouterr().out)["findings"]
        assert found["code"] == "config-path" and found["todo"]


def test_the_verb_looks_where_a_run_would_write(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from engine.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("no folder", encoding="utf-8")
    assert main(["preflight", str(bench.config), "--quick", "--json"]) == 1
    found = {one["code"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert str(tmp_path / "runs") in found["work-dir-write"]["what"]


def test_the_verb_tells_and_answers(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    from engine.cli.main import main

    bench.swap('side="right"', 'side="left"')
    assert main(["preflight", str(bench.config), "--quick"]) == 0
    said = capsys.readouterr().out
    assert "[padding-side]" in said
    assert said.rstrip().endswith("Ready to train.")
    bench.swap("lora_alpha=", "lora_alhpa=")
    assert main(["preflight", str(bench.config), "--quick", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) >= {"ok", "findings", "estimate", "samples", "steps", "disk_bytes"}
    (found,) = [one for one in answer["findings"] if one["level"] == "error"]
    assert found["code"] == "unknown-key"
    assert found["fix"] == {
        "field": "model.lora.lora_alhpa",
        "value": None,
        "rename": "lora_alpha",
        "imports": None,
    }
