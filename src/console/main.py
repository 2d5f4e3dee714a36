"""The way from `sys.argv` to a verb and back to an exit code.

`main` is the edge of the process: the only place that turns errors into text and exit codes.
Nothing but the table of verbs and the module of one verb is imported on the way; argparse too is
left out for verbs that parse for themselves.
"""

from __future__ import annotations

import os
import sys

from console import terminal
from console.errors import INTERRUPTED, OUTPUT_CLOSED, OutputClosed, UsageError, exit_code, is_expected, near
from console.output import Output
from console.verbs import IncompleteVerb

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    import signal as _signal
    from collections.abc import Sequence
    from types import ModuleType
    from typing import NoReturn

    from console.parser import Parser
    from console.verbs import Program, Verb
else:
    import _signal  # what `signal` wraps, without the enumerations that it makes

_HELP = ("-h", "--help")


class Options:
    """What a raw verb gets: its arguments as typed, and what every verb gets."""

    argv: list[str]
    settings: object
    program: Program
    verb: Verb


def main(program: Program, argv: Sequence[str] | None = None, out: Output | None = None) -> int:
    """Run the command line `argv` (default: the process's) and give its exit code."""
    out = out or Output()
    out.where = program.name
    words = list(sys.argv[1:] if argv is None else argv)
    if not program.verbs[0].name and words[:1] not in (["--version"], ["-version"]):
        words.insert(0, "")  # the name of its one verb
    try:
        code = _dispatch(program, words, out)
        out.flush()
    except OutputClosed:
        _discard_output()
        return OUTPUT_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except UsageError as error:
        return _fail(out, error, program.usage_failure)
    except PermissionError as error:
        code = _fail(out, error, program.failure)
        if program.of_root and os.geteuid() != 0:
            out.hint("become root, for example with sudo")
        return code
    except Exception as error:  # noqa: BLE001  the process's edge
        if not is_expected(error):
            _crashed(out, error)
            return program.failure
        return _fail(out, error, program.failure)
    return code


def process(program: Program, output: type[Output] = Output) -> NoReturn:
    """Be the whole process: run the command line and end, without taking the interpreter down first.

    That would free each object one by one, 10 ms of CPU for memory that the kernel takes back at a stroke.
    """
    _hold_standard_descriptors()
    if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:  # by the launcher, while it loaded
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    code = main(program, out=output())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass  # told already
    os._exit(code)


def _hold_standard_descriptors() -> None:
    """A standard descriptor that the caller closed must not become that of the next file to be opened.

    What stands in its place fails as the closed one would: it cannot be read, or not be written.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest number that is free is this one.
            os.open("/dev/null", os.O_RDONLY if fd else os.O_WRONLY)
            os.set_inheritable(fd, True)  # noqa: FBT003  it takes no keyword
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))  # noqa: SIM115  for all its life


def _fail(out: Output, error: Exception, code: int) -> int:
    out.error(error)
    try:
        out.stdout.flush()
    except OSError:
        _discard_output()
    return exit_code(error, code)


def _crashed(out: Output, error: Exception) -> None:
    """A bug of ours: say so, and show where with --debug (or when it cannot be shown otherwise)."""
    if out.debugging:
        import traceback

        out.stderr.write("".join(traceback.format_exception(error)))
    internal = UsageError(
        f"internal error: {type(error).__name__}: {error}",
        hint="this is a bug; run again with --debug and report the trace",
    )
    out.error(internal)


def _discard_output() -> None:
    """Let the interpreter's own flush at its end go nowhere, instead of complaining."""
    import os

    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 1)
    os.close(null)


def _dispatch(program: Program, argv: list[str], out: Output) -> int:
    flags: dict[str, object] = {}
    rest = take_flags(program, argv, flags, until_verb=True)
    apply_flags(flags, out)
    if not rest or rest[0] in (*_HELP, "-help"):
        from console import help as help_texts

        if not rest and program.no_verb:
            out.stderr.write(help_texts.overview(program))
            return program.no_verb
        out.line(help_texts.overview(program).rstrip("\n"))
        return 0
    if rest[0] in ("--version", "-version"):
        out.line(program.version())
        return 0
    early: list[str] = []
    if rest[0].startswith("-"):
        early, rest = _early_flags(program, rest)
    try:
        verb, used = program.find(rest)
    except IncompleteVerb as error:
        return _family(program, error, rest, out)
    return call(program, verb, [*early, *rest[used:]], flags, out)


def _early_flags(program: Program, rest: list[str]) -> tuple[list[str], list[str]]:
    """The flags of a verb that were typed in front of it, as rkt allowed, and what follows them.

    A value must stand behind `=`. UsageError for what looks like a mistyped global flag.
    """
    known = ["--version", "--help", *(f"--{flag.name}" for flag in program.flags if not flag.hidden)]
    name = rest[0].split("=")[0]
    hint = near(name, known, "`{}`")
    count = next((index for index, word in enumerate(rest) if not word.startswith("-")), len(rest))
    if hint is not None or count == len(rest):
        raise UsageError(f"unknown flag: {name}", hint=hint or f"see `{program.name} --help`")
    return rest[:count], rest[count:]


