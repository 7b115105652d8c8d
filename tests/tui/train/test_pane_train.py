"""The Train pane at 80×24, by keys, on real run folders and real supervisors."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from textual.geometry import Region
from textual.widget import Widget

from engine import files
from engine.run import control, launch, planning, reasons, state
from engine.run.folder import RunFolder
from engine.run.listing import list_runs
from engine.run.points import History
from engine.run.processes import Identity, boot_id
from engine.run.progress import Progress
from engine.run.state import Cause, Expected, RunState, Word
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support.driver import Driver, opened
from tests.support.nvml import GB, Card, Instance, Nvml, Process
from tests.support.run_files import add_gpu_samples, add_log, add_steps, gpu_sample, write_run
from tests.support.screen import NASTY
from tests.support.train_pane import config
from tui.palette import actions
from tui.panes.train.words import figures

OUT_OF_MEMORY = Cause(
    "oom-gpu", {"gpu": "0", "wanted": "2.00 GiB", "total": "79.1 GiB", "free": "1.2 GiB"}
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.remember(tab="train")
    return made


@pytest.fixture
def supervised(workspace: Workspace) -> Iterator[Callable[[str], RunFolder]]:
    """Starts a small program in the trainer's place, under the real supervisor."""

    def start(program: str) -> RunFolder:
        config(workspace)
        path = workspace.configs / "assistant.py"
        plan = planning.plan(path, workspace=workspace, settings=Settings(), gpus=[])
        note = "import json, pathlib, sys, time\nrun = pathlib.Path(sys.argv[1])\n"
        command = [sys.executable, "-c", note + textwrap.dedent(program), str(plan.dir)]
        return launch.start(msgspec.structs.replace(plan, command=command), Settings())

    yield start
    for run in list_runs(workspace):
        if run.state.living and run.record is not None:
            control.kill(run)


TRAINS = """
note = {"first": 0, "steps": 100, "started": time.time()}
(run / "trainer.json").write_text(json.dumps(note))
while not (run / "stop").exists():
    time.sleep(0.02)
(run / "trainer.json").write_text(json.dumps(note | {"stopped": 7}))
"""


