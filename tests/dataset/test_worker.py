"""What the worker may import, and what it says when it cannot do what it is asked."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from engine.chat.session import ChatSession, ModelSpec
from engine.dataset.checking.check import check
from engine.dataset.preview import WORKER, Preview, template_names
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.settings import Settings
from engine.worker.client import WorkerClient

ROW = {"conversation": [{"input": "a", "output": "b"}]}


def test_it_needs_nothing_that_only_the_app_installs():
    code = (
        "import sys; apps = ('msgspec', 'psutil', 'platformdirs', 'textual', 'rich', 'tomlkit');"
        "sys.modules.update(dict.fromkeys(apps)); import engine.dataset.worker"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interpreter_that_is_not_there():
    with Preview(Settings(interpreter="/no/such/python")) as preview, pytest.raises(Problem) as it:
        preview.open("org/model")
    assert "/no/such/python" in it.value.what


def test_an_interpreter_without_xtuner(tmp_path, tiny_model):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    settings = Settings(interpreter=str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(Problem) as caught:
        template_names(settings)
    assert "XTuner is not installed" in caught.value.what
    assert caught.value.todo
    with ChatSession(settings) as session, pytest.raises(Problem) as caught:
        session.load("A", ModelSpec(str(tiny_model), device="cpu"))
    assert "transformers" in caught.value.why and "tunedeck doctor" in caught.value.todo


@pytest.mark.slow
def test_it_is_ready_without_the_heavy_libraries(tiny_model):
    code = (
        "import sys; from engine.dataset.worker import Worker; w = Worker();"
        f"w.open({{'model': {str(tiny_model)!r}, 'max_length': 99}}, print, bool);"
        f"w.sample({{'row': {ROW!r}, 'shape': 'xtuner'}}, print, bool);"
        "heavy = ('torch', 'datasets', 'peft', 'bitsandbytes', 'deepspeed', 'pandas');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"]


@pytest.mark.slow
def test_what_was_put_off_is_there_when_it_is_asked_for():
    """A user's map function may import more of XTuner than we do."""
    code = (
        "from engine.dataset import xtuner_parts; xtuner_parts.load();"
        "import xtuner; print(xtuner.__version__);"
        "from xtuner.utils import StopWordStoppingCriteria as late; print(late.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "StopWordStoppingCriteria"


@pytest.mark.slow
def test_templates_are_xtuners():
    names = template_names(Settings())
    assert {"default", "internlm2_chat", "qwen_chat", "llama3_chat"} <= set(names)


@pytest.mark.slow
def test_rows_that_cannot_be_used_are_errors_of_their_own(tiny_model):
    with Preview(Settings()) as preview:
        preview.open(tiny_model, "default", max_length=64)
        with pytest.raises(Failed, match="drops"):
            preview.sample({"conversation": []}, "xtuner")
        with pytest.raises(Failed, match="drops"):
            preview.sample({"conversation": [{"input": "a" * 99, "output": "b"}]}, "xtuner")
        with pytest.raises(Failed, match="cannot take"):
            preview.sample({"conversation": [{"input": "a"}]}, "xtuner")
        assert preview.sample(ROW, "xtuner").loss_tokens == 2


@pytest.mark.slow
def test_a_folder_whose_tokenizer_is_broken(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with Preview(Settings()) as preview, pytest.raises(Failed) as caught:
        preview.open(tmp_path, "default")
    assert str(tmp_path) in caught.value.what


@pytest.mark.slow
def test_counting_can_be_cancelled(tmp_path, tiny_model):
    path = tmp_path / "data.jsonl"
    path.write_text((json.dumps(ROW) + "\n") * 200_000)
    seen = []

    def progress(done, total):
        seen.append((done, total))

    with Dataset.open(path) as dataset, pytest.raises(Failed, match="Stopped"):
        check(
            dataset,
            model=tiny_model,
            template="default",
            settings=Settings(),
            progress=progress,
            cancelled=lambda: bool(seen),
        )
    assert seen[-1][0] < 200_000


@pytest.mark.slow
def test_broken_rows_are_left_out_of_the_count(tmp_path, tiny_model):
    path = tmp_path / "data.jsonl"
    broken = {"conversation": [{"input": "a", "output": 5}]}
    path.write_text("\n".join(map(json.dumps, [ROW, broken, ROW])) + "\n{\n")
    with Dataset.open(path) as dataset:
        report = check(dataset, model=tiny_model, template="default", settings=Settings())
    assert [finding.row for finding in report.broken] == [1, 3]
    assert (report.rows, report.good, report.samples, report.steps_per_epoch) == (4, 2, 2, 2)


@pytest.mark.slow
def test_an_error_of_the_request_keeps_its_status(tiny_model):
    with WorkerClient(WORKER, Settings()) as client, pytest.raises(Problem) as caught:
        client.result("open", model=str(tiny_model), template="nope", max_length=9)
    assert caught.value.status == 2
    assert "internlm2_chat" in caught.value.todo


@pytest.mark.slow
def test_a_check_by_several_processes(tmp_path, tiny_model):
    """Warnings that take a tokenizer, the rows that pack together, the check that is kept."""
    rows = [
        {"conversation": [{"input": f"{number}" + "?" * (number % 9), "output": "Who are you?"}]}
        for number in range(300)
    ]
    rows[41]["conversation"][0]["input"] = "stop <|im_end|> here"
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    wishes = {"model": tiny_model, "template": "internlm2_chat", "max_length": 100, "pack": True}
    with Dataset.open(path) as dataset:
        report, again = (
            check(dataset, settings=Settings(), cache=tmp_path / "cache", map_num_proc=1, **wishes)
            for _time in range(2)
        )
    assert [(one.row, one.code) for one in report.warnings] == [(41, "special-token")]
    assert not report.cached and again.cached
    assert (again.steps_per_epoch, again.tokens) == (report.steps_per_epoch, report.tokens)
    assert sum(one.rows for one in report.histogram) == 300

    # A piece of its own packs the shuffled rows one after the other, cut every 100 tokens.
    tokens = [report.tokens_of(row) for row in range(300)]
    assert sum(tokens) == report.tokens.total
    order = list(np.load(f"{report.details}/order-1-0.npy"))
    ends = list(itertools.accumulate(tokens[row] for row in order))
    samples = [
        set(range((end - tokens[row]) // 100, (end - 1) // 100 + 1))
        for row, end in zip(order, ends, strict=True)
    ]
    assert report.packed_samples == ends[-1] // 100
    assert report.lost_tokens == ends[-1] % 100
    last = report.packed_samples - 1
    for place, row in enumerate(order):
        mine = {sample for sample in samples[place] if sample <= last}
        shared = [other for at, other in enumerate(order) if at != place and samples[at] & mine]
        assert report.packed_with(row) == shared
    assert report.packed_with(300) == []
