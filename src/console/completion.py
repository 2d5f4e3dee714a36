"""Completion for bash, zsh and fish: the verb `completion SHELL` and the hidden `__complete WORD…`.

The scripts know nothing: they ask the program, which completes from its table of verbs, the flags of
a verb, and for arguments such as UUID or IMAGE from what exists on this host.
"""

from __future__ import annotations

from console.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from console.main import Options
    from console.output import Output
    from console.verbs import Program, Verb

EXAMPLES = """\
  PROGRAM completion bash > /etc/bash_completion.d/PROGRAM
  PROGRAM completion zsh > /usr/share/zsh/vendor-completions/_PROGRAM
  PROGRAM completion fish > /etc/fish/completions/PROGRAM.fish
"""
# Answers that tell the shell to complete by itself.
FILES, DIRECTORIES = ":files", ":directories"
_BY_METAVAR = {"FILE": FILES, "DIR": DIRECTORIES, "DIRECTORY": DIRECTORIES, "OUTPUT": FILES} | {
    "SOURCE": FILES,
    "START": FILES,
    "PROGRAM": FILES,
}

_SCRIPTS = {
    "bash": """\
# bash completion for PROGRAM
_PROGRAM_complete() {
    local answer line
    COMPREPLY=()
    answer=$("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default ;;
            :directories) compopt -o dirnames ;;
            ?*) COMPREPLY+=("${line%%$'\\t'*}") ;;
        esac
    done <<< "$answer"
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
    if [[ ${COMP_WORDS[COMP_CWORD]} == "=" || ${COMP_WORDS[COMP_CWORD-1]} == "=" ]]; then
        COMPREPLY=("${COMPREPLY[@]#*=}")
    fi
}
complete -F _PROGRAM_complete PROGRAM
""",
    "zsh": """\
#compdef PROGRAM
_PROGRAM() {
    local -a candidates
    local line
    for line in "${(@f)$(${words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            :files) _files ;;
            :directories) _files -/ ;;
            ?*) candidates+=("${${line/:/\\\\:}/$'\\t'/:}") ;;
        esac
    done
    (( ${#candidates} )) && _describe PROGRAM candidates
}
_PROGRAM "$@"
""",
    "fish": """\
# fish completion for PROGRAM
function __PROGRAM_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (PROGRAM __complete $words[2..-1] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :directories
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c PROGRAM -f -a '(__PROGRAM_complete)'
""",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=tuple(_SCRIPTS), help="bash, zsh or fish")


def run(options: argparse.Namespace, out: Output) -> int:
    out.line(_SCRIPTS[options.shell].replace("PROGRAM", options.program.name).rstrip("\n"))
    return 0


def answer(options: Options, out: Output) -> int:
    """`__complete WORD…`: one candidate for the last word a line, a tab, what it is."""
    for line in candidates(options.program, options.argv or [""]):
        out.line(line)
    return 0


def candidates(program: Program, words: Sequence[str]) -> list[str]:
    """What may stand where the last of `words` stands; never raises: a shell waits for the answer."""
    from console.main import take_flags

    flags: dict[str, object] = {}
    try:
        before = take_flags(program, words[:-1], flags, until_verb=True)
        if not before:
            return _verbs(program, [], words[-1]) + _flags_of_program(program, words[-1])
        verb, used = program.find(before)
        return _of_verb(program, verb, before[used:], words[-1], flags)
    except UsageError:
        return _verbs(program, words[:-1], words[-1])
    except (ImportError, OSError, ValueError):
        return []


def _verbs(program: Program, before: Sequence[str], last: str) -> list[str]:
    found: dict[str, str] = {}
    for verb in program.verbs:
        parts = verb.name.split(" ")
        here = len(before)
        if (
            verb.hidden
            or parts[:here] != list(before)
            or len(parts) <= here
            or not parts[here].startswith(last)
        ):
            continue
        found.setdefault(parts[here], verb.summary if len(parts) == here + 1 else f"{parts[here]} commands")
    return [f"{name}\t{summary}" for name, summary in found.items()]


def _topics(program: Program, last: str) -> list[str]:
    from console import help as help_texts

    named = [(name, help_texts.topic(program, name).split("\n", 1)[0]) for name in help_texts.topics(program)]
    return [f"{name}\t{summary}" for name, summary in named if name.startswith(last)]


def _flags_of_program(program: Program, last: str) -> list[str]:
    if not last.startswith("-"):
        return []
    named = [
        (f"--{flag.name}" + ("=" if flag.metavar else ""), flag) for flag in program.flags if not flag.hidden
    ]
    return [f"{name}\t{flag.help}" for name, flag in named if name.startswith(last)]


def _of_verb(
    program: Program, verb: Verb, before: Sequence[str], last: str, flags: dict[str, object]
) -> list[str]:
    from console import help as help_texts
    from console.main import verb_parser

    module = verb.load()
    parser = verb_parser(program, verb, module)
    by_name = {name: action for action in parser._actions for name in action.option_strings}
    name, joined, value = last.partition("=")
    if joined and name in by_name:
        found = _values(program, by_name[name], value, flags)
        return [line if line.startswith(":") else f"{name}={line}" for line in found]
    if before and before[-1] in by_name and by_name[before[-1]].nargs is None:
        return _values(program, by_name[before[-1]], last, flags)
    if last.startswith("-"):
        spelled = [
            (option, action) for action in help_texts.flags(parser) for option in action.option_strings
        ]
        shown = [
            (option + ("" if action.nargs == 0 else "="), action)
            for option, action in spelled
            if option.startswith("--")
        ]
        return [
            f"{option}\t{help_texts.help_text(action)}" for option, action in shown if option.startswith(last)
        ] + _flags_of_program(program, last)
    places = list(help_texts.positionals(parser))
    words = [word for word in before if not word.startswith("-")]
    place = places[min(len(words), len(places) - 1)] if places else None
    if place is not None and help_texts.placeholder(place).startswith("COMMAND"):
        return _verbs(program, words, last) + ([] if words else _topics(program, last))
    return _values(program, place, last, flags) if place is not None else []


def _values(program: Program, action: argparse.Action, last: str, flags: dict[str, object]) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices if str(choice).startswith(last)]
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    # `NETWORK[:KEY=VALUE;…]` begins with a network.
    metavar = metavar[: next((i for i, letter in enumerate(metavar) if not letter.isupper()), None)]
    if metavar in _BY_METAVAR:
        return [_BY_METAVAR[metavar]]
    source = program.completers.get(metavar)
    if source is None:
        return []
    module, _, function = source.partition(":")
    found = getattr(__import__(module, fromlist=[function]), function)(program.settings(flags))
    fitting = [line for line in found if line.startswith(last)]
    return fitting or ([FILES] if last.startswith((".", "/", "~")) else [])
