"""Runs every conformance case of a directory: ``python3 tests/conformance [DIR]``.

DIR (default: ``../shared/vectors`` beside the repository) has folders such as ``appc/`` with files of cases,
one a line. Each failing case is printed, then why cases were skipped, then ``N passed, N failed, N skipped``.
The exit status is 1 if a case failed, 2 if there is no such directory.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
DEFAULT = REPOSITORY.parent / "shared" / "vectors"


def areas() -> list[str]:
    """The modules beside this one that have cases to run."""
    apart = {"__main__", "cases", "docker2aci_defects"}
    return sorted(
        path.stem for path in HERE.glob("*.py") if path.stem not in apart and path.stem[:5] != "test_"
    )


def main(arguments: list[str]) -> int:
    """Run all areas; see the module's text."""
    # this folder itself off the path: its module names must not hide the packages of src
    sys.path[:] = [str(REPOSITORY / "src"), str(HERE.parent)] + [
        p for p in sys.path if Path(p or ".") != HERE
    ]
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0 if len(arguments) == 1 else 2
    directory = Path(arguments[0]) if arguments else DEFAULT
    if not directory.is_dir():
        print(f"{directory} is not a directory", file=sys.stderr)
        return 2
    outcome = import_module("conformance.cases").Outcome()
    for area in areas():
        outcome += import_module(f"conformance.{area}").run(directory)
    for failure in outcome.failures:
        # Cases may be about text that is none.
        print(str(failure).encode(errors="backslashreplace").decode())
    for reason, count in sorted(outcome.reasons().items()):
        print(f"skipped {count}: {reason}")
    print(f"{outcome.passed} passed, {len(outcome.failures)} failed, {len(outcome.skipped)} skipped")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
