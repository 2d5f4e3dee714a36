"""Where a verb writes: results to standard output, everything else to standard error.

An Output is handed to the verb, so that a test needs no process. Results come in four forms: lines,
JSON, tables, templates. Nothing here reads the world but the two streams and the colour variables.
"""

from __future__ import annotations

import sys

from console import terminal
from console.errors import OutputClosed, UsageError, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TextIO

    from console.progress import Progress

FORMATS = ("json", "json-pretty", "table")


class Output:
    """The two streams of a command. `where` is the prefix of messages, such as `image list`."""

    def __init__(
        self,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        *,
        where: str = "",
        colour: str = "auto",
        debug: bool = False,
    ) -> None:
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.where = where
        self.colour = colour
        self.debugging = debug
        self._started = 0.0

    # Results

    def line(self, text: str = "") -> None:
        """One line of result. Control characters other than tab and newline are shown, not obeyed."""
        self._write(terminal.plain(text, keep="\t\n") + "\n")

    def styled(self, painted: str, text: str) -> None:
        """A line of result that begins with what `paint` gave; `text` may come from anywhere."""
        self._write(painted + terminal.plain(text) + "\n")

    def raw(self, data: bytes) -> None:
        """Bytes as they are, such as a manifest as stored; what was written before goes out first."""
        self.flush()
        try:
            self.stdout.buffer.write(data)
            self.stdout.buffer.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error

    def json(self, value: object, *, pretty: bool = False) -> None:
        import json

        if pretty:
            text = json.dumps(value, indent="\t", ensure_ascii=False)
        else:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        self._write(text + "\n")

    def table(
        self,
        rows: Iterable[Mapping[str, object] | Sequence[object]],
        columns: Sequence[str],
        *,
        legend: bool = True,
    ) -> None:
        """Rows under `columns`, whose upper-case names are the legend.

        A row is a mapping by column name, or the cells in order. The name `image_id` heads as IMAGE ID.
        """
        from console.formats import table

        cells = [[column.upper().replace("_", " ") for column in columns]] if legend else []
        for row in rows:
            values = [row.get(column) for column in columns] if hasattr(row, "get") else row
            cells.append([terminal.plain("" if value is None else str(value)) for value in values])
        for text in table.lines(cells):
            self._write(text + "\n")

    def template(self, text: str, rows: Iterable[Mapping[str, object]], names: Sequence[str]) -> None:
        """One line a row; UsageError for a name that is not among `names`, also when there are no rows."""
        from console.formats.template import Template

        template = Template(text, names)
        for row in rows:
            self.line(template.render(row))

    def listing(
        self,
        form: str,
        rows: Sequence[Mapping[str, object]],
        columns: Sequence[str],
        *,
        legend: bool = True,
        names: Sequence[str] | None = None,
    ) -> None:
        """`rows` in the form that `--format` asks for; `names` (default: `columns`) are the template's."""
        if form in ("json", "json-pretty"):
            self.json([dict(row) for row in rows], pretty=form == "json-pretty")
        elif form in ("", "table"):
            self.table(rows, columns, legend=legend)
        else:
            self.template(form, rows, columns if names is None else names)

    # Messages

    def note(self, text: str) -> None:
        """A message that is no result: `where: text` on standard error."""
        self._say(f"{self.where}: {text}" if self.where else text)

    def warn(self, text: str, *, hint: str | None = None) -> None:
        self._say(f"{self.where}: {self.paint('warning', 'yellow')}: {terminal.plain(text)}", safe=True)
        if hint:
            self.hint(hint)

    def hint(self, text: str) -> None:
        """What to do about the message before."""
        self._say(f"hint: {text}")

    def error(self, error: BaseException) -> None:
        """Show a failure: `where: message`, its innermost cause (with --debug the trail of all), its hint."""
        for text in describe(error, self.where, debug=self.debugging):
            self._say(text)

    def debug(self, text: str) -> None:
        """A line for `--debug` only, with the seconds since the first one."""
        if not self.debugging:
            return
        import time

        now = time.monotonic()
        self._started = self._started or now
        self._say(f"{self.where}: [{now - self._started:8.3f}] {text}")

    def progress(self, label: str, total: int | None = None) -> Progress:
        """A context manager that shows how far a long step is; see `console.progress`."""
        from console.progress import Progress

        return Progress(self.stderr, label, total)

    def paint(self, text: str, colour: str, *, stdout: bool = False) -> str:
        """`text` in colour if the stream wants colour. Colour never carries meaning of its own."""
        stream = self.stdout if stdout else self.stderr
        return terminal.paint(text, colour) if terminal.wants_colour(stream, self.colour) else text

    def flush(self) -> None:
        """Write out what is buffered. OSError (a full disk) is the verb's failure, as results are lost."""
        try:
            self.stdout.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error

    def _write(self, text: str) -> None:
        try:
            self.stdout.write(text)
        except BrokenPipeError as error:
            raise OutputClosed from error

    def _say(self, text: str, *, safe: bool = False) -> None:
        # Messages may be lost (closed stderr) without harm to the work that they tell of.
        _attempt(self.stdout, "")  # what fails here fails again, and is told of, in the flush at the end
        _attempt(self.stderr, (text if safe else terminal.plain(text, keep="\t\n")) + "\n")


def _attempt(stream: TextIO, text: str) -> bool:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


def add_format(parser: argparse.ArgumentParser, names: Sequence[str], *, default: str = "table") -> None:
    """Give a verb `--format=table|json|json-pretty|TEMPLATE`; a wrong template is refused while parsing."""
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        default=default,
        type=_checker(names),
        help="table, json, json-pretty, or a template such as '{"
        + "} {".join(names[:2])
        + f"}}' of {', '.join(names)} (default: {default})",
    )


def _checker(names: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text and text not in FORMATS:
            if "{" not in text:
                raise UsageError(
                    f"--format: unknown format {text!r}",
                    hint="choose from " + ", ".join((*FORMATS, "a {template}")),
                )
            from console.formats.template import Template

            Template(text, names)
        return text

    return check
