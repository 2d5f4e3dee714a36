"""The command `acbuild`: its verbs, its global flags, the names that acbuild 0.4 had for them."""

from __future__ import annotations

import os
import sys

from console.errors import UsageError
from console.verbs import GlobalFlag, Program, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType
    from typing import NoReturn


class EditVerb(Verb):
    """A verb that is a row of `acbuild.cli.edits`."""

    __slots__ = ()

    def __init__(self, name: str, summary: str, group: str) -> None:
        super().__init__(name, "acbuild.cli.edits", summary, group)

    def load(self) -> ModuleType:
        """The row, which has all that a verb's module has."""
        from acbuild.cli.edits import TABLE

        return TABLE[self.name]  # type: ignore[return-value]


_BUILD, _APP, _IMAGE, _FILES = "The build", "The app", "The image", "Files"
VERBS = (
    Verb("begin", "acbuild.cli.begin", "start a build", _BUILD),
    Verb("write", "acbuild.cli.write", "write the image to a file", _BUILD),
    Verb("push", "acbuild.cli.push", "send the image to a registry or a server", _BUILD),
    Verb("end", "acbuild.cli.end", "end the build and remove its files", _BUILD),
    Verb("script", "acbuild.cli.script", "run the commands in a file", _BUILD),
    Verb("run", "acbuild.cli.run", "run a command in the image", _FILES),
    Verb("copy", "acbuild.cli.copy", "copy a file or directory into the image", _FILES),
    Verb("copy-binary", "acbuild.cli.copy_binary", "copy a program and its libraries into the image", _FILES),
    Verb("copy-to-dir", "acbuild.cli.copy_to_dir", "copy files into a directory of the image", _FILES),
    Verb("remove", "acbuild.cli.remove", "remove a file or directory of the image", _FILES),
    Verb("squash", "acbuild.cli.squash", "make the image independent: one layer, all files in it", _FILES),
    Verb("layer", "acbuild.cli.layer", "start a new layer (mode oci)", _FILES),
    EditVerb("whitelist add", "name paths that may exist when the image is run", _FILES),
    EditVerb("whitelist remove", "take paths off the whitelist", _FILES),
    EditVerb("set-exec", "set what the image runs", _APP),
    EditVerb("set-user", "set the user that the app runs as", _APP),
    EditVerb("set-group", "set the group that the app runs as", _APP),
    EditVerb("set-supp-groups", "set the supplementary groups of the app", _APP),
    EditVerb("set-working-directory", "set the directory that the app starts in", _APP),
    EditVerb("set-event-handler", "set what runs before or after the app", _APP),
    EditVerb("environment add", "set an environment variable of the app", _APP),
    EditVerb("environment remove", "remove an environment variable", _APP),
    EditVerb("mount add", "add a mount point", _APP),
    EditVerb("mount remove", "remove a mount point", _APP),
    EditVerb("port add", "add a port that the app serves", _APP),
    EditVerb("port remove", "remove a port", _APP),
    EditVerb("isolator add", "add an isolator", _APP),
    EditVerb("isolator remove", "remove an isolator", _APP),
    EditVerb("set-name", "set the name of the image", _IMAGE),
    EditVerb("set-tag", "set the version of the image", _IMAGE),
    EditVerb("label add", "add a label", _IMAGE),
    EditVerb("label remove", "remove a label", _IMAGE),
    EditVerb("annotation add", "add an annotation", _IMAGE),
    EditVerb("annotation remove", "remove an annotation", _IMAGE),
    EditVerb("dependency add", "add an image below this one", _IMAGE),
    EditVerb("dependency remove", "remove a dependency", _IMAGE),
    Verb("replace-manifest", "acbuild.cli.replace_manifest", "take over the manifest in a file", _IMAGE),
    Verb("cat-manifest", "acbuild.cli.cat_manifest", "print the manifest", _IMAGE),
    Verb("version", "acbuild.cli.version", "show the version", "Other"),
    Verb("help", "acbuild.cli.help", "explain a command", "Other"),
    Verb("completion", "console.completion", "print a completion script for a shell", "Other"),
    Verb("__complete", "console.complete", "answer a completion script", "Other", hidden=True),
)

