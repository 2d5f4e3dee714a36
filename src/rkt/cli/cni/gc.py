"""rkt cni gc: take off their networks the containers whose network namespaces are gone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from rkt.network.attachments import Attached

EXAMPLES = """\
  rkt cni gc
  rkt cni gc --dry-run
  rkt cni gc --plugins
"""
DESCRIPTION = """\
First collects what pods that are gone have left. Then runs DEL for every attachment of any runtime whose
network namespace is gone. One whose namespace cannot be judged from here is left alone.

With --plugins every network of /etc/cni/net.d and of the attachments is also told (GC) which attachments
live, so that its plugins clean up what only they know of. Use it only when no other runtime, with a cache
elsewhere than in /var/lib/cni, uses these networks: its containers would lose their addresses.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")
    parser.add_argument("--plugins", action="store_true", help="also run GC of every network's plugins")


def run(options: argparse.Namespace, out: Output) -> int:
    from cni.exclusion import Exclusive
    from rkt import network
    from rkt.cli.root import require_root
    from rkt.errors import RktError
    from rkt.network import attachments
    from rkt.pods import phases
    from rkt.pods.directory import PodDirectory

    require_root()
    good = True
    if not options.dry_run:
        pods = PodDirectory(options.settings.data_dir)
        try:
            network.reconcile(set(pods.uuids(phases.PHASES)), pods.data_dir)
        except RktError as error:
            out.error(error)
            good = False
    with Exclusive():
        every = list(attachments.every())
        gone = [each for each in every if each.known.lives is False and not each.pod]
        for each in gone:
            good = _delete(each, out, dry=options.dry_run) and good
        if options.plugins and not options.dry_run:
            good = _tell_plugins([each for each in every if each not in gone], out) and good
    return 0 if good else 254


def _delete(attached: Attached, out: Output, *, dry: bool) -> bool:
    from cni.errors import CniError

    known = attached.known
    where = f"{known.network} {known.container_id} {known.ifname}"
    if not dry:
        try:
            attached.delete()
        except CniError as error:
            out.error(error)
            return False
    out.line(where)
    return True


def _tell_plugins(living: list[Attached], out: Output) -> bool:
    import os

    from cni import diagnosis
    from cni.errors import CniError
    from cni.runtime import Runtime
    from rkt.network import attachments

    configured, _ = diagnosis.available([attachments.network_directory()])
    networks = {each.name: each for each in configured}
    for each in living:
        if each.network is not None:
            networks.setdefault(each.known.network, each.network)
    runtime = Runtime(attachments.plugin_path(), environment=dict(os.environ))
    good = True
    for network in networks.values():
        valid = [
            (each.known.container_id, each.known.ifname)
            for each in living
            if each.known.network == network.name
        ]
        try:
            runtime.collect(network, valid)
        except CniError as error:
            out.error(error)
            good = False
    return good
