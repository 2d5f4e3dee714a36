"""rkt doctor: check what this host can do for pods, and say how to mend what it cannot."""

from __future__ import annotations

import os

from rkt.cli.findings import NAMES, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output
    from linux.probes import Finding
    from rkt.settings import GlobalOptions

EXAMPLES = """\
  rkt doctor
  rkt doctor --format=json
  rkt doctor --format='{status} {name}: {remedy}'
"""
DESCRIPTION = """\
Tries everything that pods need, in namespaces of its own, and leaves nothing behind. Each line says ok, warn
(rkt works, with less) or fail (rkt does not work), and what mends it. Exits with 254 if anything fails.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    from console.output import add_format

    add_format(parser, NAMES)


def run(options: argparse.Namespace, out: Output) -> int:
    from linux import probes

    findings = [*probes.all_of(options.settings.data_dir), keys(options.settings)]
    return show(findings, options.format, out)


def keys(settings: GlobalOptions) -> Finding:
    """How many keys are trusted to sign images."""
    from linux.probes import OK, WARN, Finding

    count = sum(
        len(names)
        for directory in settings.config_dirs()
        for _, _, names in os.walk(os.path.join(directory, "trustedkeys"))
    )
    if count:
        return Finding("trusted-keys", OK, f"{count} keys may sign images")
    return Finding(
        "trusted-keys",
        WARN,
        "no key may sign images: every image is refused",
        "rkt trust --prefix=NAME (see `rkt help signing`)",
    )
