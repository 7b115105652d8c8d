"""The real trainer on a real Slurm cluster, which the test starts on this machine itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.run import control, launch, planning
from engine.run.folder import RunFolder
from engine.run.slurm import view
from engine.settings import Settings, Slurm
from engine.workspace import Workspace
from tests.export.test_convert import command
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
    _exports(run, tiny_model, tmp_path)


def _exports(run: RunFolder, base: Path, out: Path) -> None:
    """Two ranks' shares become a checked model, by the verbs that a user types."""
    last = run.last_checkpoint()
    assert last is not None and last.complete
    assert last.bytes == sum(one.stat().st_size for one in last.path.iterdir())
    verbs: list[tuple[object, ...]] = [
        ("convert", last.path, out / "adapter"),
        ("merge", base, out / "adapter", out / "merged"),
        ("verify", base, out / "adapter", out / "merged", "--prompt", "Who are you?"),
    ]
    for verb in verbs:
        done = command(*verb, "--json")
        assert done.returncode == 0, (verb, done.stderr)
    assert json.loads(done.stdout)["agree"] is True
    # A share that was not copied with the others is named, and nothing is made.
    next(last.path.glob("*rank_1*_optim_states.pt")).unlink()
    assert not run.checkpoints()[-1].complete
    torn = command("convert", last.path, out / "torn")
    assert torn.returncode == 2 and "rank 1" in torn.stderr and not (out / "torn").exists()
