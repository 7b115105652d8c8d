"""Ranks that train side by side in a benchmark: an error of one is told to all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
import torch
import ranks

torch.distributed.init_process_group("gloo")
out = open(f"{sys.argv[1]}/{ranks.own()}.jsonl", "a", buffering=1)

def attempt(fails, meets):
    try:
        with ranks.all_or_none():
            if ranks.own() == fails:
                raise ValueError("no room")
            if meets:
                torch.distributed.all_reduce(torch.ones(1))
        said = "prepared"
    except (ranks.GivenUp, ranks.Stuck) as error:
        said = f"{type(error).__name__}: {error}"
    out.write(json.dumps(said) + "\\n")
    return said

attempt(None, True)
attempt(1, False)
attempt(None, True)
mine = {"peak": 6} if ranks.own() else {"error": "e"}
told = ranks.of_all({"before": 1, **mine})
out.write(json.dumps([ranks.agreed(ranks.own() == 0), told]) + "\\n")
ranks.PATIENCE = 2.0
if attempt(1, True).startswith("Stuck"):
    os._exit(ranks.ENDED)
"""


@pytest.mark.trains
def test_an_error_of_one_is_told_to_all_and_ends_those_that_wait_for_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "benchmarks")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    first, second = (
        [json.loads(line) for line in (tmp_path / f"{rank}.jsonl").read_text().splitlines()]
        for rank in (0, 1)
    )
    assert first[:3] == ["prepared", "GivenUp: rank 1: ValueError: no room", "prepared"]
    assert second[:3] == ["prepared", "GivenUp: ValueError: no room", "prepared"]
    facts = {"before": 1, "error": "e", "peaks": [-1, 5], "broken": [0]}
    assert first[3] == second[3] == [True, facts]
    # The last time the first one waits in a collective for the second.
    assert second[4:] == ["Stuck: ValueError: no room"] and not first[4:]
    assert done.returncode != 0 and "exitcode  : 3" in done.stderr
