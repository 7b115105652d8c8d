"""A small hub on this machine that speaks the protocols of Hugging Face and of ModelScope.

Their real clients talk to it. It can break a download off in the middle, once for
each file, and counts what was asked.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_uploads import PRIVATE, PUBLIC, Uploads

SHA = "5f" * 20


class Hub:
    """Repositories by kind ("datasets", "models") and name, each a table of files."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], dict[str, bytes]] = {}
        self.cards: dict[tuple[str, str], dict[str, Any]] = {}
        self.closed: set[tuple[str, str]] = set()
        """Repositories that ask for a token."""
        self.break_off: set[str] = set()
        """Files whose next download ends in the middle."""
        self.slow: float = 0.0
        """Seconds to wait after every 64 KiB."""
        self.asked: list[tuple[str, str, str]] = []
        """Method, path, and the range asked for (for PUT: the bytes sent)."""
        self.private: set[str] = set()
        """Names of model repositories that were made private."""
        self.large: dict[str, bytes] = {}
        """Large files that were uploaded, by their sum."""
        self.accepts: float = float("inf")
        """How many more large files are taken; then the line stands still."""
        self.door = threading.Lock()
        self.over = threading.Event()
        self.refuses = False
        """Whether every upload is refused."""
        self.address = ""

    def environment(self, folder: str) -> Mapping[str, str]:
        """What makes the clients come here, their caches in `folder`."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": f"{folder}/hf",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "XDG_CACHE_HOME": f"{folder}/cache",
            "MODELSCOPE_ENDPOINT": self.address,
            "MODELSCOPE_CACHE": f"{folder}/ms",
            "MODELSCOPE_HOME": f"{folder}/ms-home",
        }


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port of the loopback."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.over.set()
        server.shutdown()
        server.server_close()


class _Handler(Uploads):
    served: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        url = urlsplit(self.path)
        self.served.asked.append((self.command, self.path, self.headers.get("Range", "")))
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if parts[:2] == ["api", "v1"]:
            self._modelscope(parts[2:], query, body)
        elif parts[0] == "api":
            self._info(parts[1], "/".join(parts[2:4]))
        elif "resolve" in parts:
            at = parts.index("resolve")
            kind, name = (
                ("datasets", parts[1:at]) if parts[0] == "datasets" else ("models", parts[:at])
            )
            self._file(kind, "/".join(name), "/".join(parts[at + 2 :]), body)
        else:
            self._json({"error": "no such thing"}, 404)

    def _repo(self, kind: str, name: str) -> dict[str, bytes] | None:
        repo = self.served.repos.get((kind, name))
        if (kind, name) in self.served.closed:
            self._json({"error": "closed"}, 401, {"X-Error-Code": "GatedRepo"})
            return None
        if repo is None:
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        return repo

    def _info(self, kind: str, name: str) -> None:
        repo = self._repo(kind, name)
        if repo is None:
            return
        siblings = [
            {"rfilename": file, "size": len(data), "blobId": _etag(data)}
            for file, data in repo.items()
        ]
        self._json(
            {
                "id": name,
                "sha": SHA,
                "private": name in self.served.private,
                "tags": [],
                "siblings": siblings,
                "cardData": self.served.cards.get((kind, name), {}),
            }
        )

    def _file(self, kind: str, name: str, file: str, body: bool) -> None:
        repo = self._repo(kind, name)
        if repo is None:
            return
        data = repo.get(file)
        if data is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        begin = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and body:
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{_etag(data)}"')
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Accept-Ranges", "bytes")
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if not body:
            return
        if file in self.served.break_off and begin == 0:
            self.served.break_off.discard(file)
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        for at in range(begin, len(data), 1 << 16):
            self.wfile.write(data[at : at + (1 << 16)])
            if self.served.slow:
                time.sleep(self.served.slow)

    def _modelscope(self, parts: list[str], query: Mapping[str, str], body: bool) -> None:
        kind, name, rest = parts[0], "/".join(parts[1:3]), parts[3:]
        if rest == ["repo"]:
            self._file(kind, name, query["FilePath"], body)
            return
        repo = self._repo(kind, name)
        if repo is None:
            return
        files = [
            {
                "Path": file,
                "Name": file.rsplit("/", 1)[-1],
                "Type": "blob",
                "Size": len(data),
                "Sha256": hashlib.sha256(data).hexdigest(),
                "Revision": SHA,
            }
            for file, data in repo.items()
        ]
        first = query.get("PageNumber", "1") == "1"
        found = {"Files": files if first else [], "TotalCount": len(files), "Id": 1, "Name": name}
        found["Visibility"] = PRIVATE if name in self.served.private else PUBLIC
        self._json({"Code": 200, "Success": True, "Data": found, "TotalCount": len(files)})

    def _json(
        self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for key, word in (headers or {}).items():
            self.send_header(key, word)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
