"""The flag --limit: how much of the host an image may take."""

from __future__ import annotations

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from appc.aci.limits import Limits


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="take larger or smaller images, as --limit=size=64Gi (default 16Gi), entries=N (500000), "
        "depth=N (256 directories), xattrs=16Mi, ratio=N (100 bytes out of one)",
    )


def wanted(options: argparse.Namespace) -> Limits:
    """The limits with the changes of the command line. AppcError for what is no limit."""
    from appc.aci.limits import DEFAULT, changed

    limits = DEFAULT
    for word in options.limit:
        name, _, value = word.partition("=")
        try:
            limits = changed(limits, name, value)
        except ValueError as error:
            raise AppcError(f"--limit: {error}") from None
    return limits
