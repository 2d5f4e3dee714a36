"""The tables of system calls against the kernel's own headers and libseccomp, where those are installed."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from linux import capabilities, libc, seccomp
from linux.seccomp import names, policies, rules

# What arch/arm64/include/uapi/asm/unistd.h defines before it includes the generic header.
ARM64 = (
    "__BITS_PER_LONG 64", "__ARCH_WANT_RENAMEAT", "__ARCH_WANT_NEW_STAT", "__ARCH_WANT_SET_GET_RLIMIT",
    "__ARCH_WANT_TIME32_SYSCALLS", "__ARCH_WANT_SYS_CLONE3", "__ARCH_WANT_MEMFD_SECRET",
)  # fmt: skip


def from_header(header: str, defines: tuple[str, ...] = ()) -> dict[str, int]:
    """Name to number as the C preprocessor sees it."""
    source = "".join(f"#define {line}\n" for line in defines) + f"#include <{header}>\n"
    macros = preprocess(source, "-dM")
    wanted = re.findall(r"^#define __NR_(\w+) ", macros, re.MULTILINE)
    values = preprocess(source + "".join(f"@@ {name} __NR_{name}\n" for name in wanted), "-P")
    numbers = {}
    for name, value in re.findall(r"^@@ (\w+) (.*)$", values, re.MULTILINE):
        digits = re.fullmatch(r"\(?([0-9]+)\)?", value.strip())
        if digits:
            numbers[name] = int(digits[1])
    return numbers


def preprocess(source: str, option: str) -> str:
    command = ["gcc", "-E", option, "-x", "c", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc and the kernel's headers")
@pytest.mark.parametrize(
    ("architecture", "header", "defines"),
    [
        ("x86_64", "asm/unistd_64.h", ()),
        ("i386", "asm/unistd_32.h", ()),
        ("aarch64", "asm-generic/unistd.h", ARM64),
    ],
)
def test_tables_are_those_of_the_kernel_headers(
    architecture: str, header: str, defines: tuple[str, ...]
) -> None:
    try:
        expected = from_header(header, defines)
    except subprocess.CalledProcessError:
        pytest.skip(f"no {header} here")
    expected.pop("syscalls", None)
    expected.pop("arch_specific_syscall", None)
    ours = names.numbers(architecture)

    assert {name: ours.get(name) for name in expected} == expected


@pytest.mark.parametrize("architecture", names.ARCHITECTURES)
def test_numbers_are_unique(architecture: str) -> None:
    table = names.numbers(architecture)
    assert len(set(table.values())) == len(table)


def test_tables_agree_with_libseccomp() -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp here")
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.restype = ctypes.c_char_p
    tokens = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
    checked = 0
    for architecture, token in tokens.items():
        for name, number in names.numbers(architecture).items():
            theirs = resolve(ctypes.c_uint32(token), number)
            if theirs is not None:
                assert theirs.decode() == name, (architecture, number)
                checked += 1
    assert checked > 1000


def test_the_numbers_of_linux_libc_are_the_same() -> None:
    for architecture, table in (("x86_64", libc._X86_64), ("aarch64", libc._AARCH64)):
        ours = names.numbers(architecture)
        for name, number in (table | libc._SHARED).items():
            assert ours[name] == number, (architecture, name)


def test_every_word_of_every_group_is_a_call_or_a_group() -> None:
    somewhere = set(names.groups()["@rkt/elsewhere"])
    for architecture in names.ARCHITECTURES:
        somewhere |= set(names.numbers(architecture))
    foreign = {
        "arm_fadvise64_64", "cacheflush", "riscv_flush_icache", "riscv_hwprobe", "set_tls",
        "sync_file_range2", "pciconfig_iobase", "pciconfig_read", "pciconfig_write",
        "s390_pci_mmio_read", "s390_pci_mmio_write", "recv", "send", "accept",
    }  # fmt: skip
    for group, words in names.groups().items():
        for word in words:
            assert word in names.groups() or word in somewhere | foreign, (group, word)


def test_no_call_is_both_allowed_and_denied() -> None:
    allowed = names.expand(("@rkt/default-whitelist",))
    assert not allowed & names.expand(("@rkt/default-blacklist",))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_ready_made_filters_are_what_would_be_compiled(machine: str) -> None:
    """After a change of profile.txt write them anew: they are `rules.compiled(...)` of this policy."""
    wanted = policies.policy(capabilities=capabilities.mask(["CAP_SYS_CHROOT", "CAP_KILL"]))
    assert seccomp.compile(wanted, machine) == rules.compiled(wanted, machine)
    ready = Path(seccomp.__file__).parent / "tables" / f"default.{machine}.bpf"
    assert ready.read_bytes() == rules.compiled(wanted, machine)


def test_which_capabilities_change_the_filter() -> None:
    mask = 0
    for group in names.groups():
        if group.startswith("@rkt/cap-"):
            mask |= 1 << capabilities.number(group.removeprefix("@rkt/").upper().replace("-", "_"))
    assert mask == seccomp._THAT_OPEN_CALLS
