"""Datasets of any size: reading, jumping, replacing and checking, each against a yardstick.

    python benchmarks/dataset.py [--megabytes 1000] [--rows 100000] [--model FOLDER] [--quick]
        [--runs 3] [--json]

Makes its own files in a temporary folder (about 4 times ``--megabytes``) and
removes them. Every figure is a ratio of two things done in turn in this run:

* the first page of a JSON array against ``json.load`` of it, with the memory that
  paging and jumping anywhere takes;
* the last row of an indexed file, in milliseconds;
* ``replace`` against ``sed`` (two whole processes);
* ``check`` with a tokenizer against XTuner's own ``process_hf_dataset``, as many
  processes each as there are cores;
* all of that at a hundredth and a tenth of the size, but for the check.

Run it with an interpreter that has XTuner. ``--model`` is a folder with a
tokenizer; without it the tests' tiny one is made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
OLD, NEW = "尖米", "Super Nova"
TEXT = (
    "你是谁 我是小明的助手 请介绍一下你自己 How can I help you today ? The capital of France is "
    'Paris \n 写一首长诗 关于大海和月亮 "quoted" model training data 0123 \t and then'
)
WORDS = TEXT.split(" ")

PAGE = """
import resource, sys, time
from engine.dataset.reader import Dataset
started = time.perf_counter()
data = Dataset.open(sys.argv[1])
data.page(0, 50)
first = time.perf_counter() - started
rows = data.index()
jumps = []
for number in range(200):
    row = number * 7919 % rows
    started = time.perf_counter()
    data.page(row, 50)
    jumps.append(time.perf_counter() - started)
started = time.perf_counter()
data.row(rows - 1)
last = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(first, last, max(jumps), peak, rows)
"""
LOAD = """
import json, sys, time
started = time.perf_counter()
with open(sys.argv[1], encoding="utf-8") as file:
    json.load(file)
print(time.perf_counter() - started)
"""
REPLACE = "import sys; from engine.cli.main import main; sys.exit(main())"
CHECK = """
import sys, time
from pathlib import Path
from engine.dataset.checking.check import check
from engine.dataset.reader import Dataset
from engine.settings import Settings
started = time.perf_counter()
with Dataset.open(sys.argv[1]) as data:
    report = check(data, model=sys.argv[2], template="internlm2_chat", pack=True,
                   map_num_proc=int(sys.argv[3]), settings=Settings(), cache=Path(sys.argv[4]))
print(time.perf_counter() - started, report.packed_samples)
"""
XTUNER = """
import sys
from datasets import load_dataset
from transformers import AutoTokenizer
from xtuner.dataset import process_hf_dataset
from xtuner.dataset.map_fns import alpaca_map_fn, template_map_fn_factory
from xtuner.utils import PROMPT_TEMPLATE
import numpy, time
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2], padding_side="right")
numpy.random.seed(0)
started = time.perf_counter()
made = process_hf_dataset(
    dataset=load_dataset("json", data_files={"train": sys.argv[1]}, cache_dir=sys.argv[4]),
    tokenizer=tokenizer, max_length=2048, dataset_map_fn=alpaca_map_fn,
    template_map_fn=template_map_fn_factory(PROMPT_TEMPLATE.internlm2_chat),
    remove_unused_columns=True, shuffle_before_pack=True, pack_to_max_length=True,
    map_num_proc=int(sys.argv[3]))
