"""Discovery against a real server: the walk, http only when allowed, what must match afterwards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from appc.discovery import walk
from appc.discovery.templates import Endpoint, endpoint
from appc.http import stream
from appc.http.auth import Bearer, Credentials
from appc.http.client import Client
from appc.schema.image import ImageManifest

if TYPE_CHECKING:
    from fixtures.httpsserver import Server

TEMPLATE = "https://s/{name}-{version}-{os}-{arch}.{ext}"
LABELS = {"version": "1.0", "os": "linux", "arch": "amd64"}


def tag(template: str, prefix: str = "localhost", kind: str = "ac-discovery") -> str:
    return f'<meta name="{kind}" content="{prefix} {template}">'


def test_the_walk_goes_up_to_the_host_and_reports_what_failed(https_server: Server) -> None:
    https_server.page("/a", "<html>", headers={})
    https_server.page("/", tag(TEMPLATE))
    with Client() as client:
        found = walk.discover_endpoints(client, "localhost/a/b", LABELS, port=https_server.port)
    assert found.endpoints == (
        Endpoint(
            "https://s/localhost/a/b-1.0-linux-amd64.aci", "https://s/localhost/a/b-1.0-linux-amd64.aci.asc"
        ),
    )
    assert found.attempts == (walk.Attempt("localhost/a/b", "expected a 200 OK got 404"),)
    assert [r.target for r in https_server.requests] == [f"{p}?ac-discovery=1" for p in ("/a/b", "/a", "/")]


def test_keys_are_looked_for_on_a_walk_of_their_own(https_server: Server) -> None:
    https_server.page("/a", tag(TEMPLATE))
    https_server.page("/", tag("https://s/keys.gpg", kind="ac-discovery-pubkeys"))
    with Client() as client:
        found = walk.discover_public_keys(client, "localhost/a", port=https_server.port)
    assert found.keys == ("https://s/keys.gpg",)


def test_http_is_tried_only_with_the_option_and_after_https(http_server: Server) -> None:
    http_server.page("/a", tag(TEMPLATE))
    with Client() as client:
        found = walk.discover_endpoints(client, "localhost/a", LABELS, port=http_server.port)
    assert not found.endpoints
    assert len(found.attempts) == 2
    assert http_server.requests == []
    with Client(insecure_http=True) as client:
        assert walk.discover_endpoints(client, "localhost/a", LABELS, port=http_server.port).endpoints


def test_credentials_are_sent_to_the_host_that_they_are_for(https_server: Server) -> None:
    https_server.page("/a", tag(TEMPLATE))
    with Client(Credentials({f"localhost:{https_server.port}": Bearer("t0k")})) as client:
        assert walk.discover_endpoints(client, "localhost/a", LABELS, port=https_server.port).endpoints
    assert https_server.requests[0].headers["authorization"] == "Bearer t0k"


def test_a_page_that_is_too_long_counts_as_failed(https_server: Server) -> None:
    https_server.page("/a", tag(TEMPLATE) + " " * (2 << 20))
    with Client() as client:
        found = walk.discover_endpoints(client, "localhost/a", LABELS, port=https_server.port)
    assert not found.endpoints
    assert "limit" in found.attempts[0].error


def test_a_silent_host_costs_one_deadline_not_one_a_path(
    https_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "DEADLINE", 1.0)
    parts = [f"p{n}" for n in range(10)]
    for length in range(len(parts) + 1):
        https_server.raw("/" + "/".join(parts[:length]), hold=True)
    started = time.monotonic()
    with Client() as client:
        found = walk.discover_endpoints(
            client, "/".join(["localhost", *parts]), LABELS, port=https_server.port
        )
    assert not found.endpoints
    assert len(found.attempts) == 11
    assert time.monotonic() - started < 5
    assert stream.DOCUMENT.total >= 1.0


@pytest.mark.parametrize(
    ("template", "labels", "aci"),
    [
        (TEMPLATE, LABELS, "https://s/example.com/app-1.0-linux-amd64.aci"),
        ("https://s/{name}-{version}.{ext}", {}, "https://s/example.com/app-latest.aci"),
        ("https://s/{name}-{version}.{ext}", {"version": ""}, "https://s/example.com/app-latest.aci"),
        ("https://s/{channel}.{ext}", {"channel": "alpha"}, "https://s/alpha.aci"),
        ("https://s/{channel}.{ext}", {"channel": "{name}"}, "https://s/{name}.aci"),
        ("https://s/{name}.{ext}", {"name": "other", "ext": "tar"}, "https://s/example.com/app.aci"),
        (TEMPLATE, {"version": "1"}, None),
        ("https://s/{name}", {}, None),
        ("https://s/{+name}.{ext}", {}, None),
        ("https://s/{unknown}.{ext}", {}, None),
        ("https://s/{{name}}.{ext}", {}, None),
        ("https://s/{}.{ext}", {}, None),
        ("https://s/{a{name}.{ext}}", {}, None),
        ("https://s/}{name}{.{ext}", {}, "https://s/}example.com/app{.aci"),
    ],
)
def test_templates(template: str, labels: dict[str, str], aci: str | None) -> None:
    found = endpoint(template, "example.com/app", labels)
    assert (found.aci if found else None) == aci
    if found:
        assert found.asc == found.aci + ".asc"


def test_name_and_every_label_must_match_afterwards() -> None:
    manifest = ImageManifest.parse(
        b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app",'
        b'"labels":[{"name":"version","value":"1.0"},{"name":"extra","value":"x"}]}'
    )
    walk.check(manifest, "example.com/app", {"version": "1.0"})
    walk.check(manifest, "example.com/app", {})
    with pytest.raises(walk.WrongImage, match=r'"example.com/other" expected but "example.com/app" found'):
        walk.check(manifest, "example.com/other", {})
    with pytest.raises(walk.WrongImage, match=r'requested label "os" not provided'):
        walk.check(manifest, "example.com/app", {"os": "linux"})
    with pytest.raises(walk.WrongImage, match=r'requested value for label "version": "2.0" differs'):
        walk.check(manifest, "example.com/app", {"version": "2.0"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("example.com/app", "is the name spelt right?"),
        ("localhost/app", "is the name spelt right?"),
        ("nginx", "an image of Docker Hub is docker://nginx, a file is ./nginx,"),
        ("quay.io/team/app", "an image of a registry is docker://quay.io/team/app"),
    ],
)
def test_a_name_that_leads_nowhere_brings_a_hint(name: str, hint: str) -> None:
    error = walk.NothingFound(name, [walk.Attempt(name, "got 404")])

    assert str(error) == f'discovery failed for "{name}": no endpoints discovered ({name}: got 404)'
    assert error.hint is not None
    assert error.hint.startswith(hint)
