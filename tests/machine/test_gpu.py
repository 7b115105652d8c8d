"""What the driver answers, and what is made of it: NVML's own ways, one by one."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys

import pynvml
import pytest

from engine.machine import gpu
from engine.machine.gpu import Gpus
from tests.support.nvml import GB, LOST, Card, Instance, Nvml, Process, card_uuid, instance_uuid


def seen(value: str | None = None) -> list[gpu.GpuId]:
    return [one.id for one in gpu.read(value).gpus]


def test_what_a_gpu_does_is_told_in_this_process_and_in_others(nvml: Nvml) -> None:
    nvml.set(Card(used=5 * GB, util=98, processes=[Process(os.getpid(), 4 * GB)]), Card())
    one, other = gpu.read().gpus
    assert (one.used, one.total, one.util, one.power) == (5 * GB, 80 * GB, 98, 70.0)
    assert (one.name, one.capability, one.uuid) == (Card().name, (9, 0), card_uuid(Card(), 0))
    [process] = one.processes or []
    assert (process.user, process.memory) == (getpass.getuser(), 4 * GB)
    assert (other.index, other.used, other.free, other.processes) == (1, 0, 80 * GB, [])
    told = [sys.executable, "-m", "tui", "gpus", "--json"]
    known = json.loads(subprocess.run(told, capture_output=True, check=True).stdout)
    assert [card["used"] for card in known["gpus"]] == [5 * GB, 0]


# A driver that does not work


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("LIBRARY_NOT_FOUND", "No NVIDIA driver on this machine."),
        ("DRIVER_NOT_LOADED", "The NVIDIA driver is installed but not loaded."),
        ("LIB_RM_VERSION_MISMATCH", "The NVIDIA driver was updated"),
        ("NO_PERMISSION", "No permission to ask the NVIDIA driver."),
        ("UNKNOWN", "The NVIDIA driver does not answer: Unknown Error"),
        ("9999", "The NVIDIA driver does not answer: an error of a later driver"),
    ],
)
def test_a_driver_that_does_not_start_is_said_in_words(nvml: Nvml, error: str, words: str) -> None:
    nvml.set(Card(), nvmlInitWithFlags=error)
    found = gpu.read()
    assert not found.available and found.reason.startswith(words)
    assert gpu.health([0]) == []


def test_without_the_library_there_is_no_gpu(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert gpu.read().reason == "No NVIDIA driver on this machine."


def test_a_machine_whose_driver_sees_nothing(nvml: Nvml) -> None:
    assert gpu.read().reason == "The NVIDIA driver sees no GPU."


def test_a_driver_that_goes_is_there_again_when_it_comes_back(nvml: Nvml) -> None:
    nvml.set(Card(used=GB))
    assert gpu.read().available
    nvml.set(Card(), nvmlDeviceGetCount_v2="DRIVER_NOT_LOADED", nvmlShutdown="UNKNOWN")
    assert gpu.read().reason == "The NVIDIA driver does not answer: Driver Not Loaded"
    nvml.set(Card(), nvmlInitWithFlags="DRIVER_NOT_LOADED")
    assert gpu.read().reason == "The NVIDIA driver is installed but not loaded."
    nvml.set(Card(used=2 * GB))
    assert [one.used for one in gpu.read().gpus] == [2 * GB]


def test_a_library_that_must_be_started_anew_is(nvml: Nvml) -> None:
    """It was loaded again under us: every call says so until it is initialised."""
    nvml.set(Card())
    assert gpu.read().available
    pynvml.nvmlShutdown()
    assert gpu.read().reason == "The NVIDIA driver does not answer: Uninitialized"
    assert gpu.read().available


# A card that does not work, or does not offer everything


def test_a_lost_gpu_does_not_take_the_others_along(nvml: Nvml) -> None:
    nvml.set(Card(), Card(errors=LOST), Card())
    found = gpu.read()
    assert [one.id for one in found.gpus] == [0, 2]
    assert found.notes == ["GPU 1 does not answer: GPU is lost"]
    assert [one.lost for one in gpu.health([0, 1])] == [False, True]
    nvml.set(Card(), Card(errors={"nvmlDeviceGetHandleByIndex_v2": "UNKNOWN"}), Card())
    found = gpu.read("1,2")
    assert [one.id for one in found.gpus] == [2], "it is there, and does not answer"
    assert found.notes == ["GPU 1 does not answer: Unknown Error"]
    nvml.set(Card(errors=LOST))
    assert gpu.read().reason == "GPU 0 does not answer: GPU is lost"
    nvml.set()
    assert [one.lost for one in gpu.health([0])] == [True], "it fell off the bus"


def test_what_a_card_does_not_offer_is_left_out(nvml: Nvml) -> None:
    bare = Card(util=None, temperature=None, power=None, processes=None, capability=None, ecc=None)
    nvml.set(bare)
    [one] = gpu.read().gpus
    assert (one.util, one.temperature, one.power) == (None, None, None)
    assert (one.processes, one.capability) == (None, None)
    [well] = gpu.health([0])
    assert well == gpu.Health(0)
    nameless = {"nvmlDeviceGetName": "UNKNOWN", "nvmlDeviceGetUUID": "NO_PERMISSION"}
    nvml.set(Card(errors=nameless))
    assert [(one.name, one.uuid) for one in gpu.read().gpus] == [("GPU", "")]


def test_heat_and_memory_errors_are_told(nvml: Nvml) -> None:
    hot = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    brake = pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    cap = pynvml.nvmlClocksThrottleReasonSwPowerCap
    nvml.set(Card(throttled=hot, temperature=91, ecc=3), Card(throttled=brake | cap))
    first, second = gpu.health([0, 1])
    assert (first.too_hot, first.power_brake, first.temperature) == (True, False, 91)
    assert first.uncorrected == 3
    assert (second.too_hot, second.power_brake) == (False, True)


def test_an_old_driver_knows_older_versions_of_functions(nvml: Nvml) -> None:
    old = dict.fromkeys(
        ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3"),
        "FUNCTION_NOT_FOUND",
    )
    nvml.set(Card(used=GB, reserved=500_000_000, processes=[Process(1)]), **old)
    [one] = gpu.read().gpus
    assert one.used == GB + 500_000_000, "it counts what it keeps for itself"
    assert one.processes is not None and one.processes[0].pid == 1
    nvml.set(Card(), nvmlDeviceGetComputeRunningProcesses_v2="FUNCTION_NOT_FOUND", **old)
    assert gpu.read().gpus[0].processes is None


def test_processes_that_are_not_told_of_whole(nvml: Nvml) -> None:
    nobody = 2**22 + 1  # beyond the largest number that a process may have
    nvml.set(Card(processes=[Process(nobody, None), Process(os.getpid(), None)]))
    away, mine = gpu.read().gpus[0].processes or []
    assert (away.user, away.name, away.memory) == ("", "", None), "in another container"
    assert (mine.user, mine.memory) == (getpass.getuser(), None)


def test_names_may_come_as_bytes(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from pynvml before 11.510."""
    nvml.set(Card())
    for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlSystemGetDriverVersion"):
        new = getattr(pynvml, name)
        monkeypatch.setattr(pynvml, name, lambda *asked, new=new: new(*asked).encode())
    found = gpu.read()
    assert (found.gpus[0].name, found.driver) == (Card().name, "570.86.15")
    assert found.gpus[0].uuid.startswith("GPU-")


