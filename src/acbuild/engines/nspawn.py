"""The engine `systemd-nspawn`: the host's own, run on the root filesystem that acbuild has mounted for it.

Neither systemd nor a bus has to run. The directories that nspawn wants to have are in the skeleton below the
image's files, and what it keeps in /run goes to a filesystem of the run's own, so that it leaves nothing.
"""

from __future__ import annotations

import os

from acbuild.engines import confine, program, root, supervision
from acbuild.engines.workspace import Places, Workspace, stacked_or_copied
from acbuild.errors import AcbuildError
from linux import clone, namespaces
from linux.mount import api
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from acbuild.engines import Command, Layers
    from acbuild.engines.supervision import Channel

_PROGRAM = "systemd-nspawn"
_WHERE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORIES = (*root.SYSTEM, "etc", "root", "run", "tmp", "usr", "var")
#: Where nspawn mounts. Of the version in Debian 12 a link at /dev leads it to directories of the host.
_MOUNTED = (*root.SYSTEM, "run", "tmp")


def run(layers: Layers, command: Command, *, say: Callable[[str], None]) -> int:
    """Run `command` on `layers`; its exit code. See `acbuild.engines.run`."""
    nspawn = _find()
    if not namespaces.in_initial_user_namespace():
        raise AcbuildError(f"{_PROGRAM} works for root only", hint="use --engine=native")

    def once(layers: Layers) -> int:
        with Workspace(layers, Places(_DIRECTORIES, resolver=command.network)) as workspace:

            def live(channel: Channel) -> NoReturn:
                _become(nspawn, workspace, command, channel)

            # in a PID namespace, because nspawn leaves what runs in it alone when it is killed
            return supervision.run(clone.NEWNS | clone.NEWPID, live, say=say)

    return stacked_or_copied(layers, once, say=say)


def _find() -> str:
    for directory in _WHERE.split(":"):
        path = f"{directory}/{_PROGRAM}"
        if os.access(path, os.X_OK):
            return path
    raise AcbuildError(
        f"{_PROGRAM} is not installed", hint="install the package systemd-container, or use --engine=native"
    )


def _become(nspawn: str, workspace: Workspace, command: Command, channel: Channel) -> NoReturn:
    base, directory = workspace.mount()
    for name in _MOUNTED:
        os.close(root.system_directory(directory, name))
    with Root(os.dup(directory)) as image:
        program.find(image, command.argv[0], command.variables()["PATH"], command.working_directory)
    if command.network and not root.mount_resolver(directory, base):
        channel.note("the image has no place for /etc/resolv.conf: names are not resolved")
    for fstype, path, options in (
        ("tmpfs", "/run", (("size", "1m"), ("mode", "0755"))),
        ("proc", "/proc", ()),
    ):
        own = api.filesystem(fstype, options)
        api.move_mount(own, path)
        os.close(own)

    def become() -> NoReturn:
        confine.reset_signals()
        os.execve(nspawn, _arguments(workspace.path, command), {"PATH": _WHERE, "LC_ALL": "C.UTF-8"})

    supervision.be_init(become, channel)


def _arguments(path: str, command: Command) -> list[str]:
    terminal = os.isatty(0) and os.isatty(1)
    return [
        _PROGRAM,
        "--quiet",
        *("--register=no", "--keep-unit", "--as-pid2", "--link-journal=no", "--timezone=off"),
        *("--resolv-conf=off", "--machine=acbuild", f"--directory={path}"),
        f"--console={'interactive' if terminal else 'pipe'}",
        f"--chdir={command.working_directory}",
        *([] if command.network else ["--private-network"]),
        *(f"--setenv={name}={value}" for name, value in command.variables().items()),
        "--",
        *command.argv,
    ]
