"""Errors as users read them: what, where, what to do; and the errors of the command line itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Ends the process with 128 + SIGINT, as a shell expects of a program that ^C ended.
INTERRUPTED = 130
# 128 + SIGPIPE: the reader of our output has gone, which is nothing to complain about.
OUTPUT_CLOSED = 141


class UsageError(Exception):
    """A command line that cannot be understood. `hint` says what would have been."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class OutputClosed(Exception):
    """The reader of standard output is gone (EPIPE): to end quietly is all that is left to do."""


def near(word: str, names: Iterable[str], form: str) -> str | None:
    """The question "did you mean …?" for the likeliest of `names`, or None when none is like `word`."""
    import difflib  # 8 ms, on the error path only

    found = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"did you mean {form.format(found[0])}?" if found else None


def is_expected(error: BaseException) -> bool:
    """Whether a user can make sense of the error: one that is ours, or the system's answer."""
    return hasattr(error, "hint") or isinstance(error, (OSError, ValueError))


def exit_code(error: BaseException, default: int) -> int:
    code = getattr(error, "exit_code", default)
    return code if isinstance(code, int) else default


def message(error: BaseException) -> str:
    """One line for one error. An OSError reads `path: reason`; an empty text becomes the type's name."""
    if isinstance(error, OSError) and error.strerror:
        names = [_path(name) for name in (error.filename, error.filename2) if name is not None]
        return ": ".join([" -> ".join(names), error.strerror] if names else [error.strerror])
    return str(error) or type(error).__name__


def causes(error: BaseException, *, implicit: bool = False) -> list[BaseException]:
    """The errors behind `error`, outermost first, following `raise … from`.

    With `implicit` also those that were merely being handled at the time.
    """
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None:
        cause = current.__cause__
        if implicit and cause is None and not current.__suppress_context__:
            cause = current.__context__
        if cause is None or cause in found:
            break
        found.append(cause)
        current = cause
    return found


def describe(error: BaseException, where: str, *, debug: bool) -> list[str]:
    """The lines for standard error: `where: message: innermost cause`; with `debug` all causes as a trail."""
    text = f"{where}: {message(error)}" if where else message(error)
    trail = causes(error, implicit=debug)
    lines = []
    if debug:
        lines.append(text)
        lines += [f"{'  ' * depth}└─{message(cause)}" for depth, cause in enumerate(trail, start=1)]
    else:
        innermost = message(trail[-1]) if trail else ""
        lines.append(text + (f": {innermost}" if innermost and innermost not in text else ""))
    hints = [hint for cause in (error, *trail) if (hint := getattr(cause, "hint", None))]
    if hints:
        lines.append(f"hint: {hints[0]}")
    return lines


def _path(name: object) -> str:
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)
