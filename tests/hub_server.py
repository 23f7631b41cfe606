"""A Hugging Face Hub on loopback: what huggingface_hub calls, over real HTTP.

Repositories, branches, tags and commits, small files and LFS files, downloads with ETag and range,
tokens, private and gated repositories, and the faults a network has. Large files are served from
another host name, as the Hub's are. There is no Xet storage: clients set ``HF_HUB_DISABLE_XET``,
which makes them send large files by LFS, and fetch them by HTTP as they do from any mirror.
"""

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
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http

LFS_SUFFIXES = (".safetensors", ".png")
"""Of files that are kept apart, as the ``.gitattributes`` of a new repository has it."""


@dataclass(frozen=True)
class Blob:
    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """What git calls it."""
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass
class Repository:
    repo_id: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Branches and tags to commits."""

    def commit(self, ref: str, files: dict[str, Blob]) -> str:
        parent = self.refs.get(ref, "")
        text = json.dumps([self.repo_id, parent, {k: b.oid for k, b in sorted(files.items())}])
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid] = files
        self.refs[ref] = oid
        return oid

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision, revision if revision in self.commits else None)

    @property
    def tags(self) -> list[str]:
        card = self.commits[self.refs["main"]].get("README.md")
        head = card.data.decode().split("---\n")[1] if card else ""
        return (yaml.safe_load(head) or {}).get("tags", [])


@dataclass
class Fault:
    """What goes wrong with requests of a method whose path has a pattern in it."""

    method: str
    pattern: str
    times: int
    status: int = 0
    """Answered in place of what was asked for."""
    cut: int | None = None
    """Bytes of the body after which the connection ends."""
    tamper: bool = False
    """One byte of the body is another."""


class Hub:
    """What the server knows; tests look and write here directly."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.tokens: dict[str, set[str]] = {}
        """Token to the accounts that it may write for."""
        self.requests: list[tuple[str, str, str | None]] = []
        """Method, path and ``Range`` of every request."""
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.endpoint = self.cdn = ""

    def fail(self, method: str, pattern: str, times: int = 1, **how: Any) -> None:
        self.faults.append(Fault(method, pattern, times, **how))

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.pattern, path):
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, pattern: str) -> int:
        return sum(m == method and bool(re.search(pattern, p)) for m, p, _ in self.requests)


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **more: str) -> None:
        self.status, self.code, self.body = status, code, {"error": message, **more}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    # ------------------------------------------------------------------ answering

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.parts, self.query = unquote(url.path), parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, self.parts, self.headers.get("Range")))
        self.broken = self.hub.fault(self.command, self.parts)
        try:
            if self.broken is not None and self.broken.status:
                raise RefusedError(self.broken.status, "out of order, as asked for")
            with self.hub.lock:
                found = self.found(body)
            self.send(*found)
        except RefusedError as refused:
            headers = {"X-Error-Message": refused.body["error"]}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self.send(refused.status, refused.body, headers)

    def send(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(data)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.broken is not None and self.broken.tamper:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.broken is not None and self.broken.cut is not None:
            self.wfile.write(data[: self.broken.cut])
            self.close_connection = True
            return
        self.wfile.write(data)

    def found(self, body: bytes) -> tuple[Any, ...]:
        """Status, body and headers of what was asked for."""
        for pattern, handle in (
            (r"GET /api/models", self.list_models),
            (r"POST /api/repos/create", self.create),
            (r"POST /api/validate-yaml", self.validate_card),
            (r"GET /api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            (r"GET /api/models/([^/]+/[^/]+)/tree/(.+)", self.tree),
            (r"POST /api/models/([^/]+/[^/]+)/branch/(.+)", self.branch),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            (r"POST /api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
            (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"PUT /lfs/([0-9a-f]{64})", self.upload),
            (r"POST /lfs/verify", self.verify),
            (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+|refs/pr/\d+)/(.+)", self.resolve),
            (r"(?:GET|HEAD) /cdn/([0-9a-f]{64})", self.large_file),
        ):
            match = re.fullmatch(pattern, f"{self.command} {self.parts}")
            if match:
                return handle(body, *match.groups())
        raise RefusedError(404, f"no such page: {self.command} {self.parts}")

    # ------------------------------------------------------------------ who may do what

    @property
    def accounts(self) -> set[str] | None:
        """Accounts that the token is of; None without one."""
        header = self.headers.get("Authorization")
        if header is None:
            return None
        found = self.hub.tokens.get(header.removeprefix("Bearer "))
        if found is None:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return found

    def readable(self, repo_id: str) -> Repository:
        accounts = self.accounts
        found = self.hub.repositories.get(repo_id)
        member = accounts is not None and repo_id.split("/")[0] in accounts
        if found is None or (found.private and not member):
            # To the unknown it does not say which.
            status = 401 if accounts is None else 404
            raise RefusedError(status, "Repository not found", "RepoNotFound")
        if found.gated and not member:
            raise RefusedError(403, "Access to this model is restricted", "GatedRepo")
        return found

    def writable(self, repo_id: str) -> Repository:
        found = self.readable(repo_id)
        if self.accounts is None:
            raise RefusedError(401, "You must be logged in")
        if repo_id.split("/")[0] not in self.accounts:
            raise RefusedError(403, "You don't have the rights to write here")
        return found

    def revision(self, repo_id: str, revision: str | None) -> tuple[Repository, str]:
        repository = self.readable(repo_id)
        oid = repository.find(revision or "main")
        if oid is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, oid

    # ------------------------------------------------------------------ the pages

    def about(self, repository: Repository, oid: str) -> dict[str, Any]:
        return {
            "id": repository.repo_id,
            "sha": oid,
            "private": repository.private,
            "tags": repository.tags,
            "downloads": 7,
            "lastModified": "2026-01-02T03:04:05.000Z",
            "siblings": [{"rfilename": name} for name in repository.commits[oid]],
        }

    def list_models(self, body: bytes) -> tuple[Any, ...]:
        (author,) = self.query.get("author", [""])
        wanted = set(self.query.get("filter", []))
        found = [
            self.about(repository, repository.refs["main"])
            for repo_id, repository in self.hub.repositories.items()
            if repo_id.startswith(f"{author}/") and wanted <= set(repository.tags)
        ]
        return 200, found

    def create(self, body: bytes) -> tuple[Any, ...]:
        asked = json.loads(body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if self.accounts is None:
            raise RefusedError(401, "You must be logged in")
        if asked["organization"] not in self.accounts:
            raise RefusedError(403, "You don't have the rights to create a model there")
        if repo_id in self.hub.repositories:
            url = f"{self.hub.endpoint}/{repo_id}"
            raise RefusedError(409, "You already created this model repo", url=url)
        made = Repository(repo_id, private=asked.get("visibility") == "private")
        made.commit("main", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", lfs=False)})
        self.hub.repositories[repo_id] = made
        return 200, {"url": f"{self.hub.endpoint}/{repo_id}", "name": repo_id}

    def branch(self, body: bytes, repo_id: str, name: str) -> tuple[Any, ...]:
        repository = self.writable(repo_id)
        if name in repository.refs:
            raise RefusedError(409, "Reference already exists")
        repository.refs[name] = repository.refs["main"]
        return 200, {}

    def validate_card(self, body: bytes) -> tuple[Any, ...]:
        head = json.loads(body)["content"].split("---\n")[1]
        licence = yaml.safe_load(head).get("license", "mit")
        if not re.fullmatch(r"[a-z0-9.-]+", str(licence)):
            return 400, {"errors": [{"message": f'"license" must not be {licence!r}'}]}
        return 200, {"errors": [], "warnings": []}

    def info(self, body: bytes, repo_id: str, revision: str | None) -> tuple[Any, ...]:
        return 200, self.about(*self.revision(repo_id, revision))

    def tree(self, body: bytes, repo_id: str, revision: str) -> tuple[Any, ...]:
        repository, oid = self.revision(repo_id, revision)
        files = []
        for name, blob in repository.commits[oid].items():
            size = len(blob.data)
            entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": blob.oid}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": size, "pointerSize": 130}
            files.append(entry)
        return 200, files

    def preupload(self, body: bytes, repo_id: str, revision: str) -> tuple[Any, ...]:
        repository = self.writable(repo_id)
        there = repository.commits[self.revision(repo_id, revision)[1]]
        files = []
        for file in json.loads(body)["files"]:
            name = file["path"]
            mode = "lfs" if name.endswith(LFS_SUFFIXES) else "regular"
            known = {"oid": there[name].etag} if name in there else {}
            files.append({"path": name, "uploadMode": mode, "shouldIgnore": False, **known})
        return 200, {"files": files}

    def batch(self, body: bytes, repo_id: str) -> tuple[Any, ...]:
        self.writable(repo_id)
        objects = []
        for each in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.endpoint}/lfs/{each['oid']}"}
            verify = {"href": f"{self.hub.endpoint}/lfs/verify"}
            new = each["oid"] not in self.hub.lfs
            actions = {"actions": {"upload": upload, "verify": verify}} if new else {}
            objects.append({"oid": each["oid"], "size": each["size"], **actions})
        return 200, {"transfer": "basic", "objects": objects}

    def upload(self, body: bytes, oid: str) -> tuple[Any, ...]:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, "the content is not that of its oid")
        self.hub.lfs[oid] = body
        return (200,)

    def verify(self, body: bytes) -> tuple[Any, ...]:
        asked = json.loads(body)
        if len(self.hub.lfs.get(asked["oid"], b"")) != asked["size"]:
            raise RefusedError(404, "the object is not there")
        return 200, {}

    def commit(self, body: bytes, repo_id: str, branch: str) -> tuple[Any, ...]:
        repository = self.writable(repo_id)
        files = dict(repository.commits[self.revision(repo_id, branch)[1]])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif item["key"] == "lfsFile":
                files[value["path"]] = Blob(self.hub.lfs[value["oid"]], lfs=True)
        pull_request = "create_pr" in self.query
        ref = "refs/pr/1" if pull_request else branch
        repository.refs.setdefault(ref, repository.refs[branch])
        oid = repository.commit(ref, files)
        url = f"{self.hub.endpoint}/{repo_id}"
        asked = {"pullRequestUrl": f"{url}/discussions/1"} if pull_request else {}
        return 200, {"commitUrl": f"{url}/commit/{oid}", "commitOid": oid, **asked}

    def resolve(self, body: bytes, repo_id: str, revision: str, name: str) -> tuple[Any, ...]:
        repository, oid = self.revision(repo_id, revision)
        blob = repository.commits[oid].get(name)
        if blob is None:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": oid, "ETag": f'"{blob.etag}"'}
        if not blob.lfs:
            return 200, blob.data, headers
        self.hub.lfs[blob.sha256] = blob.data
        linked = {"X-Linked-ETag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        location = {"Location": f"{self.hub.cdn}/cdn/{blob.sha256}"}
        return 302, b"", {**headers, **linked, **location}

    def large_file(self, body: bytes, oid: str) -> tuple[Any, ...]:
        if self.headers.get("Authorization"):
            raise RefusedError(400, "a token does not belong here")
        data = self.hub.lfs[oid]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if not asked:
            return 200, data, {"Accept-Ranges": "bytes"}
        start = int(asked[1])
        content = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return 206, data[start:], content


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no news."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A server on a free port of 127.0.0.1; large files are at ``localhost``."""
    hub = Hub()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    with Server(("127.0.0.1", 0), handler) as server:
        port = server.server_address[1]
        hub.endpoint, hub.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


def environment(hub: Hub, token: str) -> dict[str, str]:
    """Variables by which huggingface_hub, in a process that is started, talks to ``hub``."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": token,
    }


def point_at(hub: Hub, monkeypatch: pytest.MonkeyPatch, cache: Path, token: str) -> None:
    """Have huggingface_hub talk to ``hub``, here and in the processes that are started.

    It reads its environment variables when it is imported, so that here its constants are set, too.
    """
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name, text in {**environment(hub, token), "HF_HUB_CACHE": str(cache)}.items():
        monkeypatch.setenv(name, text)
    # In place of the seconds that it waits before it tries again.
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None))
