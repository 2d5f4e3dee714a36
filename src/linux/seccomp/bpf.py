"""A writer of seccomp's BPF programs: a decision per system call number becomes a balanced tree of jumps.

The language is classic BPF as seccomp(2) allows it: 8-byte instructions over `struct seccomp_data`
(nr at 0, arch at 4, instruction_pointer at 8, six 64-bit arguments from 16 on). A jump reaches 255
instructions, so a longer one goes through an unconditional JA. A program has at most 4096 instructions.
"""

from __future__ import annotations

import struct
import sys

# Actions, from the strictest on (include/uapi/linux/seccomp.h).
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
ALLOW = 0x7FFF0000

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS

_LD_ABSOLUTE = 0x20
_JUMP = 0x05
_JEQ = 0x15
_JGE = 0x35
_JSET = 0x45
_RETURN = 0x06

_OFFSET_NUMBER = 0
_OFFSET_ARCHITECTURE = 4
_OFFSET_ARGUMENTS = 16

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def errno(number: int) -> int:
    """The action that makes a call fail with errno `number` (1 to 4095)."""
    if not 0 < number <= 4095:
        raise ValueError(f"{number}: not an errno that seccomp can return (1 to 4095)")
    return ERRNO | number


def always(action: int) -> list[Instruction]:
    """The leaf that answers `action` whatever the arguments are."""
    return [(_RETURN, 0, 0, action)]


def unless_bits(argument: int, mask: int, otherwise: int) -> list[Instruction]:
    """The leaf that allows a call when the low half of `argument` has no bit of `mask`, else `otherwise`.

    Only the low 32 bits are looked at: the kernel throws the others away (clone, unshare), and a test of
    all 64 would be passed by garbage above them.
    """
    return [_load_argument(argument), (_JSET, 0, 1, mask), (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, ALLOW)]


def only_values(argument: int, values: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """The leaf that allows a call when the low half of `argument` is one of `values`, else `otherwise`."""
    tests = [(_JEQ, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [_load_argument(argument), *tests, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, ALLOW)]


def _load_argument(argument: int) -> Instruction:
    low_half = 0 if sys.byteorder == "little" else 4
    return (_LD_ABSOLUTE, 0, 0, _OFFSET_ARGUMENTS + 8 * argument + low_half)


def tree(leaves: dict[int, list[Instruction]], default: list[Instruction]) -> list[Instruction]:
    """Instructions that go to the leaf of the number in the accumulator, or to `default` for any other.

    Neighbouring numbers with equal leaves share one; the depth is the logarithm of the number of runs.
    """
    runs: list[tuple[int, list[Instruction]]] = [(0, default)]
    following = 0
    for number in sorted(leaves):
        if number > following and runs[-1][1] != default:
            runs.append((following, default))
        if runs[-1][1] != leaves[number]:
            runs.append((number, leaves[number]))
        following = number + 1
    if runs[-1][1] != default:
        runs.append((following, default))
    if len(runs) > 1 and runs[1][0] == 0:
        del runs[0]
    return _balanced(runs, 0, len(runs))


def _balanced(runs: list[tuple[int, list[Instruction]]], first: int, last: int) -> list[Instruction]:
    if last - first == 1:
        return runs[first][1]
    middle = (first + last) // 2
    below = _balanced(runs, first, middle)
    above = _balanced(runs, middle, last)
    if len(below) <= 255:
        return [(_JGE, len(below), 0, runs[middle][0]), *below, *above]
    return [(_JGE, 0, 1, runs[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]


def program(architectures: dict[int, list[Instruction]], *, x32: int | None = None) -> bytes:
    """The whole program: `architectures` gives AUDIT_ARCH_* values a tree each; any other architecture dies.

    With `x32`, numbers that have this bit (0x40000000) die too: they are x86_64's second ABI, which
    programs do not use and filters forget. Raises ValueError when the program is longer than the kernel
    takes, and for no architecture at all, which would kill everything.
    """
    if not architectures:
        raise ValueError("a filter needs at least one architecture")
    body: list[Instruction] = []
    for value, instructions in reversed(architectures.items()):
        block: list[Instruction] = [(_LD_ABSOLUTE, 0, 0, _OFFSET_NUMBER)]
        if x32 is not None:
            block += [(_JGE, 0, 1, x32), (_RETURN, 0, 0, KILL_PROCESS)]
        block += instructions
        # Not this architecture: over the block, to the next one's test.
        body = [(_JEQ, 1, 0, value), (_JUMP, 0, 0, len(block)), *block, *(body or always(KILL_PROCESS))]
    body.insert(0, (_LD_ABSOLUTE, 0, 0, _OFFSET_ARCHITECTURE))
    if len(body) > MAX_INSTRUCTIONS:
        raise ValueError(f"the filter has {len(body)} instructions, the kernel takes {MAX_INSTRUCTIONS}")
    return b"".join([struct.pack("=HBBI", *instruction) for instruction in body])
