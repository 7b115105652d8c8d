"""What a training step holds, tensor by tensor, at the moments when it holds most.

Bytes are counted from what XTuner 0.2.0, transformers and peft keep: which
tensors autograd saves, and in which type. Three moments compete for the peak:
the loss (logits over the vocabulary), the backward pass inside a layer, and
the optimizer's step. `room` adds what torch's allocator needs around them.
"""

from __future__ import annotations

import msgspec

from engine.config.memory.sizes import Shape

NF4 = 0.516
"""Bytes per parameter of a 4-bit linear layer: half, and its doubly quantised scales."""
NF4_PLAIN = 0.5625
"""The same without double quantisation."""
LOGITS = 12
"""Bytes per token and vocabulary entry: the logarithm of softmax and two gradients, float32."""
SCORES = 14
"""Eager attention, bytes per head and pair of tokens: softmax in float32 and in half, gradients."""
SCORES_KEPT = 6
"""Of these, what waits for the backward pass when nothing is checkpointed."""
WORKSPACE = 70 << 20
"""cuBLAS's workspace and small things."""
BUCKETS = 2_000_000_000
"""DeepSpeed's two buckets of 5e8 gradients in half, overlapped with the backward pass."""
SCATTERED = 0.035
"""Of all tensors: what the allocator cannot use between them."""
FLATTENED = 3_200_000_000
"""What it holds besides when ZeRO-1 or 2 trains whole models: measured without a limit only."""


class Training(msgspec.Struct, frozen=True):
    """What decides the memory of a training."""

    batch: int
    length: int
    """Tokens of the longest row of a micro-batch."""
    method: str
    """full, lora, qlora (4 bits) or lora8."""
    rank: int = 64
    dropout: bool = True
    checkpointing: bool = True
    attention: str = "sdpa"
    """eager, sdpa or flash_attention_2."""
    padded: bool = False
    double_quant: bool = True
    half: bool = False
    """Full fine-tuning of weights that are loaded in 16 bits."""
    kept: bool = False
    """An adapter's base stays in the 16 bits that it was loaded in."""
    state: float = 8.0
    """Bytes of optimizer state a parameter: 8 AdamW, 2 in 8 bits."""
    zero: int = 0
    processes: int = 1
    offload_optimizer: bool = False
    offload_parameters: bool = False

    @property
    def tokens(self) -> int:
        """In one micro-batch, padding included."""
        return self.batch * self.length

    @property
    def adapted(self) -> bool:
        """Whether an adapter is trained and the base is frozen."""
        return self.method != "full"

    @property
    def halved(self) -> bool:
        """Whether the weights that are trained are in 16 bits already."""
        return self.zero > 0 or self.half

    @property
    def narrow(self) -> bool:
        """Whether what flows through the layers is in 16 bits, and autocast copies no base."""
        return self.halved or self.kept


class Held(msgspec.Struct, frozen=True):
    """Bytes by part at one moment."""

    moment: str
    """loss, backward or optimizer."""
    parts: dict[str, int]
    block: int
    """The largest tensor that is made then."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())


def peak(training: Training, model: Shape) -> Held:
    """The moment at which one GPU holds most."""
    return max(moments(training, model), key=lambda held: held.total)


def room(training: Training, model: Shape) -> int:
    """What the allocator must be able to take from the GPU for this to run.

    Freed memory is of no use to a larger tensor, so that at the worst moment
    one more of the largest tensors needs a place of its own.
    """
    kept = FLATTENED if training.zero in (1, 2) and not training.adapted else 0
    held = moments(training, model)
    return int(max((1 + SCATTERED) * one.total + one.block for one in held)) + kept


def moments(training: Training, model: Shape) -> list[Held]:
    """What is held at each of the moments that compete."""
    resident = _resident(training, model)
    trained = _trained(training, model)
    share = training.processes
    gradient = 2 if training.halved else 4
    gradients = gradient * trained / (share if training.zero >= 2 else 1)
    saved = _kept(training, model)
    copies = _copies(training, model)
    loss = {
        **resident,
        "logits": LOGITS * training.tokens * model.vocabulary,
        "activations": saved + copies,
        "attention": _scores_kept(training, model),
    }
    # What was saved is given back while gradients come: the first layer that runs backward
    # has all of the one, the last all of the other. DeepSpeed's gradients are in its buckets.
    last = not training.zero and gradients > saved
    backward = {
        **resident,
        "gradients": gradients if last else 0,
        "activations": (0 if last else saved) + _inside(training, model),
        "attention": _scores_inside(training, model),
        "buffers": WORKSPACE + (BUCKETS if training.zero in (1, 2) else 0),
    }
    step = {
        **resident,
        "gradients": gradients if not training.zero else 0,
        "optimizer": resident["optimizer"] + _step(training, trained),
    }
    return [
        _held("loss", loss, 4 * training.tokens * model.vocabulary),
        _held("backward", backward, _block_inside(training, model)),
        _held("optimizer", step, _block_of_step(training, model, trained)),
    ]


def _held(moment: str, parts: dict[str, float], block: float) -> Held:
    return Held(moment, {part: int(size) for part, size in parts.items()}, int(block))


def _block_inside(training: Training, model: Shape) -> float:
    """The largest tensor of a layer's backward pass: scores, a bucket, or the MLP's."""
    bucket = BUCKETS / 2 if training.zero in (1, 2) else 0
    wide = 4.0 * training.tokens * model.intermediate
    return max(4 * _pairs(training, model), bucket, wide)


def _block_of_step(training: Training, model: Shape, trained: int) -> float:
    """The largest tensor of the optimizer's step: DeepSpeed joins all parameters into one."""
    if training.offload_optimizer:
        return 0
    if training.zero:
        return 4 * trained / training.processes
    return 0 if training.adapted else 4.0 * model.head


