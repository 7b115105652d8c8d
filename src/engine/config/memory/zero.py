"""What DeepSpeed holds on one GPU: shares of a training, whole layers, buckets.

Counted after DeepSpeed 0.19 (``stage_1_and_2.py``, ``stage3.py`` and
``partitioned_param_coordinator.py`` in its ``runtime/zero``). Elements are
numbers as they are stored: four weights in 4 bits are one element in bfloat16.
What is trained, gathered and reduced has 2 bytes an element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

HALF = 2
"""Bytes of a weight and of a gradient."""
SINGLE = 4


class Zero(msgspec.Struct, frozen=True):
    """Of a DeepSpeed setting, what decides memory; what it does not say is DeepSpeed's default."""

    stage: int = 0
    """0: no ZeRO."""
    bucket: int = 500_000_000
    """Gradients that are reduced together, elements."""
    overlap: bool = True
    """Two buckets take turns. Every setting of XTuner's says so."""
    prefetch: int = 50_000_000
    """Stage 3: elements that are gathered ahead at each layer, until there are `live`."""
    live: int = 1_000_000_000
    """Stage 3: elements until which more are gathered ahead."""
    reuse: int = 1_000_000_000
    """Stage 3: what is used again within so many elements is not given back."""
    whole: int = 100_000
    """Stage 3: tensors of no more elements are never cut."""
    group: int = 1_000_000_000
    """Stage 3: elements that the optimizer changes in one go."""
    optimizer_on_host: bool = False
    weights_on_host: bool = False


class Tensors(msgspec.Struct, frozen=True):
    """What DeepSpeed finds in a model, elements."""

    trained: int
    frozen: int
    small: int
    """Of both: in tensors that stay whole."""
    largest: int
    """The largest tensor."""
    largest_trained: int


def read(stage: int, told: Mapping[str, Any] | None) -> Zero:
    """The setting with ZeRO's `stage` that says what `told`, the content of its file, says."""
    block = (told or {}).get("zero_optimization")
    block = block if isinstance(block, Mapping) else {}
    default = Zero(stage)

    def number(key: str, otherwise: int) -> int:
        value = block.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return otherwise
        # (Python reads NaN and Infinity in a JSON file, too.)
        return int(value) if 0 <= value < math.inf else otherwise

    def on_host(key: str) -> bool:
        place = block.get(key)
        return isinstance(place, Mapping) and place.get("device") in ("cpu", "nvme")

    return Zero(
        stage=stage,
        bucket=number("reduce_bucket_size", default.bucket),
        # DeepSpeed's own default: only stage 3 does.
        overlap=block.get("overlap_comm", stage == 3) is True if block else default.overlap,
        prefetch=number("stage3_prefetch_bucket_size", default.prefetch),
        live=number("stage3_max_live_parameters", default.live),
        reuse=number("stage3_max_reuse_distance", default.reuse),
        whole=number("stage3_param_persistence_threshold", default.whole),
        group=number("sub_group_size", default.group),
        optimizer_on_host=on_host("offload_optimizer"),
        weights_on_host=on_host("offload_param"),
    )


def weights(zero: Zero, processes: int, size: float, small: float) -> float:
    """Bytes of weights that stay on each GPU, of `size` bytes of which `small` are never cut."""
    if zero.stage < 3:
        return size
    if zero.weights_on_host:
        return small
    return size / processes + (small if processes > 1 else 0)


def optimizer(zero: Zero, processes: int, trained: int, state: float) -> float:
    """Bytes of float32 weights and of `state` bytes a weight on each GPU."""
    return 0.0 if zero.optimizer_on_host else (SINGLE + state) * trained / processes


def standing_gradients(zero: Zero, processes: int, trained: int) -> float:
    """Bytes of gradients for which there is always room: stage 3 has one place for its share."""
    if zero.stage < 3 or zero.optimizer_on_host:
        return 0.0
    return HALF * trained / processes


def standing_buffers(zero: Zero, found: Tensors) -> float:
    """Bytes of what else is there from the first step to the last."""
    if zero.stage == 3:
        return float(HALF * zero.bucket)
    return float(HALF * found.largest_trained) if zero.optimizer_on_host else 0.0


def accumulated(zero: Zero, processes: int, trained: int) -> float:
    """Bytes of gradients that wait for those of the next micro-batch (stage 3's have their place).

    Stage 1 reduces them at the last one only: until then they are whole.
    """
    if zero.stage == 1:
        return float(HALF * trained)
    on_gpu = zero.stage == 2 and not zero.optimizer_on_host
    return HALF * trained / processes if on_gpu else 0.0


def buckets(zero: Zero) -> float:
    """Bytes of what gradients are collected in while a backward pass of stage 1 or 2 runs."""
    if zero.stage not in (1, 2):
        return 0.0
    return float(HALF * zero.bucket * (2 if zero.overlap else 1))


def reducing(zero: Zero, processes: int, found: Tensors) -> float:
    """Bytes that the reduction of one bucket takes for itself.

    Stage 3 joins the shares of its tensors, stages 1 and 2 the pieces that belong
    to several processes; on its way to the host a gradient becomes float32.
    """
    joined = HALF * min(found.trained, max(zero.bucket, found.largest_trained))
    if zero.stage == 3:
        return float(joined)
    if zero.optimizer_on_host:
        return float(SINGLE * found.largest_trained)
    return float(joined) if processes > 1 else 0.0


def reduced(zero: Zero, processes: int, trained: int) -> float:
    """Bytes of `trained` gradients after they were reduced, in stage 1 or 2."""
    if zero.stage not in (1, 2) or zero.optimizer_on_host:
        return 0.0
    return HALF * trained / processes


def gathered(zero: Zero, processes: int, found: Tensors, coming: bool = True) -> float:
    """Bytes of weights that stage 3 brings together from all GPUs or from the host.

    It gathers ahead as far as it may, and keeps what is soon used again, so that a smaller
    model is whole from its second step on. A layer whose turn has come is brought whether it
    may or not (`coming`); after the last one, when the loss is computed, none is. One process
    without offload looks at its share, which is all.
    """
    if zero.stage != 3 or (processes == 1 and not zero.weights_on_host):
        return 0.0
    cut = found.trained + found.frozen - found.small
    most = max(zero.live, zero.reuse) + (found.largest if coming else 0)
    return float(HALF * min(cut, most))


def joining(zero: Zero, processes: int, found: Tensors) -> float:
    """Bytes of the tensors that came last, which lie there twice while they are put together."""
    if zero.stage != 3 or processes == 1:
        return 0.0
    cut = found.trained + found.frozen - found.small
    return float(HALF * min(cut, zero.prefetch + found.largest))


def step(zero: Zero, processes: int, trained: int) -> int:
    """Elements that the optimizer changes in one go."""
    share = -(-trained // processes)
    return min(share, zero.group) if zero.stage == 3 else share


def host(zero: Zero, found: Tensors, state: float, accumulates: bool) -> float:
    """Bytes of the host's memory that all shares together take there.

    A float32 weight and its gradient, `state`, and what is on its way in 16 bits. (torch
    rounds pinned memory up to a power of two: it can be more.)
    """
    if not zero.optimizer_on_host:
        return 0.0
    waiting = HALF if zero.stage == 3 or accumulates else 0
    way = HALF if zero.stage < 3 else 0
    needed = (2 * SINGLE + state + way + waiting) * found.trained
    return needed + (HALF * (found.trained + found.frozen) if zero.weights_on_host else 0)
