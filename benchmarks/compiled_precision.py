"""Which layers are nearer to float32: those that run compiled, or as they are?

Under bfloat16 autocast a layer that is not compiled rounds what each operation gives to
bfloat16. A compiled one does whole chains in float32 and rounds where they end. So the two
have to differ, and what tells which one is right is the same layers all in float32.

`compiled_layers.py --what precision` prints it. The cases have the same samples, weights and
adapter, and no dropout. "Compiled, rounding as uncompiled" has torch round in its kernels
where uncompiled layers round (`emulate_precision_casts`; on a CPU only in part). Compiled
layers in float32 say whether compiling itself changes anything.

How far an early loss is from float32's has two parts: what the forward makes of one and the
same adapter, float32's, and what the case's own first steps made of the adapter.

All of it is done twice, with two kinds of random weights. Of those "0.02 everywhere" the
outputs of a layer drown what came in, so that each layer makes the rounding of the one
before larger: the worst case. In those "as GPT-2 begins" a layer adds little to what came
in, as in a trained model.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

import random_model

if TYPE_CHECKING:
    from compiled_layers import Bench

LEARNING_RATE = 2e-4
WARM_UP = 3
"""Steps until the learning rate is full; in the first it is zero."""
WEIGHTS = ("0.02 everywhere", "as GPT-2 begins")


class Case(NamedTuple):
    """One way to compute the same."""

    name: str
    compiled: bool = False
    float32: bool = False
    rounding: bool = False


TRUTH = Case("uncompiled, float32", float32=True)
CASES = (
    TRUTH,
    Case("uncompiled, bfloat16"),
    Case("compiled, bfloat16", compiled=True),
    Case("compiled, rounding as uncompiled", compiled=True, rounding=True),
    Case("compiled, float32", compiled=True, float32=True),
)
EARLY = 2
"""Steps after which a loss is looked into: one with a learning rate, the adapter is still small."""
Tensors = dict[str, torch.Tensor]


class Found(NamedTuple):
    """What came of a case."""

    gradients: list[Tensors]
    """With the adapter as it begins, and with a B that is not zero."""
    losses: list[float]
    seconds: float
    """Of a step."""
    early: Tensors
    """Its adapter after `EARLY` steps."""
    with_true: float
    """The loss of the next step with float32's adapter."""
    without: float
    """That with the adapter as it begins, which does nothing."""


def tables(bench: Bench, until: float) -> None:
    """Print how far gradients and losses of each case are from those in float32."""
    found: dict[tuple[str, str], Found] = {}
    for case in CASES:  # the weights inside: what is compiled for a case is good for both
        with _settings(bench, case):
            for weights in WEIGHTS:
                if time.monotonic() > until:
                    print(f"(no time for {case.name}, {weights})", flush=True)
                    continue
                _fill(bench, weights)
                try:
                    with _as(bench, case):
                        gradients = [_gradients(bench, case, grown) for grown in (False, True)]
                        # Float32 takes long, and gradients tell whether compiling changes it.
                        short = case.compiled and case.float32
                        losses, seconds, early = ([], 0.0, {}) if short else _curve(bench, case)
                        truth = found.get((weights, TRUTH.name))
                        _reset(bench, False)
                        without = _loss(bench, case, bench.samples[EARLY]).item()
                        with_true = _with(bench, case, truth.early if truth else early)
                except Exception:  # the tables of the other cases are worth having
                    print(f"({case.name}, {weights}: failed)", flush=True)
                    traceback.print_exc()
                    continue
                found[weights, case.name] = Found(
                    gradients, losses, seconds, early, with_true, without
                )
                print(f"({case.name}, {weights}: done)", file=sys.stderr, flush=True)
    for weights in WEIGHTS:
        if (weights, TRUTH.name) in found:
            _print(weights, {case: one for (kind, case), one in found.items() if kind == weights})


def _print(weights: str, found: dict[str, Found]) -> None:
    truth = found[TRUTH.name]
    print(f"\nweights {weights}: gradients against float32, one sample")
    columns = "adapter | case | relative error: median, most | cosine: median, least"
    print(f"| {columns} | signs that differ | of the largest half |\n|{' --- |' * 6}")
    for place, adapter in enumerate(("as it begins", "B not zero")):
        for name, one in found.items():
            if name == TRUTH.name:
                continue
            pairs = [
                (value, one.gradients[place][key])
                for key, value in truth.gradients[place].items()
                if value.any()  # as the adapter begins, A has no gradient
            ]
            errors = [float((own - true).norm() / true.norm()) for true, own in pairs]
            cosines = [
                float(functional.cosine_similarity(own.flatten(), true.flatten(), dim=0))
                for true, own in pairs
            ]
            wrong, large = _signs(pairs)
            print(
                f"| {adapter} | {name} | {statistics.median(errors):.2e}, {max(errors):.2e} "
                f"| {statistics.median(cosines):.6f}, {min(cosines):.6f} | {wrong:.2%} "
                f"| {large:.2%} |"
            )
    print(f"\nweights {weights}: losses")
    columns = "case | from float32: mean, most | float32's adapter moves the loss by"
    columns += f" | at step {EARLY + 1}: by the forward, by the adapter"
    print(f"| {columns} | s/step | losses |\n|{' --- |' * 6}")
    for name, one in found.items():
        forward = f"{one.with_true - truth.with_true:+.4f}"
        moved = f"{one.with_true - one.without:+.4f}"
        if not one.losses:
            print(f"| {name} | | {moved} | {forward}, | | |", flush=True)
            continue
        apart = [abs(a - b) for a, b in zip(one.losses, truth.losses, strict=True)]
        shown = " ".join(f"{loss:.4f}" for loss in one.losses)
        print(
            f"| {name} | {statistics.mean(apart):.4f}, {max(apart):.4f} "
            f"| {moved} | {forward}, {one.losses[EARLY] - one.with_true:+.4f} "
            f"| {one.seconds:.3f} | {shown} |",
            flush=True,
        )


