"""What the driver answers, and what is made of it: NVML's own ways, one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from engine.machine import gpu
from tests.support.nvml import GB, Card, Nvml, Process


def test_what_a_gpu_does_is_told_in_this_process_and_in_others(nvml: Nvml) -> None:
    nvml.set(Card(used=5 * GB, util=98, processes=[Process(os.getpid(), 4 * GB)]), Card())
    one, other = gpu.read().gpus
    assert (one.used, one.total, one.util, one.power) == (5 * GB, 80 * GB, 98, 70.0)
    assert one.processes is not None and one.processes[0].memory == 4 * GB
    assert (other.index, other.used, other.processes) == (1, 0, [])
    told = [sys.executable, "-m", "tui", "gpus", "--json"]
    seen = json.loads(subprocess.run(told, capture_output=True, check=True).stdout)
    assert [card["used"] for card in seen["gpus"]] == [5 * GB, 0]
