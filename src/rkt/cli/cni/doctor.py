"""rkt cni doctor: say what is wrong with the networks of this node, and what mends it."""

from __future__ import annotations

from rkt.cli.findings import NAMES, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from linux.probes import Finding

EXAMPLES = """\
  rkt cni doctor
  rkt cni doctor --format=json | jq '.[] | select(.status != "ok")'
  CNI_PATH=/opt/cni/bin rkt cni doctor
"""
DESCRIPTION = """\
Looks at the networks of pods and of /etc/cni/net.d (or NETCONFPATH): whether each can be read, its plugins
are found (in CNI_PATH, or where they are by convention) and speak its version, the kernel has what they
need, and its STATUS is that it is ready. Then at what is left: attachments whose network namespaces are
gone, addresses held for nobody, files that cannot be read. Changes nothing. Exits with 254 if anything
fails.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    return show(_findings(options), options.format, out)


def _findings(options: argparse.Namespace) -> list[Finding]:
    import os

    from cni import diagnosis
    from cni.runtime import Runtime
    from rkt.network import attachments, definitions

    settings = options.settings
    environment = dict(os.environ)
    theirs, problems = diagnosis.available([attachments.network_directory()])
    ours, problems_of_ours = definitions.available(settings.local_config)
    path = definitions.plugin_path(settings.local_config)
    return [
        *diagnosis.networks(ours, Runtime(path, environment=environment)),
        *diagnosis.networks(theirs, Runtime(attachments.plugin_path(), environment=environment)),
        *diagnosis.files([*problems_of_ours, *problems], attachments.caches()),
        *diagnosis.leftovers([each.known for each in attachments.every()]),
    ]
