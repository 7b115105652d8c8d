"""The launch dialog where runs go to a cluster. Slurm's commands are stood in for: they answer
as Slurm 22.05.8 did, which is tried itself in tests/run/test_slurm_cluster.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.run.slurm import view
from engine.settings import Settings, Slurm
from engine.workspace import Workspace
from tests.support.driver import opened
from tests.support.train_pane import config

SBATCH = """\
#!/bin/sh
if [ "$1" = --test-only ]; then
  grep -q 'gpus-per-node=7' || exit 0
  echo 'allocation failure: Requested node configuration is not available' >&2
  exit 1
fi
sed -n 's/#SBATCH --job-name=//p' "$2" >"$(dirname "$0")/name"
echo 12
"""
SQUEUE = """\
#!/bin/sh
echo "12|PENDING|Resources||$(date +%s)|0|0|$(cat "$(dirname "$0")/name")"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    commands = tmp_path / "bin"
    commands.mkdir()
    scancel = "#!/bin/sh\n"
    sinfo = f"#!/bin/sh\necho '{os.uname().nodename}|gpu'\n"
    texts = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": scancel, "sinfo": sinfo}
    for name, text in texts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    view._queue().forget()
    return Settings(slurm=Slurm(partition="gpu", account="lab", time="08:00:00", gpus=2))


async def test_a_cluster_refuses_and_nothing_that_was_typed_is_lost(
    tmp_path: Path, slurm: Settings
) -> None:
    (tmp_path / "work").mkdir()
    workspace = Workspace(tmp_path / "work")
    config(workspace)
    async with opened(workspace, settings=slurm) as screen:
        await screen.press("f4", "l")
        await screen.shows("Launch a run", "engine.train.entry")
        await screen.type("first")
        await screen.press("tab", "tab", "tab", "right", "right")
        await screen.shows("--partition=gpu", "--account=lab", "--time=08:00:00")
        text = await screen.shows("--gpus-per-node=2", "partition=gpu account=lab", "^L script")
        assert "time=08:00:00 gpus=2" in text and "(the" not in text  # whole, or not at all
        await screen.press("ctrl+l")
        await screen.shows("#SBATCH --job-name=tunedeck-first")
        await screen.press("escape", "tab", "tab")
        await screen.type("gpus=7")
        await screen.shows("--gpus-per-node=7", "✗")
        await screen.press("enter", "enter")
        text = await screen.shows("Requested node configuration is not available", "Esc back")
        assert "first" in text and "gpus=7" in text and not workspace.runs.exists()
        await screen.press("backspace", "4")
        await screen.shows("--gpus-per-node=4", "✗")
        await screen.press("enter", "enter")
        await screen.shows("⏸ first  queued", "until nodes are free")
