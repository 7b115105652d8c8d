"""A model server for tests: it speaks as OpenAI's does and says what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers each question with the next of `answers`, in pieces; remembers what it was asked."""

    daemon_threads = True

    def __init__(self, answers: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        """Closed, it holds an answer back after its first piece."""
        self.broken = False
        """It then answers with an error."""

    @property
    def address(self) -> str:
        """As the pane takes it."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "nova"}]}')

    def do_POST(self) -> None:
        server = self.server
        server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if server.broken:
            self.send_error(500)
            return
        answer = server.answers[min(len(server.asked), len(server.answers)) - 1]
        self.send_response(200)
        self.end_headers()
        step = max(1, len(answer) // 5)
        try:
            for at in range(0, len(answer), step):
                self._send({"choices": [{"delta": {"content": answer[at : at + step]}}]})
                server.gate.wait(20)
            self._send({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        except OSError:
            pass  # the pane has stopped the answer

    def _send(self, event: Any) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_words: object) -> None:
        pass


@contextmanager
def serving(*answers: str) -> Iterator[Server]:
    """A server on a port of its own."""
    with Server(list(answers)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.gate.set()
        server.shutdown()
