"""What a training step holds, tensor by tensor, at the moments when it holds most.

Bytes are counted from what XTuner 0.2.0, transformers and peft keep: which
tensors autograd saves, and in which type. Three moments compete for the peak:
the loss (logits over the vocabulary), the backward pass (inside a layer, or at its
end), and the optimizer's step; for several processes with short samples the start,
too. `room` adds what torch's allocator needs around them; `zero` says what DeepSpeed
shares and what it holds for itself.
"""

from __future__ import annotations

import msgspec

from engine.config.attention import EAGER, SDPA
from engine.config.memory import zero
from engine.config.memory.sizes import Shape
from engine.config.memory.zero import Tensors, Zero

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
SCATTERED = 0.035
"""Of all tensors: what the allocator cannot use between them."""
JOINED = 2 * (250 << 20)
"""What torch's DDP joins to give each rank the first one's weights: two pieces are under way."""
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
    attention: str = SDPA
    """One of `engine.config.attention`'s kinds."""
    padded: bool = False
    double_quant: bool = True
    half: bool = False
    """Full fine-tuning of weights that are loaded in 16 bits."""
    kept: bool = False
    """An adapter's base stays in the 16 bits that it was loaded in."""
    state: float = 8.0
    """Bytes of optimizer state a parameter: 8 AdamW, 2 in 8 bits."""
    zero: Zero = Zero()
    processes: int = 1
    accumulates: bool = False
    """Gradients of one micro-batch wait for those of the next."""

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
        return self.zero.stage > 0 or self.half

    @property
    def narrow(self) -> bool:
        """Whether what flows through the layers is in 16 bits, and autocast copies no base."""
        return self.halved or self.kept


