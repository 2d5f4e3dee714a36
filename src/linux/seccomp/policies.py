"""Seccomp policies: what a filter is to be made of. Checked here, compiled in `rules`."""

from __future__ import annotations

from linux.named_tuple import NamedTuple

DEFAULT, RETAIN, REMOVE = "default", "retain", "remove"


class Policy(NamedTuple):
    """A filter to be: `mode` DEFAULT, RETAIN or REMOVE with `words` (calls and groups).

    `errno` is what a call outside a user's set fails with; 0 kills the process with SIGSYS.
    `capabilities` is the bit mask that the app keeps: those calls that a capability guards anyway are
    allowed with it. `compat` lets i386 programs run on x86_64, under the same rules; `socketcall` gives
    them sockets, of any family, because the filter cannot see which (docs: seccomp).
    """

    mode: str
    words: tuple[str, ...]
    errno: int
    capabilities: int
    compat: bool
    socketcall: bool

    @property
    def off(self) -> bool:
        """Whether there shall be no filter, said in so many words: `@appc.io/all` retained."""
        return self.mode == RETAIN and "@appc.io/all" in self.words


def policy(
    mode: str = DEFAULT,
    words: tuple[str, ...] = (),
    *,
    errno: int = 0,
    capabilities: int = 0,
    compat: bool = True,
    socketcall: bool = False,
) -> Policy:
    """A checked Policy. ValueError for an unknown mode, call or group, and for a set with nothing in it."""
    if mode not in (DEFAULT, RETAIN, REMOVE):
        raise ValueError(f"seccomp mode {mode!r} is neither retain nor remove")
    if mode != DEFAULT and not words:
        raise ValueError(f"the set of system calls to {mode} is empty")
    if errno and not 0 < errno <= 4095:
        raise ValueError(f"{errno}: not an errno that seccomp can return (1 to 4095)")
    if words:
        from linux.seccomp import names

        names.expand(words)
    if mode == REMOVE and "@rkt/compat" in words:
        compat = False
        words = tuple(word for word in words if word != "@rkt/compat")
        mode = mode if words else DEFAULT
    if mode == REMOVE and "@appc.io/empty" in words:
        # The specification: this word masks all others and asks for the executor's own filter.
        mode, words = DEFAULT, ()
    return Policy(mode, tuple(words), errno, capabilities, compat, socketcall)
