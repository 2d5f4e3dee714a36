"""Device rules on cgroup version 2: a BPF program that says which devices a group may open or make.

Version 2 has no devices controller; the kernel asks a program of the type BPF_PROG_TYPE_CGROUP_DEVICE instead
(Linux 4.15). The program is written here, instruction by instruction: a chain of tests per rule.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from linux.cgroups.limits import Device

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2  # groups below may add programs of their own: all of them must say yes

# Registers: r1 context, r2 kind, r3 access, r4 major, r5 minor.
_LOAD_WORD, _AND, _SHIFT_RIGHT, _MOVE, _COPY = 0x61, 0x54, 0x74, 0xB7, 0xBC
_JUMP_NOT_EQUAL, _JUMP_SET, _EXIT = 0x55, 0x45, 0x95
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


def program(rules: tuple[Device, ...]) -> bytes:
    """The instructions that allow what `rules` allow and nothing else. ValueError for a malformed rule."""
    code = [
        _instruction(_LOAD_WORD, 2, 1),  # access_type: access in the high half, kind in the low one
        _instruction(_COPY, 3, 2),
        _instruction(_AND, 2, constant=0xFFFF),
        _instruction(_SHIFT_RIGHT, 3, constant=16),
        _instruction(_LOAD_WORD, 4, 1, offset=4),
        _instruction(_LOAD_WORD, 5, 1, offset=8),
    ]
    for rule in rules:
        code += _rule(rule)
    code += [_instruction(_MOVE, 0, constant=0), _instruction(_EXIT)]
    return b"".join(code)


def _rule(rule: Device) -> list[bytes]:
    if rule.kind not in _KINDS or not rule.access or any(letter not in _ACCESS for letter in rule.access):
        raise ValueError(f"{rule.line()!r} is not a device rule")
    denied = 7 & ~sum(_ACCESS[letter] for letter in set(rule.access))
    tests: list[tuple[int, int, int]] = [(_JUMP_NOT_EQUAL, 2, _KINDS[rule.kind])]
    if denied:
        tests.append((_JUMP_SET, 3, denied))
    if rule.major is not None:
        tests.append((_JUMP_NOT_EQUAL, 4, rule.major))
    if rule.minor is not None:
        tests.append((_JUMP_NOT_EQUAL, 5, rule.minor))
    code = []
    for place, (jump, register, value) in enumerate(tests):
        to_next_rule = len(tests) - place - 1 + 2
        code.append(_instruction(jump, register, offset=to_next_rule, constant=value))
    return [*code, _instruction(_MOVE, 0, constant=1), _instruction(_EXIT)]


def _instruction(
    code: int, destination: int = 0, source: int = 0, *, offset: int = 0, constant: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | destination, offset, constant)


def attach(directory: str, rules: tuple[Device, ...]) -> None:
    """Put the program for `rules` on the version 2 group `directory`; it lives as long as the group.

    Needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN (PermissionError).
    """
    import ctypes

    from linux import libc

    instructions = ctypes.create_string_buffer(program(rules))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    load = struct.pack(
        "=IIQQIIQII",
        *(_TYPE_CGROUP_DEVICE, (len(instructions) - 1) // 8),
        *(ctypes.addressof(instructions), ctypes.addressof(licence), 0, 0, 0, 0, 0),
    )
    # The rest of the kernel's union is zero: the name, the interface and the expected attach type.
    load = load.ljust(72, b"\0")
    fd = libc.syscall("bpf", _PROG_LOAD, load, len(load), path="device rules")
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            order = struct.pack("=IIII", group, fd, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI)
            libc.syscall("bpf", _PROG_ATTACH, order, len(order), path=directory)
        finally:
            os.close(group)
    finally:
        os.close(fd)
