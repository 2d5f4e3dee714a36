"""The filters, evaluated for every system call of every architecture by an interpreter of BPF (S11)."""

from __future__ import annotations

import errno
import struct

import pytest

from linux import capabilities, seccomp
from linux.seccomp import bpf, names

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
EPERM, ENOSYS = bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS
NO_FAMILY = bpf.ERRNO | errno.EAFNOSUPPORT
ELEVEN = capabilities.mask([
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETFCAP", "CAP_SYS_CHROOT",
])  # fmt: skip


def evaluate(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would do with this call: the subset of classic BPF that seccomp has."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *words)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    while True:
        code, if_true, if_false, constant = instructions[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, constant)
            case 0x05:
                position += constant
            case 0x15:
                position += if_true if accumulator == constant else if_false
            case 0x35:
                position += if_true if accumulator >= constant else if_false
            case 0x45:
                position += if_true if accumulator & constant else if_false
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"instruction {code:#x}")


def call(program: bytes, name: str, *arguments: int, architecture: int = X86_64) -> int:
    table = {X86_64: "x86_64", I386: "i386", AARCH64: "aarch64"}[architecture]
    return evaluate(program, architecture, names.numbers(table)[name], *arguments)


@pytest.fixture(scope="module")
def default() -> bytes:
    return seccomp.compile(seccomp.default_policy(ELEVEN), "x86_64")


def compiled(mode: str, *words: str, error: int = 0) -> bytes:
    return seccomp.compile(seccomp.policy(mode, words, errno=error), "x86_64")


def test_at_most_300_of_the_calls_of_x86_64_are_allowed(default: bytes) -> None:
    allowed = [n for n in range(1024) if evaluate(default, X86_64, n) == bpf.ALLOW]

    assert 280 <= len(allowed) <= 300
    assert len(default) // 8 < 1024


def test_nothing_of_the_default_kills_but_foreign_architectures_and_x32(default: bytes) -> None:
    for architecture in (X86_64, I386):
        answers = {evaluate(default, architecture, n) for n in range(1200)}
        assert answers == {bpf.ALLOW, EPERM, ENOSYS} | ({NO_FAMILY} & answers)
    for number in range(0x40000000, 0x40000000 + 1024):
        assert evaluate(default, X86_64, number) == bpf.KILL_PROCESS
    for architecture in (AARCH64, 0x40000028, 0, 0xFFFFFFFF):
        assert evaluate(default, architecture, 0) == bpf.KILL_PROCESS


@pytest.mark.parametrize("number", [470, 1000, 0x3FFFFFFF])
def test_a_call_of_a_newer_kernel_does_not_exist(default: bytes, number: int) -> None:
    assert evaluate(default, X86_64, number) == ENOSYS
    assert evaluate(default, I386, number) == ENOSYS


@pytest.mark.parametrize(
    "name",
    [
        "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount",
        "fspick", "mount_setattr", "setns", "keyctl", "add_key", "request_key", "bpf", "perf_event_open",
        "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
        "reboot", "swapon", "swapoff", "acct", "syslog", "settimeofday", "clock_settime", "sethostname",
        "setdomainname", "iopl", "ioperm", "open_by_handle_at", "quotactl", "quotactl_fd",
        "fanotify_init", "lookup_dcookie", "move_pages", "mbind", "kcmp", "process_madvise",
        "pidfd_getfd", "modify_ldt", "vhangup",
    ],
)  # fmt: skip
def test_dangerous_calls_are_eperm_in_both_abis(default: bytes, name: str) -> None:
    assert call(default, name) == EPERM
    if name in names.numbers("i386"):
        assert call(default, name, architecture=I386) == EPERM


@pytest.mark.parametrize(
    "name", ["io_uring_setup", "io_uring_enter", "io_uring_register", "clone3", "_sysctl"]
)
def test_unwanted_calls_are_enosys(default: bytes, name: str) -> None:
    assert call(default, name) == ENOSYS


@pytest.mark.parametrize("name", ["openat2", "statx", "faccessat2", "close_range", "rseq", "futex_waitv"])
def test_what_a_current_libc_calls_is_allowed(default: bytes, name: str) -> None:
    assert call(default, name) == bpf.ALLOW


@pytest.mark.parametrize(
    "flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]
)
def test_no_new_namespaces_without_sys_admin(default: bytes, flag: int) -> None:
    for architecture in (X86_64, I386):
        assert call(default, "clone", flag | 17, architecture=architecture) == EPERM
        assert call(default, "unshare", flag, architecture=architecture) == EPERM
        assert call(default, "unshare", 0x200, architecture=architecture) == bpf.ALLOW
    privileged = seccomp.compile(seccomp.default_policy(1 << capabilities.SYS_ADMIN), "x86_64")
    assert call(privileged, "clone", flag | 17) == call(privileged, "setns") == bpf.ALLOW


