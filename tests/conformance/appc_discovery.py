"""Discovery: pages to endpoints and keys, the order of requests, failed attempts, https before http."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appc.discovery import walk
from appc.http import url as urls
from appc.http.client import Client
from appc.http.errors import Unreachable
from conformance.cases import Case, Failure, Outcome, Skip, read


def run(directory: Path) -> Outcome:
    """Run the cases of ``directory/appc/discovery.json``."""
    outcome = Outcome()
    for case in read(directory / "appc" / "discovery.json"):
        outcome.add(judge(case))
    return outcome


def judge(case: Case) -> Failure | Skip | None:
    """Discover in the pages of the case, and compare."""
    if case.kind == "discovery":
        return _discovery(case)
    if case.kind == "discovery-transport":
        return _transport(case)
    return case.skip(f"cases of kind {case.kind} are not known")


class Answer:
    """An answer from a page of a case (appc.http.client's Exchange)."""

    def __init__(self, page: Mapping[str, Any]) -> None:
        self.status = int(page.get("status", 200))
        self._headers = {"Location": page["location"]} if "location" in page else {}
        self._body = str(page.get("body", "")).encode()

    def getheader(self, name: str) -> str | None:
        """One header."""
        return self._headers.get(name)

    def all_headers(self, name: str) -> list[str]:
        """All headers of a name."""
        return [self._headers[name]] if name in self._headers else []

    def read(self, count: int) -> bytes:
        """The next bytes of the body."""
        data, self._body = self._body[:count], self._body[count:]
        return data

    def close(self) -> None:
        """Nothing to do."""


class Pages:
    """The web of one case: addresses without query to pages; all else is a 404 or cannot be reached."""

    def __init__(self, pages: Mapping[str, Any]) -> None:
        self._pages = {_plain(address): page for address, page in pages.items()}
        self.requested: list[str] = []

    def __call__(self, _method: str, url: urls.Url, *_rest: object) -> Answer:
        self.requested.append(str(url))
        page = self._pages.get(_plain(str(url)), {"status": 404})
        if page.get("status") == 0 or page.get("error"):
            raise Unreachable(str(url), "nobody there")
        return Answer(page)


def _plain(address: str) -> str:
    return str(urls.parse(address)).partition("?")[0]


def _client(case: Case, pages: Pages) -> Client:
    insecure = case.input["insecure"]
    return Client(insecure_http="http" in insecure, insecure_tls="tls" in insecure, opener=pages)


def _discovery(case: Case) -> Failure | Skip | None:
    labels = {name: value for name, value in case.input["labels"].items() if name != "name"}
    name, port = case.input["app"], int(case.input.get("port", 0))
    for_endpoints, for_keys = Pages(case.input["pages"]), Pages(case.input["pages"])
    found = walk.discover_endpoints(_client(case, for_endpoints), name, labels, port=port)
    keys = walk.discover_public_keys(_client(case, for_keys), name, port=port)
    got = {
        "endpoints": [{"aci": e.aci, "asc": e.asc} for e in found.endpoints],
        "pubkeys": list(keys.keys),
        "endpoints_found": bool(found.endpoints),
        "pubkeys_found": bool(keys.keys),
        "requests_for_endpoints": for_endpoints.requested,
        "requests_for_pubkeys": for_keys.requested,
        "failed_attempts": [{"prefix": a.prefix, "error": a.error} for a in found.attempts],
    }
    if bool(found.endpoints) != case.valid:
        return case.failure(f"endpoints found: {case.valid}", got)
    if case.valid != case.data["valid"]:
        return None  # the reference's own result is then the wrong one
    expected = {
        key: [str(urls.parse(a)) for a in value] if key.startswith("requests") else value
        for key, value in case.data["normalized"].items()
    }
    different = {key for key, value in expected.items() if got.get(key) != value}
    if different:
        return case.failure({k: expected[k] for k in different}, {k: got.get(k) for k in different})
    return None


def _transport(case: Case) -> Failure | None:
    name = case.input["name"]
    bad = {"status": case.input["error_status"]}
    pages = Pages({
        f"{scheme}://{name}": {"status": 200} if case.input[f"{scheme}_ok"] else bad
        for scheme in ("https", "http")
    })
    walk.discover_endpoints(_client(case, pages), name, {})
    answered = [address for address in pages.requested if case.input[address.partition(":")[0] + "_ok"]]
    got = {"url": answered[0]} if answered else None
    expected = case.data["normalized"] if case.valid else None
    wanted = {"url": str(urls.parse(expected["url"]))} if expected else None
    return None if got == wanted else case.failure(wanted, got)
