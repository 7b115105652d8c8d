"""What a resume says before it starts: differences of settings, files, GPUs; what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.cli.main import main
from engine.config.text.source import ConfigSource
from engine.errors import Problem
from engine.joined import resuming
from engine.run import control, inputs, rewind, state
from engine.run.folder import RunFolder
from engine.run.state import Event
from engine.settings import Settings
from engine.workspace import Workspace
from tests.support import tiny_config
from tests.support.nvml import Card, Nvml
from tests.support.run_files import write_run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"0" * 3_000_000)
    return folder


@pytest.fixture
def run(tmp_path: Path, model: Path) -> RunFolder:
    """A run of 12 steps in one epoch that was stopped after step 8; saved at 4 and 8."""
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "tuned", "stopped", step=8, steps=12, saved=(4, 8))
    (folder / "config").mkdir()
    config = tiny_config.write(tmp_path, model)
    (folder / "config/assistant.py").write_text(config.read_text())
    inputs.write(folder, folder / "config/assistant.py", tmp_path)
    return RunFolder(folder)


def changed(run: RunFolder, **values: str) -> str:
    assert run.config is not None
    source = ConfigSource.open(run.config)
    for key, value in values.items():
        source.assign(key.replace("__", "."), value)
    return source.text


def test_nothing_differs_from_itself(run: RunFolder) -> None:
    found = resuming.resume_differences(run)
    assert (found.step, found.steps, found.differences, found.notes) == (8, 12, [], [])
    assert found.checkpoint == run.path / "iter_8.pth"


@pytest.mark.parametrize(
    ("key", "value", "effect"),
    [
        ("lora__r", "4", "refused"),
        ("lora__target_modules", "['q_proj']", "refused"),
        ("pretrained_model_name_or_path", "'/models/other'", "refused"),
        ("optim_type", "OptimWrapper", "refused"),
        ("batch_size", "1", "order"),
        ("pack_to_max_length", "True", "order"),
        ("max_length", "64", "order"),
        ("alpaca_en_path", "'other.json'", "order"),
        ("prompt_template", "PROMPT_TEMPLATE.default", "order"),
        ("lr", "1e-4", "training"),
        ("max_epochs", "2", "training"),
        ("accumulative_counts", "2", "training"),
        ("lora__lora_dropout", "0.2", "training"),
        ("lora__lora_alpha", "32", "training"),
        ("randomness__seed", "7", "unread"),
        ("save_steps", "2", "harmless"),
        ("evaluation_freq", "2", "harmless"),
        ("dataloader_num_workers", "1", "harmless"),
        ("SYSTEM", "'Be short.'", "harmless"),
    ],
)
def test_each_setting_has_its_effect(run: RunFolder, key: str, value: str, effect: str) -> None:
    found = resuming.resume_differences(run, changed(run, **{key: value}))
    [one] = found.differences
    name = key.replace("lora__", "model.lora.").replace("__", ".")
    assert one.name.startswith(name) and one.effect == effect
    assert bool(found.refused) == (effect == "refused")
    if effect == "refused":
        with pytest.raises(Problem, match="cannot go on like this"):
            resuming.resume(run, Settings(), config=changed(run, **{key: value}))
        assert run.state.state == "stopped" and (run.path / "iter_8.pth").exists()


def test_the_gravest_comes_first(run: RunFolder) -> None:
    text = changed(run, save_steps="2", lr="1e-4", lora__r="4", batch_size="4")
    effects = [one.effect for one in resuming.resume_differences(run, text).differences]
    assert effects == ["refused", "order", "training", "harmless"]


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"max_epochs": "2"}, 24),
        ({"max_epochs": "0.5"}, 6),
        ({"batch_size": "4"}, 6),
        ({"batch_size": "1", "max_epochs": "2"}, 48),
        ({"lr": "1e-4"}, 12),
        ({"max_length": "64"}, None),
    ],
)
def test_the_new_end_is_told(run: RunFolder, values: dict[str, str], steps: int | None) -> None:
    assert resuming.resume_differences(run, changed(run, **values)).steps == steps


def test_past_its_own_end_nothing_starts(run: RunFolder) -> None:
    shorter = changed(run, max_epochs="0.5")
    found = resuming.resume_differences(run, shorter)
    assert "at step 8, and the run ends at step 6" in " ".join(found.notes)
    with pytest.raises(Problem, match="cannot go on like this") as caught:
        resuming.resume(run, Settings(), config=shorter)
    assert "max_epochs" in caught.value.todo


def test_an_earlier_checkpoint_sets_the_later_ones_aside(run: RunFolder) -> None:
    found = resuming.resume_differences(run, checkpoint=run.path / "iter_4.pth")
    assert found.step == 4
    assert found.notes[0].startswith("iter_8.pth was saved later: it is moved to set-aside/2")
    assert found.notes[1] == "4 steps are trained again."
    first = run.checkpoints()[0]
    rewind.set_aside(run, first, 2)
    assert [one.step for one in run.checkpoints()] == [4]
    assert (run.path / "set-aside/2/iter_8.pth").is_file()
    assert run.last_checkpoint() == first


def test_a_checkpoint_is_compared_with_the_config_that_made_it(run: RunFolder) -> None:
    """Attempt 1 saved iter_4 with lr 5e-3; attempt 2 changed it and saved iter_8."""
    events = [
        Event(1.0, "start", attempt=1),
        Event(2.0, "checkpoint", path="iter_4.pth", step=4),
        Event(3.0, "start", attempt=2),
        Event(4.0, "checkpoint", path="iter_8.pth", step=8),
    ]
    from engine import files

    for event in events:
        files.append_json(run.path / state.EVENTS, event)
    assert run.config is not None
    newer = changed(run, lr="1e-4")
    run.config.rename(run.config.with_name("assistant.1.py"))
    (run.path / "config/assistant.py").write_text(newer)
    assert resuming.resume_differences(run).differences == []
    [one] = resuming.resume_differences(run, checkpoint=run.path / "iter_4.pth").differences
    assert (one.name, one.before, one.after) == ("lr", "5e-3", "1e-4")


def test_what_it_reads_has_changed_or_gone(run: RunFolder, model: Path) -> None:
    data = model.parent / "assistant.json"
    data.write_text(data.read_text().replace("assistant", "companion"))
    os.utime(model / "model.safetensors", (1, 1))
    found = {one.name: one for one in resuming.resume_differences(run).differences}
    assert found[str(data)].effect == "order"
    assert found[str(model / "model.safetensors")].effect == "harmless"
    (model / "model.safetensors").write_bytes(b"1" * 3_000_000)
    data.unlink()
    found = {one.name: one for one in resuming.resume_differences(run).differences}
    assert found[str(model / "model.safetensors")].effect == "training"
    assert found[str(data)].effect == "refused"
    with pytest.raises(Problem, match="cannot go on like this") as caught:
        resuming.resume(run, Settings())
    assert "not there any more" in caught.value.why


def test_a_model_that_only_moved_may_be_set_anew(run: RunFolder, model: Path) -> None:
    moved = model.rename(model.with_name("elsewhere"))
    text = changed(run, pretrained_model_name_or_path=str(moved))
    [one] = resuming.resume_differences(run, text).differences
    assert (one.effect, one.text) == ("harmless", "The same files in another place.")
    (moved / "model.safetensors").write_bytes(b"1" * 3_000_000)
    [one] = resuming.resume_differences(run, text).differences
    assert one.effect == "refused"


def test_other_gpus(run: RunFolder, nvml: Nvml) -> None:
    nvml.set(Card(), Card())
    [one] = resuming.resume_differences(run, gpus=[1]).differences
    assert (one.name, one.before, one.after, one.effect) == ("gpus", "cpu", "1", "harmless")
    [one] = resuming.resume_differences(run, gpus=[0, 1]).differences
    assert one.effect == "order"
    folder = run.path / "iter_8.pth"
    folder.unlink()
    folder.mkdir()
    (run.path / "iter_4.pth").rename(folder / "mp_rank_00_model_states.pt")
    [one] = resuming.resume_differences(run, gpus=[0, 1]).differences
    assert one.effect == "refused" and "DeepSpeed" in one.text


def test_the_verb_says_it_and_starts_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    started: list[object] = []
    monkeypatch.setattr(control, "resume", lambda *_a, **options: started.append(options) or run)
    assert main(["resume", "tuned", "--set", "lr=1e-4", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"run", "checkpoint", "step", "steps", "differences", "notes"} <= told.keys()
    assert [one["name"] for one in told["differences"]] == ["lr"]
    assert main(["resume", "tuned", "--set", "lora.r=4", "--dry-run"]) == 1
    assert main(["resume", "tuned", "--set", "lr=1e-4", "lora.r=4", "--dry-run"]) == 1
    assert "✗  model.lora.r  8 → 4  cannot be changed" in capsys.readouterr().out
    assert main(["resume", "tuned", "--set", "lora.r=4"]) == 2
    assert not started
    assert main(["resume", "tuned", "--set", "lr=1e-4", "--checkpoint", "iter_4.pth"]) == 0
    assert "·  lr  5e-3 → 1e-4  the training goes on differently" in capsys.readouterr().err
    [options] = started
    assert options["checkpoint"] == run.path / "iter_4.pth"  # type: ignore[index]


def test_the_run_may_stand_behind_the_settings(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    assert main(["resume", "--dry-run", "--json", "--set", "lr=1e-4", "tuned"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["differences"]] == ["lr"]
    for nobody in (["--dry-run"], ["--set", "lr=1e-4"], ["--set", "lr=1e-4", "lora.r=4"]):
        with pytest.raises(SystemExit) as wrong:
            main(["resume", *nobody])
        assert wrong.value.code == 2 and "RUN" in capsys.readouterr().err
