"""XTuner's trainer, imported once and forked for each training.

    python benchmarks/xtuner_forks.py

Prints ``{"imports", "cpu"}`` (seconds) when XTuner is imported. Then takes JSON lines
``{"argv": […], "env": {…}, "folder": …, "log": …, "limit": seconds}`` on stdin and
answers ``{"said", "status", "seconds", "cpu"}``: whether that training ended by itself
("ends"), made its first step ("trains") or did neither within the limit ("hangs").
Most of the time of a short training is imports; so dozens can be tried in minutes.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

STEP = re.compile(r"Iter\(train\)")


def imported() -> Any:
    """XTuner's ``main``, with what it lacks to run on a CPU at all."""
    import torch

    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda *args, **options: True
    torch.cuda.set_device = lambda *args, **options: None
    import mmengine._strategy.deepspeed as strategy

    strategy.register_deepspeed_optimizers = lambda: []
    from xtuner.tools.train import main

    return main


def child(order: dict[str, Any], main: Any) -> None:
    """Train as the order says; never returns."""
    os.setsid()
    out = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(order["folder"])
    os.environ.update(order["env"])
    sys.argv = ["train.py", *order["argv"]]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def attend(pid: int, order: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end, the first step or the limit."""
    log, began, said = Path(order["log"]), time.monotonic(), "ends"
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if log.exists() and STEP.search(log.read_text(errors="replace")):
            said = "trains"
        elif time.monotonic() - began > order["limit"]:
            said = "hangs"
        if said != "ends":
            os.killpg(pid, signal.SIGKILL)
            _done, status, used = os.wait4(pid, 0)
            break
        time.sleep(0.05)
    code = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    return {"said": said, "status": code, "seconds": time.monotonic() - began, "cpu": cpu}


def serve() -> None:
    """Answer orders until stdin closes."""
    began = time.monotonic()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print is no answer
    main = imported()
    took = {"imports": time.monotonic() - began, "cpu": time.process_time()}
    answers.write(json.dumps(took) + "\n")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order, main)
        answers.write(json.dumps(attend(pid, order)) + "\n")


if __name__ == "__main__":
    serve()
