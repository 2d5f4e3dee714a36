"""The command `cnitool`: its verbs and its flags, which may stand anywhere."""

from __future__ import annotations

from console.output import Output
from console.verbs import GlobalFlag, Program, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_OPERATIONS, _LOOKING, _TOOL = "Operations", "Looking", "This tool"

VERBS = (
    Verb("add", "cni.cli.add", "add a network namespace to a network", _OPERATIONS),
    Verb("check", "cni.cli.check", "check that a network namespace is still on a network", _OPERATIONS),
    Verb("del", "cni.cli.delete", "take a network namespace off a network", _OPERATIONS),
    Verb("gc", "cni.cli.gc", "clean up everything of a network", _OPERATIONS),
    Verb("status", "cni.cli.status", "ask whether a network could be added to now", _OPERATIONS),
    Verb("validate", "cni.cli.validate", "check configurations and their plugins", _LOOKING),
    Verb("networks", "cni.cli.networks", "show the networks that are configured", _LOOKING),
    Verb("attachments", "cni.cli.attachments", "show what is on which network", _LOOKING),
    Verb("version", "cni.cli.version", "show the versions that this tool, or a plugin, speaks", _LOOKING),
    Verb("completion", "console.completion", "print a completion script for a shell", _TOOL),
    Verb("help", "cni.cli.help", "explain a command", _TOOL),
    Verb("__complete", "console.complete", "list completions of a command line", _TOOL, hidden=True),
    Verb("__man", "console.man", "write the man pages", _TOOL, hidden=True),
)


class _Errors(Output):
    """Every failure begins with ``Error:``, which is what scripts look for."""

    def error(self, error: BaseException) -> None:
        self.where = "Error"
        super().error(error)


def _version() -> str:
    from cni.cli.version import text

    return text()


PROGRAM = Program(
    "cnitool",
    "run the plugins of a network on a network namespace",
    VERBS,
    version=_version,
    flags=(
        GlobalFlag(
            "ifname", "IF", "the interface in the namespace (default: $CNI_IFNAME, else eth0); also -i"
        ),
        GlobalFlag("i", "IF", "short for --ifname", hidden=True),
        GlobalFlag("cache-dir", "DIR", "where results are kept (default: /var/lib/cni)"),
        GlobalFlag("debug", "", "say more: the trail of causes of an error"),
    ),
    failure=1,
    no_verb=0,
    single_dash=True,
    of_root=True,
    completers={"NET": "cni.cli.environment:network_names", "NETNS": "cni.cli.environment:namespace_paths"},
)


def main(argv: Sequence[str] | None = None) -> int:
    from console.main import main as run

    return run(PROGRAM, argv, _Errors())


def command() -> NoReturn:
    """The command as a process of its own."""
    from console.main import process

    process(PROGRAM, _Errors)


if __name__ == "__main__":
    command()