FLAGS = (
    GlobalFlag("work-path", "DIR", "directory of the build (default: the current one)"),
    GlobalFlag("no-history", "", "do not note the command in the image"),
    GlobalFlag("from", "FILE", "context-free: work on this image, not on a build in progress"),
    GlobalFlag("to", "FILE", "context-free: write the result here"),
    GlobalFlag("modify-appc", "FILE", "apply the command to this ACI, in place"),
    GlobalFlag("modify-oci", "FILE", "apply the command to this OCI image, in place"),
    GlobalFlag("modify", "FILE", "as --modify-appc, for old scripts", hidden=True),
    GlobalFlag("store", "DIR", "rkt's data directory, to look for images in (default: /var/lib/rkt)"),
    GlobalFlag("system-config", "DIR", "rkt's system configuration: keys, logins (default: /usr/lib/rkt)"),
    GlobalFlag("local-config", "DIR", "rkt's local configuration (default: /etc/rkt)"),
    GlobalFlag("debug", "", "say more: the trail of causes of an error, and timings"),
    GlobalFlag("color", "WHEN", "colour messages: auto, always, never (default: auto)"),
)

ALIASES = {"volume": "mount", "set-wd": "set-working-directory", "set-eh": "set-event-handler"}
#: A prefix that named a command of acbuild 0.4 names it still, whatever else begins so by now.
_FIRST_NAMES = (
    *("annotation", "begin", "cat-manifest", "copy", "copy-to-dir", "dependency", "end", "environment"),
    *(
        "isolator",
        "label",
        "layer",
        "mount",
        "port",
        "replace-manifest",
        "run",
        "script",
        "set-event-handler",
    ),
    *("set-exec", "set-group", "set-name", "set-supp-groups", "set-tag", "set-user", "set-working-directory"),
    *("version", "write", "help"),
)


class Acbuild(Program):
    """The program, with the aliases of acbuild 0.4."""

    __slots__ = ()

    def find(self, words: Sequence[str]) -> tuple[Verb, int]:
        """As `Program.find`; `rm` is `remove` in every family of commands."""
        first = ALIASES.get(words[0], words[0])
        names = {verb.name.split(" ")[0] for verb in self.verbs}
        if first not in names:
            known = (*_FIRST_NAMES, *ALIASES)
            old = {ALIASES.get(name, name) for name in known if first and name.startswith(first)}
            first = old.pop() if len(old) == 1 else first
        second = ["remove" if word == "rm" else word for word in words[1:2]]
        return super().find([first, *second, *words[2:]])


def settings(flags: Mapping[str, object]) -> object:
    """The global flags as Settings."""
    from acbuild.context import APPC, OCI
    from acbuild.settings import Settings

    def text(name: str) -> str:
        return str(flags.get(name) or "")

    source, target, mode = text("from"), text("to"), ""
    modified = {flag: text(flag) for flag in ("modify-appc", "modify-oci", "modify") if text(flag)}
    if len(modified) > 1 or (modified and (source or target)):
        raise UsageError("--from and --to, --modify-appc, --modify-oci exclude each other")
    for flag, path in modified.items():
        source = target = path
        mode = OCI if flag == "modify-oci" else APPC
    return Settings(
        work_path=text("work-path") or ".",
        history=not flags.get("no-history"),
        source=source,
        target=target,
        modify_mode=mode,
        store=text("store"),
        system_config=text("system-config") or "/usr/lib/rkt",
        local_config=text("local-config") or "/etc/rkt",
    )


def _version() -> str:
    from acbuild.cli.version import text

    return text()


PROGRAM = Acbuild(
    "acbuild",
    "builds container images from shell or Make",
    VERBS,
    version=_version,
    flags=FLAGS,
    settings=settings,
    failure=1,
    usage_failure=3,
    no_verb=0,
)


def main(argv: Sequence[str] | None = None) -> int:
    from console.main import main as run

    return run(PROGRAM, argv)


def command() -> NoReturn:
    """The command as a process of its own; under the name acbuild-script, `script` is meant."""
    from console.main import process

    if os.path.basename(sys.argv[0]) == "acbuild-script":
        sys.argv[1:1] = ["script"]
    process(PROGRAM)


if __name__ == "__main__":
    command()
