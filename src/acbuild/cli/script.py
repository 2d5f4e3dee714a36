"""acbuild script: run the commands in a file."""

from __future__ import annotations

import os

from acbuild.cli.arguments import Syntax
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.script import Line
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild script ./build-myapp.acb
"""
DESCRIPTION = """\
A line is a command as it would be typed behind `acbuild`, with quotes, `#` comments, and a backslash at its
end to go on in the next one. `--` may be left out in `run` and `set-exec`. The script begins a build of its
own, in a directory that is gone at the end, so it needs no `end`; the first command that fails ends it.

A file that begins with `#!/usr/bin/env acbuild-script` can be run as it is. A script in a script works on the
build of the outer one.
"""
raw = True
_SYNTAX = Syntax("FILE", 1, 1, help="the script")


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild import script
    from acbuild.cli import session

    session.in_progress_only(options)
    name = parse(options.argv).words[0]
    try:
        with open(name, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise AcbuildError(f"no such file or directory: {name}") from None
    except UnicodeDecodeError:
        raise AcbuildError(f"{name}: is no text") from None
    if "\0" in text:  # which no word of a command line can hold
        raise AcbuildError(f"{name}: is no text")
    lines = script.parse(text, name)
    outer = os.environ.get(script.NESTED)
    if outer:
        return _execute(options, out, name, lines, outer)
    from acbuild.scratch import scratch

    with scratch() as directory:
        os.environ[script.NESTED] = directory
        try:
            return _execute(options, out, name, lines, directory)
        finally:
            del os.environ[script.NESTED]
            _end(directory, out)


def _end(directory: str, out: Output) -> None:
    from acbuild import context
    from acbuild.cli import session
    from acbuild.errors import NoBuild

    try:
        context.end(directory, waiting=lambda: session.waiting(out))
    except NoBuild:
        return


def _execute(options: Options, out: Output, name: str, lines: list[Line], directory: str) -> int:
    """Run the commands one by one; the exit code of the first that fails."""
    from acbuild.cli import session

    given = session.settings_of(options)
    for line in lines:
        flags: dict[str, object] = {
            "work-path": directory,
            "no-history": not given.history,
            "store": given.store,
            "system-config": given.system_config,
            "local-config": given.local_config,
        }
        code = _call(options, out, f"{name}:{line.number}", line.words, flags)
        if code:
            return code
    return 0


def _call(options: Options, out: Output, where: str, words: list[str], flags: dict[str, object]) -> int:
    from console.errors import UsageError, exit_code, is_expected, message
    from console.main import call

    program, verb_name = options.program, words[0]
    out.debug(f"{where}: {' '.join(words)}")
    try:
        verb, used = program.find(words)
        verb_name = verb.name
        return call(program, verb, words[used:], flags, out)
    except Exception as error:
        if not is_expected(error):
            raise
        code = exit_code(error, program.usage_failure if isinstance(error, UsageError) else program.failure)
        failed = AcbuildError(f"{where}: {verb_name}: {message(error)}", hint=getattr(error, "hint", None))
        failed.exit_code = code
        raise failed from error
    finally:
        out.where = "script"
