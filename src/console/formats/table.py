"""Tables in the form of Go's text/tabwriter with rkt's settings, which scripts cut at tabs.

rkt initialises it with minimum width 0, tab width 8, padding 1 and the tab as pad character: a
column is as wide as its widest cell plus one, rounded up to a tab stop, filled with tabs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TAB = 8


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; the last cell of a row is not padded."""
    if not rows:
        return []
    columns = max(len(row) for row in rows)
    widths = [
        (max((len(row[i]) for row in rows if i < len(row) - 1), default=0) + 1 + _TAB - 1) // _TAB * _TAB
        for i in range(columns)
    ]
    return [
        "".join(
            cell if i == len(row) - 1 else cell + "\t" * ((widths[i] - len(cell) + _TAB - 1) // _TAB)
            for i, cell in enumerate(row)
        )
        for row in rows
    ]
