"""The command `actool`: its verbs and its global flag. Flags take one dash or two, as Go's do."""

from __future__ import annotations

from console.verbs import GlobalFlag, Program, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

#: The version of the specification that is implemented.
SPECIFICATION = "0.8.11"

VERBS = (
    Verb("build", "appc.cli.build", "build an image from an image layout"),
    Verb("validate", "appc.cli.validate", "check images, image layouts and manifests"),
    Verb("cat-manifest", "appc.cli.cat_manifest", "print the manifest of an image"),
    Verb("patch-manifest", "appc.cli.patch_manifest", "copy an image with changes to its manifest"),
    Verb("extract", "appc.cli.extract", "unpack an image into a directory"),
    Verb("sign", "appc.cli.sign", "sign an image with gpg"),
    Verb("discover", "appc.cli.discover", "find out where images can be downloaded"),
    Verb("version", "appc.cli.version", "show the version"),
    Verb("completion", "console.completion", "print a completion script for a shell"),
    Verb("help", "appc.cli.help", "explain a command"),
    Verb("__complete", "console.complete", "answer a completion script", hidden=True),
)


def _version() -> str:
    return f"actool version {SPECIFICATION}+rkt-platform"


PROGRAM = Program(
    "actool",
    "the App Container tool",
    VERBS,
    version=_version,
    flags=(GlobalFlag("debug", "", "say more: what was checked, the trail of causes of an error"),),
    failure=1,
    usage_failure=2,
    no_verb=0,
    single_dash=True,
)


def main(argv: Sequence[str] | None = None) -> int:
    from console.main import main as run

    return run(PROGRAM, argv)


def command() -> NoReturn:
    """The command as a process of its own."""
    from console.main import process

    process(PROGRAM)


if __name__ == "__main__":
    command()
