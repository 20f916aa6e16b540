"""A model hub on loopback that the real ``huggingface_hub`` client takes for one, with faults to order.

What it is: the part of the protocol a pull needs: model info, trees, ``resolve`` with its redirect to a second origin
for large files, ranges, etags, LFS hashes, gated and private repositories; and what goes wrong in the field: cut
connections, wrong bytes, wrong lengths, files that vanish, a hub that answers 503. It ships beside the real thing,
like the fake engine; ``python -m appliance_models.fake_hub DIR`` serves ``DIR/owner/name/…``.
What it refuses to be: a mirror. It holds everything in memory and listens on loopback only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# files of these kinds, and large ones, are LFS objects, as .gitattributes says on the real hub
_LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".model")
_LFS_BYTES = 1_000_000
_PIECE = 64 * 1024


def git_sha1(data: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Repo:
    """One repository: what its branches and tags point at, and every commit's files."""

    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False

    def commit(self, files: dict[str, bytes], revision: str = "main") -> str:
        """Make ``revision`` a new commit of exactly ``files``; its id."""
        tree = json.dumps({path: git_sha1(data) for path, data in sorted(files.items())})
        commit = hashlib.sha1(tree.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = dict(files)
        self.revisions[revision] = commit
        return commit


@dataclass
class Faults:
    """What goes wrong, by the path of a file. Numbers are how often; each time counts one down."""

    cut: dict[str, int] = field(default_factory=dict)
    cut_after_bytes: int = 1000
    corrupt: dict[str, int] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    unavailable: dict[str, int] = field(default_factory=dict)
    ignore_ranges: bool = False
    no_sizes: bool = False
    garbage: bool = False  # a page of some proxy instead of JSON
    # a file's bytes come only as far as this until `gate` is set
    held: dict[str, int] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    holding: Counter[str] = field(default_factory=Counter)

    def happens(self, kind: str, path: str) -> bool:
        """Whether fault ``kind`` strikes this time."""
        left: dict[str, int] = getattr(self, kind)
        if left.get(path, 0) <= 0:
            return False
        left[path] -= 1
        return True


@dataclass
class FakeHub:
    """The hub at ``endpoint`` and its store of large files at ``cdn``, while the context is entered.

    ``granted`` are tokens that may see gated and private repositories, ``known`` others that are accounts.
    ``seen`` counts requests as (method, what, path), ``sent`` bytes by path, ``asked`` holds where each request for a
    file's content wanted to begin, ``leaked`` tokens that reached the store of large files.
    """

    repos: dict[str, Repo] = field(default_factory=dict)
    granted: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    renamed: dict[str, str] = field(default_factory=dict)
    port: int = 0
    seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, int]] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Site(_Site):
            fake = hub

        class Cdn(_Cdn):
            fake = hub

        self._servers = [
            ThreadingHTTPServer(("127.0.0.1", self.port), Site),
            ThreadingHTTPServer(("127.0.0.1", 0), Cdn),
        ]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        for server in self._servers:
            server.daemon_threads = True
            server.block_on_close = False
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.gate.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def repo(self, name: str, files: dict[str, bytes], gated: bool = False, private: bool = False) -> Repo:
        """Add a repository with one commit on ``main``."""
        made = Repo(gated=gated, private=private)
        made.commit(files)
        self.repos[name] = made
        return made


class _Handler(BaseHTTPRequestHandler):
    """What both servers share."""

    protocol_version = "HTTP/1.1"
    fake: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.handle_path(urlsplit(self.path).path, parse_qs(urlsplit(self.path).query))

    def do_GET(self) -> None:
        self.handle_path(urlsplit(self.path).path, parse_qs(urlsplit(self.path).query))

    def handle_path(self, path: str, query: dict[str, list[str]]) -> None:
        raise NotImplementedError

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer(status, {"X-Error-Code": code, "X-Error-Message": message}, b"{}")

    def send_file(self, path: str, data: bytes, headers: dict[str, str]) -> None:
        """The content, or the part of it that was asked for, with whatever fault is due."""
        faults = self.fake.faults
        if faults.happens("unavailable", path):
            return self.answer(HTTPStatus.SERVICE_UNAVAILABLE, {})
        if self.command != "HEAD" and faults.happens("corrupt", path):
            data = data[:-1] + bytes([data[-1] ^ 1])
        if self.command != "HEAD" and faults.happens("short", path):
            data = data[: len(data) // 2]
        asked = self.headers.get("Range", "")
        first = int(asked.removeprefix("bytes=").split("-")[0]) if asked and not faults.ignore_ranges else 0
        self.fake.asked.append((path, first))
        if asked and not faults.ignore_ranges and first >= len(data):
            return self.answer(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {**headers, "Content-Range": f"bytes */{len(data)}"}
            )
        partial = bool(asked) and not faults.ignore_ranges
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(len(data) - first)}
        if partial:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.answer(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK, headers)
        if self.command != "HEAD":
            self._pour(path, data, first)
        return None

    def _pour(self, path: str, data: bytes, first: int) -> None:
        faults = self.fake.faults
        last = len(data)
        if faults.happens("cut", path):
            last = min(last, first + faults.cut_after_bytes)
        held = faults.held.get(path)
        while first < last:
            if held is not None and first >= held:
                faults.holding[path] += 1
                if not faults.gate.wait(30):
                    return
                held = None
            until = min(last, first + _PIECE, held if held is not None and first < held else last)
            try:
                self.wfile.write(data[first:until])
                self.wfile.flush()
            except OSError:  # the client was killed
                return
            self.fake.sent[path] += until - first
            first = until
        if last < len(data):
            self.close_connection = True


