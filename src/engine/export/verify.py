"""Does the merged model say what the adapter on its base says?"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine import weight_files
from engine.assignments import XTUNER_CONFIG
from engine.errors import Failed, Problem
from engine.export import artefact, trained_config
from engine.export.convert import Progress, convert
from engine.export.template import Templates
from engine.i18n import _, ngettext, sentences
from engine.machine import gpu
from engine.settings import Settings
from engine.worker.client import WorkerClient

WORKER = "engine.export.verify_worker"
PROMPTS = (
    "Who are you?",
    "你是谁？",
    "What is the capital of France?",
    "Write one sentence about the sea.",
)
NEW_TOKENS = 48

_LEAST = 5e-5
"""What float32 sums in another order may come to."""
_MUCH = 0.1
"""Of what the adapter changes: when rounding takes more, that is said."""


class Compared(msgspec.Struct, frozen=True):
    """One question and the two greedy answers."""

    prompt: str
    adapter: str
    merged: str


class Verified(msgspec.Struct, frozen=True):
    """Whether the two forms agree, and by what.

    `max_logit_diff` is the largest difference of the first token's logits
    between the two forms; `tolerance` what rounding to `dtype` explains: twice what
    it does to peft's own merge, as ours and that may round some weights differently;
    `adapter_effect` the same difference between the base with and without the adapter;
    `base_rounding` that between the base and the base rounded to `dtype` (0 where it is
    stored in it); and `adapter_loss` that between what the adapter changes of the one and
    what the merged model changes of the other (else `max_logit_diff`).
    `why` explains, where they differ or their texts do; `coarse`: the same model, merged
    to a wider type, would keep more. A model that was trained whole has nothing to be
    compared with (`alone`): it loads, and answers with numbers.
    """

    agree: bool
    prompts: list[Compared]
    max_logit_diff: float
    tolerance: float
    adapter_effect: float
    dtype: str
    why: str = ""
    coarse: bool = False
    base_rounding: float = 0.0
    adapter_loss: float = 0.0
    alone: bool = False
    templates: Templates | None = None

    @property
    def learned(self) -> bool:
        """Whether the adapter changes more than rounding it does."""
        rounding = max(self.tolerance / 2 - self.base_rounding, _LEAST)
        return self.alone or self.adapter_effect > rounding


def verify(
    base: Path,
    adapter: Path,
    merged: Path,
    *,
    settings: Settings,
    prompts: Sequence[str] | None = None,
    rows: Sequence[str] = (),
    progress: Progress | None = None,
    worker: WorkerClient | None = None,
) -> Verified:
    """Compare `adapter` on `base` with `merged`, in a worker of the training interpreter.

    Args:
        base: the base model's folder.
        adapter: the adapter's folder, or the checkpoint that holds it.
        merged: the merged model's folder.
        settings: says which interpreter.
        prompts: what to ask; by default the config's evaluation questions, `rows`, and
            some more.
        rows: questions out of the dataset.
        progress: told answers done and answers in all.
        worker: a client of `WORKER` that the caller wants to be able to close
            meanwhile; it is closed at the end in any case.

    Raises `Problem` for paths that are something else or lack weights, `Failed` when the
    models cannot be run.
    """
    for path, kinds, words in (
        (base, (artefact.MODEL,), _("a model's folder")),
        (merged, (artefact.MODEL,), _("a model's folder")),
        (adapter, (artefact.ADAPTER, *artefact.CHECKPOINTS), _("an adapter")),
    ):
        artefact.expect(path, kinds, words)
    for model in (base, merged):
        weight_files.require(model)
    if (adapter / "adapter_config.json").is_file():
        weight_files.require_adapter(adapter)
    with tempfile.TemporaryDirectory(prefix="tunedeck-") as temporary:
        if not (adapter.is_dir() and (adapter / "adapter_config.json").is_file()):
            adapter = convert(adapter, Path(temporary) / "adapter").adapter
        config = _config(adapter)
        request = {
            "base": str(base.resolve()),
            "adapter": str(adapter.resolve()),
            "merged": str(merged.resolve()),
            "prompts": list(prompts or _prompts(config, rows)),
            "new_tokens": NEW_TOKENS,
            "trust": _trust(base, config),
        }
        worker = worker or worker_for(settings)
        return _judge(_ask("compare", request, worker, progress))


def worker_for(settings: Settings) -> WorkerClient:
    """The process that loads the models: it sees the GPU with the most free memory only."""
    best = sorted(gpu.read().gpus, key=lambda one: one.free)[-1:]
    return WorkerClient(WORKER, settings, gpu.shown(best))


def verify_model(
    model: Path,
    *,
    settings: Settings,
    rows: Sequence[str] = (),
    progress: Progress | None = None,
    worker: WorkerClient | None = None,
) -> Verified:
    """Load a model that was trained whole, and let it answer (see `verify`)."""
    artefact.expect(model, (artefact.MODEL,), _("a model's folder"))
    weight_files.require(model)
    config = _config(model)
    request = {
        "model": str(model.resolve()),
        "prompts": _prompts(config, rows),
        "new_tokens": NEW_TOKENS,
        "trust": _trust(model, config),
    }
    found = _ask("answers", request, worker or worker_for(settings), progress)
    return Verified(
        agree=found["finite"],
        prompts=[Compared(one["prompt"], one["text"], one["text"]) for one in found["prompts"]],
        max_logit_diff=0.0,
        tolerance=0.0,
        adapter_effect=0.0,
        dtype=found["stored"],
        why="" if found["finite"] else _("Its answers are not numbers (NaN or infinity)."),
        alone=True,
    )


def _prompts(config: trained_config.TrainedConfig | None, rows: Sequence[str]) -> list[str]:
    questions = config.questions if config else ()
    return list(dict.fromkeys((*questions[:4], *rows, *PROMPTS)))


def _ask(
    do: str, request: dict[str, Any], worker: WorkerClient, progress: Progress | None
) -> dict[str, Any]:
    message: dict[str, Any] = {}
    with worker:
        for message in worker.ask(do, **request):
            if message["event"] == "progress" and progress:
                progress(message["done"], message["total"])
    return message


def _judge(found: dict[str, Any]) -> Verified:
    names = ("difference", "effect", "rounding", "apart", "base", "lost")
    numbers = [found[name] for name in names]
    if not all(map(math.isfinite, numbers)):
        raise Failed(
            _("The models cannot be compared"),
            _("Their answers are not numbers (NaN or infinity)."),
            _("Try an earlier checkpoint."),
        )
    difference, effect, rounding, apart, of_base, lost = numbers
    rounding = max(rounding, _LEAST)
    agree = apart <= rounding
    prompts = msgspec.convert(found["prompts"], list[Compared])
    changed = sum(one.adapter != one.merged for one in prompts)
    shares = [part / effect if effect > 2 * _LEAST else 0.0 for part in (lost, of_base)]
    why = _explained(agree, shares[0], changed, found["stored"])
    if agree and shares[1] > _MUCH:
        why = sentences(why, _of_base(shares[1], found["given"], found["stored"]))
    return Verified(
        agree=agree,
        prompts=prompts,
        max_logit_diff=round(difference, 6),
        tolerance=round(2 * rounding, 6),
        adapter_effect=round(effect, 6),
        dtype=found["stored"],
        why=why,
        coarse=agree and max(shares) > _MUCH,
        base_rounding=round(of_base, 6),
        adapter_loss=round(lost, 6),
    )


def _explained(agree: bool, taken: float, changed: int, stored: str) -> str:
    """Why they differ, in a sentence or two; "" when there is nothing to explain.

    `taken`: how much of what the adapter changes is not in the merged model.
    """
    if not agree and taken > 0.5:
        return _("What the adapter changes is not in the merged model: it is nearer to the base.")
    if not agree:
        return _("That is more than rounding to {dtype} explains: something else differs.").format(
            dtype=stored
        )
    if taken > _MUCH:
        return _(
            "It is merged right, but {dtype} is too coarse for so small changes: rounding took"
            " {share} of what the adapter does. Train longer or with a higher lr, merge to"
            " float32 or float16, or serve base and adapter unmerged."
        ).format(dtype=stored, share=f"{min(taken, 1):.0%}")
    if changed:
        return ngettext(
            "{count} text differs although the models agree: weights rounded to {dtype} tip the"
            " choice between words that are about as likely.",
            "{count} texts differ although the models agree: weights rounded to {dtype} tip the"
            " choice between words that are about as likely.",
            changed,
        ).format(count=changed, dtype=stored)
    return ""


def _of_base(share: float, given: str, stored: str) -> str:
    """What the base loses of itself. `share`: as much of what the adapter changes."""
    return _(
        "The base itself, which is {given}, loses by rounding to {dtype}: its answers move by"
        " {share} of what the adapter does. Merge to {given} to keep them."
    ).format(given=given, dtype=stored, share=f"{share:.0%}")


def config_text(folder: Path) -> str:
    """The config that an adapter or a model was trained with; "" when none lies in its folder."""
    try:
        return (folder / XTUNER_CONFIG).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _config(folder: Path) -> trained_config.TrainedConfig | None:
    return trained_config.read(config_text(folder))


def _trust(base: Path, config: trained_config.TrainedConfig | None) -> bool:
    """Whether the model may bring code of its own: only if it needs to and its config says so."""
    try:
        needed = "auto_map" in json.loads((base / "config.json").read_bytes())
    except (OSError, ValueError):
        needed = False
    if needed and not (config and config.trust_remote_code):
        raise Problem(
            _("Cannot run the model {path}").format(path=base),
            _("It brings Python code of its own, and no config says that you trust it."),
            _("Set trust_remote_code=True in the config that the adapter was trained with."),
        )
    return needed
