"""The GPUs on the command line: how they are named, what is told of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from engine import settings
from engine.cli import main
from engine.cli.gpu_option import gpu_ids
from engine.machine import doctor
from engine.settings import Settings
from tests.support.nvml import GB, Card, Instance, Nvml, Process, instance_uuid

NOBODY = Process(2**22 + 1, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [0]), ("3,0", [3, 0]), ("0:1", ["0:1"]), (" 1 , 2", [1, 2]), ("cpu", []), ("none", [])],
)
def test_gpus_as_they_are_named(text: str, expected: list[int | str]) -> None:
    assert gpu_ids(text) == expected


@pytest.mark.parametrize("text", ["one", "0,", "-1", "0:", ":1", "1.5", "GPU-1"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="0:1 is a MIG instance"):
        gpu_ids(text)


def told(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main.main(["gpus", *options]) == 0
    return capsys.readouterr().out


def test_each_gpu_is_told_with_what_it_offers(
    nvml: Nvml, capsys: pytest.CaptureFixture[str]
) -> None:
    nvml.set(
        Card("H100", used=5 * GB, util=98, temperature=71, power=412.4, processes=[NOBODY]),
        Card("GRID A100D-20C", 20 * GB, util=None, temperature=None, power=None, processes=None),
        Card("H100", mig=True, temperature=55, instances=[Instance(used=GB)]),
        Card(errors={"nvmlDeviceGetHandleByIndex_v2": "GPU_IS_LOST"}),
    )
    assert told(capsys).splitlines() == [
        "0  H100  5.0 GB / 80.0 GB  98 %  71 °C  412 W",
        f"   {NOBODY.pid}  ?  ?  ?",
        "1  GRID A100D-20C  0 B / 20.0 GB",
        "   processes cannot be listed here",
        "2:0  H100 MIG 1g.10gb  1.0 GB / 10.0 GB  55 °C",
        "GPU 3 does not answer: GPU is lost",
    ]


def test_the_json_says_which_instance_it_is(nvml: Nvml, capsys: pytest.CaptureFixture[str]) -> None:
    nvml.set(Card(), Card(mig=True, instances=[Instance()]))
    whole, part = json.loads(told(capsys, "--json"))["gpus"]
    assert (whole["index"], whole["instance"]) == (0, None)
    uuid = instance_uuid(Instance(), 1, 0)
    assert (part["index"], part["instance"], part["uuid"]) == (1, 0, uuid)


def test_what_the_environment_hides_is_said(
    nvml: Nvml, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.set(Card("A"), Card("B"), Card("C"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    *shown, last = told(capsys).splitlines()
    assert [line[:4] for line in shown] == ["2  C", "0  A"]
    assert last == "CUDA_VISIBLE_DEVICES='2,0' shows no other GPU."


def test_without_a_driver_that_is_all(nvml: Nvml, capsys: pytest.CaptureFixture[str]) -> None:
    nvml.absent()
    assert told(capsys) == "No NVIDIA driver on this machine.\n"


def test_doctor_tells_of_each_and_of_those_that_cannot_be_used(nvml: Nvml, tmp_path: Path) -> None:
    nvml.set(Card("H100"), Card("H100", mig=True), Card("H100", mig=True, instances=[Instance()]))
    found = [(one.ok, one.detail) for one in doctor.run(Settings(), tmp_path) if one.name == "GPU"]
    assert found == [
        (True, "0: H100 80.0 GB, 2:0: H100 MIG 1g.10gb 10.0 GB (driver 570.86.15)"),
        (None, "GPU 1 is divided (MIG), and there is no instance to use."),
    ]


def test_what_was_built_is_told_and_used_where_no_other_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The downloads of gigabytes are left out."""
    monkeypatch.setattr(doctor, "install", lambda target, told: target / "bin" / "python")
    for name, used in (("one", True), ("two", False)):
        assert main.main(["doctor", "--install", str(tmp_path / name), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"interpreter": str(tmp_path / name / "bin" / "python"), "used": used}
    assert settings.load().interpreter == str(tmp_path / "one" / "bin" / "python")


def test_a_file_of_the_workspace_is_not_taken_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("json", "email", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the workspace')")
    _python, found = doctor.packages(Settings())
    assert found["xtuner"] is not None


def test_doctor_does_one_thing_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(["doctor", "--forget-rows", "--try-hook"])
    assert left.value.code == 2 and "--try-hook" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", "file", "."])
def test_an_environment_is_built_in_no_folder_that_holds_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    """As when a variable of the shell was empty: the workspace would become one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main.main(["doctor", "--install", given]) == 2
    assert "is in use already" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
