"""What a start would do, without starting it."""

from __future__ import annotations

import ipaddress
import itertools
import platform
import shlex
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.run import launch, nodes, planning, state
from engine.run.folder import RunFolder
from engine.settings import Nodes, Settings
from engine.workspace import Workspace
from tests.support.nvml import GB, Card, Instance, Nvml, instance_uuid


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "assistant.py").write_text("lr = 1e-4\n")
    return Workspace(tmp_path)


@pytest.fixture
def two_gpus(nvml: Nvml) -> None:
    nvml.set(Card(used=60 * GB), Card(used=10 * GB))


def plan(workspace: Workspace, **wishes: object) -> planning.LaunchPlan:
    config = workspace.root / "assistant.py"
    return planning.plan(config, workspace=workspace, settings=Settings(), **wishes)  # type: ignore[arg-type]


def test_a_cpu_run_is_one_plain_process(workspace: Workspace) -> None:
    made = plan(workspace, gpus=[])
    assert made.name == "assistant-01" and made.dir == workspace.runs / "assistant-01"
    assert made.command[2:4] == ["engine.train.entry", str(made.dir / "config" / "assistant.py")]
    assert "--launcher" not in made.command and made.env == {"CUDA_VISIBLE_DEVICES": ""}
    assert not workspace.runs.exists(), "a plan writes nothing"


def test_the_next_name_is_free(workspace: Workspace) -> None:
    (workspace.runs / "assistant-01").mkdir(parents=True)
    assert plan(workspace, gpus=[]).name == "assistant-02"


def test_a_config_of_any_name_gives_a_run_a_name(workspace: Workspace) -> None:
    named = workspace.root / f"{'配' * 80}.py"
    named.write_text("lr = 1\n")
    made = planning.plan(named, workspace=workspace, settings=Settings(), gpus=[])
    assert made.name.endswith("配-01") and len(made.name.encode()) <= 200


def test_deepspeed_on_one_device_needs_no_torchrun(workspace: Workspace, two_gpus: None) -> None:
    made = plan(workspace, deepspeed="zero2")
    assert made.gpus == [1], "the one with the most free memory"
    assert made.env["CUDA_VISIBLE_DEVICES"] == "1"
    assert made.command[-4:] == ["--deepspeed", "deepspeed_zero2", "--launcher", "pytorch"]
    assert "torch.distributed.run" not in made.command
    wanted = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    assert wanted.items() <= made.env.items() and int(made.env["MASTER_PORT"]) > 1023
    assert "DS_ACCELERATOR" not in made.env


def test_deepspeed_on_a_cpu(workspace: Workspace) -> None:
    assert plan(workspace, gpus=[], deepspeed="2").env["DS_ACCELERATOR"] == "cpu"


def test_several_gpus_run_under_torchrun(workspace: Workspace, two_gpus: None) -> None:
    made = plan(workspace, gpus=[0, 1])
    assert made.command[2] == "torch.distributed.run" and made.processes == 2
    at = made.command.index("--nproc-per-node")
    assert made.command[at + 1] == "2" and made.command[-2:] == ["--launcher", "pytorch"]
    assert "RANK" not in made.env
    # Under the machine's name nobody might find it.
    assert {"--standalone", "--local-addr", "127.0.0.1"} <= {*made.command}
    assert made.shown.startswith("CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1 ")


def test_gpus_are_used_in_the_order_in_which_they_are_named(
    workspace: Workspace, nvml: Nvml
) -> None:
    nvml.set(*[Card()] * 4)
    made = plan(workspace, gpus=[3, 0, 2])
    assert made.gpus == [3, 0, 2] and made.env["CUDA_VISIBLE_DEVICES"] == "3,0,2"
    with pytest.raises(Problem, match="named twice"):
        plan(workspace, gpus=[3, 0, 3])


