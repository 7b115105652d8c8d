"""Compiled layers train as the others do: the real XTuner, on packed samples, in float32."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.trains,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++"),
]

ROOT = Path(__file__).parent.parent.parent
Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Told:
    """What each case of `tests/support/compiled_training.py` came to."""
    folder = tmp_path_factory.mktemp("compiled")
    said = subprocess.run(
        [sys.executable, ROOT / "tests/support/compiled_training.py", folder, tiny_model],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            # Nothing from elsewhere: what a compiler would make has to be made.
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache"),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-3000:]
    return {one["case"]: one for one in map(json.loads, said.stdout.splitlines())}


def test_losses_and_checkpoints_are_the_same(trained: Told) -> None:
    plain, compiled = trained["plain"], trained["compiled"]
    assert len(plain["losses"]) > 4
    assert compiled["losses"] == pytest.approx(plain["losses"], rel=1e-4)
    assert compiled["keys"] == plain["keys"]
    assert compiled["weights"] == pytest.approx(plain["weights"], rel=1e-6)
    assert (plain["compiled"], plain["said"]) == (0, [])
    [line] = compiled["said"]
    assert "2 layers" in line
    # Twice: as checkpointing runs a layer first, and again for its gradients. The layers share
    # that, and what the chats asked was not compiled.
    assert compiled["compiled"] == 2


def test_a_run_goes_on_without_what_it_began_with(trained: Told) -> None:
    resumed = trained["resumed"]
    assert resumed["compiled"] == 0
    count = len(resumed["losses"])
    assert 0 < count < len(trained["plain"]["losses"])
    assert resumed["losses"] == pytest.approx(trained["plain"]["losses"][-count:], rel=1e-4)


def test_where_there_is_nothing_to_compile_with_training_goes_on(trained: Told) -> None:
    broken = trained["broken"]
    assert broken["losses"] == pytest.approx(trained["plain"]["losses"], rel=1e-4)
    begun, why = broken["said"]
    assert "2 layers" in begun
    assert "goes on without" in why and "no-such-compiler" in why


def test_samples_that_are_not_packed_are_left_alone(trained: Told) -> None:
    unpacked = trained["unpacked"]
    assert unpacked["compiled"] == 0
    [line] = unpacked["said"]
    assert "not packed" in line


def test_a_short_training_is_left_alone(trained: Told) -> None:
    short = trained["short"]
    assert short["compiled"] == 0
    [line] = short["said"]
    assert "longer than it saves" in line
