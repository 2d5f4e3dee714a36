"""A download into a file that a second attempt can go on with (RFC 9110: Range and If-Range).

The file holds a part of exactly one version of the resource: the one that `State` describes. What cannot be
proved to belong to it is thrown away, so no file is ever put together from two versions.
"""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appc.http.client import Client, Response

from appc.http import caching, stream
from appc.http.errors import BadAnswer, BadStatus, HttpError, TooLarge

UPDATED = "cannot use cached partial download, resource updated."
NO_RANGES = "cannot use cached partial download, range request unsupported."


class State(NamedTuple):
    """Which version of a resource a partial file holds; `total` is its length in bytes if known."""

    etag: str = ""
    last_modified: str = ""
    total: int | None = None

    @property
    def validator(self) -> str:
        """What If-Range may hold: an ETag that is not weak, else the date of the last change, or nothing."""
        if self.etag:
            return "" if self.etag.startswith("W/") else self.etag
        return self.last_modified


class Downloaded(NamedTuple):
    """The result: with `not_modified` nothing was written and the older copy is still the right one."""

    not_modified: bool = False
    etag: str = ""
    max_age: int = 0
    size: int = 0
    resumed: bool = False


class Download:
    """One resource, one file. `state` is that of the bytes in `fd`, None when there are none to go on with.

    `remember(state)` is called before the first byte of a new version is written; it must make the state
    durable, or the bytes cannot be used after a crash. `note(text)` gets messages for the user,
    `progress(done, total)` is called after each piece.
    """

    def __init__(
        self,
        client: Client,
        address: str,
        fd: int,
        *,
        limit: int,
        state: State | None = None,
        etag: str = "",
        remember: Callable[[State], None] = lambda state: None,
        note: Callable[[str], None] = lambda text: None,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
        deadlines: stream.Deadlines = stream.DOWNLOAD,
    ) -> None:
        self._client = client
        self._address = address
        self._fd = fd
        self._limit = limit
        self._state = state or State()
        self._etag = etag
        self._remember = remember
        self._note = note
        self._progress = progress
        self._deadlines = deadlines

    def run(self) -> Downloaded:
        """Fetch the rest, or all of it. HttpError leaves what came so far, ENOSPC and TooLarge nothing."""
        try:
            have = os.fstat(self._fd).st_size
            if have and not self._state.validator:
                self._note(NO_RANGES)
                have = self._start_over()
            try:
                return self._attempt(have)
            except _PartIsUselessError:
                return self._attempt(self._start_over())
        except TooLarge:
            os.ftruncate(self._fd, 0)
            raise
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                os.ftruncate(self._fd, 0)  # a full disk must not need a clean-up by hand (D9)
            raise

    def _attempt(self, have: int) -> Downloaded:
        if have and have == self._state.total and self._state.etag:
            return self._complete(have)
        headers: dict[str, str] = {}
        if self._etag:
            headers["If-None-Match"] = self._etag
        if have:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = self._state.validator
        response = self._client.get(
            self._address,
            limit=self._limit,
            headers=headers,
            deadlines=self._deadlines,
            accept=frozenset((200, 206, 304, 416)),
        )
        with response:
            match response.status:
                case 304 if self._etag:
                    return self._finished(response, 0, not_modified=True)
                case 206 if have:
                    self._check_part(response, have)
                    return self._receive(response, have)
                case 416 if have:
                    self._note(UPDATED)
                    raise _PartIsUselessError
                case 200:
                    if have:
                        self._note(NO_RANGES if self._is_same(response) else UPDATED)
                        self._start_over()
                    return self._receive(response, 0)
                case status:
                    raise BadStatus(self._address_shown(response), status)

    def _complete(self, have: int) -> Downloaded:
        """All bytes are here since last time: ask only whether they are still the right ones."""
        headers = {"If-None-Match": self._state.etag}
        response = self._client.get(
            self._address,
            limit=self._limit,
            headers=headers,
            deadlines=self._deadlines,
            accept=frozenset((200, 304)),
        )
        with response:
            if response.status == 304:
                done = self._finished(response, have, resumed=True)
                return done._replace(etag=done.etag or self._state.etag)
            self._note(UPDATED)
            self._start_over()
            return self._receive(response, 0)

    def _address_shown(self, response: Response) -> str:
        return response.url.without_query()

    def _is_same(self, response: Response) -> bool:
        """Whether the answer is of the version that we have a part of: then only the range was refused."""
        if self._state.etag or response.header("ETag"):
            return self._state.etag == (response.header("ETag") or "")
        return self._state.last_modified == (response.header("Last-Modified") or "")

    def _check_part(self, response: Response, have: int) -> None:
        """The part must begin where ours ends and be of the same version: servers have mixed them."""
        found = re.fullmatch(
            r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", response.header("Content-Range") or ""
        )
        if found is None or int(found[1]) != have or int(found[2]) < have:
            self._note(UPDATED)
            raise _PartIsUselessError
        total = None if found[3] == "*" else int(found[3])
        known = self._state.total
        if (known is not None and total not in {None, known}) or not self._same_if_said(response):
            self._note(UPDATED)
            raise _PartIsUselessError
        length = int(found[2]) - have + 1
        if response.length is not None and response.length != length:
            raise BadAnswer(self._address_shown(response), "Content-Length and Content-Range do not agree")
        if (total or int(found[2]) + 1) > self._limit:
            raise TooLarge(
                self._address_shown(response), f"{total} bytes are offered, the limit is {self._limit}"
            )

    def _same_if_said(self, response: Response) -> bool:
        etag, date = response.header("ETag"), response.header("Last-Modified")
        if self._state.etag:
            return etag in {None, self._state.etag}
        return date in {None, self._state.last_modified}

    def _receive(self, response: Response, have: int) -> Downloaded:
        total = None if response.length is None else have + response.length
        if not have:
            self._remember(
                State(response.header("ETag") or "", response.header("Last-Modified") or "", total)
            )
        known = self._state.total if have else total
        position = have
        for data in response.chunks():
            _write(self._fd, data, position)
            position += len(data)
            if position > self._limit:
                raise TooLarge(
                    self._address_shown(response),
                    f"the answer is longer than the limit of {self._limit} bytes",
                )
            self._progress(position, total)
        if known is not None and position != known:
            raise HttpError(self._address_shown(response), f"ended after {position} of {known} bytes")
        return self._finished(response, position, resumed=have > 0)

    def _finished(
        self, response: Response, size: int, *, not_modified: bool = False, resumed: bool = False
    ) -> Downloaded:
        return Downloaded(
            not_modified,
            response.header("ETag") or "",
            caching.max_age(response.header("Cache-Control")),
            size,
            resumed,
        )

    def _start_over(self) -> int:
        os.ftruncate(self._fd, 0)
        self._state = State()
        return 0


class _PartIsUselessError(Exception):
    """The bytes that we have cannot be completed: begin again, without a range."""


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def state_to_json(state: State, **more: object) -> dict[str, object]:
    return {"etag": state.etag, "lastModified": state.last_modified, "total": state.total, **more}


def state_from_json(value: Mapping[str, object]) -> State:
    """The state that `state_to_json` wrote. ValueError when it is something else."""
    etag, date, total = value.get("etag"), value.get("lastModified"), value.get("total")
    if not isinstance(etag, str) or not isinstance(date, str) or not (total is None or type(total) is int):
        raise ValueError("is no state of a download")
    return State(etag, date, total)