async def test_an_empty_workspace_says_what_to_do(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.shows("No runs yet.", "Enter  make a config first")
        await screen.press("S")  # a key that needs a run says so
        await screen.shows("No run is chosen")
        config(workspace)
        await screen.press("1", "3")
        await screen.shows("Enter  train with configs/assistant.py")


async def test_the_list_says_how_each_run_stands(workspace: Workspace) -> None:
    now = time.time()
    write_run(workspace, "小助手-01", "failed", step=12, cause=OUT_OF_MEMORY, created=now - 30)
    write_run(workspace, "assistant-02", "finished", step=100, created=now - 20)
    write_run(workspace, "assistant-03", "training", step=42, created=now - 10)
    async with opened(workspace) as screen:
        await screen.shows("42%", "training 42/100", "loss 1.1")
        text = await screen.shows("29 s left", "lr 2e-4", "0.5 s/step")
        assert " ✓  assistant-02             loss 0.589" in text
        assert "✗  小助手-01                failed: GPU 0 is out of memory" in text


async def test_it_follows_a_run_that_goes_on(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "training", step=10)
    async with opened(workspace) as screen:
        await screen.shows("training 10/100", "Iter(train) [10/100]")
        add_steps(run, 10, 25)
        add_log(run, f"eval 你是谁 {NASTY}")
        text = await screen.shows("training 25/100", "Iter(train) [25/100]", "eval 你是谁 [/x]")
        assert "\x1b" not in text
        await screen.press("tab", "tab", "home")  # the whole log, from its first line
        await screen.shows("Iter(train) [1/100]", "held still")
        await screen.press("f")
        await screen.shows("eval 你是谁", "follows its end")


async def test_opened_again_it_shows_the_whole_run(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "training", step=60)
    for _window in range(2):
        async with opened(workspace) as screen:
            text = await screen.shows("training 60/100", "Iter(train) [60/100]")
            assert "3┤" in text or "2┤" in text, "the curve begins at its first step"


async def test_another_run_shows_its_own_log(workspace: Workspace) -> None:
    now = time.time()
    write_run(workspace, "one", "finished", step=5, created=now - 20, log="words of one")
    write_run(workspace, "two", "finished", step=5, created=now - 10, log="words of two")
    async with opened(workspace) as screen:
        await screen.shows("words of two")
        await screen.press("j")
        text = await screen.shows("words of one", "✓ one  finished")
        assert "words of two" not in text
        await screen.press("k", "j", "k", "j", "k")  # faster than anything is read
        await screen.shows("words of two", "✓ two  finished")


async def test_marked_runs_are_overlaid(workspace: Workspace) -> None:
    now = time.time()
    for number in range(3):
        write_run(workspace, f"run-{number}", "finished", step=50, created=now - number)
    async with opened(workspace) as screen:
        await screen.shows("── loss run-0")
        await screen.press("c")
        await screen.shows("Mark the runs to compare")
        await screen.press("j", "space", "space", "k", "k")  # typed fast: no key is lost
        text = await screen.shows("── loss run-0", "╌╌ run-1", "·· run-2")
        assert " ✓+ run-1" in text and " ✓+ run-2" in text
        await screen.shows("2 marked:  c hide")
        await screen.press("c")
        await screen.hides("╌╌ run-1", "·· run-2")


async def test_m_leaves_out_what_the_run_has_no_values_of(workspace: Workspace) -> None:
    write_run(workspace, "with-zero2", "finished", step=50, gradient=False)
    async with opened(workspace) as screen:
        await screen.shows("── loss with-zero2")
        for shown in ("learning rate", "seconds a step", "loss"):
            await screen.press("m")
            await screen.shows(f"── {shown} with-zero2")
        await screen.press("y", "e")
        await screen.shows("log · smoothed")


ESTIMATE = Expected(used=17_900_000_000, allocated=15_000_000_000)


async def test_gpu_memory_is_held_against_the_estimate_and_the_card(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "training", step=40, expected=ESTIMATE)
    add_gpu_samples(run, *(gpu_sample(step, 18_300_000_000) for step in range(1, 40)))
    async with opened(workspace, size=(140, 45)) as screen:
        await screen.shows("peak 18.3 of 25.8 GB, estimated 17.9", "── loss assistant-01")
        await screen.press(*"mmmm")
        await screen.shows("── GPU memory, GB assistant-01 18.3  ┈ estimated 17.9  ┈ card 25.77")
        for name in ("GPU use, %", "hottest GPU, °C", "GPU power, W"):
            await screen.press("m")
            await screen.shows(f"── {name} assistant-01")
        await screen.press("m")
        await screen.shows("── loss assistant-01")
        await screen.pilot.pause(1.0)
        drawn = count_refreshes(screen)
        add_gpu_samples(run, gpu_sample(40, 19_400_000_000))
        await screen.shows("peak 19.4 of 25.8 GB")
        assert set(drawn) == {"figures"}, "the loss is as it was"
        await screen.press(*"mmmm")
        await screen.shows("── GPU memory, GB assistant-01 19.4")


async def test_memory_of_plain_xtuner_and_of_runs_overlaid(workspace: Workspace) -> None:
    now = time.time()
    plain = write_run(workspace, "plain", "finished", created=now, expected=ESTIMATE)
    add_steps(plain, 0, 30, memory=14_000)
    sampled = write_run(workspace, "sampled", "finished", created=now - 9)
    add_steps(sampled, 0, 60, memory=14_000)
    add_gpu_samples(sampled, *(gpu_sample(step, 18_300_000_000) for step in range(1, 60)))
    async with opened(workspace) as screen:
        await screen.shows("peak 14.7 GB in tensors, estimated 15.0")
        await screen.press(*"mmmm")
        await screen.shows("── tensors, GB plain 14.68  ┈ estimated 15")
        await screen.press("j")
        await screen.shows("── GPU memory, GB sampled 18.3  ╌╌ tensors, GB 14.68  ┈ card 25.77")
        await screen.press("space", "k")
        text = await screen.shows("── tensors, GB plain 14.68  ╌╌ GPU memory, GB sampled 18.3")
        assert "estimated 15 " not in text and "card" not in text


def test_figures_that_do_not_fit_give_way() -> None:
    at = Progress(
        step=9, steps=99, loss=0.7312, lr=1.9e-4, grad_norm=0.61, step_time=1.62, eta=None,
        tokens_per_s=3100.0, memory=15_000_000_000, history=History(),
    )  # fmt: skip
    wide = figures(at, None, ESTIMATE, 140).plain
    assert wide.split("   ")[1:5] == ["lr 1.9e-4", "grad 0.61", "1.62 s/step", "3.1k tok/s"]
    assert wide.endswith("   peak 15.0 GB in tensors, estimated 15.0")
    narrow = figures(at, None, ESTIMATE, 80).plain
    assert len(narrow) <= 80 and "grad" not in narrow and "lr" not in narrow
    assert narrow.startswith(" loss 0.7312  1.62 s/step  3.1k tok/s  peak")


async def test_the_chart_in_full_has_its_own_keys_and_is_saved(workspace: Workspace) -> None:
    write_run(workspace, "小助手-01", "finished", step=50)
    async with opened(workspace) as screen:
        await screen.shows("── loss 小助手-01")
        await screen.press("x")
        await screen.until(lambda text: "log:" not in text and "┬" in text)
        await screen.press("plus", "right", "left")
        await screen.shows("step 50 · zoomed")
        await screen.press("v")
        await screen.shows("Saved:")
        await screen.press("x")
        await screen.shows("log: all lines")
        await screen.press("x")
        await screen.shows("Esc all parts")
        await screen.press("escape")
        await screen.shows("log: all lines", "l launch")
        assert "Esc" not in screen.keys_line()
    assert {path.suffix for path in (workspace.root / "charts").iterdir()} == {
        ".csv",
        ".png",
        ".svg",
    }
    [table] = (workspace.root / "charts").glob("*.csv")
    lines = table.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "step,loss 小助手-01" and len(lines) == 51
    picture = ElementTree.parse(table.with_suffix(".svg")).getroot()
    assert any("小助手" in (text or "") for text in picture.itertext())


async def test_the_configs_of_compared_runs_are_set_side_by_side(workspace: Workspace) -> None:
    now = time.time()
    for number, rate in enumerate(("1e-4", "2e-4")):
        run = write_run(workspace, f"run-{number}", "finished", step=5, created=now - number)
        (run / "config").mkdir()
        text = f"lr = {rate}\nmax_length = 512\noptim = dict(lr=lr)\n"
        text = text.replace("lr=lr", "lr=lr, betas=(0.9, 0.99)") if number else text
        (run / "config" / "assistant.py").write_text(text)
    write_run(workspace, "run-2", "finished", step=5, created=now - 9)
    async with opened(workspace) as screen:
        await screen.shows("── loss run-0")
        await screen.press("d")
        await screen.shows("Mark the runs to compare")
        await screen.press("escape", "j", "space", "j", "space", "k", "k")
        await screen.shows("╌╌ run-1", "·· run-2")
        await screen.press("d")
        text = await screen.shows("run-0: 1e-4", "run-1: 2e-4", "run-2 keeps no config")
        assert "max_length" not in text and "betas" in text and "(not set)" in text


async def test_answers_and_checkpoints_over_time(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "finished", step=100, saved=(50, 100))
    for number, answer in ((49, "尖米"), (99, "小助手 [/b]")):
        text = f"Eval output 1:\n<|User|>:你是谁<eoh>\n<|Bot|>:{answer}<eoa>\n\n\n"
        file = run / "20261124_210407" / "vis_data" / f"eval_outputs_iter_{number}.txt"
        file.write_text(text, encoding="utf-8")
    async with opened(workspace) as screen:
        await screen.shows("finished 100/100")
        await screen.press("a")
        await screen.shows("Answers over time", "你是谁", "50  尖米", "100  小助手 [/b]")
        await screen.press("escape", "p")
        await screen.shows("iter_50.pth", "iter_100.pth", "lowest loss")


async def test_find_and_filter_in_the_log(workspace: Workspace) -> None:
    trace = "Traceback (most recent call last):\n  File 'x.py'\nValueError: 坏 [/b]"
    write_run(workspace, "assistant-01", "failed", step=30, cause=OUT_OF_MEMORY, log=trace)
    async with opened(workspace) as screen:
        await screen.shows("ValueError: 坏 [/b]")
        await screen.press("slash", *"[3/100", "enter")
        await screen.shows("1 line with “[3/100”", "Iter(train) [3/100]")
        await screen.shows("n next  N previous  Esc end")
        await screen.press("escape")
        await screen.shows("/ find  w filter")
        await screen.press("slash", "escape")
        await screen.shows("log: all lines")
        await screen.press("w")
        text = await screen.shows("warnings and errors only", "ValueError")
        assert "Iter(train)" not in text
        await screen.press("w", "w")
        await screen.shows("log: evaluation only")
        await screen.press("w")
        await screen.shows("all lines", "Iter(train)")
        await screen.press("W")
        await screen.shows("No line of the log names a rank")


async def test_a_key_of_the_log_brings_it_from_behind_the_chart(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "finished", step=30)
    async with opened(workspace) as screen:
        await screen.shows("Iter(train) [30/100]")
        await screen.press("x")
        await screen.hides("Iter(train)")
        await screen.press("slash")
        await screen.shows("Iter(train) [30/100]")
        await screen.press(*"[7/100", "enter")  # what is typed lands in the field
        await screen.shows("1 line with “[7/100”")


async def test_what_is_looked_for_is_seen_on_a_low_screen(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "finished", step=30)
    async with opened(workspace, (40, 10)) as screen:
        await screen.shows("assistant-01")
        await screen.press("slash", *"[7/100")
        await screen.shows("[7/100")
        await screen.press("escape")
        await screen.shows("Iter")
        await screen.hides("took")
        await screen.press("shift+tab", "shift+tab")
        await screen.shows("took")  # the cursor is in the list, the head is back


async def test_enter_says_why_a_run_failed(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "failed", step=12, cause=OUT_OF_MEMORY, log="the end")
    async with opened(workspace) as screen:
        await screen.shows("Enter  why it failed")
        await screen.press("enter")
        await screen.shows("out of memory: 2.00 GiB", "Lower batch_size", "step 12 of 100")
        await screen.press("end")
        await screen.shows("the end")
        await screen.press("escape")
        await screen.hides("Lower batch_size")


async def test_the_error_of_the_rank_that_failed_is_seen_at_once(workspace: Workspace) -> None:
    log = Path(__file__).parents[2] / "fixtures" / "logs" / "gloo-rank-raises.log"
    text = log.read_text(encoding="utf-8")
    cause = reasons.find(text, 1)
    write_run(workspace, "assistant-01", "failed", step=12, cause=cause, log=text)
    async with opened(workspace) as screen:
        await screen.shows("Enter  why it failed")
        await screen.press("enter")
        shown = await screen.shows("failed: Rank 1: ValueError", "The error of rank 1")
        assert "[rank1]: ValueError: the dataset has a row without" in shown
        assert "ChildFailedError" not in shown and "[rank0]" not in shown


async def test_enter_exports_what_is_saved(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "finished", step=100, saved=(50, 100))
    async with opened(workspace) as screen:
        await screen.shows("Enter  export iter_100")
        await screen.press("enter")
        await screen.until(lambda _text: workspace.last().tab == "export")
    assert workspace.last().run == str(run)


async def test_a_half_written_checkpoint_is_not_offered(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "training", step=50)
    (run / "iter_50.pth").write_bytes(b"PK half of it")
    async with opened(workspace) as screen:
        await screen.shows("S  stop it (saves first)")
        await screen.press("enter")
        await screen.shows("There is nothing to export yet")
    assert workspace.last().tab == "train"


async def test_stop_asks_the_run_to_save(
    workspace: Workspace, supervised: Callable[[str], RunFolder]
) -> None:
    run = supervised(TRAINS)
    async with opened(workspace) as screen:
        await screen.shows("training")
        await screen.press("S")
        await screen.shows("■  assistant-01", "stopped")
        await screen.press("o")
        await screen.shows("Stopped after step 7, with a checkpoint")
    assert run.state.state == "stopped"


async def test_kill_asks_first_and_says_what_is_lost(
    workspace: Workspace, supervised: Callable[[str], RunFolder]
) -> None:
    run = supervised(TRAINS)
    async with opened(workspace) as screen:
        await screen.shows("training")
        await screen.press("K")
        await screen.shows("Kill assistant-01 now?", "No checkpoint is saved")
        await screen.press("enter")  # the default is the safe answer
        await screen.hides("Kill assistant-01 now?")
        assert run.state.state == "training" and not (run.path / state.KILL).exists()
        await screen.press("K", "y")
        await screen.shows("assistant-01 was killed", "■  assistant-01")
    assert run.state.state == "stopped"


KEYS = {"stop": "S stop (saves)", "resume": "R resume", "kill": "K kill", "why": "o why"}


@pytest.mark.parametrize(
    ("word", "saved", "possible"),
    [
        ("training", (), {"stop", "kill", "why"}),
        ("finished", (3,), {"resume", "why"}),
        ("failed", (), {"why"}),
    ],
)
async def test_the_keys_offered_are_those_of_the_run_under_the_cursor(
    workspace: Workspace, word: Word, saved: tuple[int, ...], possible: set[str]
) -> None:
    async with opened(workspace) as screen:
        text = await screen.shows("No runs yet.", "l launch")
        assert not any(key in text for key in KEYS.values())
        write_run(workspace, "assistant-01", word, step=5, saved=saved)
        text = await screen.shows(word, *(KEYS[name] for name in possible))
        assert {name for name, key in KEYS.items() if key in text} == possible
        found = {one.binding.id for ones in actions(screen.app).values() for one in ones}
        acts = {f"train.{name}" for name in [*KEYS, "earlier"]}
        assert found & acts == {f"train.{name}" for name in possible}
        await screen.press("f1")
        text = await screen.shows("In this pane", "launch")
        listed = {" ".join(line.split()).strip("│ ") for line in text.splitlines()}
        assert {name for name, key in KEYS.items() if key in listed} == possible


async def test_resume_without_a_checkpoint_says_why_not(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "stopped", step=3)
    async with opened(workspace) as screen:
        await screen.shows("stopped 3/100")
        await screen.press("R")
        await screen.shows("has no checkpoint to go on from", "Start a new run")


async def test_a_plain_work_dir_is_looked_at_only(workspace: Workspace) -> None:
    run = write_run(workspace, "plain", "finished", step=20, steps=20)
    for name in (state.RECORD, state.STATE, state.FACTS):
        (run / name).unlink()
    log = run / "20261124_210407" / "20261124_210407.log"
    (run / state.LOG).rename(log)
    async with opened(workspace) as screen:
        await screen.shows("finished 20/20", "Iter(train) [20/20]", "── loss plain")
        await screen.press("S")
        await screen.shows("was not started by Tunedeck")


async def test_a_broken_run_folder_is_told_and_hides_no_other(workspace: Workspace) -> None:
    write_run(workspace, "good", "finished", step=5)
    broken = write_run(workspace, "broken", "finished", step=5)
    (broken / state.STATE).write_text("{half")
    async with opened(workspace) as screen:
        await screen.shows("Cannot read the run", "✓ good  finished")


async def test_launch_shows_the_command_and_starts(workspace: Workspace) -> None:
    config(workspace)
    async with opened(workspace, (120, 40)) as screen:
        await screen.shows("Enter  train with configs/assistant.py")
        await screen.press("enter")
        await screen.shows("Launch a run", "It trains on the CPU", "engine.train.entry")
        await screen.press(*"first", "tab", "right", "right")
        await screen.shows("[2]", "deepspeed_zero2", "runs/first")
        await screen.press("left", "left")
        await screen.until(lambda text: "deepspeed_zero2" not in text and "preflight:" not in text)
        await screen.press("enter")
        text = await screen.until(lambda text: "Enter again" in text or "◌ first" in text)
        if "Enter again" in text:
            await screen.press("enter")
        await screen.shows("◌ first  starting")
        run = RunFolder(workspace.runs / "first")
        control.kill(run)
        await screen.shows("■  first")
    assert workspace.last().run == str(run.path)


async def test_a_launch_that_cannot_be_says_so_and_keeps_what_was_typed(
    workspace: Workspace,
) -> None:
    config(workspace)
    async with opened(workspace) as screen:
        await screen.shows("Enter  train with")
        await screen.press("l")
        await screen.shows("engine.train.entry")
        await screen.press(*"no good name")
        await screen.shows("cannot be a run's name")
        await screen.press("escape")
        await screen.hides("Launch a run")
        await screen.press("l")
        await screen.shows("Launch a run", "no good name")
        (workspace.configs / "assistant.py").unlink()
        await screen.press("backspace")
        await screen.shows("There is no such file")


async def test_gpus_are_offered_with_what_is_free_on_them(workspace: Workspace, nvml: Nvml) -> None:
    nvml.set(Card(used=61 * GB, processes=[Process(os.getpid(), 60 * GB)]), Card())
    config(workspace)
    async with opened(workspace) as screen:
        await screen.shows("Enter  train with")
        await screen.press("l")
        await screen.shows("19.0 GB free of 80.0 GB", "[ ] GPU0", "me: ", " 60.0 GB", "[1] GPU1")
        await screen.shows("CUDA_VISIBLE_DEVICES=1")  # the one with the most room
        await screen.press("tab", "space")
        await screen.shows("[2] GPU0", "CUDA_VISIBLE_DEVICES=1,0", "Space use")
        await screen.press("ctrl+l")  # how much of it has room in the dialog depends on the paths
        await screen.shows("The command", "torch.distributed.run", "pytorch")


async def test_two_instances_are_refused_in_words(workspace: Workspace, nvml: Nvml) -> None:
    nvml.set(Card(mig=True, instances=[Instance(), Instance("3g.40gb", 40 * GB)]))
    config(workspace)
    async with opened(workspace, (140, 45)) as screen:
        await screen.shows("Enter  train with")
        await screen.press("l")
        await screen.shows("[ ] GPU0:0", "[1] GPU0:1  40.0 GB free", "CUDA_VISIBLE_DEVICES=MIG-")
        await screen.press("tab", "space")
        await screen.shows("[2] GPU0:0", "cannot have these GPUs together")


async def test_a_wide_screen_has_room_for_axes(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "training", step=42, saved=(40,))
    async with opened(workspace, (140, 45)) as screen:
        text = await screen.shows("└", "Enter  export iter_40", "Iter(train) [42/100]")
        lines = text.splitlines()
        assert any(
            line.startswith(" ◐  assistant-01") and "training 42/100" not in line for line in lines
        ), "list and run stand side by side"


async def test_at_80_by_24_the_log_keeps_six_rows(workspace: Workspace) -> None:
    write_run(workspace, "assistant-01", "training", step=42)
    async with opened(workspace) as screen:
        text = await screen.shows("Iter(train) [42/100]", "follows its end")
        assert sum("Iter(train) [" in line for line in text.splitlines()) >= 6
        assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, ["GPU0", "5.0 GB/80.0 GB  util 98%  71°  412W"]),
        (4, ["GPU0", "GPU1", "GPU2", "GPU3", "util 98%"]),
        (8, ["GPU0", "GPU7", "5.0 GB/80.0 GB  98% 71°"]),
        (10, ["GPU0", "GPU7", "(+2)"]),
    ],
)
async def test_each_gpu_of_a_run_has_a_gauge_and_the_log_its_end(
    workspace: Workspace, nvml: Nvml, count: int, words: list[str]
) -> None:
    nvml.set(*[Card(used=5 * GB, util=98, temperature=71, power=412.0)] * count)
    write_run(workspace, "assistant-01", "training", step=42, gpus=range(count)[::-1])
    async with opened(workspace) as screen:
        await screen.shows("Iter(train) [42/100]", "follows its end", *words)


