"""Help, man pages, completion and examples of every verb cannot drift from what the verbs take."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from console import completion, man
from console import help as help_texts
from console.main import take_flags, verb_parser

if TYPE_CHECKING:
    from console.verbs import Program, Verb

CHECKOUT = Path(__file__).parent.parent.parent


def programs() -> list[Program]:
    several = [
        import_module(f"{package}.cli.main").PROGRAM
        for package in ("rkt", "appc", "cni", "acbuild")
        if (CHECKOUT / "src" / package / "cli/main.py").exists()
    ]
    single = ("oci.cli.main", "appc.cli.acserver", "appc.cli.acpush")
    return several + [import_module(module).PROGRAM for module in single]


PROGRAMS = programs()
VERBS = [
    pytest.param(program, verb, id=f"{program.name}-{verb.name}")
    for program in PROGRAMS
    for verb in program.verbs
    if not verb.hidden
]


@pytest.mark.parametrize(("program", "verb"), VERBS)
def test_the_module_of_a_verb_is_there_and_complete(program: Program, verb: Verb) -> None:
    module = verb.load()

    assert module.__doc__
    assert callable(module.arguments)
    assert callable(module.run)
    assert verb.summary
    assert verb.summary[-1] != "."


@pytest.mark.parametrize(("program", "verb"), VERBS)
def test_the_examples_of_a_verb_are_its_own_and_parse(program: Program, verb: Verb) -> None:
    module = verb.load()
    lines = [line for line in help_texts.examples(program, module).splitlines() if line.strip()]
    assert lines, "no examples"
    own = 0
    for line in lines:
        assert line.startswith("  "), line
        words = shlex.split(line, comments=True)
        words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), len(words))]
        if not words or words[0] != program.name:
            continue
        rest = take_flags(program, words[1:] if verb.name else ["", *words[1:]], {}, until_verb=True)
        if rest and rest[0] == "--version":
            continue
        found, used = program.find(rest)
        if found.name != verb.name:
            continue
        own += 1
        parse(program, verb, rest[used:])
    assert own, f"no example shows {verb.name}"


def parse(program: Program, verb: Verb, argv: list[str]) -> None:
    module = verb.load()
    if not getattr(module, "raw", False):
        verb_parser(program, verb, module).parse(argv)
        return
    words = take_flags(program, argv, {})
    if hasattr(module, "parse"):
        module.parse(words)
        return
    if not words:
        return
    from rkt import appargs

    appargs.parse(getattr(appargs, verb.name.upper().replace("-", "_")), words)


@pytest.mark.parametrize(("program", "verb"), VERBS)
def test_help_and_man_page_hold_every_flag(program: Program, verb: Verb) -> None:
    module = verb.load()
    shown = help_texts.verb_page(program, verb, module)
    page = man.page(program, verb).replace("\\-", "-")
    for action in help_texts.flags(verb_parser(program, verb, module)):
        assert action.help, f"{action.option_strings} has no help"
        for option in action.option_strings:
            assert option in shown
            assert option in page


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_help_fits_a_terminal_of_80_columns(program: Program) -> None:
    """All but examples, which are there to be copied."""
    texts = {topic: help_texts.topic(program, topic) for topic in help_texts.topics(program)}
    if program.verbs[0].name:
        texts[""] = help_texts.overview(program)
    for verb in program.verbs:
        if not verb.hidden:
            texts[verb.name or program.name] = help_texts.verb_page(program, verb, verb.load())
    for name, text in texts.items():
        explained = text.partition("\nExamples:\n")[0]
        assert not [line for line in explained.splitlines() if len(line) > 80], name


@pytest.mark.parametrize(("program", "verb"), VERBS)
def test_completion_knows_the_verb_and_its_flags(program: Program, verb: Verb) -> None:
    parts = verb.name.split(" ")
    assert parts[-1] in [line.split("\t")[0] for line in completion.candidates(program, parts)]

    flags = [line.split("\t")[0].rstrip("=") for line in completion.candidates(program, [*parts, "--"])]
    for action in help_texts.flags(verb_parser(program, verb, verb.load())):
        for option in action.option_strings:
            assert option in flags or not option.startswith("--")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_man_pages_are_good_roff(program: Program, tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    for name, text in man.pages(program).items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["groff", "-ww", "-Wbreak", "-K", "utf8", "-man", "-Tutf8", "-z", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_man_pages_and_topics_refer_to_what_exists(program: Program) -> None:
    pages = man.pages(program)
    names = {name.rpartition(".")[0] for name in pages}
    for name, text in pages.items():
        for found in re.findall(r"^\.BR (\S+) \((\d)\)", text, re.MULTILINE):
            assert found[0].replace("\\-", "-") in names, f"{name}: {found[0]}({found[1]})"
        for command in re.findall(rf"`{program.name} ([a-z][a-z -]*)", text.replace("\\-", "-")):
            program.find(command.split())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_accepted_by_their_shells(program: Program, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    script = completion._SCRIPTS[shell].replace("PROGRAM", program.name)
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
