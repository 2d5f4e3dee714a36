"""A bridge whose addresses are in a database: what is left when the database goes away at each step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cni.errors import PLUGIN_NOT_AVAILABLE, TRY_AGAIN_LATER, CniError
from fixtures.databases import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fixtures.databases import Server

pytestmark = pytest.mark.xdist_group("databases")


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def refused(code: int, call: Callable[[], object]) -> None:
    with pytest.raises(CniError) as failed:
        call()
    assert failed.value.code == code, failed.value


def test_the_database_comes_and_goes(
    host: Any, postgresql: Server, tmp_path: Path, nothing: dict[str, list[str]]
) -> None:
    database = Database("postgresql", postgresql, tmp_path)
    ipam = {"type": "sql", "database": database.config, "subnet": "10.44.0.0/24", "node": "one", "timeout": 5}
    network = host.network({"type": "bridge", "isGateway": True, "ipMasq": True, "ipam": ipam})
    first, second = host.node("c1"), host.node("c2")

    with stopped(postgresql):
        refused(TRY_AGAIN_LATER, lambda: host.add(network, first))
        # The database could not be asked to take back what it may have given, and that is remembered.
        assert host.left() == {**nothing, "records": ["bridge c1 eth0"]}
        refused(PLUGIN_NOT_AVAILABLE, lambda: host.runtime.status(network))
    host.delete(network, first)
    assert host.left() == nothing

    result = host.add(network, first)
    assert [str(each.address) for each in result.ips] == ["10.44.0.2/24"]
    host.add(network, second)
    host.check(network, first)
    second("busybox", "ping", "-c", "1", "-W", "5", "10.44.0.2")

    with stopped(postgresql):
        refused(TRY_AGAIN_LATER, lambda: host.delete(network, first))
        refused(TRY_AGAIN_LATER, lambda: host.delete(network, first))
    host.delete(network, first)
    host.delete(network, first)
    assert database.held() == ["10.44.0.3"]

    host.runtime.collect(network, ())
    assert database.held() == []
    assert host.left() == nothing
