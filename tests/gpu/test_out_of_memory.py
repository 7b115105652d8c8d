"""A card that is too small: before the first step, in mid-run, in chat.

Another program holds the card but for some GB, from the beginning: so it fails at the
same place each time, and on a card of any size. Nothing else may use the card meanwhile:
start this file alone (about 100 s).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.chat import fit
from engine.chat.session import ChatSession, ModelSpec
from engine.errors import Failed
from engine.machine import gpu
from engine.run import control, processes
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace
from tests.chat.asking import ask
from tests.support import card, gpu_runs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(300),
]

SHORT = 12
"""Steps of short rows, two rows a step."""
LONG = 16384
"""Tokens of each row after them: activations that are kept take about 1.3 MB a token."""
GROWING = {
    "max_length = 128": f"max_length = {LONG}",
    "DefaultSampler, shuffle=True": "DefaultSampler, shuffle=False",
    "    llm=dict(": "    use_activation_checkpointing=False,\n    llm=dict(",
}


@pytest.fixture(scope="module")
def hog() -> Iterator[card.Hog]:
    """Another program on the card."""
    found = card.Hog()
    yield found
    found.close()


ROWS = [
    {"instruction": "Who are you?", "input": "", "output": "I am Super Nova. " * times}
    for times in [1] * 2 * SHORT + [LONG] * 2 * SHORT
]


def failed(run: RunFolder, used: int) -> dict[str, Any]:
    """What `runs NAME` tells of a run that ran out of memory, after which all is as before."""
    control.wait(run, 180)
    told = subprocess.run(
        [sys.executable, "-m", "tui", "runs", run.name, "--json"],
        cwd=run.path.parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert told.returncode == 1, "it is not fine"
    [found] = json.loads(told.stdout)
    print({key: found[key] for key in ("state", "exit", "step", "steps", "reason", "todo")})
    assert found["state"] == "failed", run.log.read_text(errors="replace")[-6000:]
    assert found["exit"] == 1
    assert "out of memory" in found["reason"] and "batch_size" in found["todo"]
    card.until(lambda: not processes.of_run(run.path), 15)
    card.until(lambda: card.used() - used < card.ROOM, 15)
    return dict(found)


def test_a_model_that_does_not_fit(workspace: Workspace, llama: Path, hog: card.Hog) -> None:
    hog.leave_free(900 << 20)
    used = card.used()
    found = failed(gpu_runs.begin(workspace, llama, "full", gpu_runs.ON_GPU, gpus=[0]), used)
    assert found["step"] == 0 and found["checkpoints"] == []


def test_rows_that_grow_until_a_step_does_not_fit(
    workspace: Workspace, llama: Path, hog: card.Hog
) -> None:
    hog.leave_free(16 << 30)
    used = card.used()
    run = gpu_runs.begin(
        workspace,
        llama,
        "growing",
        gpu_runs.ON_GPU | GROWING,
        rows=ROWS,
        gpus=[0],
        deepspeed="2",
        launcher="nodes",  # torchrun, which has the last word of the log
    )
    found = failed(run, used)
    assert (found["step"], found["steps"]) == (SHORT, 2 * SHORT)
    assert [one["step"] for one in found["checkpoints"]] == [4, 8, 12], "it can be resumed"


def test_a_card_that_fills_up_is_told_in_chat_and_the_worker_goes_on(
    llama: Path, hog: card.Hog, monkeypatch: pytest.MonkeyPatch
) -> None:
    hog.leave_free(0)
    model = str(llama)

    def answers(session: ChatSession) -> int:
        question = "Who are you?"
        return ask(session, "A", question, max_new_tokens=8)[1].tokens

    with ChatSession(Settings()) as session:
        session.load("A", ModelSpec(model, device="cuda:0"))
        assert answers(session)
        hog.leave_free(400 << 20)
        long = [{"role": "user", "content": "Who? " * 15_000}]
        with pytest.raises(Failed) as answered:
            ask(session, "A", long, max_new_tokens=8)
        assert "Memory ran out in the middle of an answer" in answered.value.what
        assert "bits" in answered.value.ways and "out of memory" in answered.value.details
        assert answers(session), "it goes on"

        wide = ModelSpec(model, device="cuda:0", dtype="fp32")
        with pytest.raises(Failed, match="does not fit"):  # told before anything is loaded
            session.load("B", wide)
        # Somebody takes the memory between the look and the loading.
        monkeypatch.setattr(fit, "require", lambda *_of: fit.Fit(0, 1, "GPU 0", "cuda:0"))
        with pytest.raises(Failed) as loaded:
            session.load("B", wide)
        assert "Memory ran out while" in loaded.value.what and "bits" in loaded.value.ways
        assert answers(session)

        hog.leave_free(0)
        assert session.load("B", wide).dtype == "float32"
