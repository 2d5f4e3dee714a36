"""acbuild run: run a command in the image."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild run -- apt-get install -y nginx
  acbuild run --network=none --working-dir=/src -- make install
  acbuild run --engine=chroot -- /bin/sh -c 'echo a,b > /etc/list'
"""
DESCRIPTION = """\
The files of the image lie on those of its dependencies; what the command changes is the image's, what it
deletes of a dependency is left out when the image is run. /proc, /sys, /dev and, with a network, the host's
/etc/resolv.conf are there for the command and do not stay. The command has the image's environment, a PATH,
and nothing of yours. Its exit code is that of acbuild; one that a signal ends gives 128 and the signal, one
that is not there 127.

The engine `native` makes namespaces and confines the command as rkt confines an app; `systemd-nspawn` is the
host's; `chroot` changes the root and confines nothing. A user who is not root needs subordinate IDs, in
/etc/subuid and /etc/subgid, to have more than one user in the image.
"""
raw = True
_SYNTAX = Syntax(
    "-- CMD [ARG…]",
    1,
    -1,
    (
        Flag(
            "engine",
            "NAME",
            "native (the default), systemd-nspawn or chroot",
            choices=("native", "systemd-nspawn", "chroot"),
        ),
        Flag("working-dir", "DIR", "where in the image it runs (default: the working directory of the app)"),
        Flag("network", "KIND", "host (the default) or none: only a loopback", choices=("host", "none")),
        Flag("insecure", "", "fetch dependencies over plain http too, and without checking signatures"),
    ),
    "the command and its arguments",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


class CommandFailed(AcbuildError):
    """The command ran, and its exit code is not 0: acbuild's neither."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"{command}: exit code {code}")
        self.exit_code = code


def run(options: Options, out: Output) -> int:
    from acbuild import rootless
    from acbuild.cli import session

    given = parse(options.argv)

    def change(build: Build) -> None:
        from acbuild import running

        wanted = running.Wanted(
            given.words,
            engine=given.text("engine", "native"),
            working_directory=given.text("working-dir"),
            network=given.text("network", "host") == "host",
            insecure=given.on("insecure"),
        )
        code = running.run(build, session.settings_of(options), wanted, say=out.note)
        if code:
            raise CommandFailed(given.words[0], code)

    rootless.enter(say=out.note)
    return session.edit(options, out, given.words, change, changes_files=True)
