"""rkt's grammar of images and their arguments: ``IMAGE [flags] [-- args] [--- IMAGE …]``.

A word that is no flag is an image. Flags of the pod may stand anywhere outside of arguments, flags of an
app behind its image. ``--`` starts the arguments of the last image, ``---`` ends them. Flags are written as
Go's pflag has it: ``--flag=value`` or ``--flag value``; a switch, and a flag with a value of its own when
it stands alone (``--net``), take a value only behind ``=``.
"""

from __future__ import annotations

from appc import query
from appc.jsonfield import quoted
from rkt.appargs import flags as table
from rkt.appargs.options import AppOptions, PodOptions, Stage1Choice
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from rkt.appargs.flags import Flag

    Fields = dict[str, Any]


class UsageError(RktError):
    """A command line that rkt does not understand."""


def parse(verb: str, words: Sequence[str]) -> PodOptions:
    """The options that `words`, what follows `verb` on a command line, stand for. Raises UsageError."""
    reader = _Reader(verb)
    reader.read(list(words))
    return reader.result()


class _Reader:
    """Collects what the words say."""

    def __init__(self, verb: str) -> None:
        self.verb = verb
        self.known = table.of_verb(verb)
        self.pod: Fields = {}
        self.apps: list[Fields] = []
        self.given: list[tuple[int, str]] = []  # which flag was given behind which image

    # --- words

    def read(self, words: list[str]) -> None:
        """Walk through all words."""
        for word in words:
            if any("\ud800" <= character <= "\udfff" for character in word):
                raise UsageError(
                    f"the argument {quoted(word)} is not UTF-8", hint="manifests are, and hold it"
                )
        position, had_arguments = 0, 0
        while position < len(words):
            word = words[position]
            position += 1
            if word == "---":
                continue  # ends arguments that were never begun: rkt lets it pass
            if word == "--":
                self._may_have_arguments(had_arguments)
                had_arguments = len(self.apps)
                end = words.index("---", position) if "---" in words[position:] else len(words)
                self._app()["args"] = tuple(words[position:end])
                position = end + 1
            elif word.startswith("-") and word != "-":
                position = self._flag(word, words, position)
            else:
                self._argument(word)

    def _may_have_arguments(self, had_arguments: int) -> None:
        if self.verb == table.RUN_PREPARED:
            raise UsageError("app arguments unsupported: a prepared pod has them already")
        if not self.apps:
            raise UsageError("an image is required before any app arguments")
        if had_arguments == len(self.apps):
            raise UsageError(
                "only one set of app arguments allowed per image", hint="`---` ends a set of arguments"
            )

    def _argument(self, word: str) -> None:
        if not word:
            raise UsageError(
                "UUID cannot be empty" if self.verb == table.RUN_PREPARED else "the name of an image is empty"
            )
        if self.verb != table.RUN_PREPARED:
            self.apps.append({"image": word})
        elif "uuid" in self.pod:
            raise UsageError(f"unexpected argument: {word}", hint="run-prepared takes one UUID")
        else:
            self.pod["uuid"] = word

    def _flag(self, word: str, words: list[str], position: int) -> int:
        """Read one flag; the position behind it and its value."""
        name, joined, value = word.partition("=")
        flag = self.known.get(name[2:]) if name.startswith("--") else None
        if flag is None:
            self._unknown(word, name)
        if joined:
            pass
        elif flag.kind == table.SWITCH:
            value = "true"
        elif flag.alone is not None:
            value = flag.alone
        elif position < len(words):
            value = words[position]
            position += 1
        else:
            raise UsageError(f"flag needs an argument: {name}", hint=f"write it as `{name}={flag.metavar}`")
        self._take(flag, value)
        return position

    def _unknown(self, word: str, name: str) -> NoReturn:
        elsewhere = [flag for flag in table.FLAGS if f"--{flag.name}" == name]
        if elsewhere:
            verbs = " and ".join(f"`rkt {verb}`" for verb in elsewhere[0].verbs)
            raise UsageError(f"unknown flag: {name}", hint=f"{name} is a flag of {verbs}")
        from rkt.appargs import hints

        hint = hints.for_unknown(word, [flag.name for flag in self.known.values() if not flag.hidden])
        raise UsageError(f"unknown flag: {name}", hint=hint or f"see `rkt {self.verb} --help`")

    # --- values

    def _take(self, flag: Flag, text: str) -> None:
        if flag.app and not self.apps:
            raise UsageError(
                f"--{flag.name} must follow an image",
                hint="flags of an app stand behind the image they concern",
            )
        where = self._app() if self.apps and (flag.app or flag.key == "mounts") else self.pod
        value = self._value(flag, text)
        if flag.kind in {table.SWITCH, table.LAST}:
            where[flag.key] = value
            self.given.append((len(self.apps), flag.name))
            return
        if flag.kind == table.ONCE:
            self._once(flag)
        if flag.key == "stage1":
            where["stage1"] = Stage1Choice(by=flag.name.removeprefix("stage1-"), value=text)
        elif flag.kind == table.ONCE and flag.key != "isolators":
            where[flag.key] = value
        else:
            self._append(flag, where, value)

    def _value(self, flag: Flag, text: str) -> object:
        try:
            return query.boolean(text) if flag.kind == table.SWITCH else flag.read(text)
        except ValueError as error:
            from rkt.appargs import hints

            hint = hints.for_value(flag.name, text, str(error))
            raise UsageError(f"--{flag.name}: {error}", hint=hint) from None

    def _once(self, flag: Flag) -> None:
        place = (len(self.apps) if flag.app else 0, flag.name)
        if place in self.given:
            raise UsageError(
                f"--{flag.name} specified multiple times" + (" for the same image" if flag.app else "")
            )
        if flag.key == "stage1" and "stage1" in self.pod:
            other = self.pod["stage1"]
            raise UsageError(f"--{flag.name} and --stage1-{other.by} are mutually exclusive")
        self.given.append(place)

    @staticmethod
    def _append(flag: Flag, where: Fields, value: object) -> None:
        so_far = where.get(flag.key, ())
        if flag.kind == table.PAIRS and isinstance(value, tuple) and value[0] in dict(so_far):
            what = "environment variable" if "env" in flag.name else flag.name.replace("-", " ")
            raise UsageError(f"--{flag.name}: {what} {quoted(value[0])} already set")
        where[flag.key] = so_far + (
            value if flag.key == "hosts_entries" and isinstance(value, tuple) else (value,)
        )

    def _app(self) -> Fields:
        return self.apps[-1]

    # --- the whole

    def result(self) -> PodOptions:
        """The options, checked for contradictions."""
        self._pull_policy()
        self._hosts()
        apps = tuple(AppOptions(**fields) for fields in self.apps)
        options = PodOptions(apps=apps, **self.pod)
        from rkt.appargs import rules

        rules.check(self.verb, options, frozenset(name for _, name in self.given))
        return options

    def _pull_policy(self) -> None:
        deprecated = {"store_only": "never", "no_store": "update"}
        chosen = [policy for key, policy in deprecated.items() if self.pod.pop(key, False)]
        if len(chosen) > 1:
            raise UsageError("--store-only and --no-store are mutually exclusive")
        if chosen and "pull_policy" in self.pod:
            raise UsageError("--pull-policy excludes --store-only and --no-store, which it replaces")
        if chosen:
            self.pod["pull_policy"] = chosen[0]

    def _hosts(self) -> None:
        entries = self.pod.get("hosts_entries", ())
        if ("host", "") in entries:
            self.pod["hosts_from_host"] = True
            self.pod["hosts_entries"] = ()
