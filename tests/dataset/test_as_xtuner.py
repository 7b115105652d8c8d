"""Our samples and counts against XTuner's own dataset pipeline, on the same files."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from engine.dataset import mapping, shapes, suggest
from engine.dataset.checking.check import check
from engine.dataset.preview import WORKER, Preview
from engine.dataset.reader import Dataset
from engine.errors import Failed
from engine.joined.copying import training_data
from engine.settings import Settings
from engine.worker.client import WorkerClient
from tests.dataset import shaped
from tests.dataset.shaped import words

pytestmark = pytest.mark.slow

REFERENCE = Path(__file__).parent / "xtuner_reference.py"
EVERY = [(shape, format) for shape, formats in shaped.SHAPES.items() for format in formats]
"""Each shape in each format that holds it."""


def xtuner_rows(random_):
    rows = []
    for number in range(70):
        turns = [{"input": words(random_, 9), "output": words(random_, 30)}]
        if number % 5 == 0:
            turns[0]["system"] = words(random_, 5)
        if number % 3 == 0:
            turns += [{"input": words(random_, 9), "output": words(random_, 9)} for _ in range(2)]
        rows.append({"conversation": turns})
    rows[7]["conversation"] = []  # dropped: nothing to train on
    rows[11]["conversation"][0]["output"] = ""  # kept: the end of the answer carries loss
    rows[13]["conversation"] = [{"input": "you " * 300, "output": "dropped: the cut takes it all"}]
    rows[17]["conversation"][0]["output"] = "cut " * 300
    return rows


def alpaca_rows(random_):
    rows = [
        {"instruction": words(random_, 9), "input": "", "output": words(random_, 40)}
        for _ in range(23)
    ]
    rows[3]["input"] = '{input} with a \\ and a "quote"'
    rows[5]["output"] = "<nooutput>"
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random_ = random.Random(5)
    xtuner, alpaca = xtuner_rows(random_), alpaca_rows(random_)
    (folder / "xtuner.json").write_text(json.dumps(xtuner, ensure_ascii=False, indent=1))
    (folder / "alpaca.jsonl").write_text("\n".join(map(json.dumps, alpaca)))
    (folder / "few.jsonl").write_text("\n".join(map(json.dumps, alpaca[:5])))
    return {path.stem: path for path in folder.iterdir()}


# file, template, max_length, pack, map_num_proc, batch_size, gpus, seed
SETTINGS = [
    ("xtuner", "internlm2_chat", 200, False, 1, 1, 1, 0),
    ("alpaca", "internlm2_chat", 512, False, 1, 4, 3, 0),
    ("xtuner", "default", 200, False, 2, 2, 1, 0),
    ("alpaca", "llama3_chat", 300, False, 1, 1, 1, 0),
    ("xtuner", "internlm2_chat", 200, True, 1, 1, 1, 0),
    ("xtuner", "internlm2_chat", 200, True, 2, 2, 1, 0),
    ("xtuner", "internlm2_chat", 200, True, 3, 1, 2, 77),
    ("alpaca", "internlm2_chat", 96, True, 3, 3, 2, 1),
    ("few", "internlm2_chat", 2048, True, 7, 1, 1, 0),  # more pieces than rows
]
NAMES = ("file", "template", "max_length", "pack", "map_num_proc", "batch_size", "gpus", "seed")


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """The path of each of EVERY, and the shape to open it with (None: told from its rows)."""
    folder = tmp_path_factory.mktemp("every")
    found = {}
    for shape, format in EVERY:
        given = shape if shape == shaped.OPENORCA else None
        if shape in ("messages", "columns"):
            given = str(folder / f"{shape}_map.py")
            wanted = suggest.suggest(shaped.rows(shape))
            mapping.write_map_module(wanted, Path(given), force=True)
        found[shape, format] = shaped.write(folder, shape, format), given
    return found


def config_parts(path, shape):
    """What a copied config says of a dataset."""
    found = training_data(path, shape, "map_module")
    module, name = found.map_fn or ("", None)
    return {
        "loader": found.loader,
        "load_args": found.arguments,
        "map_fn": name,
        "map_module": module,
        "map_source": found.module,
        "templated": shapes.by_name(found.shape).templated,
    }


@pytest.fixture(scope="module")
def reference(files, every, tiny_model):
    """XTuner's answer to each of SETTINGS, then to each of EVERY: one process for all."""
    jobs = [dict(zip(NAMES, setting, strict=True)) for setting in SETTINGS]
    plain = dict(zip(NAMES, ("", "internlm2_chat", 200, False, None, 1, 1, 0), strict=True))
    jobs += [dict(plain) for _one in EVERY]
    opened = [(files[setting[0]], None) for setting in SETTINGS] + [every[one] for one in EVERY]
    for job, (path, shape) in zip(jobs, opened, strict=True):
        job |= config_parts(path, shape) | {"model": str(tiny_model)}
    done = subprocess.run(
        [sys.executable, REFERENCE], input=json.dumps(jobs), stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What one test's check counted, the next need not count again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def worker():
    with WorkerClient(WORKER, Settings()) as client:
        yield client


@pytest.mark.parametrize("number", [n for n, setting in enumerate(SETTINGS) if not setting[3]])
def test_every_sample_token_by_token(files, tiny_model, reference, worker, cache, number):
    shape, template, max_length = SETTINGS[number][:3]
    expected = reference[number]
    worker.result("open", model=str(tiny_model), template=template, max_length=max_length)
    with Dataset.open(files[shape]) as dataset:
        assert dataset.shape == shape
        report = check(
            dataset,
            model=tiny_model,
            template=template,
            max_length=max_length,
            settings=Settings(),
            cache=cache,
        )
        dropped = set(report.dropped_rows)
        kept = [row for row in dataset.records() if row.index not in dropped]
        samples = [worker.result("sample", row=row.value, shape=shape) for row in kept]
        values = [row.value for row in dataset.records()]
        counts = worker.result("tokens", rows=values, shape=shape)["tokens"]
    assert [number for number, count in enumerate(counts) if not count] == report.dropped_rows
    assert [count for count in counts if count] == [s["tokens"] + s["cut"] for s in samples]
    assert [sample["input_ids"] for sample in samples] == expected["input_ids"]
    assert [sample["labels"] for sample in samples] == expected["labels"]
    assert [sample["text"] for sample in samples] == expected["text"]
    for sample in samples:
        assert sample["tokens"] == len(sample["input_ids"])
        assert sample["loss_tokens"] == sum(label != -100 for label in sample["labels"])
        assert "".join(segment["text"] for segment in sample["segments"]) == sample["text"]
        runs = [loss for loss, _run in groupby(label != -100 for label in sample["labels"])]
        assert [segment["loss"] for segment in sample["segments"]] == runs
    assert [row.index for row, s in zip(kept, samples, strict=True) if s["cut"]] == report.cut


@pytest.mark.parametrize("number", range(len(EVERY)), ids=["-".join(one) for one in EVERY])
def test_every_shape_in_every_format(every, tiny_model, reference, worker, number):
    path, given = every[EVERY[number]]
    expected = reference[len(SETTINGS) + number]
    samples = []
    with Dataset.open(path, given) as dataset:
        assert dataset.shape == (given or EVERY[number][0])
        worker.result(
            "open",
            model=str(tiny_model),
            template="internlm2_chat",
            max_length=200,
            shape=dataset.shape,
        )
        rows = dataset.page(0, 2 * shaped.COUNT)
        for row in rows:
            with contextlib.suppress(Failed):  # it is dropped: then it must not be in `expected`
                samples.append(worker.result("sample", row=row.value, shape=dataset.shape))
    assert len(rows) == shaped.COUNT
    assert [sample["input_ids"] for sample in samples] == expected["input_ids"]
    assert [sample["labels"] for sample in samples] == expected["labels"]
    assert [sample["text"] for sample in samples] == expected["text"]


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_samples_and_steps(files, tiny_model, reference, cache, number):
    job = dict(zip(NAMES, SETTINGS[number], strict=True))
    with Dataset.open(files[job.pop("file")]) as dataset:
        report = check(
            dataset, model=tiny_model, accumulation=4, settings=Settings(), cache=cache, **job
        )
    samples = report.packed_samples if job["pack"] else report.samples
    assert samples == reference[number]["samples"]
    assert report.steps_per_epoch == reference[number]["steps"]
    assert report.updates_per_epoch == -(-report.steps_per_epoch // 4)
    assert report.good + len(report.cut) + report.dropped == report.rows
    assert report.broken == []


def test_what_is_dropped_and_cut_is_named(files, tiny_model, cache):
    with Dataset.open(files["xtuner"]) as dataset:
        report = check(
            dataset,
            model=tiny_model,
            template="internlm2_chat",
            max_length=200,
            settings=Settings(),
            cache=cache,
        )
    assert report.dropped_rows == [7, 13]
    assert 17 in report.cut and 13 not in report.cut
    assert report.tokens.max > 200


def test_the_answer_is_what_carries_loss(tiny_model):
    row = {"conversation": [{"system": "S", "input": "你是谁", "output": "我是尖米"}]}
    with Preview(Settings()) as preview:
        # The tokenizer's own chat template is ChatML, as internlm2_chat is.
        assert preview.open(tiny_model) == "internlm2_chat"
        sample = preview.sample(row, "xtuner")
        again = preview.open(tiny_model, "internlm2_chat", max_length=sample.tokens - 2)
        assert again == "internlm2_chat"
        assert preview.sample(row, "xtuner").cut == 2
    assert [(segment.text, segment.loss) for segment in sample.segments] == [
        (
            "<|endoftext|><|im_start|>system\nS<|im_end|>\n"
            "<|im_start|>user\n你是谁<|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        ("我是尖米<|im_end|>", True),
        ("\n", False),
    ]


def test_a_worker_that_died_starts_again(tiny_model):
    import os
    import signal

    row = {"conversation": [{"input": "a", "output": "b"}]}
    with Preview(Settings()) as preview:
        preview.open(tiny_model, "default")
        first = preview.sample(row, "xtuner")
        os.kill(preview.pid, signal.SIGKILL)
        while preview.pid is not None:
            pass
        assert preview.sample(row, "xtuner") == first
