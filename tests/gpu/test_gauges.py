"""The gauges beside nvidia-smi at the same moment, and the GPUs as CUDA shows them. Seconds.

python -m pytest tests/gpu/test_gauges.py -m gpu -s
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time

import pytest

from engine.machine import gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read("all").available, reason="no GPU on this machine"),
]

MIB = 1 << 20
NEAR = 64 * MIB
"""Bytes by which two looks, one after the other, may differ."""

_HOLDS = """
import json, torch
cards = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
held = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda:0")
torch.cuda.synchronize()
print(json.dumps([f"{card.uuid}" for card in cards]), flush=True)
input()
"""


def nvidia_smi(*arguments: str) -> str:
    return subprocess.run(
        ["nvidia-smi", *arguments], capture_output=True, text=True, check=True
    ).stdout


def asked(what: str, *fields: str) -> list[dict[str, str]]:
    """A row for each GPU or process."""
    told = nvidia_smi(f"--query-{what}={','.join(fields)}", "--format=csv,noheader,nounits")
    return list(csv.DictReader(told.splitlines(), fields, skipinitialspace=True))


def test_gauges_agree_with_nvidia_smi() -> None:
    fields = ("uuid", "memory.used", "memory.total", "temperature.gpu", "power.draw")
    told = {row["uuid"]: row for row in asked("gpu", *fields, "utilization.gpu")}
    whole = [one for one in gpu.read("all").gpus if one.instance is None]
    for one in whole:
        row = told[one.uuid]
        print("nvidia-smi:", row, "| ours:", one)
        assert abs(one.used - float(row["memory.used"]) * MIB) < NEAR
        assert abs(one.total - float(row["memory.total"]) * MIB) < MIB
        assert (one.temperature is not None) == row["temperature.gpu"].isdigit()
        if one.temperature is not None:
            assert abs(one.temperature - float(row["temperature.gpu"])) <= 2
        if one.power is not None:
            assert abs(one.power - float(row["power.draw"])) < 60


def test_a_divided_card_is_its_instances() -> None:
    modes = [row["mig.mode.current"] for row in asked("gpu", "mig.mode.current")]
    listed = nvidia_smi("-L")
    print(f"MIG: {modes}\n{listed}")
    cards = re.findall(r"UUID: (GPU-[^)]+)", listed)
    instances = re.findall(r"UUID: (MIG-[^)]+)", listed)
    found = gpu.read("all")
    divided = {index for index, mode in enumerate(modes) if mode == "Enabled"}
    expected = {uuid for index, uuid in enumerate(cards) if index not in divided}
    assert {one.uuid for one in found.gpus} == expected | set(instances)
    assert all((one.instance is not None) == (one.index in divided) for one in found.gpus)
    for one in found.gpus:
        assert [again.id for again in gpu.read(one.uuid).gpus] == [one.id]
        assert [again.uuid for again in gpu.read(str(one.id)).gpus] == [one.uuid]


def test_cuda_shows_the_gpus_that_are_named_in_their_order() -> None:
    """And who holds memory there is told as nvidia-smi tells it."""
    cards = gpu.for_one_process(gpu.read("all").gpus)[::-1]
    before = gpu.read(str(cards[0].id)).gpus[0].used
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDS],
        env=os.environ | gpu.shown(cards),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        seen = json.loads(holder.stdout.readline())
        print("CUDA:", seen)
        if cards[0].instance is None:  # of an instance CUDA tells the card's
            assert [f"GPU-{uuid.removeprefix('GPU-')}" for uuid in seen] == [
                one.uuid for one in cards
            ]
        time.sleep(1)  # the driver counts a moment later
        one = gpu.read(str(cards[0].id)).gpus[0]
        assert one.used - before > 500 * MIB
        apps = asked("compute-apps", "gpu_uuid", "pid", "used_memory")
        told = {int(row["pid"]) for row in apps if row["gpu_uuid"] == one.uuid}
        print("processes:", one.processes, "| nvidia-smi:", apps)
        if one.instance is None and one.processes is not None:
            assert {process.pid for process in one.processes} == told
    finally:
        holder.communicate("\n", timeout=60)
