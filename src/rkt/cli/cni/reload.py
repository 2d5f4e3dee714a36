"""rkt cni reload: put back the rules of the firewall that a reload of it took away."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt cni reload
  systemctl restart nftables && rkt cni reload
"""
DESCRIPTION = """\
Masquerading, port mappings and guards of hardware addresses stand in tables of their own, which firewalld
and iptables leave alone; `nft flush ruleset`, with which the service nftables starts, does not. This
command puts back what is missing for each attachment, from the records of the plugins, and prints what that
was.
"""


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def run(_options: argparse.Namespace, out: Output) -> int:
    from cni.attachment.reload import reload
    from cni.exclusion import Exclusive
    from rkt.cli.root import require_root

    require_root()
    good = True
    with Exclusive():
        for line in reload():
            if line.startswith("error: "):
                out.note(line)
                good = False
            else:
                out.line(line)
    return 0 if good else 254
