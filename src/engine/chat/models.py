"""The models in a chat worker. Slots on the same base share one copy of its weights."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.chat.prompt import Prompter
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.worker.model_code import cache_max_length


class Base:
    """A base model with the adapters that were loaded onto it.

    While a single slot uses it, `settle` adds that slot's adapter to the
    weights themselves: an adapter beside them halves the speed. Taking it off
    again would leave rounding behind, so a base that was merged is loaded
    anew when another slot wants it. So is one on which an adapter did not fit:
    half of that may be in there.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.model: Any = None
        """None until `restore`, where it could not be loaded anew."""
        self.ends: list[int] = []
        """The model's own end tokens."""
        self.context: int | None = None
        """The most tokens that prompt and answer may have together."""
        self.merged = False
        self._options = options
        self._adapters: dict[Path, str] = {}
        self.restore()

    def restore(self) -> None:
        """Load the weights anew, if an adapter or a part of one was put into them.

        Raises `Failed` when they cannot be loaded now; the next call tries again.
        """
        if self.model is not None and not self.merged:
            return
        wanted, self._adapters = self._adapters, {}
        self.model, self.merged = None, False
        free_memory()  # two copies might not fit
        try:
            self._load()
            for adapter in wanted:
                self._attach(adapter)
        except BaseException:
            self.model, self._adapters = None, wanted
            raise

    def _load(self) -> None:
        from transformers import GenerationConfig

        self.model = _load(**self._options)
        own = self.model.generation_config.eos_token_id
        self.ends = [one for one in (own if isinstance(own, list) else [own]) if one is not None]
        most = getattr(self.model.config, "max_position_embeddings", None)
        self.context = most if isinstance(most, int) else None
        # Our sampling settings are all that counts, not defaults that came with the model.
        self.model.generation_config = GenerationConfig()

    def add(self, adapter: Path) -> None:
        """Load an adapter beside those that are there already. Raises `Failed` if it does not fit.

        Then the weights are loaded anew before anybody is answered with them.
        """
        if adapter in self._adapters:
            return
        try:
            self._attach(adapter)
        except BaseException:
            self.model = None
            raise

    def _attach(self, adapter: Path) -> None:
        from peft import PeftModel

        name = f"adapter{len(self._adapters)}"
        try:
            if isinstance(self.model, PeftModel):
                self.model.load_adapter(adapter, adapter_name=name)
            else:
                self.model = PeftModel.from_pretrained(self.model, adapter, adapter_name=name)
        except (RuntimeError, ValueError) as error:
            raise Failed(
                _("The adapter {adapter} does not fit {model}").format(
                    adapter=adapter, model=self._options["folder"]
                ),
                _said(error),
                _("Load it on the base model that it was trained on."),
                str(error),
            ) from error
        self._adapters[adapter] = name
        self.model.eval()

    def settle(self, adapter: Path) -> None:
        """Put `adapter` into the weights, for the only slot that there is."""
        # Quantized weights would be rounded anew.
        if not self._options["bits"] and not self.merged:
            self.model.merge_adapter([self._adapters[adapter]])
            self.merged = True

    @contextmanager
    def with_adapter(self, adapter: Path | None) -> Iterator[Any]:
        """The model as one slot wants it: with its adapter, or without any."""
        if not self._adapters or self.merged:
            yield self.model
        elif adapter is None:
            with self.model.disable_adapter():
                yield self.model
        else:
            self.model.set_adapter(self._adapters[adapter])
            yield self.model


class Slot:
    """One way to ask a base: with an adapter or without, in a template, with a system text."""

    def __init__(
        self,
        key: tuple[Any, ...],
        base: Base,
        adapter: Path | None,
        prompter: Prompter,
        system: str,
        ends: list[int],
    ) -> None:
        self.key = key
        self.base = base
        self.adapter = adapter
        self.prompter = prompter
        self.system = system
        self.ends = ends
        self.merge = True
        """Whether its adapter may be put into the weights."""

    @property
    def context(self) -> int | None:
        """The most tokens that prompt and answer may have together."""
        return self.base.context

    @property
    def device(self) -> Any:
        """Where its inputs go."""
        return self.base.model.device


