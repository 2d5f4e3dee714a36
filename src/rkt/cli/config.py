"""rkt config: show the configuration in effect."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt config
  rkt config --pretty-print=false
  rkt --user-config=$HOME/.config/rkt config
"""
DESCRIPTION = """\
Prints what the files under the system, local and user configuration directories amount to, as JSON: one entry
per domain and registry with credentials, then paths, then the default stage1. An entry has the form of a
configuration file. The output holds the configured passwords and tokens.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pretty-print",
        metavar="BOOL",
        nargs="?",
        const="true",
        default="true",
        choices=("true", "false"),
        help="indent the output (default: true)",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from rkt.config.merged import load

    out.json(load(options.settings.config_dirs()).to_json(), pretty=options.pretty_print == "true")
    return 0
