"""Chat through our whole path, down to the terminal, against a bare loop of transformers.

    python benchmarks/chat.py [--size tiny|0.1|1.2|8] [--gpu] [--pairs 3] [--firsts 15]

*Speed.* The app in a pseudo-terminal, asked with keys; beside it a process of its
own with nothing but ``generate`` and a streamer. Both have the same model, device, threads
and prompt; each answers in turn while the other sleeps. The bare loop's clock runs from the
question's arrival in its process to what its streamer hands out; ours from the Enter key to
the answer's first character, and to the line below the whole answer, on the terminal. After
`--pairs` whole answers of each come `--firsts` that are ended at their first character.

The bare loop goes in several ways, for they differ:

- *thread*: ``TextIteratorStreamer``, ``generate`` in a thread of its own for each question;
- *thread, flash*: the same without cuDNN's attention (GPU only). torch prefers that on some
  cards, and it plans anew for each length of the context; plans are kept by thread;
- *main*: ``generate`` in the main thread, its streamer prints. With our attention (no cuDNN's).

Our answers must equal those of the ways that compute with the same kernels.

*Memory.* A base and two adapters (r=64 on all linear layers) in our worker, sharing
the base, against the same three loaded separately in one process of transformers
and peft; after each has answered.

The model is a Llama of random weights (made once in ``/tmp/tunedeck-chat-SIZE``)
whose head only knows Chinese words: an answer never ends before its last token,
and its first character is easily told on the screen. `tiny` shows fixed costs best.
Exit status 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from engine.chat import transcripts
from engine.chat.answer import Sampling
from engine.chat.session import ChatSession, ModelSpec
from engine.machine import gpu
from engine.settings import Settings
from engine.worker.client import environment
from engine.workspace import Workspace
from terminal import Pty

ROOT = Path(__file__).parents[1]
CHINESE = re.compile(rb"[\xe4-\xe9][\x80-\xbf]{2}")
FIGURES = re.compile(rb"tok/s")
QUIET = 0.4
"""Seconds in which the app has done whatever a key asked for."""
FEW = 8
"""Tokens of a bare answer of which only the first counts."""
THREAD, FLASH, MAIN = "thread", "thread, flash", "main"
QUESTION = " ".join(["Who are you?"] * 20)

MAKE = """
import sys, torch
from pathlib import Path
sys.path.insert(0, "benchmarks")
import random_model
from tests.support import tiny
where, size, device, adapters = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
tokenizer = tiny.tokenizer()
forms = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, vocab_size=1024,
                 num_attention_heads=4, num_key_value_heads=2),
    "0.1": dict(hidden_size=768, intermediate_size=2048, num_hidden_layers=8,
                num_attention_heads=12, num_key_value_heads=4),
    "1.2": {},
    "8": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
              num_attention_heads=32, num_key_value_heads=8),
}
sizes = random_model.LLAMA_12B | forms[size] | dict(
    bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
random_model.folder(sizes, where)
tokenizer.save_pretrained(where)
torch.manual_seed(0)
model = random_model.build(str(where), device, torch_dtype=torch.bfloat16)
words = [tokenizer.decode([token]) for token in range(len(tokenizer))]
chinese = [bool(word) and all("\\u4e00" <= c <= "\\u9fff" for c in word) for word in words]
known = [token for token, fits in enumerate(chinese) if fits]
with torch.no_grad():  # the logits of all other words are exactly 0, the best one's is above
    head = model.get_output_embeddings().weight
    kept = head[known].clone()
    head.zero_()
    head[known] = kept
model.save_pretrained(where, safe_serialization=True)
from peft import LoraConfig, get_peft_model
for number in range(1, adapters + 1):
    config = LoraConfig(r=64, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, values in adapted.named_parameters():
            if "lora_B" in name:
                values.normal_(0, 0.001)
    adapted.save_pretrained(where / f"adapter{number}")
    model = adapted.unload()
"""
BARE = """
import json, resource, sys, threading, time, torch
from transformers import (
    AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer, TextStreamer,
)
folder, device = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(folder)
dtype = torch.float32 if device == "cpu" else "auto"
model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype).to(device).eval()
skip = dict(skip_prompt=True, skip_special_tokens=True)


class Printing(TextStreamer):
    def __init__(self):
        super().__init__(tokenizer, **skip)
        self.first, self.text = 0.0, ""

    def on_finalized_text(self, text, stream_end=False):
        self.first = self.first or time.perf_counter()
        self.text += text
        print(text, file=sys.stderr, flush=True, end="")


def spent():
    found = resource.getrusage(resource.RUSAGE_SELF)
    return found.ru_utime + found.ru_stime


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    busy, started, first, text = spent(), time.perf_counter(), 0.0, ""
    asked = json.loads(line)
    torch.backends.cuda.enable_cudnn_sdp(asked["cudnn"])
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked["question"]}], add_generation_prompt=True,
        return_tensors="pt").to(device)
    streamer = TextIteratorStreamer(tokenizer, **skip) if asked["thread"] else Printing()
    options = dict(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                   max_new_tokens=asked["tokens"], pad_token_id=tokenizer.pad_token_id,
                   streamer=streamer)
    if asked["thread"]:
        thread = threading.Thread(target=model.generate, kwargs=options)
        thread.start()
        for piece in streamer:
            first = first or time.perf_counter()
            text += piece
        ended = time.perf_counter()
        thread.join()
    else:
        model.generate(**options)
        first, text, ended = streamer.first, streamer.text, time.perf_counter()
    print(json.dumps({"first": first - started, "whole": ended - started, "text": text,
                      "tokens": asked["tokens"], "cpu": spent() - busy}), flush=True)
