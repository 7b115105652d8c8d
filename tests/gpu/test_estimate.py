"""The memory estimate against real training steps on this GPU (about 90 s a test)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.machine import gpu

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(400),
]


def measured(out: Path, *arguments: str) -> list[tuple[str, float, dict[str, Any]]]:
    """Each point of ``benchmarks/estimate.py``: its name, the estimate's error, the result."""
    script = [sys.executable, BENCHMARKS / "estimate.py", *arguments, "--json", out]
    subprocess.run([*map(str, script)], check=True)
    assert not [line for line in out.read_text().splitlines() if "error" in json.loads(line)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import estimate_table
    points = []
    for result in estimate_table.results(out):
        told, real = estimate_table.estimated(result), estimate_table.measured(result)
        name = f"{result['plan']}{estimate_table.ranks(result)}, {result['batch']} rows"
        points.append((name, told.allocated_bytes / real - 1, result))
        print(*points[-1][:2], told.allocated_bytes, real)
    return points


def test_the_estimate_is_near_the_peak_of_real_steps(tmp_path: Path) -> None:
    points = measured(tmp_path / "measured.jsonl", "--seconds", "300", "--only", "1.2B")
    for _name, _error, result in points:
        if result["expected"]:  # a real run of XTuner logged this
            assert result["peak"] == pytest.approx(result["expected"], rel=0.02)
    errors = [abs(error) for _name, error, _result in points]
    assert len(errors) >= 10
    assert statistics.median(errors) <= 0.03
    assert max(errors) <= 0.08


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_several_gpus_share_is_near_too(tmp_path: Path, ranks: int) -> None:
    """Two ranks, on one card where there is no second (about 90 s each)."""
    plans = ("--plans", "shared", "--seconds", "300", "--ranks", str(ranks))
    errors = {name: abs(error) for name, error, _result in measured(tmp_path / "shared", *plans)}
    assert len(errors) >= 15
    assert statistics.median(errors.values()) <= 0.03
    assert max(errors.values()) <= 0.08, errors