def _trained(training: Training, model: Shape) -> int:
    if not training.adapted:
        return model.parameters
    return model.adapter(training.rank, output=model.adapts_head)


def _resident(training: Training, model: Shape) -> dict[str, float]:
    """What lies on the GPU between two steps."""
    trained = _trained(training, model)
    own = 2 if training.halved else 4
    weights = _base(training, model) if training.adapted else own * trained
    sharded = training.processes if training.zero == 3 else 1
    if training.offload_parameters:
        weights = 0
    state = (training.state + 4 if training.zero else training.state) * trained
    if training.half and not training.zero:
        state = training.state / 2 * trained  # AdamW's state has the weights' type
    if training.offload_optimizer:
        state = 0
    return {
        "weights": weights / sharded,
        "adapter": own * trained / sharded if training.adapted else 0,
        "gradients": 0,
        "optimizer": state / (training.processes if training.zero else 1),
        "logits": 0,
        "activations": 0,
        "attention": 0,
        "buffers": WORKSPACE,
    }


def _base(training: Training, model: Shape) -> float:
    """The frozen base: what is not quantised XTuner makes float32, DeepSpeed 16 bits."""
    rest = 2 if training.zero or training.kept else 4
    whole = rest * (model.embedding + model.small)
    if training.method == "qlora":
        return whole + (NF4 if training.double_quant else NF4_PLAIN) * model.linear
    if training.method == "lora8":
        return whole + model.linear
    return whole + rest * model.linear


def _step(training: Training, trained: int) -> float:
    """What the optimizer's step needs for itself: AdamW works on all parameters at once."""
    if training.offload_optimizer or training.state < 4:
        return 0
    if training.zero:
        return 8 * trained / training.processes  # a float32 gradient and a square root
    return (2 if training.half else 4) * trained


def _stream(training: Training) -> int:
    """Bytes of a number in the residual stream."""
    return 2 if training.narrow else 4


def _kept(training: Training, model: Shape) -> float:
    """Saved by the whole forward pass for the backward pass."""
    ends = training.tokens * model.hidden * (2 * _stream(training) + 4)
    if training.checkpointing:
        return ends + training.tokens * model.hidden * model.layers * _stream(training)
    return ends + model.layers * training.tokens * layer(training, model)


def _copies(training: Training, model: Shape) -> float:
    """16-bit copies that autocast makes of float32 weights, alive when the loss is computed."""
    if training.halved:
        return 0
    copies = 0.0 if training.kept else 2.0 * model.head
    if training.checkpointing:
        return copies  # the layers' own are gone: each makes them anew when it runs backward
    if training.adapted:
        copies += 2.0 * _trained(training, model)
    if training.method in ("full", "lora") and not training.kept:
        copies += 2.0 * model.linear
    return copies


def layer(training: Training, model: Shape) -> float:
    """Bytes per token that one layer saves for its backward pass, its input included."""
    stream, hidden = _stream(training), model.hidden
    # Two norms keep the stream as float32; for their own gradients the result too.
    norms = 2 * hidden * (4 if stream == 4 or training.adapted else 6)
    if not training.adapted:
        norms += 2 * hidden * stream
    inner = model.intermediate * model.experts_used
    inputs = sum(one for one, _other in model.attention) + 2 * hidden + inner
    if training.adapted:
        # Each adapter's own input after dropout, and the mask of that.
        entering = inputs * (3 if training.dropout else 2) + 2 * training.rank * 7
    else:
        entering = 2 * inputs - 2 * model.query
    wide = 4 if training.method == "qlora" and not training.narrow else 2
    return norms + entering + _attention(training, model) + 3 * wide * inner


def _attention(training: Training, model: Shape) -> float:
    """Query, key and value as the kernel takes them, and what it gives."""
    repeated = training.attention == "eager" or training.padded or model.kind == "internlm2"
    key = model.query if repeated else model.key
    return 2.0 * (2 * model.query + 2 * key)


def _inside(training: Training, model: Shape) -> float:
    """Beside what is saved: the layer that runs backward, recomputed where checkpointed."""
    stream = _stream(training)
    moving = (2 * stream + 4) * model.hidden + 2 * stream * model.intermediate
    found = float(training.tokens * moving)
    if training.checkpointing:
        found += training.tokens * layer(training, model)
    one = model.linear / model.layers
    if training.method in ("qlora", "lora8"):
        found += 2.0 * model.hidden * model.intermediate  # one matrix at a time
    elif not training.narrow:
        found += 2.0 * one
    return found


def _pairs(training: Training, model: Shape) -> float:
    """Entries of all score matrices of one layer; 0 where no kernel writes them down."""
    if training.attention != "eager":
        return 0.0
    return float(training.batch * model.heads * training.length**2)


def _scores_kept(training: Training, model: Shape) -> float:
    if training.checkpointing:
        return 0.0
    return SCORES_KEPT * model.layers * _pairs(training, model)


def _scores_inside(training: Training, model: Shape) -> float:
    return _scores_kept(training, model) + SCORES * _pairs(training, model)
