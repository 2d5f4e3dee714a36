"""The engines `native` and `chroot`: a command in namespaces that acbuild makes itself.

acbuild stays as the parent; its child is PID 1 of a new PID namespace, puts the root filesystem together,
starts the command and reaps. When acbuild dies, PID 1 dies with it, and with PID 1 all processes of the run
and the last holders of its mounts. `native` confines the command as an app is confined and gives it
namespaces of its own; `chroot` only changes its root: it has the host's network, IPC and host name.
"""

from __future__ import annotations

import encodings.ascii  # noqa: F401 - PID 1 can load no codec any more once the host's root is gone

from acbuild.engines import confine, root, supervision
from acbuild.engines.workspace import Places, Workspace, stacked_or_copied
from linux import clone, libc, loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from acbuild.engines import Command, Layers
    from acbuild.engines.supervision import Channel


def run(layers: Layers, command: Command, *, confined: bool, say: Callable[[str], None]) -> int:
    """Run `command` on `layers`; its exit code. See `acbuild.engines.run`."""
    kinds = clone.NEWNS | clone.NEWPID
    if confined:
        kinds |= clone.NEWIPC | clone.NEWUTS
    if not command.network:
        kinds |= clone.NEWNET
    filtered = confine.filter_program() if confined else b""

    def once(layers: Layers) -> int:
        with Workspace(layers, Places(root.SYSTEM, resolver=command.network)) as workspace:
            return supervision.run(kinds, _Init(workspace, command, filtered).live, say=say)

    try:
        return stacked_or_copied(layers, once, say=say)
    except supervision.NoNamespaces:
        if confined or not command.network:
            raise
    from acbuild.engines import plain

    return plain.run(layers, command, say=say)


class _Init:
    """PID 1 of the run. It begins as a fork of acbuild and never returns to its frames."""

    def __init__(self, workspace: Workspace, command: Command, filtered: bytes) -> None:
        self._workspace = workspace
        self._command = command
        self._filtered = filtered

    def live(self, channel: Channel) -> NoReturn:
        """All of it, up to the end of the command."""
        self._enter(channel)
        supervision.be_init(lambda: confine.become(self._command, self._filtered), channel)

    def _enter(self, channel: Channel) -> None:
        """From the host's root into the image's."""
        if self._filtered:
            libc.prctl(libc.PR_SET_DUMPABLE, 0)  # nothing in the image can look into this interpreter
            libc.sethostname("acbuild")
        if not self._command.network:
            loopback.bring_up()
        base, directory = self._workspace.mount()
        root.fill_base(base, masked=bool(self._filtered))
        if self._command.network and not root.mount_resolver(directory, base):
            channel.note("the image has no place for /etc/resolv.conf: names are not resolved")
        root.mount_system(directory, base)
        confine.forbid_imports()
        root.pivot(directory)