def test_garbage_in_the_high_half_of_an_argument_does_not_help(default: bytes) -> None:
    high = 0xDEAD << 32
    assert call(default, "clone", high | 0x10000000) == EPERM
    assert call(default, "unshare", high | 0x10000000) == EPERM
    assert call(default, "socket", high | 38) == NO_FAMILY
    assert call(default, "clone", 0x003D0F00) == bpf.ALLOW  # what pthread_create asks for


def test_unshare_of_the_time_namespace_is_denied(default: bytes) -> None:
    assert call(default, "unshare", 0x80) == EPERM
    assert call(default, "clone", 0x80 | 17) == bpf.ALLOW  # there the bit is part of the signal's number


@pytest.mark.parametrize(
    ("family", "number"),
    [("ALG", 38), ("VSOCK", 40), ("KEY", 15), ("TIPC", 30), ("RDS", 21), ("BLUETOOTH", 31), ("XDP", 44)],
)
def test_cve_2026_31431_unusual_socket_families_are_refused(default: bytes, family: str, number: int) -> None:
    assert call(default, "socket", number) == NO_FAMILY, family
    assert call(default, "socketpair", number) == NO_FAMILY, family
    assert call(default, "socket", number, architecture=I386) == NO_FAMILY, family


@pytest.mark.parametrize("number", [1, 2, 10, 16, 17])
def test_usual_socket_families_are_allowed(default: bytes, number: int) -> None:
    assert call(default, "socket", number) == bpf.ALLOW


def test_i386_socketcall_is_closed_because_its_family_cannot_be_seen(default: bytes) -> None:
    assert call(default, "socketcall", architecture=I386) == ENOSYS
    opened = seccomp.compile(seccomp.policy(socketcall=True), "x86_64")
    assert call(opened, "socketcall", architecture=I386) == bpf.ALLOW


def test_without_compat_every_i386_call_kills() -> None:
    native = seccomp.compile(seccomp.policy(compat=False), "x86_64")
    assert {evaluate(native, I386, n) for n in range(500)} == {bpf.KILL_PROCESS}


def test_compat_is_switched_off_by_a_word() -> None:
    native = compiled("remove", "@rkt/compat", "mkdir", error=errno.EPERM)
    assert {evaluate(native, I386, n) for n in range(500)} == {bpf.KILL_PROCESS}
    assert call(native, "mkdir") == EPERM
    assert seccomp.policy("remove", ("@rkt/compat",)) == seccomp.policy(compat=False)


@pytest.mark.parametrize(("value", "answer"), [
    (0, bpf.ALLOW), (8, bpf.ALLOW), (0x20000, bpf.ALLOW), (0x20008, bpf.ALLOW), (0xFFFFFFFF, bpf.ALLOW),
    (0x0040000, EPERM), (0x400000, EPERM), (1, EPERM),
])  # fmt: skip
def test_personality_by_argument(default: bytes, value: int, answer: int) -> None:
    assert call(default, "personality", value) == answer


@pytest.mark.parametrize(("capability", "name"), [
    ("CAP_SYS_ADMIN", "mount"), ("CAP_SYS_TIME", "clock_settime"), ("CAP_SYS_MODULE", "finit_module"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"), ("CAP_BPF", "bpf"), ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYSLOG", "syslog"), ("CAP_PERFMON", "perf_event_open"), ("CAP_SYS_CHROOT", "chroot"),
])  # fmt: skip
def test_a_capability_opens_the_calls_that_it_guards(capability: str, name: str) -> None:
    with_it = seccomp.compile(seccomp.default_policy(capabilities.mask([capability])), "x86_64")
    assert call(with_it, name) == bpf.ALLOW
    assert call(seccomp.compile(seccomp.default_policy(0), "x86_64"), name) == EPERM


def test_retain_allows_only_its_set_and_the_life_cycle() -> None:
    program = compiled("retain", "read", "@rkt/time")
    for name in ("read", "nanosleep", "execve", "exit_group", "rt_sigreturn"):
        assert call(program, name) == bpf.ALLOW
    for name in ("write", "openat", "mount", "clone3"):
        assert call(program, name) == bpf.KILL_PROCESS
    assert evaluate(program, X86_64, 1000) == bpf.KILL_PROCESS
    assert call(program, "read", architecture=I386) == bpf.ALLOW
    assert call(program, "write", architecture=I386) == bpf.KILL_PROCESS


def test_retain_with_an_errno() -> None:
    program = compiled("retain", "read", error=errno.ENOTSUP)
    assert call(program, "write") == bpf.ERRNO | errno.ENOTSUP