class Models:
    """The slots, and the bases under them."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self._bases: dict[tuple[Any, ...], Base] = {}

    def base(self, key: tuple[Any, ...], options: Mapping[str, Any]) -> Base:
        """The base that `key` stands for: loaded, and with no adapter in its weights."""
        known = self._bases.get(key)
        if known is None:
            known = self._bases[key] = Base(options)
        known.restore()
        return known

    def shared(self, name: str) -> list[str]:
        """The other slots on the same weights."""
        base = self.slots[name].base
        return [other for other, slot in self.slots.items() if slot.base is base and other != name]

    def settle(self, name: str) -> None:
        """Make the slot ready to answer: its adapter merged where it is alone on its base."""
        slot = self.slots[name]
        if slot.base.model is None:
            slot.base.restore()
        if slot.merge and slot.adapter is not None and not self.shared(name):
            slot.base.settle(slot.adapter)

    def unload(self, name: str) -> None:
        """Forget a slot; a base goes with the last one on it."""
        self.slots.pop(name, None)
        used = {slot.key for slot in self.slots.values()}
        self._bases = {key: base for key, base in self._bases.items() if key in used}
        free_memory()


def free_memory() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    torch = sys.modules.get("torch")  # where it was never imported, nothing is held
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def place(device: str, dtype: str, size: int) -> tuple[str, Any]:
    """Where `size` bytes of model go, and as what.

    On a CPU float32 computes several times faster than 16 bits.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        best = max(range(len(free)), key=free.__getitem__)
        # Too big for one card: accelerate spreads the layers over all of them.
        device = f"cuda:{best}" if size < free[best] or len(free) == 1 else "auto"
    if dtype != "auto":
        names = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return device, names[dtype]
    return device, torch.float32 if device == "cpu" else "auto"


def _load(folder: Path, device: str, dtype: Any, bits: int, trust: bool) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # The argument was called torch_dtype before transformers 4.56, and still may be.
    options: dict[str, Any] = {"torch_dtype": dtype, "trust_remote_code": trust}
    if device != "cpu" or bits:
        options["device_map"] = device if device == "auto" else {"": device}
    if bits == 8:
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    elif bits == 4:
        import torch

        compute = torch.float32 if device == "cpu" else torch.bfloat16
        # As QLoRA has it in training.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )
    if device.startswith(("cuda", "auto")):
        _make_workspaces(device)
        _leave_cudnn_attention()
    if trust:
        cache_max_length()
    with _in_words(
        _("The model {model} cannot be loaded").format(model=folder),
        _("It may need another version of transformers; `tunedeck doctor` tells which is here."),
    ):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
    return model.eval()


def tokenizer(folder: Path, trust: bool) -> Any:
    """The tokenizer of the model in `folder`. Raises `Failed` when it has none that loads."""
    from transformers import AutoTokenizer

    with _in_words(
        _("The tokenizer of {model} cannot be loaded").format(model=folder),
        _("Copy the base model's tokenizer files into it."),
    ):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)


@contextmanager
def _in_words(what: str, todo: str) -> Iterator[None]:
    """Whatever a library throws becomes `Failed`; want of memory is somebody else's to tell."""
    try:
        yield
    except (Problem, MemoryError, RuntimeError):
        raise
    except Exception as error:
        raise Failed(what, _said(error), todo, traceback.format_exc()) from error


def _said(error: Exception) -> str:
    """What a library says in one line: its first, and where that is a heading the next too."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if isinstance(error, KeyError):  # says nothing but the key
        return f"{type(error).__name__}: {lines[0]}"
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _make_workspaces(device: str) -> None:
    """Let cuBLAS take its working memory (32 MB) before a model is there.

    transformers reserves one piece of memory for the whole model. Were the
    working memory cut from it at the first product, that piece could not go
    back to the card when the model does.
    """
    import torch

    cards = range(torch.cuda.device_count()) if device == "auto" else [torch.device(device)]
    for card in cards:
        for dtype in (torch.float32, torch.bfloat16):
            one = torch.ones(16, 16, device=card, dtype=dtype)
            torch.addmm(one[0], one, one)


def _leave_cudnn_attention() -> None:
    """Let torch attend with its own kernels.

    On some cards (those of compute capability 9.0 and 10.0) it prefers cuDNN's,
    which makes a plan for each length of the context: tens of milliseconds at
    every token of a new answer.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def end_tokens(base: Base, prompter: Prompter) -> list[int]:
    """Tokens that end an answer: the model's, the tokenizer's, one-token stop words."""
    tokenizer = prompter.tokenizer
    ends = {*base.ends, tokenizer.eos_token_id} - {None}
    for word in prompter.stop_words:
        ids = tokenizer.encode(word, add_special_tokens=False)
        ends |= set(ids) if len(ids) == 1 else set()
    return sorted(ends)