"""
SEPARATE = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, device = sys.argv[1:3]
dtype = torch.float32 if device == "cpu" else "auto"
ids = AutoTokenizer.from_pretrained(folder)("Who are you?", return_tensors="pt").input_ids
models = []
for adapter in (None, "adapter1", "adapter2"):
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype).to(device)
    if adapter:
        model = PeftModel.from_pretrained(model, folder + "/" + adapter)
    model.generate(input_ids=ids.to(device), max_new_tokens=8, do_sample=False)
    models.append(model)
print(json.dumps({"ready": True}), flush=True)
sys.stdin.readline()
"""


class Took(NamedTuple):
    """One answer: seconds until its first character and until its end; its text and length.

    `cpu`: seconds of processors that it took, of all threads together.
    """

    first: float
    whole: float
    text: str
    tokens: int
    cpu: float

    @property
    def speed(self) -> float:
        """Tokens a second, from the first on."""
        return (self.tokens - 1) / (self.whole - self.first)


class Process:
    """A program of ours that answers JSON lines under the training interpreter."""

    def __init__(self, code: str, settings: Settings, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [settings.python, "-c", code, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment(settings),
        )  # fmt: skip

    def ready(self) -> None:
        """Wait until it has loaded its models."""
        assert self._read()["ready"]

    def ask(self, way: str, tokens: int) -> Took:
        """One answer of the bare loop in one of its ways."""
        stdin: IO[str] = self.process.stdin  # type: ignore[assignment]
        order = {"question": QUESTION, "thread": way != MAIN, "cudnn": way == THREAD}
        stdin.write(json.dumps({**order, "tokens": tokens}) + "\n")
        stdin.flush()
        return Took(**self._read())

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process of the benchmark died")
        found: dict[str, Any] = json.loads(line)
        return found


class App:
    """The app on a terminal, with the model in its Chat pane, set to answers of `tokens`."""

    def __init__(self, model: Path, workspace: Path, settings: Settings, tokens: int) -> None:
        Workspace(workspace).remember(tab="chat", base=str(model))
        self.workspace = workspace
        self.tokens = tokens
        command = [sys.executable, "-m", "tui", str(workspace)]
        env = {"TUNEDECK_LANGUAGE": "en", "TUNEDECK_THREADS": str(settings.threads)}
        self.terminal = Pty(command, 100, 30, **env)
        self.terminal.until(model.name.encode(), 30)
        self.terminal.read(0.5)
        self.terminal.write(b"\x07")  # ^G: sampling; its fifth field is the length
        self.terminal.until(b"max_new_tokens", 30)
        for keys in (*[b"\r"] * 4, b"\x15", str(tokens).encode(), b"\r", b"\r"):
            self._press(keys)  # Enter goes to the next field, and from the last one out

    def ask(self) -> Took:
        """One answer, in a talk of its own."""
        begin, started, busy = self._send()
        first = self.terminal.when(CHINESE, begin, 300)
        whole = self.terminal.when(FIGURES, begin, 300)
        spent = self._spent() - busy
        self._press(b"\x0c")  # ^L: a new talk
        return Took(first - started, whole - started, self._answer(), self.tokens, spent)

    def first(self) -> float:
        """Seconds to the first character of an answer that is then ended."""
        begin, started, _busy = self._send()
        first = self.terminal.when(CHINESE, begin, 300)
        self.terminal.write(b"\x1b")
        self.terminal.when(FIGURES, begin, 300)
        for keys in (b"\x1b", b"i", b"\x0c"):  # where the answer was over, Esc left the field
            self._press(keys)
        return first - started

    def _send(self) -> tuple[int, float, float]:
        """Ask: where in the output that was, when, and the processors' seconds until then."""
        self._press(b"\x1b[200~" + QUESTION.encode() + b"\x1b[201~")
        asked = len(self.terminal.output), time.perf_counter(), self._spent()
        self.terminal.write(b"\r")
        return asked

    def _press(self, keys: bytes) -> None:
        self.terminal.write(keys)
        self.terminal.read(QUIET)

    def _spent(self) -> float:
        """Seconds of processors that the app and its model's process have taken."""
        app = psutil.Process(self.terminal.pid)
        times = [one.cpu_times() for one in (app, *app.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def _answer(self) -> str:
        """The text, whole, from the newest transcript."""
        newest = max(
            transcripts.listed(self.workspace / "chats"), key=lambda one: one.stat().st_mtime
        )
        return transcripts.read(newest).nodes[-1].replies["A"][-1].text

    def close(self) -> None:
        """End it."""
        self.terminal.close()


def speed(
    model: Path, device: str, settings: Settings, pairs: int, firsts: int, tokens: int
) -> bool:
    """Measure and print; whether all answers were equal that had to be."""
    ways = [THREAD, MAIN] if device == "cpu" else [THREAD, FLASH, MAIN]
    with tempfile.TemporaryDirectory() as name:
        bare = Process(BARE, settings, str(model), device)
        app = App(model, Path(name), settings, tokens)
        try:
            app.ask()  # loads the model
            bare.ready()
            for way in ways:
                bare.ask(way, FEW)
            whole = [({w: bare.ask(w, tokens) for w in ways}, app.ask()) for _ in range(pairs)]
            short = [
                ({w: bare.ask(w, FEW).first for w in ways}, app.first()) for _ in range(firsts)
            ]
        finally:
            bare.close()
            app.close()
    speeds = [({w: one.speed for w, one in theirs.items()}, ours.speed) for theirs, ours in whole]
    ended = [({w: one.whole for w, one in theirs.items()}, ours.whole) for theirs, ours in whole]
    busy = [({w: one.cpu for w, one in theirs.items()}, ours.cpu) for theirs, ours in whole]
    for way in ways:
        print(f"  bare loop: {way}")
        _line("tokens/s", speeds, way, 1)
        _line("first character, ms", short, way, 1000)
        _line("whole answer, s", ended, way, 1)
        _line("processors, s", busy, way, 1)
    same = ways if device == "cpu" else [FLASH, MAIN]
    return all(theirs[way].text == ours.text for theirs, ours in whole for way in same)


def _line(title: str, found: list[tuple[dict[str, float], float]], way: str, unit: float) -> None:
    """Medians of one figure, and of its ratios pair by pair (with the range)."""
    if not found:
        return
    ratios = [ours / theirs[way] for theirs, ours in found]
    bare = statistics.median(theirs[way] for theirs, _ours in found) * unit
    through = statistics.median(ours for _theirs, ours in found) * unit
    print(
        f"    {title:20} bare {bare:8.2f}   through the app {through:8.2f}   "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}, "
        f"n={len(found)})",
        flush=True,
    )


def memory(model: Path, device: str, settings: Settings) -> None:
    """Measure and print what three models take, shared and separate."""

    def used(process: psutil.Process) -> float:
        if device == "cpu":
            return float(process.memory_full_info().uss)
        return float(gpu.read().gpus[0].used)

    before = 0.0 if device == "cpu" else used(psutil.Process())
    separate = Process(SEPARATE, settings, str(model), device)
    separate.ready()
    apart = used(psutil.Process(separate.process.pid)) - before
    separate.close()
    time.sleep(1)
    with ChatSession(settings) as session:
        for slot, adapter in (("A", None), ("B", "adapter1"), ("C", "adapter2")):
            path = str(model / adapter) if adapter else None
            session.load(slot, ModelSpec(str(model), adapter=path, device=device))
        for slot in "ABC":
            question = [{"role": "user", "content": "Who are you?"}]
            list(session.generate(slot, question, Sampling(max_new_tokens=8)))
        [worker] = psutil.Process().children()
        together = used(worker) - before
    print(
        f"  three models     separate {apart / 1e6:8.0f} MB   shared {together / 1e6:8.0f} MB   "
        f"ratio {together / apart:.3f}"
    )


def main() -> None:
    """Make the model if it is not there, measure, print."""
    parser = argparse.ArgumentParser(description="Chat through the app against a bare loop.")
    parser.add_argument("--size", choices=("tiny", "0.1", "1.2", "8"), default="0.1")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--firsts", type=int, default=15, help="answers to the first character")
    parser.add_argument("--tokens", type=int, default=256, help="(256 is what the pane asks for)")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--threads", type=int, help="(default: all cores but one, for the app)")
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    settings = Settings(threads=args.threads or max(1, cores - 1))
    device = "cuda:0" if args.gpu else "cpu"
    model = Path(f"/tmp/tunedeck-chat-{args.size}")
    if not list(model.glob("adapter2" if args.memory else "*.safetensors")):
        order = [settings.python, "-c", MAKE, str(model), args.size, device]
        order.append("2" if args.memory else "0")
        subprocess.run(order, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    print(f"Llama of {args.size}e9, {device}, {settings.threads} threads, {args.tokens} tokens,")
    print(f"  {args.pairs} pairs, load of the machine {os.getloadavg()[0]:.1f} of {cores} cores")
    equal = speed(model, device, settings, args.pairs, args.firsts, args.tokens)
    print("  all answers equal" if equal else "  ANSWERS DIFFER", flush=True)
    if args.memory:
        memory(model, device, settings)
    sys.exit(not equal)


if __name__ == "__main__":
    main()
