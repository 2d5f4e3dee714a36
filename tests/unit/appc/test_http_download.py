"""Downloads that are cut and resumed: never a file put together from two versions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appc.http import caching
from appc.http.client import Client
from appc.http.download import NO_RANGES, UPDATED, Download, Downloaded, State, state_from_json, state_to_json
from appc.http.errors import BadAnswer, BadStatus, HttpError, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fixtures.httpsserver import Server

OLD, NEW = os.urandom(300_000), os.urandom(300_000)
DATE, LATER = "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 22 Oct 2015 07:28:00 GMT"


class Partial:
    """A file and what is remembered of it, as a fetch keeps them."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.state: State | None = None
        self.notes: list[str] = []

    def fetch(self, client: Client, url: str, *, limit: int = 1 << 20, etag: str = "") -> Downloaded:
        def remember(state: State) -> None:
            self.state = state

        return Download(
            client,
            url,
            self.fd,
            limit=limit,
            state=self.state,
            etag=etag,
            remember=remember,
            note=self.notes.append,
        ).run()

    def content(self) -> bytes:
        return os.pread(self.fd, 1 << 24, 0)


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    made = Partial(tmp_path / "partial")
    yield made
    os.close(made.fd)


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as made:
        yield made


def cut(client: Client, server: Server, partial: Partial, **resource: str) -> None:
    """Get half of OLD, then lose the connection."""
    server.resource("/x.aci", OLD, cut_after=150_000, **resource)  # type: ignore[arg-type]
    with pytest.raises(HttpError, match="connection broke"):
        partial.fetch(client, server.url("/x.aci"))
    assert 0 < len(partial.content()) < len(OLD)
    server.requests.clear()


@pytest.mark.parametrize("validator", [{"etag": '"one"'}, {"last_modified": DATE}])
def test_a_cut_download_goes_on_where_it_was(
    client: Client, https_server: Server, partial: Partial, validator: dict[str, str]
) -> None:
    cut(client, https_server, partial, **validator)
    have = len(partial.content())
    done = partial.fetch(client, https_server.url("/x.aci"))
    assert partial.content() == OLD
    assert done.resumed
    assert https_server.requests[-1].headers["range"] == f"bytes={have}-"
    assert https_server.requests[-1].headers["if-range"] in validator.values()
    assert partial.notes == []


@pytest.mark.parametrize(
    ("before", "after"),
    [({"etag": '"one"'}, {"etag": '"two"'}), ({"last_modified": DATE}, {"last_modified": LATER})],
)
def test_a_changed_resource_begins_anew(
    client: Client, https_server: Server, partial: Partial, before: dict[str, str], after: dict[str, str]
) -> None:
    cut(client, https_server, partial, **before)
    https_server.resource("/x.aci", NEW, **after)  # type: ignore[arg-type]
    done = partial.fetch(client, https_server.url("/x.aci"))
    assert partial.content() == NEW
    assert not done.resumed
    assert partial.notes == [UPDATED]


def test_a_server_without_ranges_begins_anew(client: Client, https_server: Server, partial: Partial) -> None:
    cut(client, https_server, partial, etag='"one"')
    https_server.resource("/x.aci", OLD, etag='"one"', ranges=False)
    partial.fetch(client, https_server.url("/x.aci"))
    assert partial.content() == OLD
    assert partial.notes == [NO_RANGES]


@pytest.mark.parametrize("validator", [{}, {"etag": 'W/"weak"'}])
def test_without_a_strong_validator_nothing_is_resumed(
    client: Client, https_server: Server, partial: Partial, validator: dict[str, str]
) -> None:
    cut(client, https_server, partial, **validator)
    https_server.resource("/x.aci", NEW, **validator)  # type: ignore[arg-type]
    partial.fetch(client, https_server.url("/x.aci"))
    assert "range" not in https_server.requests[-1].headers
    assert partial.content() == NEW


@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Range: bytes 0-299999/300000\r\nContent-Length: 300000\r\n",
        b"Content-Range: bytes 7-299999/300000\r\nContent-Length: 299993\r\n",
        b"Content-Range: bytes 150000-299999/999999\r\n",
        b'Content-Range: bytes %d-299999/300000\r\nETag: "two"\r\n',
        b"Content-Range: rubbish\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\n",
    ],
)
def test_a_part_that_cannot_be_ours_is_thrown_away(
    client: Client, https_server: Server, partial: Partial, answer: bytes
) -> None:
    cut(client, https_server, partial, etag='"one"')
    if b"%d" in answer:
        answer %= len(partial.content())

    def handler(request: object, send: object) -> None:
        if "range" in request.headers:  # type: ignore[attr-defined]
            send(b"HTTP/1.1 206 X\r\n" + answer + b"\r\nabc")  # type: ignore[operator]
            raise ConnectionAbortedError
        send(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(NEW) + NEW)  # type: ignore[operator]

    https_server.pages["/x.aci"] = handler  # type: ignore[assignment]
    partial.fetch(client, https_server.url("/x.aci"))
    assert partial.content() == NEW


