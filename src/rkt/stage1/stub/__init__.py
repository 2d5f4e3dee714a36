"""Three tiny programs that rkt runs in place of an interpreter: no memory, no files, nothing of the host.

`exec` is what a confined process becomes for an instant before it becomes the app: the file that the app can
see as the one it was started from (/proc/self/exe of `#!/proc/self/exe`, CVE-2019-5736) is then an anonymous,
sealed file of 260 bytes, and never the host's interpreter. `wait` holds the lock of a `fly` pod while its app
runs, in a few kilobytes where an interpreter takes megabytes. `idle` is PID 1 of a pod.

Their sources are the assembler files beside this module; a test assembles them and compares.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from linux import libc

_EXEC = {
    "x86_64": bytes.fromhex(
        "488b7c2410488d742418488b0424488d54c410b83b0000000f054889c3488b74240831d2803c1600740548ff"
        "c2ebf5bf02000000b8010000000f05bf7e0000004883fbfe7502ffc7b8e70000000f05"
    ),
    "aarch64": bytes.fromhex(
        "e00b40f9e1630091e20340f9e26f228b42400091a81b80d2010000d4e90300aae10740f9020080d223686238"
        "6300003442040091fdffff17400080d2080880d2010000d4c00f80d23f0900b10014809ac80b80d2010000d4"
    ),
}
_WAIT = {
    "x86_64": bytes.fromhex(
        "488b74241031db31c0ac83e83078096bdb0a01c331c0ebf14889e54881ec0001000048c7842480000000ffff"
        "ffff89df488db42488000000ba010000004531d2b83d0000000f0585c07537488dbc24800000004889e631d2"
        "41ba08000000b8800000000f0583f81174c485c07ec0837c2408007fb989c689dfb83e0000000f05ebac41bc"
        "fe00000078208b8424880000004189c44183e47f74094181c480000000eb07c1e808440fb6e0488db424a000"
        "0000c6060a4489e0b90a00000031d2f7f183c23048ffce881685c075f0488d9424a10000004829f2bf030000"
        "00b8010000000f05488b7d18488b7520b8520000000f054489e7b8e70000000f05"
    ),
    "aarch64": bytes.fromhex(
        "e10b40f913008052420180522014403800c00071640000547302021bfcffff17f4030091ff0304d100008092"
        "e04300f9e003132ae1230291220080d2030080d2882080d2010000d41f00007161020054e0030291e1030091"
        "020080d2030180d2281180d2010000d41f44007120feff541f000071edfdff54e20b40b95f0000718cfdff54"
        "e103002ae003132a281080d2010000d4e7ffff17d51f8052e4000054e08b40b91518001275000034b5020211"
        "02000014153c0853e18302914001805220000039e203152a4308c01a6488001b84c0001124fc1f38e203032a"
        "62ffff35e2870291420001cb600080d2080880d2010000d4600c8092620c8092810e40f9831240f9040080d2"
        "882280d2010000d4e003152ac80b80d2010000d4"
    ),
}
_IDLE = {
    "x86_64": bytes.fromhex("bf0400000031f6b89d0000000f05b8220000000f05ebf7"),
    "aarch64": bytes.fromhex(
        "800080d2010080d2e81480d2010000d4000080d2010080d2020080d2030080d2040080d2280980d2010000d4f9ffff17"
    ),
}
_PROGRAMS = {"exec": _EXEC, "wait": _WAIT, "idle": _IDLE}
_ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
_ADDRESS = 0x400000
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 16
_F_ADD_SEALS = 1033
_EVERY_SEAL = 0xF  # SEAL, SHRINK, GROW, WRITE


def image(name: str, machine: str) -> bytes:
    """The program `name` (`exec`, `wait`, `idle`) as an ELF file for `machine`; KeyError if it has none."""
    code = _PROGRAMS[name][machine]
    headers = 64 + 2 * 56
    size = headers + len(code)
    elf = struct.pack(
        "<4s5B7x2HIQQQI6H",
        *(b"\x7fELF", 2, 1, 1, 0, 0),
        *(2, _ELF_MACHINE[machine], 1, _ADDRESS + headers, 64, 0, 0),
        *(64, 56, 2, 0, 0, 0),
    )
    load = struct.pack("<2I6Q", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)  # readable, executable
    stack = struct.pack("<2I6Q", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # a stack that is not executable
    return elf + load + stack + code


def sealed(name: str) -> int:
    """The program `name` in an anonymous file that nobody can change, as a close-on-exec descriptor.

    OSError on a host that forbids executable anonymous files (vm.memfd_noexec=2) or before Linux 3.17.
    """
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    title = f"rkt-{name}".encode()
    try:
        fd = libc.syscall("memfd_create", title, flags | _MFD_EXEC, path="memfd")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = libc.syscall("memfd_create", title, flags, path="memfd")  # before Linux 6.3
    try:
        os.write(fd, image(name, os.uname().machine))
        fcntl.fcntl(fd, _F_ADD_SEALS, _EVERY_SEAL)
        # What cannot be read cannot be traced: not even with CAP_SYS_PTRACE in a user namespace that does not
        # have the file's owner (ptrace(2)).
        os.fchmod(fd, 0o111)
    except BaseException:
        os.close(fd)
        raise
    return fd
