"""Chat on a real GPU: equal to transformers there, memory given back.

One program makes the model, then goes on to say what transformers answers while
the worker loads (under 60 s in all, most of it imports).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.chat.session import ChatSession, ModelSpec
from engine.errors import Failed
from engine.machine import gpu
from engine.settings import Settings
from tests.chat.asking import ask, chatml
from tests.support import card

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu.read().available, reason="no GPU on this machine"),
    pytest.mark.timeout(240),
]

QUESTIONS = ["Who are you?", "你是谁？", "Write a short poem about the sea."]
TOKENS = 32
CUDA = "cuda:0"
BYTES = 600_000_000
"""What the weights of the model at least take in 16 bits."""

SAYS = """
import json, sys, torch
from tests.support import tiny
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM
folder, adapter, texts, tokens = *sys.argv[1:3], json.loads(sys.argv[3]), int(sys.argv[4])
tokenizer = tiny.tokenizer()
tokenizer.save_pretrained(folder)
torch.manual_seed(0)
sizes = dict(vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=4096,
             num_hidden_layers=24, num_attention_heads=16, num_key_value_heads=8,
             max_position_embeddings=65536, tie_word_embeddings=False,
             bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
             pad_token_id=tokenizer.pad_token_id)
with torch.device("cuda"):
    model = tiny.builtin("llama", sizes).to(torch.bfloat16)
model.save_pretrained(folder, safe_serialization=True)
adapted = get_peft_model(
    model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
with torch.no_grad():
    for name, values in adapted.named_parameters():
        if "lora_" in name:
            values.normal_(0, 0.05)
adapted.save_pretrained(adapter)
print("made", flush=True)
del model, adapted

def answers(model):
    found = []
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)], device="cuda")
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                              max_new_tokens=tokens, do_sample=False)
        found.append(tokenizer.decode(made[0, ids.shape[1]:], skip_special_tokens=True))
    return found

torch.backends.cuda.enable_cudnn_sdp(False)  # as the worker: kernels round differently
with torch.inference_mode():
    model = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype="auto", device_map={"": "cuda:0"})
    said = {"base": answers(model.eval())}
    model = PeftModel.from_pretrained(model, adapter).eval()
    said["adapter"] = answers(model)
    model.merge_adapter()
    said["merged"] = answers(model)
print(json.dumps(said), flush=True)
"""


class Made:
    """The model, its adapter, and what transformers says of them."""

    def __init__(self, folder: Path) -> None:
        self.model, self.adapter = folder / "model", folder / "adapter"
        texts = json.dumps([chatml(question) for question in QUESTIONS])
        self._says = card.Helper(SAYS, self.model, self.adapter, texts, str(TOKENS))
        self._said: dict[str, list[str]] = {}
        self._says.line("made")

    @property
    def said(self) -> dict[str, list[str]]:
        """The answers of the base, with the adapter beside it, with the adapter merged."""
        if not self._said:
            self._said = json.loads(self._says.line("{"))
            self._says.close()
        return self._said

    def spec(self, **values: Any) -> ModelSpec:
        return ModelSpec(str(self.model), device=CUDA, **values)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    found = Made(tmp_path_factory.mktemp("chat"))
    yield found
    found._says.close()


@pytest.fixture(scope="module")
def session() -> Iterator[ChatSession]:
    with ChatSession(Settings()) as opened:
        yield opened


def answers(session: ChatSession, slot: str) -> list[str]:
    return [ask(session, slot, question, max_new_tokens=TOKENS)[1].text for question in QUESTIONS]


def short_answer(session: ChatSession) -> int:
    """How many tokens slot A says to a question, of 8."""
    return ask(session, "A", QUESTIONS[0], max_new_tokens=8)[1].tokens


def used(session: ChatSession) -> int:
    """Bytes that the worker holds; of the whole card where processes cannot be seen."""
    pid = session._worker.pid
    held = card.held_by({pid}) if pid else 0
    return card.used() if held is None else held


def test_greedy_equals_transformers_with_the_adapter_beside_the_base_and_in_it(
    session: ChatSession, made: Made
) -> None:
    base = session.load("A", made.spec())
    beside = session.load("B", made.spec(adapter=str(made.adapter)))
    assert (base.dtype, base.device, beside.shared) == ("bfloat16", CUDA, ["A"])
    for _round in range(2):
        assert answers(session, "A") == made.said["base"]
        assert answers(session, "B") == made.said["adapter"]
    session.unload("A")
    assert answers(session, "B") == made.said["merged"]
    session.unload("B")
    assert len({*made.said["base"], *made.said["adapter"]}) > len(QUESTIONS)


def test_memory_comes_back_and_fewer_bits_take_less(session: ChatSession, made: Made) -> None:
    made.said  # noqa: B018 (its program must have left the card)
    taken = {}
    for bits in (0, 8, 4):
        before = used(session)
        loaded = session.load("A", made.spec(bits=bits))
        assert loaded.dtype == (f"{bits}-bit" if bits else "bfloat16")
        assert short_answer(session)
        full = used(session)
        session.unload("A")
        taken[bits] = full - used(session)
        print(f"{bits} bits: {(full - before) / 1e6:.0f} MB came, {taken[bits] / 1e6:.0f} left")
    assert taken[0] > BYTES
    # (transformers reserves more than what the quantized weights of a small model need.)
    assert taken[0] > 1.2 * max(taken[8], taken[4])


def test_a_gpu_on_which_a_run_trains_is_left_alone(made: Made) -> None:
    cards = {card.index for card in gpu.read().gpus}
    began = time.monotonic()
    with ChatSession(Settings(), busy=cards) as session:
        with pytest.raises(Failed, match="would disturb a training"):
            session.load("A", ModelSpec(str(made.model)))
        assert session.dead, "nothing was even started"
    assert time.monotonic() - began < 5
