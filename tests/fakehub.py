"""A hub on loopback: the few HTTP calls huggingface_hub makes to push, list and fetch a model."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_KINDS = "(models|datasets)"


@dataclass
class FakeHub:
    """What the hub holds and saw.

    Attributes:
        url: of its root.
        token: what writing asks for.
        repos: files by name, of each repository.
        blobs: large files by SHA-256, as uploaded.
        requests: method and path of each, in order.
    """

    url: str = ""
    token: str = "hf_" + "s3cret" * 6
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def commit(self, repo: str) -> str:
        """A commit hash that changes with any file."""
        digest = hashlib.sha1()
        for name, content in sorted(self.repos[repo].items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
        return digest.hexdigest()


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """The hub, listening until the block ends."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        path = self._path()
        if match := re.fullmatch(rf"/api/{_KINDS}/{_REPO}(/revision/[^/]+)?", path):
            self._info(match["repo"])
        elif match := re.fullmatch(rf"/api/{_KINDS}/{_REPO}/tree/[^/]+", path):
            self._tree(match["repo"])
        elif match := re.fullmatch(rf"(/datasets)?/{_REPO}/resolve/[^/]+/(?P<name>.+)", path):
            self._file(match["repo"], match["name"])
        else:
            self._json({"error": f"no such page: {path}"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "/api/validate-yaml":  # the card's header, asked without a token
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            values = json.loads(body)
            repo = f"{values['organization']}/{values['name']}"
            known = repo in self.hub.repos
            self.hub.repos.setdefault(repo, {})
            self._json({"url": f"{self.hub.url}/{repo}"}, 409 if known else 200)
        elif re.fullmatch(rf"/api/models/{_REPO}/preupload/main", path):
            files = json.loads(body)["files"]
            large = [file["path"].endswith((".safetensors", ".onnx")) for file in files]
            self._json({"files": [
                {"path": file["path"], "uploadMode": "lfs" if big else "regular",
                 "shouldIgnore": False}
                for file, big in zip(files, large, strict=True)]})  # fmt: skip
        elif re.fullmatch(rf"/{_REPO}\.git/info/lfs/objects/batch", path):
            self._batch(json.loads(body))
        elif match := re.fullmatch(rf"/api/models/{_REPO}/commit/main", path):
            self._commit(match["repo"], body.decode().splitlines())
        else:
            self._json({"error": f"no such page: {path}"}, 404)

    def do_PUT(self) -> None:
        content = self._body()
        assert hashlib.sha256(content).hexdigest() == self._path().rsplit("/", 1)[-1]
        self.hub.blobs[hashlib.sha256(content).hexdigest()] = content
        self._json({})

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        return path

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, value: object, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json"})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _missing(self, code: str) -> None:
        self._send(b"{}", 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _info(self, repo: str) -> None:
        if repo not in self.hub.repos:
            self._missing("RepoNotFound")
            return
        names = [{"rfilename": name} for name in self.hub.repos[repo]]
        self._json({"id": repo, "sha": self.hub.commit(repo), "siblings": names, "private": False})

    def _tree(self, repo: str) -> None:
        files = self.hub.repos[repo].items()
        self._json([{"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                    for name, content in files])  # fmt: skip

    def _file(self, repo: str, name: str) -> None:
        if repo not in self.hub.repos:
            self._missing("RepoNotFound")
        elif name not in self.hub.repos[repo]:
            self._missing("EntryNotFound")
        else:
            content = self.hub.repos[repo][name]
            headers = {"X-Repo-Commit": self.hub.commit(repo), "ETag": f'"{_oid(content)}"'}
            self._send(content, 200, headers)

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            {
                "oid": item["oid"],
                "size": item["size"],
                "actions": {"upload": {"href": f"{self.hub.url}/upload/{item['oid']}"}},
            }
            for item in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _commit(self, repo: str, lines: list[str]) -> None:
        files = self.hub.repos[repo]
        for line in lines:
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        commit = self.hub.commit(repo)
        url = f"{self.hub.url}/{repo}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})


def _oid(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
