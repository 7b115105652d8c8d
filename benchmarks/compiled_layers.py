"""Do compiled layers train as uncompiled ones do, dropout among what they do?

    python benchmarks/compiled_layers.py [--what masks|precision|curves] [--layers 32]
        [--steps 16] [--seconds 150] [--quantized] [--toy]

InternLM2.5-7B's sizes and modelling code with random weights, our LoRA config (QLoRA with
--quantized), all of it on one GPU: one model is built once, and each case trains the same
adapter anew on the same samples, with XTuner's model, optimizer and loss.

"curves" is how a training goes. Samples, weights and learning rates are the same in all
cases; a case has its seed for dropout alone. So what cases without compiling are apart is
what other masks do. What compiled ones are further apart than that is what they round
elsewhere ("eager masks" are drawn as uncompiled layers draw them); "precision" says which
of the two is nearer to float32 (`compiled_precision.py`).

"masks" looks into one layer whose adapter is not zero. Of the inputs 0.9 are kept, and a
mask knows nothing of its neighbour's place, of another linear layer's or of another seed's
mask. The backward meets the masks of the forward ("agreement" is 1), and so does a layer that
is computed again, as activation checkpointing does. Gradients over many masks have the same
mean and the same spread.
--toy tries all of it on a CPU with a tiny model.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tests.support import tiny  # noqa: E402
from torch import nn  # noqa: E402

import compiled_precision  # noqa: E402
import random_model  # noqa: E402
import training_speed  # noqa: E402
from engine.train import compiled as own  # noqa: E402

LEARNING_RATE = 2e-4
WARM_UP = 3
"""Steps until the learning rate is full; in the first it is zero."""


class Case(NamedTuple):
    """One training: the seed of its masks, and what is done another way than usual."""

    name: str
    seed: int
    dropout: float = 0.1
    compiled: bool = False
    checkpointing: bool = False
    eager_masks: bool = False


CASES = (
    Case("uncompiled, masks 1", 1),
    Case("the same again", 1),
    Case("uncompiled, masks 2", 2),
    Case("uncompiled, masks 3", 3),
    Case("uncompiled, masks 4", 4),
    Case("uncompiled, dropout 0", 1, 0.0),
    Case("compiled, dropout 0", 1, 0.0, True),
    Case("compiled, masks 1", 1, 0.1, True),
    Case("compiled, masks 2", 2, 0.1, True),
    Case("compiled, masks 3", 3, 0.1, True),
    Case("uncompiled, checkpointing", 1, checkpointing=True),
    Case("compiled, checkpointing", 1, compiled=True, checkpointing=True),
    Case("compiled, eager masks 1", 1, compiled=True, eager_masks=True),
)


class Bench:
    """The model of one config, its adapter as it began, and the samples."""

    def __init__(self, work: Path, quantized: bool, toy: bool, steps: int) -> None:
        from mmengine.config import Config
        from mmengine.runner import Runner, set_random_seed
        from xtuner.registry import BUILDER
        from xtuner.tools.train import register_function

        name = training_speed.QLORA if quantized else training_speed.LORA
        case = training_speed.Case("", name, 80, training_speed.CURVE)
        path, _ = training_speed.prepare(case, 1, work, toy)
        self.config = Config.fromfile(path)
        register_function(self.config._cfg_dict)
        self.device = torch.device("cpu" if toy else "cuda")
        set_random_seed(42)
        self.model = BUILDER.build(self.config.model).to(self.device)
        loader = Runner.build_dataloader(self.config.train_dataloader, seed=42)
        self.samples = [sample for sample, _ in zip(loader, range(steps), strict=False)]
        self.trained = {
            name: value.detach().clone()
            for name, value in self.model.named_parameters()
            if value.requires_grad
        }
        self.dropouts = [
            module
            for name, module in self.model.named_modules()
            if "lora_dropout" in name and isinstance(module, nn.Dropout)
        ]
        self.layers = own.Compiled(self.model.llm)
        ids = b"".join(one["data"]["input_ids"].numpy().tobytes() for one in self.samples)
        shapes = {tuple(one["data"]["input_ids"].shape) for one in self.samples}
        self.told = (
            f"{len(self.layers.layers)} layers, {len(self.dropouts)} dropouts, {len(self.samples)} "
            f"samples {shapes}, {hashlib.sha256(ids).hexdigest()[:12]}"
        )

    def reset(self, seed: int, dropout: float) -> None:
        """The adapter as it began."""
        with torch.no_grad():
            for name, value in self.model.named_parameters():
                if value.requires_grad:
                    value.copy_(self.trained[name])
                    value.grad = None
        for module in self.dropouts:
            module.p = dropout
        self.model.train()
        torch.manual_seed(seed)

    def train(self, case: Case) -> dict[str, Any]:
        """Losses, gradient norms, seconds of each step and the most memory (MiB)."""
        from mmengine.optim import build_optim_wrapper

        self.reset(case.seed, case.dropout)
        if case.checkpointing:
            self.model.llm.enable_input_require_grads()
            self.model.activation_checkpointing_enable()
        wanted = self.config.optim_wrapper.copy()
        if self.device.type == "cuda":
            wanted.optimizer = {**wanted.optimizer, "fused": True}
            torch.cuda.reset_peak_memory_stats()
        wrapper = build_optim_wrapper(self.model, wanted)
        wrapper.initialize_count_status(self.model, 0, len(self.samples))
        losses, norms, seconds = [], [], []
        self.layers.on = case.compiled
        for step, sample in enumerate(self.samples):
            for group in wrapper.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, step / WARM_UP)
            began = time.perf_counter()
            told = self.model.train_step(sample, wrapper)
            losses.append(told["loss"].item())
            seconds.append(time.perf_counter() - began)
            norms.append(float(wrapper.message_hub.get_scalar("train/grad_norm").current()))
        self.layers.on = False
        if case.checkpointing:
            self.model.activation_checkpointing_disable()
            self.model.llm.disable_input_require_grads()
        memory = torch.cuda.max_memory_allocated() >> 20 if self.device.type == "cuda" else 0
        return {"losses": losses, "norms": norms, "seconds": seconds, "memory": memory}


@contextlib.contextmanager
def masks_as_uncompiled(wanted: bool) -> Iterator[None]:
    """Let torch draw random numbers outside of what it compiles, in the order of uncompiled."""
    import torch._inductor.config as inductor

    if not wanted:
        yield
        return
    torch._dynamo.reset()
    with inductor.patch(fallback_random=True):
        yield
    torch._dynamo.reset()


def curves(bench: Bench, until: float) -> None:
    """Print how far each case's losses are from the first one's, and how fast it was."""
    columns = "case | apart at step 1, 3, 4 | mean, most apart | last loss | grad norm, mean |"
    print(f"\n| {columns} s/step | first step, s | MiB | losses |\n|{' --- |' * 9}", flush=True)
    first: dict[str, Any] = {}
    bare: dict[str, Any] = {}  # the one without dropout: compiled, it is compared with that
    for case in CASES:
        if time.monotonic() > until:
            print(f"(no time for {case.name})", flush=True)
            continue
        with contextlib.redirect_stdout(sys.stderr), masks_as_uncompiled(case.eager_masks):
            found = bench.train(case)
        first = first or found
        if case.dropout == 0 and not bare:
            bare = found
        beside = bare if case.dropout == 0 and case.compiled else first
        apart = [a - b for a, b in zip(found["losses"], beside["losses"], strict=True)]
        sizes = [abs(one) for one in apart]
        shown = " ".join(f"{one:.4f}" for one in found["losses"])
        print(
            f"| {case.name} | {apart[0]:+.4f}, {apart[2]:+.4f}, {apart[3]:+.4f} "
            f"| {statistics.mean(sizes):.4f}, {max(sizes):.4f} | {found['losses'][-1]:.4f} "
            f"| {statistics.mean(found['norms']):.3f} "
            f"| {statistics.median(found['seconds'][2:]):.3f} | {found['seconds'][0]:.1f} "
            f"| {found['memory']} | {shown} |",
            flush=True,
        )
    told = torch._dynamo.utils.counters
    print(json.dumps({key: dict(told[key]) for key in ("frames", "stats", "graph_break")}))


class OneLayer:
    """The first layer as it stands in the model, with an adapter that is not zero."""

    def __init__(self, bench: Bench) -> None:
        bench.reset(0, 0.1)
        self.bench, self.layer = bench, bench.layers.layers[0]
        with torch.no_grad():
            for name, value in self.layer.named_parameters():
                if "lora_B" in name:
                    value.normal_(0, 0.02)
        self.trained = {n: p for n, p in self.layer.named_parameters() if p.requires_grad}
        kind = bench.device.type
        self.amp = torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")
        self.args, self.options = self._asked()
        hidden = self.args[0] if self.args else self.options["hidden_states"]
        self.towards = torch.randn(hidden.shape, device=hidden.device)

    def _asked(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the model calls the layer with."""
        kept: list[Any] = []
        handle = self.layer.register_forward_pre_hook(
            lambda _layer, args, options: kept.extend([args, options]), with_kwargs=True
        )
        sample = self.bench.samples[0]["data"]["input_ids"].to(self.bench.device)
        with torch.no_grad(), self.amp:
            self.bench.model.llm.get_base_model()(input_ids=sample)
        handle.remove()
        return kept[0], kept[1]

    def forward(self, seed: int) -> torch.Tensor:
        """The layer's output, (1, tokens, width), with the masks of `seed`."""
        torch.manual_seed(seed)
        with self.amp:
            out = self.layer(*self.args, **self.options)
        return out[0] if isinstance(out, tuple) else out

    def loss(self, seed: int, token: int | None = None) -> torch.Tensor:
        """A number that is linear in the output (of one token)."""
        where = slice(None) if token is None else slice(token, token + 1)
        return (self.forward(seed).float() * self.towards)[:, where].sum()

    def gradients(self, seed: int, token: int | None = None) -> dict[str, torch.Tensor]:
        """Of all that is trained, by its name in the layer."""
        found = torch.autograd.grad(self.loss(seed, token), list(self.trained.values()))
        return dict(zip(self.trained, found, strict=True))

    def moments(self, draws: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Mean and spread of the gradients over so many masks."""
        total = {name: torch.zeros_like(value) for name, value in self.trained.items()}
        squares = {name: torch.zeros_like(value) for name, value in self.trained.items()}
        for seed in range(draws):
            for name, found in self.gradients(seed).items():
                total[name] += found
                squares[name] += found.square()
        means = {name: value / draws for name, value in total.items()}
        spread = {
            name: (squares[name] / draws - means[name].square()).clamp(min=0).sqrt()
            for name in self.trained
        }
        return means, spread

    def masks(self, draws: int, token: int) -> dict[str, torch.Tensor]:
        """What was kept of one token's inputs, (draws, width), by the name of the linear layer.

        Only kept inputs have a gradient in A. What attention mixes in comes from other
        tokens too, but for the first one.
        """
        rows: dict[str, list[torch.Tensor]] = {}
        for seed in range(draws):
            for name, found in self.gradients(seed, token).items():
                if "lora_A" in name and (token == 0 or "wqkv" not in name):
                    rows.setdefault(name.split(".lora_A")[0], []).append(found.ne(0).any(0).float())
        return {name: torch.stack(kept) for name, kept in rows.items()}

    def agreement(self, seed: int = 5) -> float:
        """How the loss moves along a gradient, beside what the gradient says: 1 if one mask.

        By the last linear layer's A, in which the loss is linear.
        """
        name = next(one for one in self.trained if "w2.lora_A" in one)
        value, found = self.trained[name], self.gradients(seed)[name]
        step = found * (value.norm() / found.norm())
        with torch.no_grad():
            value.add_(step)
            above = self.loss(seed)
            value.sub_(2 * step)
            below = self.loss(seed)
            value.add_(step)
        return float((above - below) / 2 / (step * found).sum())


def _alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """The correlation of two masks: 0 if they know nothing of each other."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def one_layer(bench: Bench, draws: int = 48) -> None:
    """Print what dropout does in one layer, compiled and not."""
    one = OneLayer(bench)
    columns = "one layer | kept | neighbours alike | masks alike | agreement"
    print(f"\n| {columns} |\n|{' --- |' * 5}", flush=True)
    for compiled in (False, True):
        bench.layers.on = compiled
        kept = {**one.masks(draws, 0), **{f"{n}, t": m for n, m in one.masks(draws, 77).items()}}
        share = {name: float(mask.mean()) for name, mask in kept.items()}
        near = max(
            abs(_alike(mask[:, first::4], mask[:, first + by :: 4]))
            for mask in kept.values()
            for first, by in ((0, 1), (0, 2), (0, 3), (1, 2), (2, 1))
        )
        names = list(kept)
        pairs = [
            abs(_alike(kept[a], kept[b]))
            for place, a in enumerate(names)
            for b in names[:place]
            if kept[a].shape == kept[b].shape
        ]
        later = [abs(_alike(mask[1:], mask[:-1])) for mask in kept.values()]
        print(
            f"| {'compiled' if compiled else 'uncompiled'} "
            f"| {min(share.values()):.4f} to {max(share.values()):.4f} | {near:.4f} "
            f"| {max(pairs + later):.4f} | {one.agreement():.4f} |",
            flush=True,
        )
    print("\n| gradient | compiled mean along uncompiled mean | ratio of spreads |")
    print(f"|{' --- |' * 3}", flush=True)
    bench.layers.on = False
    means, spread = one.moments(draws)
    bench.layers.on = True
    others, other_spread = one.moments(draws)
    for name in one.trained:
        mean, other = means[name].flatten(), others[name].flatten()
        along = float(mean @ other / (mean @ mean))
        ratio = float(other_spread[name].mean() / spread[name].mean())
        print(f"| {name.replace('.default.weight', '')} | {along:.4f} | {ratio:.4f} |", flush=True)
    with torch.no_grad():
        before = one.forward(5)
    again, masks = (float((one.forward(seed) - before).detach().abs().mean()) for seed in (5, 6))
    bench.layers.on = False
    print(f"computed again with a gradient: apart {again:.2e}; with other masks {masks:.2e}")


def main() -> None:
    """Build the model, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--what", choices=("masks", "precision", "curves"), help="default: all")
    parser.add_argument("--layers", type=int, help="default: all of them")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=150, help="begin no case after these")
    parser.add_argument("--quantized", action="store_true", help="QLoRA: the base in 4 bits")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    if args.quantized and args.what == "precision":
        parser.error("there is no float32 to compare 4 bits with")
    until = time.monotonic() + args.seconds
    work = Path(tempfile.mkdtemp(prefix="compiled-layers-"))
    sizes = random_model.INTERNLM_77B
    sizes = random_model.toy(sizes) if args.toy else sizes
    sizes = {**sizes, "num_hidden_layers": args.layers or sizes["num_hidden_layers"]}
    random_model.folder(sizes, work / "model")
    tiny.tokenizer().save_pretrained(work / "model")
    rows = [
        {"instruction": f"你是谁 {n}", "input": "", "output": training_speed.text(n)}
        for n in range(args.steps + 2)
    ]
    (work / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    from engine.train import imports

    with imports.lightly():
        from engine.train import base, shims

        shims.apply()
    base.install()
    name = "CPU" if args.toy else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}", flush=True)
    with contextlib.redirect_stdout(sys.stderr):
        bench = Bench(work, args.quantized, args.toy, args.steps)
    print(bench.told, flush=True)
    if args.what in (None, "masks"):
        one_layer(bench)
    if args.what in (None, "precision") and not args.quantized:
        compiled_precision.tables(bench, until)
    if args.what in (None, "curves"):
        curves(bench, until)


if __name__ == "__main__":
    main()
