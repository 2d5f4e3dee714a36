"""The command `docker2aci`: one verb, which needs no name. Flags take one dash or two, as Go's do."""

from __future__ import annotations

from console.output import Output
from console.verbs import Program, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

#: The version of docker2aci whose command line this is.
VERSION = "0.17.2"

VERBS = (Verb("", "oci.cli.docker2aci", "convert Docker and OCI images into ACIs"),)


class _Errors(Output):
    """Every failure begins with ``Error:``, as docker2aci's do."""

    def error(self, error: BaseException) -> None:
        self.where = "Error"
        super().error(error)


def _version() -> str:
    return f"docker2aci version {VERSION}+rkt-platform"


PROGRAM = Program(
    "docker2aci",
    "convert Docker and OCI images into ACIs",
    VERBS,
    version=_version,
    failure=1,
    usage_failure=2,
    single_dash=True,
)


def main(argv: Sequence[str] | None = None, out: Output | None = None) -> int:
    from console.main import main as run

    return run(PROGRAM, argv, out or _Errors())


def command() -> NoReturn:
    """The command as a process of its own."""
    from console.main import process

    process(PROGRAM, _Errors)


if __name__ == "__main__":
    command()
