"""What a fetch tells the user, in rkt's words: scripts look for them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from console.output import Output
    from console.progress import Progress


class Messages:
    """Messages behind the prefix `image:`. `detail` is for --debug."""

    __slots__ = ("_out",)

    def __init__(self, out: Output) -> None:
        from console.output import Output

        self._out = Output(out.stdout, out.stderr, where="image", colour=out.colour, debug=out.debugging)

    def say(self, text: str) -> None:
        self._out.note(text)

    def detail(self, text: str) -> None:
        if self._out.debugging:
            self._out.note(text)

    def plain(self, text: str) -> None:
        """A line without the prefix, for what a person is to compare or answer."""
        from console.output import Output

        Output(self._out.stdout, self._out.stderr, colour=self._out.colour).note(text)

    def warn(self, text: str) -> None:
        self._out.warn(text)

    def progress(self, label: str, total: int | None = None) -> Progress:
        return self._out.progress(label, total)

    def is_interactive(self) -> bool:
        """Whether a person is there to be asked."""
        import sys

        from console import terminal

        return terminal.is_terminal(sys.stdin) and terminal.is_terminal(self._out.stderr)
