"""The command line as users meet it: one process a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = """\
import sys
sys.path.insert(0, {src!r})
from console.verbs import GlobalFlag, Program, Verb
from console.main import main
PROGRAM = Program("prog", "a program", (
    Verb("good", "verbs.good", "work", "One"), Verb("bad", "verbs.bad", "fail", "One"),
    Verb("bug", "verbs.bug", "crash", "Two"), Verb("raw", "verbs.rawverb", "take all", "Two"),
    Verb("wait", "verbs.wait", "wait", "Two"), Verb("fam one", "verbs.good", "be one", "Two"),
    Verb("help", "console.help", "help", "Two"), Verb("completion", "console.completion", "complete", "Two"),
    Verb("__complete", "console.complete", "", hidden=True),
), version=lambda: "prog 1", failure=254, flags=(
    GlobalFlag("dir", "DIR", "the directory"), GlobalFlag("debug", "", "say more"),
    GlobalFlag("insecure-options", "LIST", "checks", repeatable=True), GlobalFlag("color", "WHEN"),
), topics={topics!r}, completers={{"UUID": "verbs.good:candidates"}})
sys.exit(main(PROGRAM))
"""
GOOD = '''
"""A verb."""
EXAMPLES = "  prog good --full\\n"
def arguments(parser):
    parser.add_argument("uuid", metavar="UUID", nargs="*", help="pods")
    parser.add_argument("--full", action="store_true", help="say all")
    parser.add_argument("--file", metavar="FILE", help="a file")
def run(options, out):
    out.line(f"{options.uuid} {options.full} {sorted(options.settings.items())}")
    return 7
def candidates(settings):
    return ["abc", "abd"]
'''
BAD = """
EXAMPLES = ""
class Error(Exception):
    hint = "mend it"
    exit_code = 3
def arguments(parser): pass
def run(options, out):
    try: open("/nonexistent/file")
    except OSError as error: raise Error("cannot start") from error
"""
RAW = """
raw = True
EXAMPLES = ""
def arguments(parser): parser.add_argument("image", help="an image")
def run(options, out):
    out.line(f"{options.argv} {sorted(options.settings.items())}")
    return 0
"""
WAIT = """
import time
def arguments(parser): pass
def run(options, out):
    out.line("waiting"); out.flush(); time.sleep(60)