# CUDA_VISIBLE_DEVICES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        (" 1 , 2", [1, 2]),
        ("0,2,-1,1", [0, 2]),
        ("0,3,1", [0]),
        ("1,x,2", [1]),
        ("1,²", [1]),
        ("1,1", []),
        ("GPU-aaaa-2,GPU-bbbb-1", [1, 2]),
        ("GPU-b", [2]),
        ("GPU-b,GPU-bbbb", []),
        ("GPU-aaaa", []),
        ("0,GPU-cccc,1", [0]),
        ("MIG-aaaa", []),
    ],
)
def test_what_cuda_would_show_is_what_is_seen(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: list[int]
) -> None:
    nvml.set(Card(uuid="GPU-aaaa-1"), Card(uuid="GPU-aaaa-2"), Card(uuid="GPU-bbbb-1"))
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    found = gpu.read()
    assert [one.id for one in found.gpus] == expected
    if len(expected) < 3:
        does = "shows no other GPU" if expected else "hides every GPU"
        told = found.notes if expected else [found.reason]
        assert f"CUDA_VISIBLE_DEVICES={value!r} {does}." in told[-1]
    assert bool(found.reason) == (not expected)
    assert seen("all") == [0, 1, 2] and seen("1,0") == [1, 0]


def test_a_gpu_named_twice_is_said(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.set(Card(), Card())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,1")
    assert "GPU 1 is named twice: CUDA shows none then." in gpu.read().reason


def test_the_order_and_the_counting_are_those_of_the_driver() -> None:
    cards = [gpu.Gpu(index, "X", 0, GB, None, None, None, None) for index in (2, 0)]
    assert gpu.shown(cards) == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "2,0",
    }
    assert gpu.shown([]) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "it hides nothing"


