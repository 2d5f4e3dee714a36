"""python3 bench [start|many|fetch|pull|cni|build]…: compare rkt with its peers here; tables in Markdown.

Needs root. What a peer's absence leaves out is left out of the tables, never guessed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="start, many, fetch, pull, cni, build (default: all)")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--pods", type=int, default=200)
    options = parser.parse_args()
    import build
    import fetch
    import many
    import pull
    import start

    import plugins

    benches = {
        "start": lambda directory: start.run(directory, options.rounds),
        "many": lambda directory: many.run(directory, options.pods),
        "fetch": lambda directory: fetch.run(directory, max(3, options.rounds // 4)),
        "pull": lambda directory: pull.run(directory, max(3, options.rounds // 4)),
        "cni": lambda directory: plugins.run(directory, options.rounds),
        "build": lambda directory: build.run(directory, options.rounds),
    }
    subprocess.run([Path(__file__).parent.parent / "quickstart.d/bundle"], check=True)
    for name in options.what or benches:
        with tempfile.TemporaryDirectory(prefix="rkt-bench-", dir="/var/tmp") as directory:
            sys.stdout.write(benches[name](Path(directory)) + "\n\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
