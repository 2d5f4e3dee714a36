"""What each plugin made for each attachment, written down before it is made.

DEL, CHECK and GC work from these records, so they need neither prevResult nor a living namespace.
A record lives in /run and names the boot it belongs to: what it speaks of died with that boot.
An attachment is the triple (network, container ID, interface name) of the specification.
"""

from __future__ import annotations

import errno
import os

from cni import jsontext, volatile
from cni.fields import Fields
from cni.request import Request

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

DIRECTORY = "/run/rkt-platform/cni"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_boots: dict[str, str] = {}
_LONGEST_NAME = 200  # of a file, well below NAME_MAX, so that a temporary name fits too


def boot_id() -> str:
    """The kernel's random name for this boot, read once: no process lives in two."""
    known = _boots.get(BOOT_ID)
    if known is None:
        with open(BOOT_ID, "rb", buffering=0) as file:
            known = _boots[BOOT_ID] = file.read(64).decode().strip()
    return known


def save(request: Request, plugin: str, made: dict[str, object]) -> None:
    """Record that `plugin` is about to make, or has made, the objects in `made` (JSON) for `request`.

    Call it before the first effect with the names that will be used, and again when more is known.
    """
    path = _path(request.name, plugin, request.container_id, request.ifname)
    record: dict[str, object] = {
        "boot": boot_id(),
        "plugin": plugin,
        "containerID": request.container_id,
        "ifname": request.ifname,
        "netns": request.netns or "",
        "args": request.args,
        "path": list(request.path),
        "config": request.config,
        "made": made,
    }
    data = jsontext.dumps(record).encode()
    while True:
        try:
            volatile.replace(path, data)
            return
        except FileNotFoundError:
            # The network's first record; or its last one was removed just now, and the directory with it.
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)


def load(request: Request, plugin: str) -> dict[str, object] | None:
    """What `save` was given last; None without a record, or with one of another boot or damaged."""
    record = _read(_path(request.name, plugin, request.container_id, request.ifname))
    return None if record is None else record.mapping("made").values


def remove(request: Request, plugin: str) -> None:
    """Forget the record, when all it speaks of is gone. No error when there is none."""
    path = _path(request.name, plugin, request.container_id, request.ifname)
    try:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
    except OSError as failed:
        if failed.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise


def stale(plugin: str, network: str, valid: Collection[tuple[str, str]]) -> Iterator[Request]:
    """A DEL request for each attachment of `network` that `plugin` recorded and that is not `valid`.

    Records of another boot, and damaged ones, speak of nothing that exists: they are removed here.
    """
    directory = f"{DIRECTORY}/{network}"
    volatile.collect(directory)
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith(f"{plugin}:"):
            continue
        path = f"{directory}/{name}"
        record = _read(path)
        if record is None:
            _forget(path)
            continue
        request = _request(record)
        if (request.container_id, request.ifname) not in valid:
            yield request


def every() -> Iterator[tuple[str, Request]]:
    """(plugin, DEL request) of every record of this boot, whatever the network."""
    try:
        networks = os.listdir(DIRECTORY)
    except FileNotFoundError:
        return
    for network in networks:
        volatile.collect(f"{DIRECTORY}/{network}")
        try:
            names = os.listdir(f"{DIRECTORY}/{network}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if name.startswith("."):
                continue
            record = _read(f"{DIRECTORY}/{network}/{name}")
            if record is not None:
                yield record.string("plugin"), _request(record)


def damaged() -> list[str]:
    """The paths of records that cannot be read, and of those of another boot: they speak of nothing."""
    paths = [f"{top}/{name}" for top, _, names in os.walk(DIRECTORY) for name in names if name[0] != "."]
    return sorted(path for path in paths if _read(path) is None)


def _request(record: Fields) -> Request:
    return Request(
        "DEL",
        record.mapping("config").values,
        container_id=record.string("containerID"),
        netns=record.string("netns") or None,
        ifname=record.string("ifname"),
        args=record.string("args"),
        path=record.strings("path"),
        environment=os.environ,
    )


def _path(network: str, plugin: str, container_id: str, ifname: str) -> str:
    # None of the three can hold a colon or a slash (cni.types.names), so the parts cannot run together.
    name = f"{plugin}:{container_id}:{ifname}"
    if len(name) > _LONGEST_NAME:
        from hashlib import sha512

        name = f"{plugin}:{sha512(container_id.encode()).hexdigest()}:{ifname}"
    return f"{DIRECTORY}/{network}/{name}"


def _read(path: str) -> Fields | None:
    try:
        with open(path, "rb") as file:
            record = Fields(jsontext.loads(file.read()))
        # Every type is looked at here, so that callers need not expect ValueError.
        record.strings("path"), record.mapping("config"), record.mapping("made")
        record.string("containerID"), record.string("ifname"), record.string("netns"), record.string("args")
        return record if record.string("boot") == boot_id() else None
    except (FileNotFoundError, ValueError):
        return None


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
