"""rkt cni install: put the built-in plugins where other runtimes look for theirs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt cni install /opt/cni/bin
  rkt cni install --only=bridge,host-local,portmap /usr/local/lib/cni
  rkt cni install --force /opt/cni/bin
  rkt cni install --remove /opt/cni/bin
"""
DESCRIPTION = """\
Writes a launcher, rkt-platform-cni, and for each plugin a link to it of the plugin's name. A kubelet,
podman, nerdctl or cnitool that looks into DIR then runs the built-in plugins, from where this rkt is
installed. A plugin of others that has one of the names is not touched: nothing is installed then, unless
with --force. May be repeated, also to follow an rkt that has moved.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="where, such as /opt/cni/bin; made if missing")
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="only this plugin (a list)"
    )
    parser.add_argument("--force", action="store_true", help="replace plugins of others")
    parser.add_argument("--remove", action="store_true", help="remove what this command has installed")


def run(options: argparse.Namespace, out: Output) -> int:
    from cni import installation
    from rkt.errors import RktError

    only = [name for value in options.only for name in value.split(",") if name]
    try:
        if options.remove:
            names = installation.remove(options.directory)
        else:
            names = installation.install(options.directory, only=only, force=options.force)
    except installation.Foreign as error:
        raise RktError(str(error), hint=error.hint) from None
    except ValueError as error:
        raise RktError(f"--only: {error}") from None
    for name in names:
        out.line(name)
    return 0
