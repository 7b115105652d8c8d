"""Stands in for ``vllm``: really serves HTTP, with a child process as vLLM's engine core is.

FAKE_VLLM=broken ends before it serves; =slow never serves; FAKE_START: seconds until it does.
Writes what it was given to FAKE_TOLD.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

TOLD: dict[str, Any] = {
    "argv": sys.argv[1:],
    "pids": [],
    "cards": os.environ.get("CUDA_VISIBLE_DEVICES"),
    "asked": [],
}
KEY = os.environ.get("VLLM_API_KEY", "")


class Handler(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "client"  # (a unix socket's has no host)

    def _allowed(self) -> bool:
        if KEY and self.headers["Authorization"] != f"Bearer {KEY}":
            self.send_error(401)
            return False
        self.send_response(200)
        self.end_headers()
        return True

    def do_GET(self) -> None:
        if self._allowed():
            self.wfile.write(b'{"data": [{"id": "model"}, {"id": "adapter"}]}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._allowed():
            TOLD["asked"].append(asked)
            note()
            event = {"choices": [{"delta": {"content": f"I am {asked['model']}."}}]}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.write(b'data: {"choices": [{"finish_reason": "stop"}]}\n\n')


def note() -> None:
    path = Path(os.environ["FAKE_TOLD"])
    path.with_suffix(".new").write_text(json.dumps(TOLD))
    path.with_suffix(".new").replace(path)


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def main() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    TOLD["pids"] = [os.getpid(), child.pid]
    note()
    print("INFO loading model weights", flush=True)
    if os.environ.get("FAKE_VLLM") == "broken":
        sys.exit("ValueError: No available memory for the cache blocks.")
    if os.environ.get("FAKE_VLLM") == "slow":
        time.sleep(600)
    time.sleep(float(os.environ.get("FAKE_START", "0")))
    uds = option("--uds")
    if uds:
        socketserver.ThreadingUnixStreamServer(uds, Handler).serve_forever()
    else:
        place = (option("--host"), int(option("--port")))
        socketserver.ThreadingTCPServer(place, Handler).serve_forever()


if __name__ == "__main__":
    main()
