"""Timing of commands side by side: interleaved rounds, so that a busy machine is as busy for each of them."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Sample(NamedTuple):
    """One run: seconds of wall clock, and of CPU of the process and all its children."""

    wall: float
    cpu: float


class Result(NamedTuple):
    """The samples of one command."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def wall(self) -> float:
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def least(self) -> float:
        return min(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)


class Contender(NamedTuple):
    """A command in a comparison. `after` undoes a run, outside of the timing; `before` prepares one."""

    name: str
    argv: Sequence[str]
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    environment: Mapping[str, str] | None = None


def measure(contender: Contender) -> Sample:
    """Run once. RuntimeError with the command's own words if it fails."""
    if contender.before is not None:
        contender.before()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        contender.argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={**os.environ, **(contender.environment or {})},
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if contender.after is not None:
        contender.after()
    if done.returncode != 0:
        raise RuntimeError(f"{contender.name}: status {done.returncode}: {done.stderr.decode()[-500:]}")
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Sample(wall, cpu)


def compare(contenders: Sequence[Contender], *, rounds: int) -> list[Result]:
    """Run all of them in turn, `rounds` times after one that does not count.

    A peer that fails here and now (crun on hybrid cgroups) is left out, and standard error says why.
    """
    able = []
    for contender in contenders:
        try:
            measure(contender)
        except RuntimeError as error:
            if contender.name.startswith("rkt"):
                raise
            sys.stderr.write(f"left out: {error}\n")
        else:
            able.append(contender)
    contenders = able
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            samples[contender.name].append(measure(contender))
    return [Result(name, tuple(found)) for name, found in samples.items()]


def table(title: str, results: Sequence[Result], *, base: str) -> str:
    """A table in Markdown; the last columns are ratios to the contender `base`."""
    reference = next((result for result in results if result.name == base), results[0])
    lines = [
        f"### {title}",
        "",
        f"| command | wall ms (median) | wall ms (least) | CPU ms | wall / {base} | CPU / {base} |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        cpu = result.cpu / reference.cpu if reference.cpu else float("nan")
        lines.append(
            f"| {result.name} | {result.wall * 1000:.1f} | {result.least * 1000:.1f} "
            f"| {result.cpu * 1000:.1f} | {result.wall / reference.wall:.2f} | {cpu:.2f} |"
        )
    return "\n".join(lines)
