"""Engines: they run a command in an image that is being built, and change nothing but the image's own files.

An engine gets the layers of the root filesystem and the command, and gives back the exit code. All that it
mounts, it mounts in a mount namespace of the run's own, so that nothing of it is left whatever happens.
"""

from __future__ import annotations

from acbuild.errors import AcbuildError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NATIVE, NSPAWN, CHROOT = "native", "systemd-nspawn", "chroot"
ENGINES = (NATIVE, NSPAWN, CHROOT)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Layers(NamedTuple):
    """The files of the image. `lowers` are only read, the topmost first; changes go to `upper`.

    What is deleted of a lower directory is marked in `upper` as an overlay does it, or where that is not
    possible its name (below the root) is added to `deleted`. `scratch` is a directory on the filesystem of
    `upper`, made for the run; it and all in it are removed after the run, and before it what a killed one
    left there.
    """

    lowers: tuple[str, ...]
    upper: str
    scratch: str
    deleted: set[bytes]


class Command(NamedTuple):
    """What to run. `environment` is added to PATH and HOME; without `network` there is only a loopback."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    working_directory: str = "/"
    network: bool = True

    def variables(self) -> dict[str, str]:
        """The whole environment of the command: nothing comes from the builder's own."""
        return {"PATH": PATH, "HOME": "/root", **dict(self.environment)}


def run(engine: str, layers: Layers, command: Command, *, say: Callable[[str], None]) -> int:
    """Run `command` by the engine of that name; its exit code, 128 and the signal when one ended it.

    `say` is told what could not be had here. AcbuildError when the command was not run at all, with the exit
    code 127 when it is not there and 126 when it cannot be executed.
    """
    if not command.argv or not command.argv[0]:
        raise AcbuildError("there is nothing to run", hint="put the command behind `--`")
    if engine == NSPAWN:
        from acbuild.engines.nspawn import run as run_nspawn

        return run_nspawn(layers, command, say=say)
    if engine not in ENGINES:
        raise AcbuildError(f"{engine}: no engine", hint=f"choose from {', '.join(ENGINES)}")
    from acbuild.engines.native import run as run_native

    return run_native(layers, command, confined=engine == NATIVE, say=say)


class NotRun(AcbuildError):
    """A command that cannot be executed (exit code 126) or is not there (127), as shells count."""

    def __init__(self, message: str, *, missing: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 127 if missing else 126