def _signs(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[float, float]:
    """The share of entries with another sign, and that among the larger half of each tensor."""
    wrong = large = 0.0
    for true, own in pairs:
        differ = (true.sign() != own.sign()).float()
        wrong += float(differ.mean()) / len(pairs)
        half = true.abs() > true.abs().median()
        large += float(differ[half].mean()) / len(pairs)
    return wrong, large


@contextlib.contextmanager
def _settings(bench: Bench, case: Case) -> Iterator[None]:
    """Let torch compile as the case wants."""
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    with inductor.patch(emulate_precision_casts=case.rounding):
        yield


@contextlib.contextmanager
def _as(bench: Bench, case: Case) -> Iterator[None]:
    """The model as the case has it; float32 activations are computed again to take less memory."""
    base = [one for one in bench.model.llm.parameters() if not one.requires_grad]
    bench.layers.on = case.compiled
    if case.float32:
        bench.model.llm.enable_input_require_grads()
        bench.model.activation_checkpointing_enable()
        for value in base:
            value.data = value.data.float()
    try:
        yield
    finally:
        bench.layers.on = False
        if case.float32:
            for value in base:
                value.data = value.data.bfloat16()  # from which it came
            bench.model.activation_checkpointing_disable()
            bench.model.llm.disable_input_require_grads()
        bench.model.zero_grad(set_to_none=True)
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def _fill(bench: Bench, weights: str) -> None:
    """The base's weights: the same for every case, in bfloat16."""
    torch.manual_seed(7)
    layers = len(bench.layers.layers)
    for name, value in bench.model.llm.named_parameters():
        if value.requires_grad:
            continue
        value.data = value.data.bfloat16()
        kind = name.replace(".base_layer", "")
        spread = (
            random_model.SPREAD if weights == WEIGHTS[0] else random_model._spread(kind, layers)
        )
        random_model._fill(value.data, spread)


def _reset(bench: Bench, grown: bool) -> None:
    """The adapter as it began, or with a B that is not zero."""
    bench.reset(0, 0.0)
    torch.manual_seed(8)
    with torch.no_grad():
        for name, value in bench.model.named_parameters():
            if grown and "lora_B" in name:
                value.normal_(0, 2e-3)


def _loss(bench: Bench, case: Case, sample: dict[str, Any]) -> torch.Tensor:
    data = {
        key: value.to(bench.device) if isinstance(value, torch.Tensor) else value
        for key, value in sample["data"].items()
    }
    with torch.autocast(bench.device.type, torch.bfloat16, enabled=not case.float32):
        return bench.model(data, mode="loss")["loss"]


def _gradients(bench: Bench, case: Case, grown: bool) -> Tensors:
    """Of the adapter for the first sample, on the CPU."""
    _reset(bench, grown)
    _loss(bench, case, bench.samples[0]).backward()
    return {
        name: value.grad.float().cpu()
        for name, value in bench.model.named_parameters()
        if value.requires_grad and value.grad is not None
    }


def _with(bench: Bench, case: Case, adapter: Tensors) -> float:
    """The loss of the step after `EARLY` ones with an adapter that is given."""
    with torch.no_grad():
        for name, value in bench.model.named_parameters():
            if value.requires_grad:
                value.copy_(adapter[name])
    loss: float = _loss(bench, case, bench.samples[EARLY]).item()
    return loss


def _curve(bench: Bench, case: Case) -> tuple[list[float], float, Tensors]:
    """Losses of a training with AdamW, the seconds of a step, the adapter after `EARLY` steps."""
    _reset(bench, False)
    trained = [value for value in bench.model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=0)
    losses, seconds = [], []
    early: Tensors = {}
    for step, sample in enumerate(bench.samples):
        if step == EARLY:
            early = {
                name: value.detach().clone()
                for name, value in bench.model.named_parameters()
                if value.requires_grad
            }
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / WARM_UP)
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = _loss(bench, case, sample)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - began)
    return losses, statistics.median(seconds), early