def test_what_the_environment_hides_is_not_used(
    workspace: Workspace, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.set(Card(), Card(used=60 * GB, uuid="GPU-b"), Card(used=70 * GB, uuid="GPU-c"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c,GPU-b")
    assert plan(workspace).gpus == [1], "the one with the most free memory of those shown"
    assert plan(workspace, gpus=[2, 1]).env["CUDA_VISIBLE_DEVICES"] == "2,1"
    with pytest.raises(Problem) as caught:
        plan(workspace, gpus=[0])
    hidden = "GPUs here: 2, 1. CUDA_VISIBLE_DEVICES='GPU-c,GPU-b' shows no other GPU."
    assert caught.value.why == hidden


def test_a_mig_instance_is_named_to_cuda_by_its_uuid(workspace: Workspace, nvml: Nvml) -> None:
    small, large = Instance(), Instance("3g.40gb", 40 * GB)
    nvml.set(Card(), Card(mig=True, instances=[small, large]))
    made = plan(workspace, gpus=["1:1"], deepspeed="2")
    assert made.gpus == ["1:1"] and made.processes == 1
    assert made.env["CUDA_VISIBLE_DEVICES"] == instance_uuid(large, 1, 1)
    for together in (["1:0", "1:1"], [0, "1:0"]):
        with pytest.raises(Problem, match="cannot have these GPUs together") as caught:
            plan(workspace, gpus=together)
        assert "NCCL" in caught.value.why
    with pytest.raises(Problem, match="cannot train with other nodes"):
        plan(workspace, gpus=["1:0"], launcher="nodes", nodes=2)
    with pytest.raises(Problem, match=r"no GPU 1\b"):
        plan(workspace, gpus=[1])


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("1", "deepspeed_zero1"),
        ("zero2-offload", "deepspeed_zero2_offload"),
        ("ZeRO3", "deepspeed_zero3"),
    ],
)
def test_names_of_stages(workspace: Workspace, wanted: str, name: str) -> None:
    assert plan(workspace, gpus=[], deepspeed=wanted).deepspeed == name


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"gpus": [7]}, "no GPU 7"),
        ({"gpus": [1, 0, 1]}, "GPU 1 is named twice"),
        ({"gpus": [], "deepspeed": "zero9"}, "no DeepSpeed stage"),
        ({"gpus": [], "name": "../elsewhere"}, "cannot be a run's name"),
        ({"gpus": [], "name": "中" * 70}, "too long"),
        ({"gpus": [], "launcher": "nodes", "nodes": 0}, "on 0 nodes"),
    ],
)
def test_wishes_that_cannot_be(workspace: Workspace, wishes: dict[str, object], says: str) -> None:
    with pytest.raises(Problem, match=says):
        plan(workspace, **wishes)


@pytest.mark.parametrize("kind", ["missing", "folder", "other", "binary", "based"])
def test_configs_that_cannot_be(workspace: Workspace, kind: str) -> None:
    path = workspace.root / ("x.json" if kind == "other" else "x.py")
    if kind == "folder":
        path.mkdir()
    elif kind == "based":
        path.write_text("with read_base():\n    from .y import *\n")
    elif kind != "missing":
        path.write_bytes(b"{}" if kind == "other" else b"\xff\xfe")
    with pytest.raises(Problem, match="Cannot train with") as caught:
        planning.plan(path, workspace=workspace, settings=Settings(), gpus=[])
    assert caught.value.why and caught.value.todo
    assert not workspace.runs.exists()


def test_a_line_for_each_node(workspace: Workspace) -> None:
    chosen = Settings(nodes=Nodes(address="{host}i", port=29511, patience=90))
    config = workspace.root / "assistant.py"
    made = planning.plan(
        config, workspace=workspace, settings=chosen, gpus=[], launcher="nodes", nodes=2
    )
    assert (made.launcher, made.nodes, made.processes) == ("nodes", 2, 2)
    first, second = ([*shlex.split(line)] for line in made.lines)
    assert first[:3] == ["cd", str(workspace.root), "&&"]
    assert f"TUNEDECK_RUN={made.dir}" in first and first[-len(made.command) :] == made.command
    for number, words in enumerate((first, second)):
        said = dict(itertools.pairwise(words))
        assert (said["--nnodes"], said["--node-rank"]) == ("2", str(number))
        assert (said["--master-addr"], said["--master-port"]) == (f"{platform.node()}i", "29511")
        assert said["--rdzv-conf"] == "timeout=90" and words[-1] == "pytorch"


def test_an_address_is_found_that_others_can_use(workspace: Workspace) -> None:
    made = plan(workspace, gpus=[], launcher="nodes", nodes=2)
    at = made.command.index("--master-addr") + 1
    assert ipaddress.ip_address(made.command[at])
    assert 20000 <= int(made.command[at + 2]) < 30000


def test_processes_are_shared_out_equally(workspace: Workspace) -> None:
    made = plan(workspace, gpus=[], launcher="nodes", nodes=2, processes=4)
    assert made.command[made.command.index("--nproc-per-node") + 1] == "2"
    with pytest.raises(Problem, match="do not fit 2 nodes"):
        plan(workspace, gpus=[], launcher="nodes", nodes=2, processes=3)


def test_the_line_of_each_node_is_told_again_from_the_run(
    workspace: Workspace, two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "begin", lambda plan, settings, attempt: RunFolder(plan.dir))
    for wishes in ({"launcher": "nodes", "nodes": 3, "deepspeed": "zero2"}, {}):
        made = plan(workspace, gpus=[1], **wishes)
        launch.start(made, Settings())
        record = state.read_record(made.dir)
        assert record is not None and nodes.lines(record, made.dir) == made.lines
    assert not made.lines