class _Site(_Handler):
    """The hub itself."""

    def handle_path(self, path: str, query: dict[str, list[str]]) -> None:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            name, rest = "/".join(parts[:2]), parts[2:]
        if name in self.fake.renamed:
            there = path.replace(name, self.fake.renamed[name], 1)
            return self.answer(HTTPStatus.TEMPORARY_REDIRECT, {"Location": there})
        repo = self._allowed(name, "resolve" in rest[:1] or "tree" in rest[:1])
        if repo is None:
            return None
        revision = rest[1] if len(rest) > 1 else "main"
        commit = revision if revision in repo.commits else repo.revisions.get(revision)
        if commit is None:
            return self.refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        self.fake.seen[(self.command, rest[0] if rest else "info", "/".join(rest[2:]))] += 1
        if rest[:1] == ["tree"]:
            return self._json(_tree(repo.commits[commit]))
        if rest[:1] == ["resolve"]:
            return self._resolve(repo, commit, "/".join(rest[2:]))
        if self.fake.faults.happens("unavailable", ""):
            return self.answer(HTTPStatus.SERVICE_UNAVAILABLE, {})
        return self._json(_info(name, repo, commit, "blobs" in query and not self.fake.faults.no_sizes))

    def _allowed(self, name: str, files: bool) -> Repo | None:
        """The repository, unless this caller may not see it; then the refusal was sent."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.fake.granted | self.fake.known:
            self.refuse(HTTPStatus.UNAUTHORIZED, "", "Invalid credentials in Authorization header")
            return None
        repo = self.fake.repos.get(name)
        if repo is None or (repo.private and token not in self.fake.granted):
            status = HTTPStatus.NOT_FOUND if token else HTTPStatus.UNAUTHORIZED
            self.refuse(status, "RepoNotFound", "Repository not found")
            return None
        if repo.gated and files and token not in self.fake.granted:  # what it has may be seen, its files not
            status = HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED
            self.refuse(status, "GatedRepo", f"Access to model {name} is restricted. You must have access to it")
            return None
        return repo

    def _resolve(self, repo: Repo, commit: str, path: str) -> None:
        data = repo.commits[commit].get(path)
        if data is None:
            return self.refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit}
        if not _is_lfs(path, data):
            return self.send_file(path, data, {**headers, "ETag": f'"{git_sha1(data)}"'})
        sha256 = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "ETag": f'"{git_sha1(data)}"'}
        # the real one signs its addresses; ours looks like it, so that a test can see that none is ever shown
        return self.answer(HTTPStatus.FOUND, {**headers, "Location": f"{self.fake.cdn}/{sha256}?X-Signature=s3cr3t"})

    def _json(self, value: Any) -> None:
        if self.fake.faults.garbage:
            return self.answer(HTTPStatus.OK, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
        return self.answer(HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(value).encode())


class _Cdn(_Handler):
    """Where large files are; it wants no token."""

    def handle_path(self, path: str, query: dict[str, list[str]]) -> None:
        if "Authorization" in self.headers:
            self.fake.leaked.append(self.headers["Authorization"])
        for repo in self.fake.repos.values():
            for files in repo.commits.values():
                for name, data in files.items():
                    if _is_lfs(name, data) and hashlib.sha256(data).hexdigest() == path.strip("/"):
                        return self.send_file(name, data, {"ETag": f'"{path.strip("/")}"'})
        return self.refuse(HTTPStatus.NOT_FOUND, "")


def _is_lfs(path: str, data: bytes) -> bool:
    return path.endswith(_LFS_SUFFIXES) or len(data) >= _LFS_BYTES


def _lfs(data: bytes, key: str) -> dict[str, Any]:
    return {key: hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}


def _info(name: str, repo: Repo, commit: str, blobs: bool) -> dict[str, Any]:
    siblings = []
    for path, data in sorted(repo.commits[commit].items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            sibling |= {"size": len(data), "blobId": git_sha1(data)}
            if _is_lfs(path, data):
                sibling["lfs"] = _lfs(data, "sha256")
        siblings.append(sibling)
    gated = "manual" if repo.gated else False
    return {"id": name, "modelId": name, "sha": commit, "private": repo.private, "gated": gated, "siblings": siblings}


def _tree(files: dict[str, bytes]) -> list[dict[str, Any]]:
    entries = []
    for path, data in sorted(files.items()):
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
        if _is_lfs(path, data):
            entry["lfs"] = _lfs(data, "oid")
        entries.append(entry)
    return entries


def main() -> None:
    """Serve a directory of repositories until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="appliance_models.fake_hub", description="A model hub on loopback.")
    parser.add_argument("directory", type=Path, help="holds owner/name/ directories")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    options = parser.parse_args()
    hub = FakeHub(port=options.port)
    for root in sorted(path for path in options.directory.glob("*/*") if path.is_dir()):
        files = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        hub.repo(root.relative_to(options.directory).as_posix(), files)
    with hub:
        print(f"HF_ENDPOINT={hub.endpoint}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
