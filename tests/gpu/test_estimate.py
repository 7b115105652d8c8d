"""The memory estimate against real training steps on this GPU (about 90 s)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from engine.machine import gpu

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(400),
]


def test_the_estimate_is_near_the_peak_of_real_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "measured.jsonl"
    script = [sys.executable, BENCHMARKS / "estimate.py", "--seconds", "300", "--only", "1.2B"]
    subprocess.run([*map(str, script), "--json", str(out)], check=True)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import estimate_table

    errors = []
    for result in estimate_table.results(out):
        told, real = estimate_table.estimated(result), estimate_table.measured(result)
        print(result["plan"], result["batch"], result["length"], told.allocated_bytes, real)
        errors.append(abs(told.allocated_bytes / real - 1))
        if result["expected"]:  # a real run of XTuner logged this
            assert real == pytest.approx(result["expected"], rel=0.02)
    assert not [line for line in out.read_text().splitlines() if "error" in json.loads(line)]
    assert len(errors) >= 10
    assert statistics.median(errors) <= 0.03
    assert max(errors) <= 0.08
