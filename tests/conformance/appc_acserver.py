"""acserver: how versions are compared, where /find leads, and what a finished push is told."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from appc.server import wire
from appc.server.answers import Answers
from appc.server.config import Config
from appc.server.uploads import Uploads
from appc.site.release import compare_versions
from appc.site.tree import Site
from conformance.cases import Case, Failure, Outcome, Skip, read


def run(directory: Path) -> Outcome:
    """Run the cases of ``directory/appc/acserver.json``."""
    outcome = Outcome()
    for case in read(directory / "appc" / "acserver.json"):
        outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Ask a server on an empty tree, but for the file that a case of /find leads to."""
    match case.kind:
        case "acserver-version-compare":
            got: object = compare_versions(*case.input)
            return None if got == case.data["normalized"] else case.failure(case.data["normalized"], got)
        case "acserver-find":
            return _find(case)
        case "acserver-complete":
            return _complete(case)
        case _:
            return case.skip(f"cases of kind {case.kind} are not known")


def _find(case: Case) -> Failure | None:
    """Where the reference redirects to a file that is not there (appc.md, E1), there is one here."""
    expected = case.data["normalized"]
    target = urlsplit(str(expected.get("location", "http://acs.example/")))
    with tempfile.TemporaryDirectory() as root:
        if expected["status"] == 302:
            path = Path(root, target.path.removesuffix(".asc").lstrip("/"))
            path.parent.mkdir(parents=True)
            path.touch()
            path.with_name(path.name + ".asc").touch()
        status, headers, _ = exchange(root, "GET", f"/find?{case.input['query']}", host=target.netloc)
    got = {"status": status, **({"location": headers["location"]} if "location" in headers else {})}
    return None if got == expected else case.failure(expected, got)


def _complete(case: Case) -> Failure | None:
    with tempfile.TemporaryDirectory() as root:
        _, _, started = exchange(root, "POST", "/acs.example/app-1-linux-amd64.aci/startupload")
        path = "/" + json.loads(started)["completed_url"].split("/", 3)[3]
        status, _, body = exchange(root, "POST", path, json.dumps(case.input["body"]).encode())
    got = {"status": status, "reply": json.loads(body) if body.startswith(b"{") else body.decode()}
    expected = case.data["normalized"]
    return None if got == expected else case.failure(expected, got)


def exchange(
    root: str, method: str, target: str, body: bytes = b"", *, host: str = "acs.example", **config: Any
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to one request, which goes through a real socket."""
    settings = Config(root=root, **config)
    uploads = Uploads(root)
    uploads.prepare()
    answers = Answers(settings, Site(root), uploads, lambda _text: None)
    client, server = socket.socketpair()
    with client, server:
        lines = (
            f"{method} {target} HTTP/1.1",
            f"Host: {host}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        client.sendall("\r\n".join((*lines, "", "")).encode() + body)
        connection = wire.Connection(server)
        for request in connection.requests():
            answer = answers.answer(request)
            connection.reply(answer.status, answer.headers, answer.content)
        client.shutdown(socket.SHUT_WR)
        connection.close()
        text, _, content = b"".join(iter(lambda: client.recv(1 << 16), b"")).partition(b"\r\n\r\n")
    first, *lines = text.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, content