# MIG


SMALL = Instance(used=2 * GB, processes=[Process(os.getpid(), GB)])
LARGE = Instance("3g.40gb", 40 * GB)
DIVIDED = Card(mig=True, temperature=55, instances=[SMALL, LARGE], used=2 * GB)


def test_an_instance_is_a_gpu_with_memory_and_processes_of_its_own(nvml: Nvml) -> None:
    nvml.set(Card(mig=False), DIVIDED)
    whole, small, large = gpu.read().gpus
    assert [one.id for one in (whole, small, large)] == [0, "1:0", "1:1"]
    assert (small.index, small.instance, small.uuid) == (1, 0, instance_uuid(SMALL, 1, 0))
    assert (small.used, small.total, large.free) == (2 * GB, 10 * GB, 40 * GB)
    assert "1g.10gb" in small.name and small.capability == (9, 0)
    assert (small.util, small.power, small.temperature) == (None, None, 55)
    assert [len(one.processes or []) for one in (small, large)] == [1, 0]
    [well] = gpu.health(["1:1"])
    assert (well.id, well.temperature, well.lost) == ("1:1", 55, False)


def test_numbers_of_instances_are_the_drivers_own(nvml: Nvml) -> None:
    nvml.set(Card(mig=True, hole=True, instances=[SMALL, LARGE]))
    assert seen() == ["0:1", "0:2"]
    assert seen("0:2") == ["0:2"] and seen("0:0") == []


def test_an_instance_that_is_not_ours_is_not_seen(nvml: Nvml) -> None:
    """In a container, or without the right to its device file."""
    refused = {"nvmlDeviceGetMigDeviceHandleByIndex": "NO_PERMISSION"}
    nvml.set(Card(mig=True, instances=[SMALL], errors=refused))
    none = "GPU 0 is divided (MIG), and there is no instance to use."
    assert gpu.read() == Gpus([], none, "570.86.15")
    nvml.set(Card(mig=True), Card())
    found = gpu.read()
    assert [one.id for one in found.gpus] == [1] and len(found.notes) == 1


FIRST, SECOND = instance_uuid(SMALL, 1, 0), instance_uuid(LARGE, 1, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (FIRST, ["1:0"]),
        (f"{SECOND},{FIRST}", ["1:1", "1:0"]),
        (SECOND[:12], ["1:1"]),
        ("MIG-0001", []),
        (f"MIG-{card_uuid(DIVIDED, 1)}/8/0", ["1:1"]),
        (f"MIG-{card_uuid(DIVIDED, 1)}/3/0", []),
        ("1", ["1:0"]),
        (card_uuid(DIVIDED, 1), ["1:0"]),
        ("0,1:1", [0, "1:1"]),
    ],
    ids=range(9),  # the cards' names differ from process to process
)
def test_instances_are_named_as_cuda_names_them(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, value: str, expected: list[gpu.GpuId]
) -> None:
    nvml.set(Card(), DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert seen() == expected


def test_one_process_sees_whole_cards_or_one_instance(nvml: Nvml) -> None:
    nvml.set(DIVIDED, Card(), Card())
    assert [one.id for one in gpu.for_one_process(gpu.read().gpus)] == [1, 2]
    nvml.set(DIVIDED)
    [one] = gpu.for_one_process(gpu.read().gpus)
    assert gpu.shown([one])["CUDA_VISIBLE_DEVICES"] == instance_uuid(SMALL, 0, 0)
    [other] = gpu.for_one_process(gpu.read().gpus, busy={"0:0"})
    assert other.id == "0:1"
    [shared] = gpu.for_one_process(gpu.read().gpus, busy={"0:0", "0:1"})
    assert shared.id == "0:0"
