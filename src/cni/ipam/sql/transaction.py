"""One call of the plugin is one transaction, done again when another one got in the way."""

from __future__ import annotations

import time

from cni.ipam.sql import databases, schema
from cni.ipam.sql.databases import Failure

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni.ipam.sql.databases import Connection
    from cni.ipam.sql.settings import Settings

    Work = Callable[["Transaction"], object]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5  # seconds


class Transaction:
    """What the work of one call has: the connection, the server's time, and what a retry has to know.

    `unsure`: an earlier attempt of this very call may have been committed.
    """

    __slots__ = ("change", "now", "run", "unsure")

    def __init__(self, connection: Connection, now: int, *, unsure: bool) -> None:
        self.run = connection.run
        self.change = connection.change
        self.now = now
        self.unsure = unsure


def perform(settings: Settings, work: Work, *, create: bool = False) -> object:
    """What `work` returns after its transaction was committed; None where there are no tables.

    `create`: make the tables then. Tries again until the deadline when the database says that another
    transaction came between, and once when the connection breaks. Raises CniError 11 when the database is
    away, 7 when it refuses; whatever `work` raises rolls back.
    """
    end = time.monotonic() + settings.timeout
    pause = _FIRST_PAUSE
    unsure = broken = False
    while True:
        try:
            return _attempt(settings, work, end - time.monotonic(), create=create, unsure=unsure)
        except Failure as failure:
            left = end - time.monotonic()
            during_commit = isinstance(failure, _CommitFailure)
            unsure = unsure or (during_commit and failure.lost)
            once_more = failure.again or (failure.lost and not broken and not failure.refused)
            if not once_more or left < pause or isinstance(failure, _ConnectFailure):
                raise databases.away(settings.database, failure) from None
            broken = broken or failure.lost
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class _ConnectFailure(Failure):
    """There was no connection at all."""


class _CommitFailure(Failure):
    """The connection broke, or another transaction won, while ours was being committed."""


def _attempt(settings: Settings, work: Work, wait: float, *, create: bool, unsure: bool) -> object:
    try:
        connection = databases.connect(settings, wait)
    except Failure as failure:
        if failure.again:
            raise
        raise _as(_ConnectFailure, failure) from None
    try:
        now = connection.begin()
        if not schema.exists(connection):
            connection.rollback()
            if not create:
                return None
            schema.create(connection, settings.database)
            now = connection.begin()
        try:
            result = work(Transaction(connection, now, unsure=unsure))
        except BaseException:
            connection.rollback()
            raise
        try:
            connection.commit()
        except Failure as failure:
            raise _as(_CommitFailure, failure) from None
        return result
    finally:
        connection.close()


def _as(kind: type[Failure], failure: Failure) -> Failure:
    return kind(
        str(failure),
        again=failure.again,
        lost=failure.lost,
        refused=failure.refused,
        no_table=failure.no_table,
    )