def _family(program: Program, error: IncompleteVerb, rest: list[str], out: Output) -> int:
    """`rkt image` and `rkt image --help`: what the family of verbs consists of."""
    from console import help as help_texts

    text = help_texts.family(program, error.family)
    if len(rest) > 1 and rest[1] in _HELP:
        out.line(text.rstrip("\n"))
        return 0
    if len(rest) > 1:
        raise error
    out.stderr.write(text)
    return program.no_verb or program.usage_failure


def call(program: Program, verb: Verb, argv: list[str], flags: dict[str, object], out: Output) -> int:
    """Import one verb, parse its arguments and run it."""
    module = verb.load()
    out.where = verb.name
    options: Options | argparse.Namespace
    if getattr(module, "raw", False):
        verbatim = getattr(module, "verbatim", False)
        words = argv if verbatim else take_flags(program, argv, flags)
        if not verbatim and any(word in _HELP for word in words[: _end_of_flags(words)]):
            return _show_help(program, verb, module, out)
        options = Options()
        options.argv = words
    else:
        from console.parser import HelpWanted

        parser = verb_parser(program, verb, module)
        try:
            options = parser.parse(argv)
        except HelpWanted:
            return _show_help(program, verb, module, out)
        for flag in program.flags:
            given = getattr(options, _destination(flag.name), None)
            if given is not None:
                flags[flag.name] = flags_joined(flags.get(flag.name), given) if flag.repeatable else given
    apply_flags(flags, out)
    options.settings = program.settings(flags)
    options.program = program
    options.verb = verb
    code: int = module.run(options, out)
    return code


def verb_parser(program: Program, verb: Verb, module: ModuleType) -> Parser:
    """The parser of a verb, which also takes the global flags."""
    import argparse

    from console.parser import Parser

    parser = Parser(f"{program.name} {verb.name}".rstrip(), single_dash=program.single_dash)
    module.arguments(parser)
    for flag in program.flags:
        name = f"--{flag.name}"
        if name in parser._option_string_actions:
            continue
        destination = _destination(flag.name)
        if not flag.metavar:
            parser.add_argument(
                name, dest=destination, action="store_true", default=None, help=argparse.SUPPRESS
            )
        elif flag.repeatable:
            parser.add_argument(name, dest=destination, action="append", help=argparse.SUPPRESS)
        else:
            parser.add_argument(name, dest=destination, help=argparse.SUPPRESS)
    return parser


def take_flags(
    program: Program, argv: Sequence[str], flags: dict[str, object], *, until_verb: bool = False
) -> list[str]:
    """Move the global flags of `argv` into `flags`; what remains is returned.

    Words from the first `--` on are left alone, with `until_verb` those from the first
    word that is no flag on. Raises UsageError for a flag without its value.
    """
    known = {flag.name: flag for flag in program.flags}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--" or (until_verb and not word.startswith("-")):
            rest.append(word)
            break
        dashes = 2 if word.startswith("--") else 1 if program.single_dash and word.startswith("-") else 0
        name, joined, value = word[dashes:].partition("=")
        flag = known.get(name) if dashes else None
        if flag is None:
            rest.append(word)
            if until_verb:
                break
        elif not flag.metavar:
            flags[name] = not joined or _boolean(name, value)
        else:
            if not joined:
                following = next(words, None)
                if following is None:
                    raise UsageError(f"--{name}: needs a value")
                value = following
            flags[name] = flags_joined(flags.get(name), [value]) if flag.repeatable else value
    return rest + list(words)


def flags_joined(before: object, given: list[str]) -> list[str]:
    return [*(before if isinstance(before, list) else ()), *given]


def apply_flags(flags: dict[str, object], out: Output) -> None:
    """The global flags that concern the output itself."""
    out.debugging = bool(flags.get("debug", out.debugging))
    colour = flags.get("color", out.colour)
    if colour not in terminal.COLOUR_MODES:
        raise UsageError(f"--color: {colour!r} is none of " + ", ".join(terminal.COLOUR_MODES))
    out.colour = str(colour)


def _show_help(program: Program, verb: Verb, module: ModuleType, out: Output) -> int:
    from console import help as help_texts

    out.line(help_texts.verb_page(program, verb, module).rstrip("\n"))
    return 0


def _end_of_flags(words: list[str]) -> int:
    return words.index("--") if "--" in words else len(words)


def _destination(flag: str) -> str:
    return "global_" + flag.replace("-", "_")


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise UsageError(f"--{name}: {value!r} is neither true nor false")
