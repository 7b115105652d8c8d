"""Faults seeded into a good training: what preflight says and when, and what XTuner does.

    python benchmarks/preflight.py --model FOLDER [--only CODE …] [--out docs/preflight.md]

`FOLDER` is a small model (``python tests/support/tiny.py FOLDER`` makes one). Each
fault of ``tests/config/faults.py`` is given to ``tunedeck preflight``, a process
each, and to XTuner's own ``xtuner.tools.train`` on the CPU. XTuner is ended at its
first step ("trains") or after `LIMIT` seconds. It is imported once and forked for
each fault (``xtuner_forks.py``); the seconds shown are those of the imports and of
the rest. Results are kept in ``--results`` as they come, so that a run that was
broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from tests.config.bench import Bench, build  # noqa: E402
from tests.config.faults import FAULTS, Fault  # noqa: E402

from engine.run import program  # noqa: E402

LIMIT = 150.0
"""Seconds after its imports that XTuner is given to fail or to make a step."""
ERROR = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning)\b.*|^\w+Error$")

PEERS = {
    "no such data file": (9.2, "ValueError: File … not found."),
    "no such model": (8.7, "OSError: Failed to load tokenizer."),
    "'output' missing in row 50": (None, "trains; one warning without a row number"),
    "the column has another name in all rows": (9.4, "KeyError: 'question'"),
    "max_length = 2": (None, "trains on rows cut to 2 tokens"),
    "a nested key misspelt (lora_alhpa)": (9.6, "ValueError: Some keys are not used"),
    "a top-level name misspelt (optim_wraper)": (9.6, "ValueError: Some keys are not used"),
    "a variable misspelt (max_lenght)": (9.6, "ValueError: Some keys are not used"),
    "an optional name misspelt (resme)": (9.6, "ValueError: Some keys are not used"),
}
"""LLaMA-Factory 0.9.5 on the same faults, measured 2026-11-24; None: it never notices."""


def environment(**more: str) -> dict[str, str]:
    """No GPU, no network, one thread."""
    values = dict(os.environ, CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    values.update(PYTHONUNBUFFERED="1", LC_ALL="C.UTF-8", **more)
    return values


def ours(bench: Bench, fault: Fault) -> dict[str, Any]:
    """Seconds until our finding is printed, and its words."""
    command = [str(Path(sys.executable).parent / "tunedeck"), "preflight", str(bench.config)]
    for name, value in bench.options.items():
        if value is None or name == "processes":  # on the command line these are GPUs
            continue
        shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        command += ["--" + name.replace("_", "-"), shown]
    began, before = time.monotonic(), _children()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    assert process.stdout is not None
    seen, words = None, ""
    for line in process.stdout:
        if seen is None and f"[{fault.code}]" in line:
            seen = time.monotonic() - began
            words = line.partition("[")[0].strip("✗!· ").strip()
    process.wait()
    whole = time.monotonic() - began
    return {"seen": seen, "whole": whole, "cpu": _children() - before, "words": words}


def _children() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class XTuner:
    """XTuner's trainer, imported; used as a context."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("xtuner_forks.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(DS_ACCELERATOR="cpu"),
        )
        answer = self._answer()
        self.imports, self.cpu = float(answer["imports"]), float(answer["cpu"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def train(self, bench: Bench, folder: Path) -> dict[str, Any]:
        """Seconds until XTuner ends or makes its first step, and its last words."""
        options = bench.options
        argv = [str(bench.config), "--work-dir", str(options.get("work_dir", folder / "work"))]
        more: dict[str, str] = {}
        if options.get("deepspeed"):
            argv += ["--deepspeed", options["deepspeed"], "--launcher", "pytorch"]
            more = program.env([], 1, "zero2")
        if options.get("gpus"):
            more["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, options["gpus"]))
        log = folder / "xtuner.log"
        order = {"argv": argv, "env": more, "folder": str(folder), "log": str(log), "limit": LIMIT}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        cpu = answer["cpu"] + self.cpu
        return {**answer, "imports": self.imports, "cpu": cpu, "words": _last(log)}

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def _last(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    return (errors or lines or [""])[-1]


def measure(fault: Fault, model: Path, trainer: XTuner) -> dict[str, Any]:
    """Both, on the same files."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name).resolve()
        bench = build(folder / "b", model)
        fault.seed(bench)
        found = {"name": fault.name, "code": fault.code, "tokens": fault.tokens}
        result = found | {"ours": ours(bench, fault), "xtuner": trainer.train(bench, folder)}
        text = json.dumps(result, ensure_ascii=False)
        shown: dict[str, Any] = json.loads(text.replace(str(folder / "b"), "…").replace(name, "…"))
        return shown


def _seconds(theirs: dict[str, Any]) -> float:
    return float(theirs["imports"] + theirs["seconds"])


def table(results: list[dict[str, Any]]) -> list[str]:
    """The faults as a Markdown table."""
    lines = [
        "| fault | code | preflight says | after, s | XTuner says | after, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in results:
        mine, theirs = one["ours"], one["xtuner"]
        seen = "**missed**" if mine["seen"] is None else f"{mine['seen']:.1f}"
        words = _cell(theirs["words"]) if theirs["said"] == "ends" else ""
        after = f"{_seconds(theirs):.0f}"
        if theirs["said"] == "trains":
            words, after = "nothing: it trains", "never"
        elif theirs["said"] == "hangs":
            words, after = "nothing", f"never (ended after {_seconds(theirs):.0f})"
        elif theirs["status"] == 0:
            words, after = "nothing: it ends, exit status 0", "never"
        what = _cell(mine["words"])
        lines.append(f"| {one['name']} | `{one['code']}` | {what} | {seen} | {words} | {after} |")
    return lines


def peers(results: list[dict[str, Any]]) -> list[str]:
    """The broken configs that another tool was measured on."""
    lines = [
        "| fault | preflight | XTuner | LLaMA-Factory |",
        "| --- | --- | --- | --- |",
    ]
    for one in results:
        if one["name"] not in PEERS:
            continue
        seconds, said = PEERS[one["name"]]
        theirs = one["xtuner"]
        never = theirs["said"] != "ends" or theirs["status"] == 0
        lines.append(
            f"| {one['name']} | {one['ours']['seen'] or 0:.1f} s"
            f"{' (tokenizer)' if one['tokens'] else ''} "
            f"| {'never' if never else format(_seconds(theirs), '.0f') + ' s'} "
            f"| {'never' if seconds is None else f'{seconds} s'}: {said} |"
        )
    return lines


def times(results: list[dict[str, Any]]) -> list[str]:
    """Medians over all faults; CPU seconds are what other programs disturb least."""
    quick = [one["ours"] for one in results if not one["tokens"]]
    slow = [one["ours"] for one in results if one["tokens"]]
    theirs = [one["xtuner"] for one in results]
    rows = (
        ("preflight, no tokenizer needed", quick, "seen"),
        ("preflight, with the tokenizer", slow, "seen"),
        ("XTuner, imports included", [one | {"all": _seconds(one)} for one in theirs], "all"),
    )
    lines = ["| | faults | seconds, median (most) | CPU seconds, median (most) |"]
    lines.append("| --- | --- | --- | --- |")
    for name, ones, key in rows:
        seconds = _spread([one[key] for one in ones if one[key]])
        cpu = _spread([one["cpu"] for one in ones if "cpu" in one])
        lines.append(f"| {name} | {len(ones)} | {seconds} | {cpu} |")
    return lines


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({max(values):.1f})" if values else ""


def _cell(text: str, most: int = 110) -> str:
    text = text.replace("|", "\\|").replace("\n", " ")
    text = re.sub(r"https?://[^\s']+", "(a hub's address)", text)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return f"`{text.replace('`', chr(39))}`" if ERROR.match(text) else text


def write(path: Path, results: list[dict[str, Any]]) -> None:
    """Put the tables between the marks of the page."""
    text = path.read_text(encoding="utf-8")
    parts = (("faults", table(results)), ("peers", peers(results)), ("times", times(results)))
    for mark, lines in parts:
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        head, _begin, rest = text.partition(begin)
        tail = rest.partition(end)[2]
        text = "\n".join([head + begin, "", *lines, "", end + tail])
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Measure what is not measured yet, and write the page."""
    parser = argparse.ArgumentParser(description="Seeded faults: preflight against XTuner.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], metavar="CODE")
    parser.add_argument("--most", type=int, default=len(FAULTS), help="faults to measure now")
    parser.add_argument("--results", type=Path, default=Path("preflight-results.jsonl"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    known: dict[str, dict[str, Any]] = {}
    if args.results.exists():
        for line in args.results.read_text().splitlines():
            known[json.loads(line)["name"]] = json.loads(line)
    # The ones that other tools were measured on, then the rest.
    wanted = [
        fault
        for fault in sorted(FAULTS, key=lambda one: one.name not in PEERS)
        if fault.name not in known and (not args.only or fault.code in args.only)
    ]
    if wanted:
        trainer = XTuner()
        for fault in wanted[: args.most]:
            known[fault.name] = measure(fault, args.model, trainer)
            with args.results.open("a") as file:
                file.write(json.dumps(known[fault.name], ensure_ascii=False) + "\n")
            print(table([known[fault.name]])[-1], flush=True)
        trainer.close()
    results = [known[fault.name] for fault in FAULTS if fault.name in known]
    if args.out:
        write(args.out, results)
    missed = [one["name"] for one in results if one["ours"]["seen"] is None]
    print(f"{len(results)} faults, {len(missed)} missed {missed or ''}")


if __name__ == "__main__":
    main()
