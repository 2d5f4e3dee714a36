"""Man pages from the very definitions that parse the command line, so that they cannot drift.

A page per verb (`rkt-image-list.1`), one for the program (`rkt.1`), one per help topic (`rkt-signing.7`).
The roff is that of man(7), simple enough to need no pandoc when a package is built.
"""

from __future__ import annotations

import os

from console import help as help_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.main import Options
    from console.output import Output
    from console.verbs import Program, Verb

EXAMPLES = """\
  rkt __man /usr/share/man
"""
raw = True


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="where man1 and man7 go")


def run(options: Options, out: Output) -> int:
    """The hidden verb `__man DIR`: write all pages below DIR."""
    directory = (options.argv or ["."])[0]
    for name, text in pages(options.program).items():
        path = os.path.join(directory, f"man{name[-1]}", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        out.line(path)
    return 0


def pages(program: Program) -> dict[str, str]:
    """The pages of a program by file name; verbs that this build does not have are left out.

    A program that is one verb without a name has the verb's page alone.
    """
    found = {f"{program.name}.1": _overview(program)}
    for verb in program.verbs:
        if not verb.hidden:
            found[f"{page_name(program, verb)}.1"] = page(program, verb)
    for topic in help_texts.topics(program):
        found[f"{program.name}-{topic}.7"] = _topic(program, topic)
    return found


def page_name(program: Program, verb: Verb) -> str:
    return "-".join((program.name, *verb.name.split()))


def page(program: Program, verb: Verb) -> str:
    """The page of one verb."""
    from console.main import verb_parser

    module = verb.load()
    parser = verb_parser(program, verb, module)
    lines = [
        *_header(program, page_name(program, verb), 1),
        ".SH NAME",
        f"{_text(page_name(program, verb))} \\- {_text(verb.summary)}",
        ".SH SYNOPSIS",
        f".B {_text(help_texts.usage(program, verb, parser))}",
        ".SH DESCRIPTION",
        *_paragraphs(getattr(module, "DESCRIPTION", "") or _capital(verb.summary) + "."),
    ]
    for title, actions in help_texts.groups(parser):
        lines.append(f".SH {_text(title.upper())}")
        for action in actions:
            lines += [".TP", f".B {_text(help_texts.spelling(action))}", _text(_sentence(action))]
    lines += (
        [".PP", "The global flags are described in", f".BR {_text(program.name)} (1)."]
        if program.flags
        else []
    )
    lines += [
        ".SH EXIT STATUS",
        f"0 on success, {program.failure} on failure.",
        *([f"See also {_text(program.name)} help exit\\-codes."] if program.topics else []),
        ".SH EXAMPLES",
        *_literal(help_texts.examples(program, module)),
    ]
    if verb.name:
        lines += [".SH SEE ALSO", _see_also(program, verb)]
    return "\n".join(lines) + "\n"


def _sentence(action: argparse.Action) -> str:
    text = help_texts.help_text(action)
    return _capital(text) + ("" if text.endswith(".") else ".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _see_also(program: Program, verb: Verb) -> str:
    related = [
        f"{page_name(program, other)}"
        for other in program.verbs
        if other.group == verb.group and other is not verb and not other.hidden
    ]
    return ",\n".join(f".BR {_text(name)} (1)" for name in (program.name, *related)).replace("(1),", "(1) ,")


def _overview(program: Program) -> str:
    lines = [
        *_header(program, program.name, 1),
        ".SH NAME",
        f"{program.name} \\- {_text(program.summary)}",
        ".SH SYNOPSIS",
        f".B {program.name} [flags] COMMAND [arguments]",
        ".SH COMMANDS",
    ]
    for verb in program.verbs:
        if not verb.hidden:
            lines += [
                ".TP",
                f".BR {_text(page_name(program, verb))} (1)",
                _text(_capital(verb.summary)) + ".",
            ]
    if program.flags:
        lines.append(".SH GLOBAL FLAGS")
    for flag in program.flags:
        if not flag.hidden:
            value = f"={flag.metavar}" if flag.metavar else ""
            lines += [".TP", f".B {_text('--' + flag.name + value)}", _text(_capital(flag.help)) + "."]
    return "\n".join(lines) + "\n"


def _topic(program: Program, name: str) -> str:
    title, _, text = help_texts.topic(program, name).partition("\n")
    lines = [
        *_header(program, f"{program.name}-{name}", 7),
        ".SH NAME",
        f"{_text(f'{program.name}-{name}')} \\- {_text(title)}",
        ".SH DESCRIPTION",
    ]
    for block in text.strip("\n").split("\n\n"):
        rows = block.split("\n")
        prose = next((place for place, row in enumerate(rows) if row.startswith(" ")), len(rows))
        if prose:
            lines += [".PP", *map(_text, rows[:prose])]
        if rows[prose:]:  # a table, as wide as a terminal
            lines += [".PP", ".in 0", ".nf", *map(_text, rows[prose:]), ".fi", ".in"]
    return "\n".join(lines) + "\n"


def _header(program: Program, name: str, section: int) -> list[str]:
    return [f'.TH {_text(name.upper())} {section} "" {_text(program.name)}', ".nh"]


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith(" "):
            lines += _literal(paragraph)
        else:
            lines += [".PP", *(_text(line) for line in paragraph.split("\n"))]
    return lines


def _literal(text: str) -> list[str]:
    return [".PP", ".nf", *(_text(line) for line in text.rstrip().split("\n")), ".fi"]


def _text(text: str) -> str:
    r"""Text for roff: `\`, `-` and a dot or quote at the start of a line are not its commands."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "\\&...")
    return "\\&" + escaped if escaped[:1] in (".", "'") else escaped