def test_a_part_whose_length_contradicts_its_range_is_refused(
    client: Client, https_server: Server, partial: Partial
) -> None:
    cut(client, https_server, partial, etag='"one"')
    have = len(partial.content())
    head = f"HTTP/1.1 206 X\r\nContent-Range: bytes {have}-299999/300000\r\nContent-Length: 5\r\n\r\nabcde"
    https_server.raw("/x.aci", head.encode())
    with pytest.raises(BadAnswer, match="do not agree"):
        partial.fetch(client, https_server.url("/x.aci"))


def test_range_not_satisfiable_begins_anew(client: Client, https_server: Server, partial: Partial) -> None:
    cut(client, https_server, partial, etag='"one"')

    def handler(request: object, send: object) -> None:
        if "range" in request.headers:  # type: ignore[attr-defined]
            send(b"HTTP/1.1 416 X\r\nContent-Length: 0\r\n\r\n")  # type: ignore[operator]
        else:
            send(b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\nnew")  # type: ignore[operator]

    https_server.pages["/x.aci"] = handler  # type: ignore[assignment]
    partial.fetch(client, https_server.url("/x.aci"))
    assert partial.content() == b"new"


def test_a_complete_file_is_only_asked_about(client: Client, https_server: Server, partial: Partial) -> None:
    https_server.resource("/x.aci", OLD, etag='"one"')
    partial.fetch(client, https_server.url("/x.aci"))
    https_server.requests.clear()
    done = partial.fetch(client, https_server.url("/x.aci"))
    assert (done.size, done.etag, done.resumed) == (len(OLD), '"one"', True)
    [request] = https_server.requests
    assert request.headers["if-none-match"] == '"one"'
    https_server.resource("/x.aci", NEW, etag='"two"')
    assert partial.fetch(client, https_server.url("/x.aci")).etag == '"two"'
    assert partial.content() == NEW


def test_a_second_cut_keeps_both_parts(client: Client, https_server: Server, partial: Partial) -> None:
    cut(client, https_server, partial, etag='"one"')
    https_server.resource("/x.aci", OLD, etag='"one"', cut_after=70_000)
    with pytest.raises(HttpError, match="connection broke"):
        partial.fetch(client, https_server.url("/x.aci"))
    https_server.resource("/x.aci", OLD, etag='"one"')
    assert partial.fetch(client, https_server.url("/x.aci")).size == len(OLD)
    assert partial.content() == OLD


def test_an_unchanged_resource_is_not_sent_again(
    client: Client, https_server: Server, partial: Partial
) -> None:
    https_server.resource("/x.aci", OLD, etag='"one"', cache_control="max-age=600")
    done = partial.fetch(client, https_server.url("/x.aci"), etag='"one"')
    assert done.not_modified
    assert done.max_age == 600
    assert partial.content() == b""


def test_not_modified_without_our_asking_is_an_error(
    client: Client, https_server: Server, partial: Partial
) -> None:
    https_server.page("/x.aci", status=304)
    with pytest.raises(BadStatus):
        partial.fetch(client, https_server.url("/x.aci"))


def test_too_large_leaves_nothing(client: Client, https_server: Server, partial: Partial) -> None:
    https_server.resource("/x.aci", OLD)
    with pytest.raises(TooLarge):
        partial.fetch(client, https_server.url("/x.aci"), limit=1000)
    https_server.raw(
        "/endless",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[b"ffff\r\n" + bytes(65535) + b"\r\n"] * 9,
    )
    with pytest.raises(TooLarge):
        partial.fetch(client, https_server.url("/endless"), limit=100_000)
    assert partial.content() == b""


def test_a_part_may_not_grow_over_the_limit(client: Client, https_server: Server, partial: Partial) -> None:
    cut(client, https_server, partial, etag='"one"')
    with pytest.raises(TooLarge):
        partial.fetch(client, https_server.url("/x.aci"), limit=200_000)
    assert partial.content() == b""


def test_states_survive_json() -> None:
    state = State('"one"', DATE, 12)
    assert state_from_json(state_to_json(state, url="https://x/")) == state
    for bad in (
        {},
        {"etag": 1, "lastModified": "", "total": 1},
        {"etag": "", "lastModified": "", "total": True},
    ):
        with pytest.raises(ValueError, match="no state"):
            state_from_json(bad)


@pytest.mark.parametrize(
    ("header", "age"),
    [
        (None, 0),
        ("", 0),
        ("max-age=600", 600),
        ("public, max-age=600", 600),
        ("Max-Age=600,public", 600),
        ('max-age="600"', 600),
        ("max-age=600, no-store", 0),
        ("no-cache, max-age=600", 0),
        ("max-age=-1", 0),
        ("max-age=\uff16", 0),
        ("max-age=1e3", 0),
        ("max-age=99999999999999999999", 2**31 - 1),
        ("max-age=" + "9" * 50, 0),
        ("s-maxage=600", 0),
    ],
)
def test_max_age(header: str | None, age: int) -> None:
    assert caching.max_age(header) == age


def test_freshness_ends_and_the_future_is_never_fresh() -> None:
    assert caching.is_fresh(1000.0, 60, 1059.0)
    assert not caching.is_fresh(1000.0, 60, 1060.0)
    assert not caching.is_fresh(1000.0, 60, 999.0)
    assert not caching.is_fresh(1000.0, 0, 1000.0)
