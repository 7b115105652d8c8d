"""Progress, log and checkpoints, read from real files of XTuner."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import zipfile
from pathlib import Path

import pytest

from engine.run import checkpoints, history_cache, points, progress
from engine.run.folder import RunFolder
from engine.run.listing import is_run, list_runs
from engine.run.log import LogFollower
from engine.workspace import Workspace

RUNS = Path(__file__).parent.parent / "fixtures" / "runs"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A work dir of plain XTuner: 72 steps on a GPU, grad_norm NaN from the second on."""
    return Path(shutil.copytree(RUNS / "lora", tmp_path / "work_dirs" / "lora"))


def scalars(folder: Path, start: str) -> Path:
    path = folder / start / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def line(step: int, **values: float) -> str:
    return json.dumps({"lr": 1e-4, "loss": 10.0 - step / 10, "time": 0.5, **values, "step": step})


def test_a_plain_work_dir_opens(plain: Path) -> None:
    run = RunFolder(plain)
    summary = run.summary()
    assert (summary.run, summary.state, summary.step, summary.steps) == ("lora", "finished", 72, 72)
    assert summary.loss == pytest.approx(1.2805, abs=1e-3)
    assert summary.exit is None
    assert [one.name for one in list_runs(Workspace(plain.parent.parent))] == ["lora"]
    at = run.progress()
    assert at.memory == 6838 * 1024**2
    assert at.grad_norm is None, "NaN is no number to show"
    assert math.isnan(at.history["grad_norm"][1]) and at.history["grad_norm"][0] > 1
    assert len(at.history) == 72 and list(at.history.step) == list(range(1, 73))


def test_a_plain_work_dir_without_grad_norm(tmp_path: Path) -> None:
    at = progress.read(RUNS / "lora-zero2")
    assert at.step == at.steps == 72 and at.grad_norm is None and at.eta == 0


def test_a_plain_run_that_ended_early_is_lost(plain: Path) -> None:
    import os

    file = next(plain.glob("*/vis_data/scalars.json"))
    file.write_text("\n".join(file.read_text().splitlines()[:40]) + "\n")
    for log in plain.glob("*/*.log"):
        os.utime(log, (1e9, 1e9))
    assert RunFolder(plain).summary().state == "lost"


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    follower = progress.Follower(tmp_path)
    file = scalars(tmp_path, "20260101_000000")
    whole = line(1) + "\n" + line(2) + "\n"
    file.write_text(whole[:-20])
    assert follower.update().step == 1
    file.write_text(whole)
    assert follower.update().step == 2
    assert follower.update().step == 2
    assert len(follower.history) == 2


def test_a_broken_line_is_passed_over(tmp_path: Path) -> None:
    file = scalars(tmp_path, "20260101_000000")
    file.write_text(f'{line(1)}\n{{"step": "x"\n[1]\n\x00\x00\n{line(2)}\n')
    assert list(progress.read(tmp_path).history.step) == [1, 2]


def test_after_a_resume_the_new_steps_count(tmp_path: Path) -> None:
    scalars(tmp_path, "20260101_000000").write_text("".join(line(n) + "\n" for n in range(1, 8)))
    follower = progress.Follower(tmp_path)
    assert follower.update().step == 7
    again = scalars(tmp_path, "20260101_000500")
    again.write_text(line(5, loss=1.5) + "\n")
    at = follower.update()
    assert list(at.history.step) == [1, 2, 3, 4, 5] and at.loss == 1.5
    assert progress.read(tmp_path).history.step == at.history.step


def test_a_pause_does_not_move_the_eta(tmp_path: Path) -> None:
    lines = [line(n, time=60.0 if n == 8 else 0.5) for n in range(1, 11)]
    scalars(tmp_path, "20260101_000000").write_text("\n".join(lines) + "\n")
    (tmp_path / "trainer.json").write_text('{"first": 0, "steps": 110, "started": 0}')
    at = progress.read(tmp_path)
    assert at.steps == 110 and at.eta == pytest.approx(50)


@pytest.mark.parametrize("name", ["lora", "lora-zero2"])
def test_the_eta_of_real_runs(name: str) -> None:
    """Told at any step from the twelfth on, it is right within 5 % as a rule."""
    whole = progress.read(RUNS / name).history
    errors = []
    for at in range(12, len(whole) - 5):
        seen = points.History()
        seen.step = whole.step[:at]
        seen.values = {field: whole[field][:at] for field in points.FIELDS}
        pace = progress._pace(seen)
        assert pace is not None
        errors.append(abs((len(whole) - at) * pace / sum(whole["time"][at:]) - 1))
    assert statistics.median(errors) < 0.05


