"""The few endpoints of the Hugging Face hub that checkpoints need, on loopback: repositories, commits, files, tokens.

Upload goes the regular way (content in the commit), not through LFS or Xet: the server says so, as the hub may.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

TOKEN = "hf_writer"


@dataclass
class Repository:
    """Commits by their id, newest last, and whether reading needs the token."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: dict[str, bytes]) -> str:
        """A new state; its id."""
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        return sha

    def find(self, revision: str) -> str | None:
        """The commit of a revision; "main" is the newest."""
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


@dataclass
class HubStandIn:
    """What the server holds and was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def hub_on_loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    """A hub on this machine to which huggingface_hub talks while the block runs."""
    hub = HubStandIn()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn

    def log_message(self, format: str, *args: object) -> None:
        self.hub.asked.append(format % args)

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        if path == "api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        writes = self.command == "POST"
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "no token")
        if path == "api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            made = Repository(private=asked.get("visibility") == "private")
            if self.hub.repositories.setdefault(name, made) is made:
                made.commit({".gitattributes": b""})
            return self._json({"url": f"{constants.ENDPOINT}/{name}"})
        parts = path.split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        repository = self.hub.repositories.get(name)
        allowed = repository is not None and (
            not repository.private or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        )
        if repository is None or not allowed:
            return self._refuse(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
        what, revision, rest = (
            (parts[4], parts[5], "/".join(parts[6:]))
            if parts[0] == "api"
            else (parts[2], parts[3], "/".join(parts[4:]))
        )
        return self._repository(repository, name, what, revision, rest, body)

    def _repository(self, repository: Repository, name: str, what: str, revision: str, rest: str, body: bytes) -> None:
        sha = repository.find(revision)
        if sha is None:
            return self._refuse(404, "RevisionNotFound")
        files = repository.commits[sha]
        if what == "revision":
            return self._json({"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in files]})
        if what == "tree":
            rows = [
                {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for p, c in files.items()
            ]
            return self._json(rows)
        if what == "preupload":
            named = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for path in named]
            return self._json({"files": modes})
        if what == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            added = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            made = repository.commit(files | added)
            address = f"{constants.ENDPOINT}/{name}/commit/{made}"
            return self._json({"success": True, "commitOid": made, "commitUrl": address})
        if what == "resolve" and rest in files:
            content, tag = files[rest], hashlib.sha1(files[rest]).hexdigest()
            return self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": sha})
        return self._refuse(404, "EntryNotFound")

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b'{"error": "refused"}', {"X-Error-Code": code, "Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