class Held(msgspec.Struct, frozen=True):
    """Bytes by part at one moment."""

    moment: str
    """start, loss, backward or optimizer."""
    parts: dict[str, int]
    block: int
    """The largest tensor that is made then."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())


def rebuilding(training: Training, model: Shape) -> int:
    """What torch's DDP holds in its second step besides.

    It sorts its copies of gradients anew then, by the order in which they came in the first
    one, while NCCL still has the old copies: until the first of that step's are reduced.
    """
    if training.processes < 2 or training.zero.stage:
        return 0
    return _own(training) * _trained(training, model)


def peak(training: Training, model: Shape) -> Held:
    """The moment at which one GPU holds most."""
    return max(moments(training, model), key=lambda held: held.total)


def room(training: Training, model: Shape) -> int:
    """What the allocator must be able to take from the GPU for this to run.

    Freed memory is of no use to a larger tensor, so that at the worst moment
    one more of the largest tensors needs a place of its own.
    """
    kept = FLATTENED if training.zero.stage in (1, 2) and not training.adapted else 0
    held = moments(training, model)
    return int(max((1 + SCATTERED) * one.total + one.block for one in held)) + kept


def moments(training: Training, model: Shape) -> list[Held]:
    """What is held at each of the moments that compete."""
    if training.zero.stage:
        return _with_zero(training, model)
    resident = _resident(training, model)
    trained = _trained(training, model)
    gradients = _own(training) * trained
    # Gradients of the micro-batch before are there all along; a single one's come while what
    # was saved is given back: the first layer that runs backward has all of the one, the last
    # all of the other.
    waiting = gradients if training.accumulates else 0
    saved = _kept(training, model)
    last = not waiting and gradients > saved
    early = {**resident, "buffers": resident["buffers"] + rebuilding(training, model)}
    backward = {
        **(resident if last else early),
        "gradients": gradients if last else waiting,
        "activations": (0 if last else saved) + _inside(training, model),
        "attention": _scores_inside(training, model),
    }
    step = {
        **resident,
        "gradients": gradients,
        "optimizer": resident["optimizer"] + _step(training, trained),
    }
    start = {**resident, "optimizer": 0.0}
    if training.processes > 1:
        joined = min(JOINED, resident["weights"] + resident["adapter"])
        start["buffers"] += joined - WORKSPACE  # cuBLAS has not begun
    return [
        _held("start", start, 0),
        _loss(training, model, {**early, "gradients": waiting}),
        _held("backward", backward, _block_inside(training, model)),
        _held("optimizer", step, 0 if training.adapted else 4.0 * model.head),
    ]


def _with_zero(training: Training, model: Shape) -> list[Held]:
    """The moments under DeepSpeed, which collects gradients in buckets and reduces them."""
    told, share = training.zero, training.processes
    found, resident = tensors(training, model), _resident(training, model)
    waiting = zero.accumulated(told, share, found.trained) if training.accumulates else 0
    gathered, reducing = zero.gathered(told, share, found), zero.reducing(told, share, found)
    begun = {**resident, "gradients": resident["gradients"] + waiting}
    ahead = zero.gathered(told, share, found, coming=False)
    loss = {**begun, "weights": resident["weights"] + ahead}
    # While layers still run only full buckets are reduced. The last one is when all is done.
    full = found.trained > told.bucket
    # (What stage 1 reduces has been there, whole, where gradients waited.)
    after = 0 if told.stage == 1 and waiting else zero.reduced(told, share, found.trained)
    early = after * max(0, found.trained - told.bucket) / max(found.trained, 1)
    backward = {
        **begun,
        "weights": resident["weights"] + gathered,
        "gradients": begun["gradients"] + early,
        "activations": _kept(training, model) + _inside(training, model),
        "attention": _scores_inside(training, model),
        "buffers": resident["buffers"]
        + zero.buckets(told)
        + max(zero.joining(told, share, found), reducing if full else 0),
    }
    end = {
        **begun,
        "weights": resident["weights"] + min(gathered, zero.HALF * found.largest),
        "gradients": begun["gradients"] + after,
        "buffers": resident["buffers"] + zero.buckets(told) + reducing,
    }
    changed = zero.step(told, share, found.trained)
    step = {**resident, "optimizer": resident["optimizer"] + _step(training, changed)}
    bucket = zero.HALF * (min(found.trained, told.bucket) if told.stage == 3 else told.bucket)
    single = 0 if told.optimizer_on_host else zero.SINGLE * changed
    return [
        _loss(training, model, loss),
        _held("backward", backward, max(_block_inside(training, model), bucket)),
        _held("backward", end, bucket),
        _held("optimizer", step, single),  # DeepSpeed joins all gradients into one
    ]


def _loss(training: Training, model: Shape, resident: dict[str, float]) -> Held:
    loss = {
        **resident,
        "logits": LOGITS * training.tokens * model.vocabulary,
        "activations": _kept(training, model) + _copies(training, model),
        "attention": _scores_kept(training, model),
    }
    return _held("loss", loss, 4 * training.tokens * model.vocabulary)


def _held(moment: str, parts: dict[str, float], block: float) -> Held:
    return Held(moment, {part: int(size) for part, size in parts.items()}, int(block))


def _block_inside(training: Training, model: Shape) -> float:
    """The largest tensor of a layer's backward pass: scores, or the MLP's."""
    return max(4 * _pairs(training, model), 4.0 * training.tokens * model.intermediate)


def _trained(training: Training, model: Shape) -> int:
    if not training.adapted:
        return model.parameters
    return model.adapter(training.rank, output=model.adapts_head)


def _own(training: Training) -> int:
    """Bytes of a weight that is trained, and of its gradient."""
    return 2 if training.halved else 4


def tensors(training: Training, model: Shape) -> Tensors:
    """What DeepSpeed finds, elements."""
    packed = 4 if training.method == "qlora" else 1
    ends = [model.head] * (1 if model.tied else 2)
    base = [*ends, *(one * other // packed for one, other in model.linears * model.layers)]
    adapted = model.linears * model.layers
    adapted += [(model.hidden, model.vocabulary)] if model.adapts_head else []
    added = [training.rank * side for pair in adapted for side in pair]
    trained = added if training.adapted else base
    small = sum(
        one for one in (base + added if training.adapted else base) if one <= training.zero.whole
    )
    return Tensors(
        trained=_trained(training, model),
        frozen=sum(base) + model.small if training.adapted else 0,
        small=small + model.small,
        largest=max(base),
        largest_trained=max(trained),
    )


def _resident(training: Training, model: Shape) -> dict[str, float]:
    """What lies on the GPU between two steps."""
    trained = _trained(training, model)
    own, share = _own(training), training.processes
    told, found = training.zero, tensors(training, model)
    weights = _base(training, model) if training.adapted else float(own * trained)
    adapter = float(own * trained) if training.adapted else 0.0
    buffers, gradients = float(WORKSPACE), 0.0
    if told.stage:
        scales = (_nf4(training) - 0.5) * model.linear if training.method == "qlora" else 0
        whole = weights - scales + adapter
        cut = zero.weights(told, share, whole, zero.HALF * found.small) / whole
        weights, adapter = scales + (weights - scales) * cut, adapter * cut
        optimizer = zero.optimizer(told, share, trained, training.state)
        gradients = zero.standing_gradients(told, share, trained)
        buffers += zero.standing_buffers(told, found)
    else:
        # AdamW's state has the weights' type.
        optimizer = (training.state / 2 if training.half else training.state) * trained
        buffers += own * trained if share > 1 else 0  # torch's DDP reduces copies of gradients
    return {
        "weights": weights,
        "adapter": adapter,
        "gradients": gradients,
        "optimizer": optimizer,
        "logits": 0,
        "activations": 0,
        "attention": 0,
        "buffers": buffers,
    }


def _nf4(training: Training) -> float:
    return NF4 if training.double_quant else NF4_PLAIN


def _base(training: Training, model: Shape) -> float:
    """The frozen base: what is not quantised XTuner makes float32, DeepSpeed 16 bits."""
    rest = 2 if training.zero.stage or training.kept else 4
    whole = rest * (model.embedding + model.small)
    if training.method == "qlora":
        return whole + _nf4(training) * model.linear
    if training.method == "lora8":
        return whole + model.linear
    return whole + rest * model.linear


def _step(training: Training, changed: int) -> float:
    """What the optimizer's step needs for itself: AdamW works on all parameters at once."""
    if training.zero.optimizer_on_host or training.state < 4:
        return 0
    if training.zero.stage:
        return 8 * changed  # a float32 gradient and a square root
    return (2 if training.half else 4) * changed


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
    repeated = training.attention == EAGER or training.padded or model.kind == "internlm2"
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
    if training.attention != EAGER:
        return 0.0
    return float(training.batch * model.heads * training.length**2)


def _scores_kept(training: Training, model: Shape) -> float:
    if training.checkpointing:
        return 0.0
    return SCORES_KEPT * model.layers * _pairs(training, model)


def _scores_inside(training: Training, model: Shape) -> float:
    return _scores_kept(training, model) + SCORES * _pairs(training, model)