"""


@pytest.fixture(scope="module")
def prog(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> list[str]:
    directory = tmp_path_factory.mktemp("prog")
    (directory / "verbs").mkdir()
    (directory / "topics").mkdir()
    (directory / "topics/colours.txt").write_text("About colours\n\nText.\n")
    for name, text in {
        "__init__": "",
        "good": GOOD,
        "bad": BAD,
        "bug": "def arguments(parser): pass\ndef run(options, out): return {}['key']\n",
        "rawverb": RAW,
        "wait": WAIT,
    }.items():
        (directory / "verbs" / f"{name}.py").write_text(text)
    script = directory / "prog.py"
    script.write_text(TEMPLATE.format(src=str(checkout / "src"), topics=str(directory / "topics")))
    return [sys.executable, str(script)]


def run(prog: list[str], *words: str) -> tuple[int, str, str]:
    done = subprocess.run([*prog, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_no_verb_shows_the_help_on_stderr_and_exits_with_2(prog: list[str]) -> None:
    code, stdout, stderr = run(prog)

    assert (code, stdout) == (2, "")
    assert "One:\n  good" in stderr
    assert "Topics (prog help TOPIC):\n  colours  About colours\n" in stderr
    assert "__complete" not in stderr


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"], ["--debug", "--help"]])
def test_help_is_a_result(prog: list[str], words: list[str]) -> None:
    code, stdout, stderr = run(prog, *words)

    assert (code, stderr) == (0, "")
    assert stdout.startswith("prog: a program\n")


@pytest.mark.parametrize("words", [["help", "good"], ["good", "--help"], ["good", "x", "-h"], ["help", "go"]])
def test_the_page_of_a_verb(prog: list[str], words: list[str]) -> None:
    code, stdout, _ = run(prog, *words)

    assert code == 0
    assert stdout.startswith("usage: prog good [flags] [UUID…]\n\nWork.\n")
    assert "Examples:\n  prog good --full\n" in stdout
    assert "--dir" not in stdout


def test_a_topic_and_a_family_and_what_is_neither(prog: list[str]) -> None:
    assert run(prog, "help", "colours") == (0, "About colours\n\nText.\n", "")
    assert run(prog, "help", "fam")[1].startswith("usage: prog fam COMMAND")
    assert run(prog, "fam")[0] == 2
    assert run(prog, "help", "colors") == (
        254,
        "",
        "help: colors: no such command or topic\nhint: did you mean `prog help colours`?\n",
    )


def test_global_flags_may_stand_before_and_after_the_verb(prog: list[str]) -> None:
    expected = "['u'] True [('dir', '/d'), ('insecure-options', ['a', 'b,c'])]\n"
    before = ["--dir=/d", "--insecure-options", "a", "--insecure-options=b,c", "good", "--full", "u"]
    after = ["good", "--dir", "/d", "u", "--insecure-options=a", "--full=true", "--insecure-options=b,c"]
    mixed = ["--dir=/x", "--insecure-options=a", "good", "--full", "--dir=/d", "u", "--insecure-options=b,c"]

    for words in (before, after, mixed):
        assert run(prog, *words) == (7, expected, "")


def test_a_raw_verb_gets_its_words_as_typed(prog: list[str]) -> None:
    code, stdout, _ = run(
        prog, "raw", "--dir=/d", "img", "--exec", "/x", "--debug=false", "--", "--dir=/e", "-h"
    )

    assert code == 0
    assert stdout == "['img', '--exec', '/x', '--', '--dir=/e', '-h'] [('debug', False), ('dir', '/d')]\n"
    assert run(prog, "raw", "--help", "--", "x")[1].startswith("usage: prog raw")


def test_an_error_has_a_code_a_cause_and_a_hint(prog: list[str]) -> None:
    assert run(prog, "bad") == (
        3,
        "",
        "bad: cannot start: /nonexistent/file: No such file or directory\nhint: mend it\n",
    )
    assert "bad: cannot start\n  └─/nonexistent/file: No such" in run(prog, "--debug", "bad")[2]


def test_a_bug_is_told_without_a_trace_unless_debugging(prog: list[str]) -> None:
    code, _, stderr = run(prog, "bug")
    assert code == 254
    assert stderr.startswith("bug: internal error: KeyError: 'key'\nhint: ")
    assert "Traceback" in run(prog, "bug", "--debug")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["godo"], "prog: godo: unknown command\nhint: did you mean `good`?\n"),
        (["--dri=x", "good"], "prog: unknown flag: --dri\nhint: did you mean `--dir`?\n"),
        (["--dir"], "prog: --dir: needs a value\n"),
        (["--debug=2", "good"], "prog: --debug: '2' is neither true nor false\n"),
        (["good", "--ful"], "good: unknown flag: --ful\nhint: did you mean `--full`?\n"),
        (["--color=blue", "good"], "prog: --color: 'blue' is none of auto, always, never\n"),
    ],
)
def test_usage_errors(prog: list[str], words: list[str], message: str) -> None:
    assert run(prog, *words) == (254, "", message)


def test_an_interrupt_gives_130_and_no_trace(prog: list[str]) -> None:
    with subprocess.Popen([*prog, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == b""


def test_a_reader_that_left_is_no_error(prog: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*prog, "help"], stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_under_stdout_is_a_failure(prog: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*prog, "help"], stdout=full, stderr=subprocess.PIPE, check=False)

    assert done.returncode == 254
    assert b"No space left on device" in done.stderr


def test_only_the_module_of_the_verb_is_imported(prog: list[str]) -> None:
    done = subprocess.run(
        [prog[0], "-X", "importtime", *prog[1:], "raw", "x"], capture_output=True, text=True, check=True
    )

    modules = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "verbs.rawverb" in modules
    assert modules.isdisjoint({"verbs.good", "argparse", "console.help", "json", "difflib", "string"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["go"], ["good"]),
        (["fam", ""], ["one"]),
        (["help", "co"], ["completion", "colours"]),
        (["help", "fam", ""], ["one"]),
        (["--d"], ["--dir=", "--debug"]),
        (["good", "--fu"], ["--full"]),
        (["good", "ab"], ["abc", "abd"]),
        (["good", "./a"], [":files"]),
        (["good", "--file", ""], [":files"]),
        (["good", "--file="], [":files"]),
        (["--dir=/d", "good", "ab"], ["abc", "abd"]),
        (["good", "-h", "ab"], ["abc", "abd"]),
        (["--dir"], ["--dir="]),
        (["completion", "b"], ["bash"]),
        (["nonsense", ""], []),
        (["bug", "--broken", ""], []),
    ],
)
def test_completion(prog: list[str], words: list[str], expected: list[str]) -> None:
    code, stdout, stderr = run(prog, "__complete", *words)

    assert (code, stderr) == (0, "")
    assert [line.split("\t")[0] for line in stdout.splitlines()] == expected


def test_the_bash_script_completes(prog: list[str], tmp_path: Path) -> None:
    launcher = tmp_path / "prog"
    launcher.write_text(f'#!/bin/sh\nexec "{prog[0]}" "{prog[1]}" "$@"\n')
    launcher.chmod(0o755)
    script = run(prog, "completion", "bash")[1]
    asks = f"""{script}
COMP_WORDS=({launcher} good ab); COMP_CWORD=2; _prog_complete; echo "${{COMPREPLY[@]}}"
COMP_WORDS=({launcher} com); COMP_CWORD=1; _prog_complete; echo "${{COMPREPLY[@]}}"
"""

    done = subprocess.run(["bash", "-c", asks], capture_output=True, text=True, check=True)

    assert done.stdout == "abc abd\ncompletion\n"