print(time.perf_counter() - started, len(made))
"""


class Line(NamedTuple):
    """One row of the table; the unit says whether it is a ratio."""

    what: str
    size: str
    values: list[float]
    unit: str
    most: float | None = None

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return statistics.median(self.values)

    @property
    def fine(self) -> bool:
        """Whether the median keeps to what it may be at most."""
        return self.most is None or self.median <= self.most


def python(code: str, *arguments: object) -> list[float]:
    """The numbers that a Python process prints last."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def seconds(command: list[str], out: Path | None = None) -> float:
    """Wall time of a process, its output to a file."""
    started = time.perf_counter()
    with (out or Path(os.devnull)).open("wb") as sink:
        subprocess.run(command, check=True, stdout=sink, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def make(path: Path, size: int, most_rows: int = 1 << 60) -> int:
    """Write rows of Alpaca's shape, one on each line; return how many."""
    random_ = random.Random(5)

    def text(least: int, most: int) -> str:
        return " ".join(random_.choices(WORDS, k=random_.randrange(least, most)))

    base = []
    for number in range(5000):
        answer = text(20, 120) + (OLD * 2 if number % 50 == 0 else "")
        row = {"instruction": text(5, 30), "input": "", "output": answer}
        base.append(json.dumps(row, ensure_ascii=False).encode())
    written = rows = 0
    array = path.suffix == ".json"
    with path.open("wb") as file:
        file.write(b"[\n" if array else b"")
        while written < size and rows < most_rows:
            # Each row is a little different, as rows are.
            line = random_.choice(base).replace(b'n": "', b'n": "%d ' % rows, 1)
            file.write((b",\n" if array and rows else b"") + line + (b"" if array else b"\n"))
            written, rows = written + len(line), rows + 1
        file.write(b"\n]\n" if array else b"")
    return rows


def reading(path: Path, size: str, runs: int) -> list[Line]:
    """The first page, jumps and the last row."""
    pages, pairs = [], []
    for _run in range(runs):
        pages.append(python(PAGE, path))
        pairs.append(pages[-1][0] / python(LOAD, path)[0])
    return [
        Line("first page / json.load", size, pairs, "ratio", 1 / 50),
        Line(
            "resident while paging and jumping", size, [one[3] / 1024 for one in pages], "MB", 150
        ),
        Line("last row of the indexed file", size, [one[1] * 1000 for one in pages], "ms", 50),
        Line("slowest of 200 jumps", size, [one[2] * 1000 for one in pages], "ms", 50),
    ]


def replacing(path: Path, size: str, runs: int) -> Line:
    """``data replace`` against sed; both results must be the same."""
    ours, theirs = path.with_name("ours"), path.with_name("theirs")
    ratios = []
    for _run in range(runs):
        sed = seconds(["sed", f"s/{OLD}/{NEW}/g", str(path)], theirs)
        verb = ["data", "replace", str(path), "--from", OLD, "--to", NEW, "-o", str(ours)]
        ratios.append(seconds([sys.executable, "-c", REPLACE, *verb, "--force"]) / sed)
        subprocess.run(["cmp", ours, theirs], check=True)
    ours.unlink()
    theirs.unlink()
    return Line("data replace / sed", size, ratios, "ratio", 4)


def checking(folder: Path, rows: int, model: Path, runs: int) -> list[Line]:
    """``check`` with a tokenizer against XTuner's dataset building; both pack alike."""
    path = folder / "rows.jsonl"
    rows = make(path, 1 << 60, rows)
    cores = len(os.sched_getaffinity(0))
    ratios, again = [], []
    for run in range(runs):
        cache = folder / f"cache-{run}"
        theirs, their_samples = python(XTUNER, path, model, cores, folder / f"arrow-{run}")
        ours, our_samples = python(CHECK, path, model, cores, cache)
        if our_samples != their_samples:
            sys.exit(f"not the same: {our_samples} packed samples, XTuner makes {their_samples}")
        ratios.append(ours / theirs)
        again.append(python(CHECK, path, model, cores, cache)[0] * 1000)
    size = f"{rows:,} rows"
    return [
        Line("data check / process_hf_dataset", size, ratios, "ratio", 1),
        Line("the same check again", size, again, "ms"),
    ]


def table(lines: list[Line]) -> None:
    """Print the figures for people."""
    for line in lines:
        spread = f"{min(line.values):.4g}–{max(line.values):.4g}"
        limit = "" if line.most is None else f"at most {line.most:.3g}"
        mark = "" if line.fine else "  MISSED"
        print(
            f"{line.what:<36} {line.size:>13} {line.median:>9.4g} {line.unit:<6}"
            f"({spread}) {limit}{mark}"
        )


def main() -> None:
    """Make the files, measure, print."""
    parser = argparse.ArgumentParser(description="Datasets of any size, against yardsticks.")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="30 MB, 3,000 rows, one run")
    parser.add_argument("--only", choices=["reading", "replacing", "checking"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.megabytes, args.rows, args.runs = 30, 3_000, 1
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (100, 10, 1) if args.only != "checking" else ():
            megabytes = args.megabytes / part
            path = folder / "rows.json"
            make(path, int(megabytes * 1e6))
            size = f"{megabytes:g} MB"
            if args.only != "replacing":
                lines += reading(path, size, args.runs)
            if args.only != "reading":
                lines.append(replacing(path, size, args.runs))
            path.unlink()
        if args.only in (None, "checking"):
            model = args.model or tiny(folder)
            lines += checking(folder, args.rows, model, args.runs)
    if args.json:
        print(json.dumps([line._asdict() | {"median": line.median} for line in lines]))
    else:
        table(lines)
    # Ratios of small files say little: starting a process is most of what is timed.
    goal = f"{args.megabytes:g} MB"
    sys.exit(any(not line.fine for line in lines if line.size in (goal, f"{args.rows:,} rows")))


def tiny(folder: Path) -> Path:
    """The tests' tiny model, for its tokenizer."""
    made = folder / "tiny"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny.py", made], check=True)
    return made


if __name__ == "__main__":
    main()