def test_tokens_per_second(tmp_path: Path) -> None:
    lines = [line(n * 10, tokens=n * 20480) for n in range(1, 6)]
    scalars(tmp_path, "20260101_000000").write_text("\n".join(lines) + "\n")
    assert progress.read(tmp_path).tokens_per_s == pytest.approx(4096)


def test_an_empty_folder_has_no_progress(tmp_path: Path) -> None:
    at = progress.read(tmp_path)
    assert (at.step, at.steps, at.loss, at.eta) == (0, None, None, None)
    assert not is_run(tmp_path) and not is_run(tmp_path / "nowhere")


def test_the_log_comes_in_whole_clean_lines(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    follower = LogFollower(path)
    assert follower.lines() == []
    path.write_bytes(
        b"one\nMap:  0%\rMap: 50%\rMap: 100%\n\x1b[31mred\x1b[0m \x1b]0;title\x07\nhal"
    )
    assert follower.lines() == ["one", "Map: 100%", "red "]
    assert follower.rest() == "hal"
    with path.open("ab") as file:
        file.write("f 你".encode()[:-1])
    assert follower.lines() == []
    with path.open("ab") as file:
        file.write("你".encode()[-1:] + b"\n")
    assert follower.lines() == ["half 你"]


def test_the_logs_end_only(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    path.write_text("".join(f"line {n}\n" for n in range(1000)))
    lines = LogFollower(path, tail=100).lines()
    assert lines[-1] == "line 999" and lines[0].startswith("line 9") and len(lines) < 13


def test_half_written_checkpoints_are_told_apart(tmp_path: Path) -> None:
    whole, torn = tmp_path / "iter_4.pth", tmp_path / "iter_8.pth"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", b"0" * 5000)
    torn.write_bytes(whole.read_bytes()[:3000])
    for name in ("iter_10.pth", "iter_12.pth"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(whole, folder / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    shutil.copy(whole, tmp_path / "iter_12.pth" / "mp_rank_00_model_states.pt")
    found = [(one.step, one.kind, one.complete) for one in checkpoints.find(tmp_path)]
    assert found == [
        (4, "file", True),
        (8, "file", False),
        (10, "deepspeed", False),
        (12, "deepspeed", True),
    ]


def test_a_long_history_is_kept_and_believed_only_while_it_is_true(tmp_path: Path) -> None:
    file = scalars(tmp_path, "20260101_000000")
    text = "".join(line(n, grad_norm=math.nan if n == 7 else 1.0) + "\n" for n in range(1, 6001))
    file.write_text(text)
    progress.read(tmp_path)
    assert not (tmp_path / "metrics").exists(), "a work dir of plain XTuner is only looked at"
    (tmp_path / "run.json").touch()
    first = progress.read(tmp_path)
    kept = tmp_path / history_cache.NAME
    assert kept.stat().st_mode & 0o777 == 0o600
    with file.open("a") as more:
        more.write(line(6001) + "\n")
    again = progress.read(tmp_path)
    assert list(again.history.step) == [*first.history.step, 6001]
    assert again.history["loss"][:6000] == first.history["loss"]
    assert math.isnan(again.history["grad_norm"][6]) and again.history.named >= {"loss", "lr"}
    # Another run's points in the same place, and a cache that is cut short.
    file.write_text(text.replace('"lr": 0.0001', '"lr": 0.0002'))
    assert progress.read(tmp_path).lr == 2e-4
    kept.write_bytes(kept.read_bytes()[:5000])
    assert len(progress.read(tmp_path).history) == 6000


def test_a_long_file_is_parsed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(step, grad_norm=step / 7) for step in range(1, 60)]
    lines[20] = line(21, grad_norm=math.nan)
    lines[33] = lines[33][:30]  # torn, with another one behind it
    lines[40:40] = ["", "no JSON"]
    lines += [line(step, memory=5.0) for step in range(50, 70)]  # a resume went back
    scalars(tmp_path, "20260101_000000").write_text("\n".join(lines) + "\n")
    whole = progress.read(tmp_path).history
    monkeypatch.setattr(progress, "_PIECE", 200)
    pieces = progress.read(tmp_path).history
    assert list(pieces.step) == list(whole.step) == [*range(1, 34), *range(35, 70)]
    assert pieces.named == whole.named >= {"grad_norm", "memory"}
    for name in points.FIELDS:
        assert repr(pieces[name]) == repr(whole[name])  # where NaN equals NaN
    assert math.isnan(pieces["grad_norm"][20]) and pieces["grad_norm"][19] == 20 / 7
    assert math.isnan(pieces["memory"][47]) and pieces["memory"][48] == 5.0
