"""Capabilities set for real, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = str(Path(__file__).parents[3] / "src")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up capabilities")


def in_child(body: str) -> str:
    """What a fresh interpreter prints that runs `body`."""
    script = f"import sys; sys.path.insert(0, {SRC!r})\nfrom linux import capabilities, libc\n" + body
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_bounding_and_the_others() -> None:
    printed = in_child("""
keep = capabilities.mask(["CAP_CHOWN", "CAP_KILL"])
capabilities.drop_bounding(keep)
capabilities.set_all(keep, keep)
s = capabilities.read()
print([capabilities.names(x) for x in s])
""")
    two = "['CAP_CHOWN', 'CAP_KILL']"
    assert printed == f"[{two}, {two}, [], {two}, []]"


def test_ambient_needs_inheritable_and_is_cleared_by_default() -> None:
    printed = in_child("""
kill = capabilities.mask(["CAP_KILL"])
capabilities.set_all(kill, kill, kill, kill)
print(capabilities.read().ambient == kill)
capabilities.set_all(kill, kill)
print(capabilities.read().ambient)
""")
    assert printed.split() == ["True", "0"]


def test_a_set_cannot_grow_back() -> None:
    printed = in_child("""
capabilities.set_all(0, 0)
try:
    capabilities.set_all(1, 1)
except PermissionError:
    print("refused")
try:
    capabilities.drop_bounding(0)
except PermissionError:
    print("refused")
""")
    assert printed.split() == ["refused", "refused"]


def test_keeping_the_permitted_set_over_setuid() -> None:
    printed = in_child("""
import os
capabilities.keep_over_setuid(on=True)
os.setresuid(1000, 1000, 1000)
s = capabilities.read()
print(s.permitted != 0, s.effective)
""")
    assert printed.split() == ["True", "0"]


def test_the_last_capability_without_proc() -> None:
    printed = in_child("""
import builtins
real = capabilities.last()
def no_proc(*args, **kwargs):
    raise OSError("no /proc")
builtins_open, builtins.open = builtins.open, no_proc
print(capabilities.last() == real)
builtins.open = builtins_open
""")
    assert printed == "True"
