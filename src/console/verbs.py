"""What a command line of this project consists of: a program, its verbs, its global flags.

A program is a table. Finding a verb in it reads nothing but this table; only the module of the
verb that was asked for is imported (with 45 verbs that saves 10 ms of each start).
"""

from __future__ import annotations

import sys

from console.errors import UsageError, near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType


class Verb:
    """One command: `name` is what users type (`run`, `image list`), `module` what implements it.

    The module has `arguments(parser)`, `run(options, out) -> int` and `EXAMPLES`, and may have
    `DESCRIPTION` (paragraphs for the man page) and `raw = True`: such a verb gets its arguments as
    typed, in `options.argv`; its `arguments` then only feeds help, man page and completion. With
    `verbatim = True` besides, global flags and --help among its arguments are left to it too.
    """

    __slots__ = ("group", "hidden", "module", "name", "summary")

    def __init__(
        self, name: str, module: str, summary: str, group: str = "", *, hidden: bool = False
    ) -> None:
        self.name = name
        self.module = module
        self.summary = summary
        self.group = group
        self.hidden = hidden

    def load(self) -> ModuleType:
        """Import the verb's module; a module that is not part of this build is a UsageError."""
        try:
            __import__(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or not (self.module + ".").startswith(error.name + "."):
                raise
            raise UsageError(f"{self.name}: this build of the program does not have the command") from error
        return sys.modules[self.module]


class GlobalFlag:
    """A flag that is accepted before and after the verb; without `metavar` it takes no value."""

    __slots__ = ("help", "hidden", "metavar", "name", "repeatable")

    def __init__(
        self, name: str, metavar: str = "", help: str = "", *, hidden: bool = False, repeatable: bool = False
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.hidden = hidden
        self.repeatable = repeatable


class Program:
    """A command with its verbs and the rules that differ between the programs of this project.

    One that does one thing has one verb, without a name.

    `settings` turns the global flags that were given into the value that verbs find in
    `options.settings`. `failure` is the exit code of a failure that brings none of its own,
    `usage_failure` that of a command line that cannot be understood, `no_verb` that of one
    without a verb (0: the help is the answer and goes to stdout). `single_dash` takes `-name` for
    `--name`, as Go's flag package does. `topics` is the directory of the help topics, and
    `completers` maps a metavar, such as UUID, to `module:function` that lists candidates, and `hints` a
    word that is no verb, but that users of other programs type, to what to do instead. The files of a
    program `of_root` are root's.
    """

    __slots__ = (
        "completers",
        "failure",
        "flags",
        "hints",
        "name",
        "no_verb",
        "of_root",
        "settings",
        "single_dash",
        "summary",
        "topics",
        "usage_failure",
        "verbs",
        "version",
    )

    def __init__(
        self,
        name: str,
        summary: str,
        verbs: Sequence[Verb],
        *,
        version: Callable[[], str],
        flags: Sequence[GlobalFlag] = (),
        settings: Callable[[Mapping[str, object]], object] = dict,
        failure: int = 1,
        usage_failure: int | None = None,
        no_verb: int = 2,
        single_dash: bool = False,
        topics: str = "",
        completers: Mapping[str, str] | None = None,
        hints: Mapping[str, str] | None = None,
        of_root: bool = False,
    ) -> None:
        self.name = name
        self.summary = summary
        self.verbs = verbs
        self.version = version
        self.flags = flags
        self.settings = settings
        self.failure = failure
        self.usage_failure = failure if usage_failure is None else usage_failure
        self.no_verb = no_verb
        self.single_dash = single_dash
        self.topics = topics
        self.completers = completers or {}
        self.hints = hints or {}
        self.of_root = of_root

    def find(self, words: Sequence[str]) -> tuple[Verb, int]:
        """The verb that `words` begin with, and how many words name it.

        Each word may be a unique prefix. Raises UsageError, with a hint, when there is none,
        and IncompleteVerb when the words name only a family of verbs, such as `image`.
        """
        first = self._complete(words[0], {verb.name.split(" ")[0]: verb.hidden for verb in self.verbs}, "")
        exact = {verb.name: verb for verb in self.verbs}
        if first in exact:
            return exact[first], 1
        family = {
            verb.name.split(" ")[1]: verb.hidden for verb in self.verbs if verb.name.startswith(f"{first} ")
        }
        if len(words) < 2 or words[1].startswith("-"):
            raise IncompleteVerb(first, family)
        second = self._complete(words[1], family, f"{first} ")
        return exact[f"{first} {second}"], 2

    def _complete(self, word: str, names: Mapping[str, bool], context: str) -> str:
        if word in names:
            return word
        found = [name for name, hidden in names.items() if word and name.startswith(word) and not hidden]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(
                f"{context}{word}: ambiguous command", hint="it could be " + ", ".join(sorted(found))
            )
        hint = self.hints.get(context + word) or near(
            word, [name for name, hidden in names.items() if not hidden], f"`{context}{{}}`"
        )
        raise UsageError(
            f"{context}{word}: unknown command",
            hint=hint or f"see `{self.name} help {context}".rstrip() + "`",
        )


class IncompleteVerb(UsageError):
    """Words that name a family of verbs, such as `image`, but none of the family."""

    def __init__(self, family: str, names: Mapping[str, bool]) -> None:
        listed = ", ".join(name for name, hidden in names.items() if not hidden)
        super().__init__(f"{family}: a command is missing", hint=f"choose from {listed}")
        self.family = family
