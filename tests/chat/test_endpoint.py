"""Models that a server answers for: a real one (`transformers serve`), and rude ones of our own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.chat import endpoint
from engine.chat.session import Answer, ChatSession, ModelSpec, Sampling, Token
from engine.errors import Failed
from engine.settings import Chat, Settings
from tests.chat.asking import ask, chatml, transformers_says

QUESTION = [{"role": "user", "content": "Who are you?"}]


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as that server needs it: its tokenizer gives no token types."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(tiny_model, folder)
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config["model_input_names"] = ["input_ids", "attention_mask"]
    file.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def served(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the model at a running `transformers serve`."""
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "serve.log"
    program = str(Path(sys.executable).with_name("transformers"))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        server = subprocess.Popen(
            [program, "serve", "--host", "127.0.0.1", "--port", str(port)],
            stdout=file,
            stderr=file,
            env=environment,
        )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1#{model}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def session() -> Iterator[ChatSession]:
    with ChatSession(Settings()) as opened:
        yield opened


@contextmanager
def cutting(address: str, after: int) -> Iterator[str]:
    """The server at `address`, behind a wire that breaks after so many bytes of its answer."""
    host, _sep, rest = address.removeprefix("http://").partition(":")
    port, _sep, path = rest.partition("/")

    class Wire(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server:
                threading.Thread(target=copy, args=(self.request, server), daemon=True).start()
                copy(server, self.request, after)
            # A reset, not an end: the server died, it did not finish.
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def copy(source: socket.socket, target: socket.socket, most: int = 1 << 40) -> None:
        try:
            while most > 0 and (data := source.recv(min(65536, most))):
                target.sendall(data)
                most -= len(data)
        except OSError:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Wire) as wire:
        wire.daemon_threads = True
        threading.Thread(target=wire.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{wire.server_address[1]}/{path}"
        wire.shutdown()


def test_a_real_server_answers_as_the_model_does(
    session: ChatSession, served: str, model: Path
) -> None:
    session.load("A", ModelSpec(served))
    pieces, answer = ask(session, "A", "Who are you?", max_new_tokens=20)
    order = {"model": str(model), "texts": [chatml("Who are you?")], "tokens": 20}
    assert answer.text == transformers_says([order])[0][0]["answer"]
    assert "".join(pieces) == answer.text and len(pieces) > 3
    assert answer.ended in ("length", "end") and answer.first_token_s > 0


def test_a_real_answer_can_be_stopped_in_the_middle(session: ChatSession, served: str) -> None:
    session.load("A", ModelSpec(served))
    events = session.generate("A", QUESTION, Sampling(max_new_tokens=900))
    seen = [next(events), next(events)]
    session.stop()
    *rest, answer = events
    assert isinstance(answer, Answer) and answer.ended == "stopped"
    assert answer.text == "".join(one.text for one in [*seen, *rest] if isinstance(one, Token))
    assert ask(session, "A", "Who?", max_new_tokens=3)[1].ended in ("length", "end")


def test_a_wire_that_breaks_leaves_what_had_come(session: ChatSession, served: str) -> None:
    with cutting(served, 3000) as address:
        session.load("A", ModelSpec(address))
        pieces, answer = ask(session, "A", "Who are you?", max_new_tokens=400)
    assert answer.ended == "broken"
    assert answer.text == "".join(pieces) != ""


# -- servers that a real one is not rude enough for -----------------------------


def events(*events: Any, end: str = "data: [DONE]\n\n") -> bytes:
    """Server-sent events."""
    return ("".join(f"data: {json.dumps(one)}\n\n" for one in events) + end).encode()


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


Respond = Callable[[BaseHTTPRequestHandler], tuple[int, bytes]]


class _Handler(BaseHTTPRequestHandler):
    respond: Respond

    def do_GET(self) -> None:
        self._send(200, b'{"data": [{"id": "one"}, {"id": "two"}]}')

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.asked = json.loads(self.rfile.read(length))
        self._send(*type(self).respond(self))

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        pass

    def address_string(self) -> str:
        return "-"  # a unix socket has none


@contextmanager
def serving(respond: Respond, unix: Path | None = None) -> Iterator[str]:
    """A server that lists two models and answers with `respond`."""
    handler = type("Handler", (_Handler,), {"respond": staticmethod(respond)})
    if unix is not None:
        server: Any = socketserver.ThreadingUnixStreamServer(str(unix), handler)
        address = f"unix:{unix}"
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield address
    server.shutdown()
    server.server_close()


def test_the_request_says_what_was_set_and_carries_the_key(tmp_path: Path) -> None:
    heard: list[tuple[str | None, dict[str, Any]]] = []

    def respond(request: Any) -> tuple[int, bytes]:
        heard.append((request.headers.get("Authorization"), request.asked))
        usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        return 200, events(said("Hi"), said("!", finish_reason="stop"), usage)

    with (
        serving(respond, tmp_path / "s") as address,
        ChatSession(Settings(chat=Chat(key="secret"))) as session,
    ):
        session.load("A", ModelSpec(f"{address}#two", system="Be kind."))
        _pieces, answer = ask(session, "A", "Hi", temperature=0.5, top_k=3, repetition=1.1)
    assert (answer.text, answer.tokens, answer.prompt_tokens, answer.ended) == ("Hi!", 2, 7, "end")
    key, asked = heard[0]
    assert key == "Bearer secret"
    assert asked["model"] == "two" and asked["stream"] is True
    assert asked["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (asked["temperature"], asked["top_k"], asked["repetition_penalty"]) == (0.5, 3, 1.1)


def test_chances_come_from_logprobs() -> None:
    logprobs = {
        "content": [
            {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Ho", "logprob": -2.0}]}
        ]
    }
    with (
        serving(lambda _r: (200, events(said("Hi", logprobs=logprobs)))) as address,
        ChatSession(Settings()) as session,
    ):
        session.load("A", ModelSpec(address))
        [chance] = ask(session, "A", "Hi", chances=1)[1].chances
    assert chance.token == "Hi" and chance.p == pytest.approx(0.905, abs=1e-3)
    [(token, p)] = chance.others
    assert token == "Ho" and p == pytest.approx(0.135, abs=1e-3)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"error": {"message": "bad key"}}', "401 Unauthorized: bad key"),
        (500, b"<html>broken</html>", "500 Internal Server Error: <html>"),
        (200, events({"error": {"message": "out of memory"}}), "out of memory"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(status: int, body: bytes, words: str) -> None:
    with serving(lambda _request: (status, body)) as address, ChatSession(Settings()) as session:
        session.load("A", ModelSpec(address))
        with pytest.raises(Failed, match=words):
            ask(session, "A", "Hi")


def test_an_error_in_mid_stream_keeps_what_had_come() -> None:
    body = events(said("half"), {"error": "gone"})
    with serving(lambda _request: (200, body)) as address, ChatSession(Settings()) as session:
        session.load("A", ModelSpec(address))
        pieces, answer = ask(session, "A", "Hi")
    assert (pieces, answer.text, answer.ended) == (["half"], "half", "broken")


def test_strange_lines_in_a_stream_are_passed_over() -> None:
    body = b": ping\n\nevent: x\ndata: not json\n\ndata:\n\n" + events(said("ok"))
    with serving(lambda _request: (200, body)) as address, ChatSession(Settings()) as session:
        session.load("A", ModelSpec(address))
        assert ask(session, "A", "Hi")[1].text == "ok"


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SILENCE", 0.3)
    over = threading.Event()

    def respond(_request: object) -> tuple[int, bytes]:
        over.wait(20)
        return 200, b""

    with serving(respond) as address, ChatSession(Settings()) as session:
        session.load("A", ModelSpec(address))
        with pytest.raises(Failed, match="gave no answer"):
            ask(session, "A", "Hi")
        over.set()


def test_addresses_that_lead_nowhere(session: ChatSession, tmp_path: Path) -> None:
    nowhere = (f"http://127.0.0.1:{free_port()}/v1", f"unix:{tmp_path}/none", "http://[x/v1")
    for address in nowhere:
        with pytest.raises(Failed, match="No model answers"):
            session.load("A", ModelSpec(address))
    with serving(lambda _request: (404, b"no such model")) as address:
        session.load("A", ModelSpec(f"{address}#three"))
        with pytest.raises(Failed, match=r"no such model It lists: one, two\."):
            ask(session, "A", "Hi")
