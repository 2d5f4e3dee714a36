"""Steps back: what an ADD did, taken back in reverse order when it fails."""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Undo:
    """A stack of actions that run when its `with` block ends in an exception, also KeyboardInterrupt.

    An action that fails does not stop the others; what it said is added to the exception as a note.
    """

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def push(self, step: Callable[[], object]) -> None:
        """Remember how to take back what is about to be done. Say it before doing it."""
        self._steps.append(step)

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if failure is None:
            return
        while self._steps:
            step = self._steps.pop()
            try:
                step()
            except Exception as second:  # noqa: BLE001  whatever it is, the rest must still be undone
                failure.add_note(f"and undoing failed: {second}")
