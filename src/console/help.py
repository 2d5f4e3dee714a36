"""Help texts: the overview, the page of a verb, the topics. Also the verb `help` itself."""

from __future__ import annotations

import os

from console.errors import UsageError, near

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import ModuleType

    from console.output import Output
    from console.verbs import Program, Verb

EXAMPLES = """\
  rkt help
  rkt help image list
  rkt help exit-codes
"""
#: Columns of the plainest terminal; longer are only examples, which are there to be copied.
_WIDTH = 80


def arguments(parser: argparse.ArgumentParser, *, with_topics: bool = True) -> None:
    metavar, text = ("COMMAND|TOPIC", "a command or a topic") if with_topics else ("COMMAND", "a command")
    parser.add_argument("words", metavar=metavar, nargs="*", help=text)


def run(options: argparse.Namespace, out: Output) -> int:
    program: Program = options.program
    words: list[str] = options.words
    if not words:
        text = overview(program)
    elif len(words) == 1 and words[0] in topics(program):
        text = topic(program, words[0])
    else:
        text = _about(program, words)
    out.line(text.rstrip("\n"))
    return 0


def _about(program: Program, words: list[str]) -> str:
    from console.verbs import IncompleteVerb

    try:
        verb, _ = program.find(words)
    except IncompleteVerb as error:
        return family(program, error.family)
    except UsageError as error:
        hint = near(words[0], topics(program), "`" + program.name + " help {}`") or error.hint
        raise UsageError(f"{' '.join(words)}: no such command or topic", hint=hint) from None
    return verb_page(program, verb, verb.load())


def overview(program: Program) -> str:
    """All commands by group, the global flags, the topics."""
    lines = [f"{program.name}: {program.summary}", "", f"usage: {program.name} [flags] COMMAND [arguments]"]
    groups: dict[str, list[Verb]] = {}
    for verb in program.verbs:
        if not verb.hidden:
            groups.setdefault(verb.group, []).append(verb)
    width = max(len(verb.name) for verb in program.verbs) + 2
    for group, verbs in groups.items():
        lines += ["", f"{group or 'Commands'}:"]
        lines += [f"  {verb.name:{width}}{verb.summary}" for verb in verbs]
    lines += flag_lines(program)
    known = topics(program)
    if known:
        lines += ["", f"Topics ({program.name} help TOPIC):"]
        width = max(map(len, known)) + 2
        lines += [f"  {name:{width}}{_first_line(program, name)}" for name in known]
    lines += ["", f"`{program.name} help COMMAND` shows the flags of a command and examples."]
    return "\n".join(lines) + "\n"


def family(program: Program, name: str) -> str:
    """The commands that begin with `name`, such as `image`."""
    verbs = [verb for verb in program.verbs if verb.name.startswith(f"{name} ") and not verb.hidden]
    width = max(len(verb.name) for verb in verbs) + 2
    lines = [f"usage: {program.name} {name} COMMAND [arguments]", ""]
    lines += [f"  {verb.name:{width}}{verb.summary}" for verb in verbs]
    lines += ["", f"`{program.name} help {name} COMMAND` shows the flags of a command and examples."]
    return "\n".join(lines) + "\n"


def flag_lines(program: Program) -> list[str]:
    shown = [flag for flag in program.flags if not flag.hidden]
    if not shown:
        return []
    named = [(f"--{flag.name}" + (f"={flag.metavar}" if flag.metavar else ""), flag.help) for flag in shown]
    return ["", "Global flags, before or after the command:", *_columns(named)]


