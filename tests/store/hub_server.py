"""A small server that speaks what huggingface_hub needs to make, fill and read repositories."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


class HubServer(ThreadingHTTPServer):
    """Repositories as lists of commits, oldest first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[Files]] = {}
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit_id(self, repo: str, number: int) -> str:
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def commit(self, repo: str, revision: str) -> tuple[str, Files] | None:
        commits = self.repositories[repo]
        names = {self.commit_id(repo, n): n for n in range(len(commits))} | {"main": len(commits) - 1}
        number = names.get(revision)
        return None if number is None else (self.commit_id(repo, number), commits[number])


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses:
            self._fail(403, "", "this token may not write")
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif match := re.fullmatch(r"/api/models/([\w/-]+)/preupload/main", self.path):
            paths = [f["path"] for f in json.loads(body)["files"]]
            # On the real Hub large files take another way, which is not HTTP of this kind.
            files = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
            self._json({"files": files})
        elif match := re.fullmatch(r"/api/models/([\w/-]+)/commit/main", self.path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._fail(404, "", self.path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        info = re.fullmatch(r"/api/models/([\w-]+/[\w-]+)(?:/revision/([\w-]+))?", self.path)
        file = re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/([\w-]+)/(.+)", self.path)
        match = info or file
        if match is None or match[1] not in self.server.repositories:
            return self._fail(404, "RepoNotFound", "no such repository")
        found = self.server.commit(match[1], match[2] or "main")
        if found is None:
            return self._fail(404, "RevisionNotFound", "no such revision")
        commit, files = found
        if info:
            return self._json({"id": info[1], "sha": commit, "siblings": [{"rfilename": f} for f in files]})
        assert file is not None
        if file[3] not in files:
            return self._fail(404, "EntryNotFound", f"{file[3]} is not there")
        content = files[file[3]]
        etag = hashlib.sha256(content).hexdigest()
        return self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def _create(self, values: dict[str, Any]) -> None:
        repo = f"{values['organization']}/{values['name']}"
        answer = json.dumps({"url": f"{self.server.url}/{repo}"}).encode()
        exists = repo in self.server.repositories
        self.server.repositories.setdefault(repo, [{}])
        self._send(409 if exists else 200, answer, {"Content-Type": "application/json"})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        commits = self.server.repositories[repo]
        files = dict(commits[-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        commits.append(files)
        commit = self.server.commit_id(repo, len(commits) - 1)
        self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit})

    def _json(self, values: dict[str, Any]) -> None:
        self._send(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str, message: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def hub_server() -> Iterator[HubServer]:
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
