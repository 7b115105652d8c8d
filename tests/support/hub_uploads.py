"""What the small hub answers to an upload with huggingface_hub or modelscope_hub."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

PRIVATE, PUBLIC = 1, 5
"""ModelScope's numbers for who sees a repository: its owner, everybody."""
LARGE = 1 << 16
"""Bytes from which a file goes through the storage for large files."""


class Uploads(BaseHTTPRequestHandler):
    """The methods that write. The handler that mixes it in has `served`."""

    served: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.served.asked.append(("POST", self.path, ""))
        if self.served.refuses:
            self._reply({"error": "no"}, 403)
        elif self.path.startswith("/api/v1/"):
            self._modelscope_post(self.path.split("/")[3:], json.loads(body))
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._reply({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._reply({"files": [self._mode(one) for one in files]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._reply({"objects": [self._object(one) for one in json.loads(body)["objects"]]})
        elif "/commit/" in self.path:
            self._commit("/".join(self.path.split("/")[3:5]), body)
        else:
            self._reply({"error": "no such thing"}, 404)

    def do_PUT(self) -> None:
        oid = self.path.rsplit("/", 1)[-1]
        left = int(self.headers["Content-Length"])
        self.served.asked.append(("PUT", self.path, str(left)))
        with self.served.door:
            self.served.accepts -= 1
            stands = self.served.accepts < 0
        if stands:  # a line that has gone silent, until the client is tired of it
            self.served.over.wait(60)
            self.close_connection = True
            return
        data = bytearray()
        while left and (piece := self.rfile.read(min(left, LARGE))):
            data += piece
            left -= len(piece)
        if not left:
            self.served.large[oid] = bytes(data)
            self._reply({})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.served.address}/{name}"}
        if ("models", name) in self.served.repos:
            self._reply({"error": "You already created this model repo", **url}, 409)
            return
        self.served.repos["models", name] = {}
        if asked.get("private"):
            self.served.private.add(name)
        self._reply(url)

    def _mode(self, asked: dict[str, Any]) -> dict[str, Any]:
        large = asked["size"] >= LARGE
        mode = "lfs" if large else "regular"
        return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        there = asked["oid"] in self.served.large
        upload = {"upload": {"href": f"{self.served.address}/large/{asked['oid']}"}}
        return asked if there else {**asked, "actions": upload}

    def _commit(self, name: str, body: bytes) -> None:
        repo = self.served.repos["models", name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo[value["path"]] = self.served.large[value["oid"]]
        self._reply({"commitUrl": f"{self.served.address}/{name}/commit/1", "commitOid": "1"})

    def _modelscope_post(self, parts: list[str], asked: dict[str, Any]) -> None:
        if parts == ["models"]:
            name = f"{asked['Path']}/{asked['Name']}"
            if ("models", name) in self.served.repos:
                self._reply({"Code": 10010101001, "Success": False, "Message": "there"}, 400)
                return
            self.served.repos["models", name] = {}
            if asked["Visibility"] == PRIVATE:
                self.served.private.add(name)
            self._reply({"Code": 200, "Success": True, "Data": {"Path": name}})
        elif parts[-1] == "batch":
            data = {"objects": [self._object(one) for one in asked["objects"]]}
            self._reply({"Code": 200, "Success": True, "Data": data})
        elif parts[-2] == "commit":
            repo = self.served.repos["models", "/".join(parts[2:4])]
            for one in asked["actions"]:
                large = one["type"] == "lfs"
                content = b"" if large else base64.b64decode(one["content"])
                repo[one["path"]] = self.served.large[one["sha256"]] if large else content
            self._reply({"Code": 200, "Success": True, "Data": {"oid": "1"}})
        else:
            self._reply({"Code": 404, "Success": False, "Message": "no such thing"}, 404)

    def _reply(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