def test_retain_keeps_the_conditions_on_arguments_unless_a_group_lifts_them() -> None:
    kept = compiled("retain", "clone", "unshare", "socket")
    assert call(kept, "clone", 0x10000000) == EPERM
    assert call(kept, "socket", 38) == NO_FAMILY
    lifted = compiled("retain", "@rkt/default-whitelist", "@rkt/namespaces", "@rkt/socket-families")
    assert call(lifted, "clone", 0x10000000) == call(lifted, "socket", 38) == bpf.ALLOW


def test_remove_takes_from_the_default_and_opens_nothing() -> None:
    program = compiled("remove", "newfstatat", "lstat", error=errno.EXFULL)
    assert call(program, "newfstatat") == bpf.ERRNO | errno.EXFULL
    assert call(program, "stat") == bpf.ALLOW
    assert call(program, "mount") == EPERM
    assert evaluate(program, X86_64, 1000) == ENOSYS


def test_remove_without_errno_kills() -> None:
    assert call(compiled("remove", "socket"), "socket", 2) == bpf.KILL_PROCESS


@pytest.mark.parametrize("group", ["@rkt/default-blacklist", "@docker/default-blacklist", "@systemd/mount"])
def test_removed_groups_leave_a_shell_alive(group: str) -> None:
    program = compiled("remove", group)
    for name in ("clone", "execve", "openat", "mmap", "newfstatat", "exit_group"):
        assert call(program, name) == bpf.ALLOW
    assert call(program, "umount2") == bpf.KILL_PROCESS


def test_appc_wildcards() -> None:
    assert seccomp.policy("retain", ("@appc.io/all",)).off
    assert seccomp.policy("remove", ("@appc.io/empty", "read")) == seccomp.policy()
    nothing = compiled("retain", "@appc.io/empty")
    assert call(nothing, "read") == bpf.KILL_PROCESS
    everything = compiled("remove", "@appc.io/all", error=errno.EPERM)
    assert call(everything, "read") == EPERM
    assert call(everything, "exit_group") == bpf.ALLOW


def test_kubelet_cve_2023_2431_no_filter_is_never_an_empty_program() -> None:
    with pytest.raises(ValueError, match="no filter"):
        seccomp.compile(seccomp.policy("retain", ("@appc.io/all",)))
    with pytest.raises(ValueError, match="0 bytes"):
        seccomp.install(b"")
    with pytest.raises(ValueError, match="is empty"):
        seccomp.policy("retain", ())


@pytest.mark.parametrize(("word", "message"), [
    ("opne", "'opne' is no known system call .did you mean open"),
    ("SYS_open", "no known system call"),
    ("@docker/default", "no known group"),
    ("@appc.io/al", "did you mean @appc.io/all"),
    ("", "no known system call"),
    ("read write", "no known system call"),
])  # fmt: skip
def test_unknown_words_are_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seccomp.policy("retain", ("read", word))


def test_names_of_other_architectures_are_accepted() -> None:
    compiled("retain", "read", "umount", "set_tls", "s390_pci_mmio_read", "stat64")


@pytest.mark.parametrize("number", [0, -1, 4096])
def test_errno_outside_the_range_of_seccomp_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="errno"):
        bpf.errno(number)


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.compile(seccomp.policy(), "riscv64")


def test_aarch64_has_no_second_abi() -> None:
    program = seccomp.compile(seccomp.default_policy(ELEVEN), "aarch64")
    assert call(program, "openat", architecture=AARCH64) == bpf.ALLOW
    assert call(program, "mount", architecture=AARCH64) == EPERM
    assert call(program, "clone", 0x10000000, architecture=AARCH64) == EPERM
    assert evaluate(program, 0x40000028, 5) == bpf.KILL_PROCESS
    allowed = [n for n in range(1024) if evaluate(program, AARCH64, n) == bpf.ALLOW]
    assert 230 < len(allowed) <= 300


def test_a_long_tree_jumps_further_than_255_instructions() -> None:
    leaves = {n: bpf.always(bpf.errno(1 + n % 100)) for n in range(0, 2000, 2)}
    instructions = bpf.tree(leaves, bpf.always(bpf.ALLOW))
    program = bpf.program({X86_64: instructions})
    for number in range(2100):
        expected = bpf.errno(1 + number % 100) if number in leaves else bpf.ALLOW
        assert evaluate(program, X86_64, number) == expected


def test_a_program_that_the_kernel_would_refuse_is_refused_here() -> None:
    leaves = {n: bpf.always(bpf.errno(1 + n % 100)) for n in range(5000)}
    with pytest.raises(ValueError, match="4096"):
        bpf.program({X86_64: bpf.tree(leaves, bpf.always(bpf.ALLOW))})
