"""AC identifiers and AC names (spec/types.md).

The reference checks the characters and both ends only, and so accepts ``a--b`` and ``example.com//app``;
the specification's regular expressions do not, and neither do these classes. One pair is excepted:
``/~`` as in ``example.com/~bob/database``, a name that the specification's own tests call good.
"""

from __future__ import annotations

from itertools import pairwise

from appc.jsonfield import quoted, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyz0123456789"


class InvalidName(ValueError):
    """A text that is no name; `reason` is one of the four texts below."""

    EMPTY = "empty"
    CHARACTER = "invalid-char"
    EDGE = "invalid-edge"
    REPEATED = "repeated-separator"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Name(str):
    """Lower-case letters and digits, in groups parted by one separator each."""

    __slots__ = ()
    SEPARATORS = ""
    #: The one pair of separators that may stand together.
    HOME = ""
    KIND = ""
    FILLER = ""

    def __new__(cls, value: object) -> Self:
        text = string(value)
        cls._check(text)
        return super().__new__(cls, text)

    @classmethod
    def _check(cls, text: str) -> None:
        if not text:
            raise InvalidName(f"an {cls.KIND} may not be empty", InvalidName.EMPTY)
        if bad := text.strip(ALPHANUMERIC + cls.SEPARATORS):
            message = f"{quoted(text)} is no {cls.KIND}: {quoted(bad[0])} is not allowed"
            raise InvalidName(message, InvalidName.CHARACTER)
        if text[0] in cls.SEPARATORS or text[-1] in cls.SEPARATORS:
            message = f"{quoted(text)} is no {cls.KIND}: it must start and end with a letter or digit"
            raise InvalidName(message, InvalidName.EDGE)
        for pair in map("".join, pairwise(text)):
            if pair[0] in cls.SEPARATORS and pair[1] in cls.SEPARATORS and pair != cls.HOME:
                message = f"{quoted(text)} is no {cls.KIND}: {quoted(pair)} are two separators in a row"
                raise InvalidName(message, InvalidName.REPEATED)

    @classmethod
    def sanitize(cls, text: str) -> str:
        """`text` in lower case, other characters replaced, separators taken off both ends.

        As the reference does it: separators in a row stay, so the result may yet be no valid name.
        ValueError when nothing is left.
        """
        allowed = ALPHANUMERIC + cls.SEPARATORS
        text = "".join(c if c in allowed else cls.FILLER for c in text.lower()).strip(cls.SEPARATORS)
        if not text:
            raise ValueError(f"an {cls.KIND} must contain at least one letter or digit")
        return text


class ACIdentifier(_Name):
    """Such as ``example.com/~bob/database``: names of images, labels, annotations and isolators."""

    __slots__ = ()
    SEPARATORS = "-._~/"
    HOME = "/~"
    KIND = "AC identifier"
    FILLER = "_"


class ACName(_Name):
    """Such as ``work-dir``: names of apps, mount points, volumes and ports."""

    __slots__ = ()
    SEPARATORS = "-"
    KIND = "AC name"
    FILLER = "-"
