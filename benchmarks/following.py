"""What following a run costs: bytes on the terminal, the first frame, a chart of 100,000 points.

    python benchmarks/following.py            # all, a few minutes
    python benchmarks/following.py --only bytes|log|opening|points

Makes its own run folders in a temporary workspace. The run in training gets a
step every 1.6 s, with a line in its log. Every figure is printed with what it
is wanted to be.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.run_files import (
    START,
    add_gpu_samples,
    add_log,
    add_steps,
    gpu_sample,
    write_run,
)

from engine.run import history_cache, state
from engine.workspace import Workspace
from terminal import Pty

STEPS = 100_000
LOG_MB = 300
STEP_EVERY = 1.6
WATCHED = 30.0


def app(workspace: Path) -> Pty:
    """The app on `workspace`, at 80×24."""
    return Pty([sys.executable, "-m", "tui", str(workspace)])


def small(
    folder: Path, word: state.Word = "training", tab: str = "train"
) -> tuple[Workspace, Path]:
    """A workspace with two runs."""
    workspace = Workspace(folder)
    workspace.remember(tab=tab)
    write_run(workspace, "assistant-00", "finished", step=60, created=time.time() - 900)
    return workspace, write_run(workspace, "assistant-01", word, step=42, steps=1000)


def train(run: Path, ended: threading.Event) -> None:
    """A step, its line and a sample of the GPU every `STEP_EVERY` seconds."""
    step = 42
    while not ended.wait(STEP_EVERY):
        add_steps(run, step, step + 1, steps=1000)
        add_gpu_samples(run, gpu_sample(step, 18_000_000_000 + step * 1_000_000))
        step += 1


def measure_bytes() -> None:
    """Idle, in training, a cursor move, a change of pane."""
    with tempfile.TemporaryDirectory() as folder:
        small(Path(folder), "finished")
        terminal = app(Path(folder))
        terminal.until(b"Iter(train)")
        terminal.read(4)
        # The machine's own line shows the host's load: what is left when that is still.
        idle = len(terminal.read(10)) / 10
        moves, rests = [], []
        for key in (b"j", b"k") * 4:
            terminal.write(key)
            moves.append(len(terminal.read(0.2)))  # the run is drawn when the cursor rests
            rests.append(len(terminal.read(2.0)))
        panes = []
        for key in b"1345134512351":
            terminal.write(bytes([key]))
            panes.append(len(terminal.read(1.5)))
        terminal.close()
    print(f"idle: {idle:.0f} B/s (wanted 0; the host's gauge included)")
    whole = [move + rest for move, rest in zip(moves, rests, strict=True)]
    for what, sent in (("the move", moves), ("the run drawn", rests), ("both", whole)):
        middle = statistics.median(sent)
        print(f"cursor to another run, {what}: median {middle:.0f} B, most {max(sent)}")
    print(
        f"change of pane: median {statistics.median(panes):.0f} B, most {max(panes)} (wanted 12000)"
    )
    with tempfile.TemporaryDirectory() as folder:
        _workspace, run = small(Path(folder))
        terminal = app(Path(folder))
        terminal.until(b"Iter(train)")
        terminal.read(4)
        ended = threading.Event()
        threading.Thread(target=train, args=(run, ended), daemon=True).start()
        sent = {"the loss": len(terminal.read(WATCHED))}
        terminal.write(b"mmmm")
        terminal.read(5)
        assert b"GPU memory" in terminal.output
        sent["the GPU's memory"] = len(terminal.read(WATCHED))
        ended.set()
        terminal.close()
    for curve, count in sent.items():
        rate = f"{count / WATCHED:.0f} B/s (wanted 1000)"
        print(f"in training, a step every {STEP_EVERY} s, {curve} drawn: {rate}")


def measure_opening(pairs: int) -> None:
    """The first full frame on a long run, against an empty workspace.

    Full: the list, the head, the newest values, the curve and the log's last line.
    """
    parts = (b"100000/100000", b"took", b"0.5 s/step", b"loss long", b"[100000/100000]  loss")
    with tempfile.TemporaryDirectory() as long, tempfile.TemporaryDirectory() as empty:
        run = large(Path(long))
        Workspace(Path(empty)).remember(tab="train")
        kinds = ("never opened before", "opened before")
        ratios: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for pair in range(pairs + 1):
            none = first_frame(Path(empty), (b"No runs yet",))
            (run / history_cache.NAME).unlink(missing_ok=True)
            for kind in kinds:
                full = first_frame(Path(long), parts)
                if pair:  # the first one warms the page cache
                    ratios[kind].append((full[0] / none[0], full[1] / none[1]))
                    print(f"  empty {none[0]:.2f} s ({none[1]:.2f} of CPU), {kind} {full[0]:.2f} s"
                          f" ({full[1]:.2f})")  # fmt: skip
        print(f"opening on {STEPS:,} steps and {LOG_MB} MB of log (wanted 1.5 of an empty one):")
        for kind, both in ratios.items():
            for what, found in zip(
                ("seconds", "CPU seconds"), zip(*both, strict=True), strict=True
            ):
                middle = statistics.median(found)
                print(f"  {kind}, {what}: {middle:.2f} ({min(found):.2f} to {max(found):.2f})")


def first_frame(workspace: Path, wanted: Sequence[bytes]) -> tuple[float, float]:
    """Seconds, and CPU seconds of the app, until all of `wanted` is on the screen."""
    terminal = app(workspace)
    seconds = max([terminal.until(part) for part in wanted])
    spent = psutil.Process(terminal.pid).cpu_times()
    terminal.close()
    return seconds, spent.user + spent.system


def large(folder: Path) -> Path:
    """A finished run of `STEPS` steps with a log of `LOG_MB`."""
    workspace = Workspace(folder)
    workspace.remember(tab="train")
    run = write_run(workspace, "long", "finished", steps=STEPS)
    with (run / START / "vis_data" / "scalars.json").open("w", encoding="utf-8") as scalars:
        for step in range(1, STEPS + 1):
            loss = 0.5 + 2.5 * math.exp(-step / 20_000) + (step * 7919 % 100) / 400
            point = {"lr": 2e-4, "data_time": 0.01, "loss": loss, "time": 0.5, "grad_norm": 0.61}
            scalars.write(json.dumps(point | {"tokens": step * 2048, "iter": step, "step": step}))
            scalars.write("\n")
    add_gpu_samples(run, *(gpu_sample(step, 18_000_000_000) for step in range(1, STEPS + 1)))
    with (run / state.LOG).open("w", encoding="utf-8") as log:
        line = "11/24 21:04:07 - mmengine - INFO - Iter(train) [1/1]  loss: 0.73" + " padding" * 9
        for _piece in range(LOG_MB):
            log.write(f"{line}\n" * ((1 << 20) // (len(line) + 1)))
    add_log(run, f"11/24 21:04:07 - mmengine - INFO - Iter(train) [{STEPS}/{STEPS}]  loss: 0.5")
    return run


def measure_log() -> None:
    """A log of `LOG_MB`: opening, a search through all of it, the memory it takes."""
    from engine.run.log_file import LogFile
    from engine.run.log_sieve import Holding, OfLevel, Sieve

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trainer.log"
        line = "11/24 21:04:07 - mmengine - INFO - Iter(train) [1/1]  loss: 0.73" + " padding" * 9
        with path.open("w", encoding="utf-8") as out:
            out.write("the needle\n")
            for _piece in range(LOG_MB):
                out.write(f"{line}\n" * ((1 << 20) // (len(line) + 1)))
        before = psutil.Process().memory_info().rss
        begun = time.perf_counter()
        log = LogFile(path)
        log.grow()
        print(f"log of {LOG_MB} MB opened: {(time.perf_counter() - begun) * 1000:.1f} ms")
        for name, test in (("search", Holding("needle")), ("errors", OfLevel(("error",)))):
            begun = time.perf_counter()
            sieve = Sieve(log, [test])
            while sieve.more():
                pass
            found, seconds = len(sieve.numbers), time.perf_counter() - begun
            print(f"{name}, the whole of it: {seconds:.2f} s, {found} found")
        grown = (psutil.Process().memory_info().rss - before) / 1e6
        print(f"memory: {grown:.0f} MB more")


def measure_points() -> None:
    """A chart of 100,000 points with one spike, at two sizes."""
    from engine.chart import plot
    from tui.widgets.braille import Canvas

    xs = list(range(STEPS))
    ys = [0.5 + 2.5 * math.exp(-x / 20_000) + (x * 7919 % 100) / 400 for x in xs]
    ys[54_321] = 40.0
    for columns, rows in ((150, 10), (270, 40)):
        times = []
        for _round in range(7):
            begun = time.perf_counter()
            low, high = plot.extent(ys) or (0.0, 1.0)
            reduced = plot.reduce(xs, ys, 0, STEPS - 1, columns)
            canvas = Canvas(columns // 2, rows)
            scale = (canvas.rows - 1) / (high - low)
            for stroke in reduced.strokes:
                canvas.stroke(stroke, lambda y: round((high - y) * scale), 0)  # noqa: B023
            times.append((time.perf_counter() - begun) * 1000)
        assert max(bin.high for bin in reduced.strokes[0]) == 40.0, "the spike is lost"
        print(f"{STEPS:,} points on {columns // 2}×{rows} cells: {statistics.median(times):.1f} ms")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description="What following a run costs.")
    parser.add_argument("--only", choices=("bytes", "log", "opening", "points"))
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    if args.only in (None, "points"):
        measure_points()
    if args.only in (None, "log"):
        measure_log()
    if args.only in (None, "bytes"):
        measure_bytes()
    if args.only in (None, "opening"):
        measure_opening(args.pairs)


if __name__ == "__main__":
    main()
