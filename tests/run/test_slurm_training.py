"""The real trainer on a real Slurm cluster, which the test starts on this machine itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.run import control, launch, planning
from engine.run.slurm import view
from engine.settings import Settings, Slurm
from engine.workspace import Workspace
from tests.support import tiny_config
from tests.support.slurm_cluster import Cluster
from tests.support.starter import until

pytestmark = pytest.mark.trains


def test_the_real_trainer_on_two_nodes_stops_with_a_checkpoint_and_goes_on(
    cluster: Cluster, tmp_path: Path, tiny_model: Path
) -> None:
    config = tiny_config.write(tmp_path, tiny_model, epochs=2)
    questions = 'evaluation_inputs = ["你是谁", "Who are you?"]'
    text = config.read_text()
    assert questions in text
    config.write_text(text.replace(questions, "evaluation_inputs = []"))  # each takes seconds
    # Under DeepSpeed: mmengine's own wrapper for several processes wants GPUs.
    plan = planning.plan(
        config,
        workspace=Workspace(tmp_path),
        settings=Settings(),
        deepspeed="2",
        launcher="slurm",
        nodes=2,
        slurm=Slurm(gpus=0, cpus=2, warning=0),
    )
    run = launch.start(plan, Settings())
    until(lambda: run.progress().step >= 1 or not run.state.living, 200)
    control.stop(run)
    end = control.wait(run, 60)
    assert (end.state, end.exit) == ("stopped", 0), run.log.read_text()[-3000:]
    saved = run.last_checkpoint()
    assert saved is not None and f"step {saved.step}" in run.summary().reason
    job = view.find(run.path, now=True)
    assert job is not None and job.nodes == "node[1-2]"

    control.resume(run, Settings())
    assert (run.state.attempt, run.record and run.record.launcher) == (2, "slurm")
    end = control.wait(run, 300)
    assert end.state == "finished", run.log.read_text()[-3000:]
    assert list(run.progress().history.step) == list(range(1, 13)), "each node had half the rows"
    record = json.loads((run.path / "run.json").read_text())
    assert (record["nodes"], record["processes"]) == (2, 2)