def verb_page(program: Program, verb: Verb, module: ModuleType) -> str:
    """What `--help` shows: usage, summary, arguments, flags, examples."""
    from console.main import verb_parser

    parser = verb_parser(program, verb, module)
    lines = _wrapped(f"usage: {usage(program, verb, parser)}", indent=" " * 9)
    lines += ["", verb.summary[0].upper() + verb.summary[1:] + "."]
    for paragraph in getattr(module, "DESCRIPTION", "").strip().split("\n\n"):
        lines += ["", *_wrapped(paragraph)] if paragraph else []
    for title, actions in groups(parser):
        lines += ["", f"{title}:"]
        lines += _columns([(spelling(action), help_text(action)) for action in actions])
    if shown := examples(program, module).rstrip():
        lines += ["", "Examples:", shown]
    if program.flags:
        lines += ["", f"Global flags: see `{program.name} help`."]
    return "\n".join(lines) + "\n"


def examples(program: Program, module: ModuleType) -> str:
    """The examples of a verb; in those of a module that programs share, PROGRAM is the program's name."""
    return str(getattr(module, "EXAMPLES", "")).replace("PROGRAM", program.name)


def usage(program: Program, verb: Verb, parser: argparse.ArgumentParser) -> str:
    text = parser.usage
    if text is None:
        parts = ["[flags]"] if any(action.dest != "==SUPPRESS==" for action in flags(parser)) else []
        for action in positionals(parser):
            name = placeholder(action)
            if action.nargs in ("?", "*"):
                name = f"[{name}{'…' if action.nargs == '*' else ''}]"
            elif action.nargs in ("+", "...", "A..."):
                name = f"{name}…" if action.nargs == "+" else f"[{name}…]"
            parts.append(name)
        text = " ".join(parts)
    return " ".join(filter(None, (program.name, verb.name, text)))


def positionals(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if not action.option_strings and not _suppressed(action))


def flags(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.option_strings and not _suppressed(action))


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Arguments, then flags, under the titles that the verb gave them; what is not shown is left out."""
    names = {"positional arguments": "Arguments", "options": "Flags"}
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not _suppressed(action)]
        if actions:
            title = group.title or "options"
            yield names.get(title, title), actions


def placeholder(action: argparse.Action) -> str:
    """What stands for the value of an argument: its metavar, its choices, or its name."""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper()


def spelling(action: argparse.Action) -> str:
    """`-n, --name=NAME`, `--wait[=DURATION]`, or for a positional argument its placeholder."""
    if not action.option_strings:
        return placeholder(action)
    names = ", ".join(action.option_strings)
    if action.nargs == "?":
        return f"{names}[={placeholder(action)}]"
    return names if action.nargs == 0 else f"{names}={placeholder(action)}"


def help_text(action: argparse.Action) -> str:
    """An action's help with argparse's `%(default)s` and `%%` filled in."""
    values = {"default": action.default, "metavar": action.metavar, "dest": action.dest}
    return (action.help or "") % values


def _suppressed(action: argparse.Action) -> bool:
    return action.help == "==SUPPRESS=="


def _wrapped(text: str, width: int = _WIDTH, indent: str = "") -> list[str]:
    """`text` in lines of at most `width` columns, all but the first of them behind `indent`."""
    import textwrap

    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _columns(named: list[tuple[str, str]]) -> list[str]:
    """Names and beside them what they mean; below them where a name is too long."""
    column = min(max(len(name) for name, _ in named) + 4, 30)
    lines = []
    for name, text in named:
        wrapped = _wrapped(text, _WIDTH - column) or [""]
        if len(name) + 4 > column:
            lines += [f"  {name}"] + [" " * column + part for part in wrapped]
        else:
            lines += [f"  {name:{column - 2}}{wrapped[0]}".rstrip()]
            lines += [" " * column + part for part in wrapped[1:]]
    return lines


def topics(program: Program) -> list[str]:
    """The names of the help topics: the text files in the program's directory of topics."""
    if not program.topics:
        return []
    try:
        names = os.listdir(program.topics)
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".txt") for name in names if name.endswith(".txt"))


def topic(program: Program, name: str) -> str:
    with open(os.path.join(program.topics, f"{name}.txt"), encoding="utf-8") as file:
        return file.read()


def _first_line(program: Program, name: str) -> str:
    return topic(program, name).split("\n", 1)[0]