async def test_a_run_on_an_instance_has_the_gauge_of_that(workspace: Workspace, nvml: Nvml) -> None:
    shared = Instance(used=9 * GB, processes=[Process(os.getpid(), 9 * GB)])
    nvml.set(Card(mig=True, temperature=55, instances=[Instance(), shared]))
    write_run(workspace, "assistant-01", "training", step=42, gpus=["0:1"])
    async with opened(workspace) as screen:
        text = await screen.shows("GPU0:1 ", "9.0 GB/10.0 GB  55°  me")
        assert "util" not in text, "the driver does not tell it of an instance"


async def test_only_what_has_changed_is_drawn(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "training", step=42)
    async with opened(workspace) as screen:
        await screen.shows("Iter(train) [42/100]")
        await screen.pilot.pause(1.0)
        drawn = count_refreshes(screen)
        await screen.pilot.pause(1.6)  # two looks of the pane, one of the shell
        assert drawn == []
        add_log(run, "a line more")
        await screen.shows("a line more")
        assert set(drawn) == {"log"}


def count_refreshes(screen: Driver) -> list[str]:
    """The ids of the pane's widgets, from now on, each time one is drawn again."""
    drawn: list[str] = []
    for widget in screen.app.query("#runs, #head, #figures, #chart, #log-line, #log"):

        def refresh(*areas: Region, _widget: Widget = widget, **how: bool) -> Widget:
            drawn.append(str(_widget.id))
            return type(_widget).refresh(_widget, *areas, **how)

        widget.refresh = refresh  # type: ignore[method-assign]
    return drawn


async def test_a_training_that_nothing_watches_can_be_stopped(workspace: Workspace) -> None:
    run = write_run(workspace, "assistant-01", "training", step=42, saved=(40,))
    gone = Identity(1, 0, boot_id())  # that process began at another time
    written = msgspec.json.decode((run / state.STATE).read_bytes(), type=RunState)
    written = msgspec.structs.replace(written, supervisor=gone, trainer=Identity.of(os.getpid()))
    files.write_json(run / state.STATE, written)
    async with opened(workspace) as screen:
        await screen.shows("lost", "Enter  what happened", "S  stop it (saves first)")
        assert "R  go on from" not in screen.text()
