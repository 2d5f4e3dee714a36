"""Sticky addresses: who had which one last, so that it can have it again.

A directory ``sticky`` beside the leases, which the reference plugin does not mind: for each name a file with
its address, for each address one with its name. So there are never more files than addresses, and nothing is
searched. Losing one costs an address that is not the last one, so none is synced.
"""

from __future__ import annotations

import os

from cni.attachment.names import digest
from cni.types.address import format_ip, parse_ip

_DIRECTORY = "sticky"


def recall(network: str, name: str, position: int) -> bytes | None:
    """The address of set number `position` that `name` had last in the network of that directory."""
    try:
        return parse_ip(_read(f"{network}/{_DIRECTORY}/{_key(name, position)}"))
    except (OSError, ValueError):
        return None


def remember(network: str, name: str, position: int, address: bytes) -> None:
    """Note that `name` has the address; whoever had it before is forgotten. The network is locked."""
    directory = f"{network}/{_DIRECTORY}"
    key, text = _key(name, position), format_ip(address)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    try:
        before = _read(f"{directory}/{text}")
    except OSError:
        before = ""
    if before == key:
        return
    if before and "/" not in before:
        _forget(f"{directory}/{before}")
    try:
        _forget(f"{directory}/{format_ip(parse_ip(_read(f'{directory}/{key}')))}")
    except (OSError, ValueError):
        pass  # it had none
    _write(f"{directory}/{key}", text)
    _write(f"{directory}/{text}", key)


def _key(name: str, position: int) -> str:
    return f"{digest(name, 32)}.{position}"


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(fd, 128).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
