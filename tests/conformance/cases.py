"""Cases of a conformance file, and the outcome of running them.

A file holds a JSON list with one case a line: ``kind``, ``input``, ``valid`` (what the reference does),
``normalized``, and ``spec_valid`` where the text of the specification decides.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One case and where it stands."""

    file: Path
    line: int
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        """What the input is to be read as."""
        return str(self.data["kind"])

    @property
    def input(self) -> Any:
        """What is read."""
        return self.data["input"]

    @property
    def valid(self) -> bool:
        """Whether the input is to be accepted: the specification beats the reference."""
        return bool(self.data.get("spec_valid", self.data["valid"]))

    def failure(self, expected: object, got: object) -> Failure:
        """This case, failed."""
        return Failure(self, expected, got)

    def skip(self, reason: str) -> Skip:
        """This case, not judged."""
        return Skip(self, reason)


@dataclass(frozen=True)
class Failure:
    """A case that gave another result than it should."""

    case: Case
    expected: object
    got: object

    def __str__(self) -> str:
        place = f"{self.case.file.parent.name}/{self.case.file.name}:{self.case.line}"
        shown = json.dumps(self.case.data.get("input"), ensure_ascii=False)
        facts = f"    expected {self.expected}\n    got      {self.got}"
        return f"{place}: {self.case.kind}: {shown[:2000]}\n{facts}"


@dataclass(frozen=True)
class Skip:
    """A case that was not judged, and why."""

    case: Case
    reason: str


@dataclass
class Outcome:
    """What came of a number of cases."""

    passed: int = 0
    failures: list[Failure] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)

    def add(self, result: Failure | Skip | None) -> None:
        """Count one case; None is a passed one."""
        if isinstance(result, Failure):
            self.failures.append(result)
        elif isinstance(result, Skip):
            self.skipped.append(result)
        else:
            self.passed += 1

    def __iadd__(self, other: Outcome) -> Outcome:
        self.passed += other.passed
        self.failures += other.failures
        self.skipped += other.skipped
        return self

    def reasons(self) -> dict[str, int]:
        """Why cases were skipped, and how many for each reason."""
        return dict(Counter(skip.reason for skip in self.skipped))


def read(file: Path) -> Iterator[Case]:
    """The cases of a file, each with its line; none if there is no such file.

    Surrogates that stand alone are kept: a case may be about them.
    """
    if not file.exists():
        return
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip().rstrip(",")
        if text.startswith("{"):
            yield Case(file, number, json.loads(text))
