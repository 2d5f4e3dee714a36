"""The engine `chroot` where not even a mount namespace may be made, as in most containers: chroot(2) alone.

The command sees no /proc, /sys and /dev but those that the image has, and what it leaves running goes on.
"""

from __future__ import annotations

import os

from acbuild.engines import confine, copied, program, root, supervision
from linux.files import remove_tree
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from acbuild.engines import Command, Layers
    from acbuild.engines.supervision import Channel


def run(layers: Layers, command: Command, *, say: Callable[[str], None]) -> int:
    """Run `command` on `layers`; its exit code."""
    say("no mounts are allowed here: /proc, /sys and /dev are those of the image, if it has any")

    def once(layers: Layers) -> int:
        remove_tree(layers.scratch)
        os.mkdir(layers.scratch, 0o700)
        placed = _place_resolver(layers.upper)
        try:
            return supervision.run(0, lambda channel: _become(layers.upper, command, channel), say=say)
        finally:
            if placed:
                _take_back(layers.upper, placed)
            remove_tree(layers.scratch)

    return copied.run(layers, once) if layers.lowers else once(layers)


def _become(directory: str, command: Command, channel: Channel) -> NoReturn:
    del channel
    with Root.open(directory) as image:
        path = program.find(image, command.argv[0], command.variables()["PATH"], command.working_directory)
    confine.forbid_imports()
    os.chroot(directory)
    os.chdir("/")
    confine.become(command, b"", path=path)


def _place_resolver(upper: str) -> bytes:
    """Put the host's resolv.conf into an image that has an /etc without one; what was put there."""
    try:
        with open("/etc/resolv.conf", "rb") as file:
            text = file.read(1 << 16)
        with Root.open(upper) as image:
            image.lstat("etc")
            try:
                image.lstat(root.RESOLV_CONF)
            except FileNotFoundError:
                image.write_file(root.RESOLV_CONF, text)
                return text
    except OSError:
        pass  # names are not resolved then
    return b""


def _take_back(upper: str, text: bytes) -> None:
    """Remove the resolv.conf again, unless the command has made another."""
    with Root.open(upper) as image:
        try:
            if image.read_file(root.RESOLV_CONF) == text:
                image.remove(root.RESOLV_CONF)
        except (OSError, ValueError):
            return
