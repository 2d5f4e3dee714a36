"""Which attachments a verb is about: a container's, by its ID or how that begins, on one network or all."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from rkt.network.attachments import Attached


def arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    what = "its ID, or the beginning of it" + ("" if required else " (default: every container)")
    if required:
        parser.add_argument("container", metavar="CONTAINER", help=what)
    else:
        parser.add_argument("container", metavar="CONTAINER", nargs="?", default="", help=what)
    parser.add_argument("--network", metavar="NETWORK", default="", help="only on this network")


def chosen(options: argparse.Namespace) -> list[Attached]:
    """The attachments; RktError when a container is named that has none, or that is more than one."""
    from rkt.network import attachments

    found = list(attachments.every(options.network))
    if not options.container:
        return found
    exact = [each for each in found if each.known.container_id == options.container]
    begun = exact or [each for each in found if each.known.container_id.startswith(options.container)]
    names = sorted({each.known.container_id for each in begun})
    if not names:
        where = f"network {options.network}" if options.network else "any network"
        raise RktError(f"{options.container}: not attached to {where}", hint="see `rkt cni list`")
    if len(names) > 1:
        raise RktError(
            f"{options.container}: is the beginning of {', '.join(names)}", hint="write more of it"
        )
    return begun
