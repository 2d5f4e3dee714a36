"""What of an app's output a console obeys: nothing."""

from __future__ import annotations

import pytest

from rkt.stage1.native import logs


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"plain", b"plain"),
        (b"a\ttab", b"a\ttab"),
        ("ünïcode 中".encode(), "ünïcode 中".encode()),
        (b"dos\r", b"dos"),
        (b"dos\r\nlines\r", b"dos\nlines"),
        (b"10%\r20%", rb"10%\r20%"),
        (b"\r[  1.0] other[4]: lie", rb"\r[  1.0] other[4]: lie"),
        (b"\x1b[1A\x1b[2Klie", rb"\x1b[1A\x1b[2Klie"),
        (b"\x1b]0;title\x07", rb"\x1b]0;title\x07"),
        (b"a\x08b\x7f\x00\x0b\x0c", rb"a\x08b\x7f\x00\x0b\x0c"),
        (b"C1 \xc2\x9b2K", rb"C1 \x9b2K"),
        (b"C1 \x9b2K", rb"C1 \x9b2K"),
        ("bidi \u202e and \u2028 and \ufeff".encode(), rb"bidi \u202e and \u2028 and \ufeff"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: bytes, shown: bytes) -> None:
    assert logs.tamed(text) == shown
