"""Finding verbs: exact names, unique prefixes, families, suggestions."""

from __future__ import annotations

import pytest

from console.errors import UsageError
from console.verbs import IncompleteVerb, Program, Verb

PROGRAM = Program(
    "prog",
    "a program",
    (
        Verb("run", "nowhere.run", "run it"),
        Verb("run-prepared", "nowhere.run_prepared", "run later"),
        Verb("list", "nowhere.list", "list them"),
        Verb("image list", "nowhere.image.list", "list images"),
        Verb("image rm", "nowhere.image.rm", "remove images"),
        Verb("__hidden", "nowhere.hidden", "not shown", hidden=True),
    ),
    version=lambda: "1",
    hints={"ps": "`prog list` is it"},
)


@pytest.mark.parametrize(
    ("words", "name", "used"),
    [
        (["run"], "run", 1),
        (["run-"], "run-prepared", 1),
        (["l"], "list", 1),
        (["image", "list"], "image list", 2),
        (["im", "r"], "image rm", 2),
        (["list", "image"], "list", 1),
        (["__hidden"], "__hidden", 1),
    ],
)
def test_a_verb_is_found_by_its_name_or_a_unique_prefix(words: list[str], name: str, used: int) -> None:
    verb, count = PROGRAM.find(words)

    assert (verb.name, count) == (name, used)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["ru"], "ru: ambiguous command", "it could be run, run-prepared"),
        (["lits"], "lits: unknown command", "did you mean `list`?"),
        (["zzz"], "zzz: unknown command", "see `prog help`"),
        (["__h"], "__h: unknown command", "see `prog help`"),
        (["image", "lst"], "image lst: unknown command", "did you mean `image list`?"),
        (["image", "zzz"], "image zzz: unknown command", "see `prog help image`"),
        (["ps"], "ps: unknown command", "`prog list` is it"),
        ([""], ": unknown command", "see `prog help`"),
    ],
)
def test_an_unknown_verb_brings_a_hint(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        PROGRAM.find(words)

    assert str(refused.value) == message
    assert refused.value.hint == hint


@pytest.mark.parametrize("words", [["image"], ["image", "--help"]])
def test_a_family_alone_is_incomplete(words: list[str]) -> None:
    with pytest.raises(IncompleteVerb) as refused:
        PROGRAM.find(words)

    assert refused.value.family == "image"


def test_a_verb_without_module_says_so() -> None:
    with pytest.raises(UsageError, match=r"^run: this build of the program does not have the command$"):
        PROGRAM.verbs[0].load()


def test_a_missing_import_inside_a_verb_is_not_mistaken_for_a_missing_verb(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_verb.py").write_text("import no_such_module\n")  # type: ignore[operator]
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        Verb("broken", "broken_verb", "").load()
