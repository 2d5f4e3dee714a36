"""Filters installed in the running kernel: Debian's own programs work (S10), what is denied is denied."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SRC = str(Path(__file__).parents[3] / "src")
ELEVEN = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE",
    "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETFCAP", "CAP_SYS_CHROOT",
]  # fmt: skip
PRELUDE = f"""
import ctypes, os, sys
sys.path.insert(0, {SRC!r})
from linux import capabilities, libc, seccomp
keep = capabilities.mask({ELEVEN!r})
libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
def call(number, *args):
    native = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    result = native.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in args])
    return ctypes.get_errno() if result == -1 else 0
"""


def filtered(body: str, policy: str = "seccomp.default_policy(keep)") -> subprocess.CompletedProcess[str]:
    """Run `body` in an interpreter that has put the filter of `policy` on itself."""
    script = PRELUDE + f"seccomp.install(seccomp.compile({policy}))\n" + body
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def run_filtered(
    *argv: str, policy: str = "seccomp.default_policy(keep)"
) -> subprocess.CompletedProcess[str]:
    return filtered(f"os.execvp({argv[0]!r}, {list(argv)!r})", policy)


@pytest.mark.parametrize(
    "argv",
    [
        ("ls", "-l", "/"),
        ("/usr/bin/python3", "-c", "import threading, subprocess, socket; "
         "t = threading.Thread(target=print, args=('hello',)); t.start(); t.join(); "
         "print(subprocess.run(['true']).returncode); socket.socket().close()"),
        ("sh", "-c", "echo a | cat; find /etc -maxdepth 1 | sort | tail -1; date; id"),
        ("bash", "-c", "sleep 0.01 & wait; echo $RANDOM"),
        ("perl", "-e", "print scalar localtime, qq(\\n); fork or exit; wait"),
    ],
    ids=lambda argv: argv[0],
)  # fmt: skip
def test_debians_own_programs_work(argv: tuple[str, ...]) -> None:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    done = run_filtered(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_static_program_works() -> None:
    if not Path("/bin/busybox").exists():
        pytest.skip("no busybox here")
    assert run_filtered("/bin/busybox", "ls", "-l", "/").returncode == 0


def test_the_kernel_gives_the_promised_errors() -> None:
    done = filtered("""
import socket
from linux.seccomp.names import numbers
n = numbers(os.uname().machine)
print(call(1000), call(n["clone3"], 0, 0), call(n["io_uring_setup"], 1, 0))
denied = ("keyctl", "add_key", "bpf", "perf_event_open", "userfaultfd", "mount", "setns")
print(*[call(n[name], 0, 0, 0, 0, 0) for name in denied], call(n["unshare"], 0x10000000))
for family in (38, 40, 15, 30, 21, 31):
    try:
        socket.socket(family, socket.SOCK_RAW)
    except OSError as refused:
        print(refused.errno, end=" ")
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["38", "38", "38"] + ["1"] * 8 + ["97"] * 6


def test_x32_kills() -> None:
    done = filtered("call(0x40000000 | 39)")
    assert done.returncode == -31  # SIGSYS


def test_a_retain_set_kills_and_its_errno_does_not() -> None:
    words = "('@rkt/default-whitelist',)"
    killed = filtered("os.sync(); os.mkdir('/nowhere/x')", "seccomp.policy('remove', ('mkdir', 'mkdirat'))")
    assert killed.returncode == -31
    refused = filtered("""
try:
    os.mkdir('/tmp/never-made')
except OSError as failed:
    print(failed.strerror)
""", "seccomp.policy('remove', ('mkdir', 'mkdirat'), errno=54)")  # fmt: skip
    assert refused.stdout == "Exchange full\n"
    assert filtered("os.sync()", f"seccomp.policy('retain', {words})").returncode == 0


def test_without_no_new_privs_and_sys_admin_it_is_refused() -> None:
    script = f"""
import os, sys
sys.path.insert(0, {SRC!r})
from linux import capabilities, seccomp
program = seccomp.compile(seccomp.default_policy())
if os.geteuid() == 0:
    capabilities.set_all(0, 0)
try:
    seccomp.install(program)
except PermissionError as refused:
    print(refused)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "seccomp filter" in done.stdout, done


@pytest.fixture(scope="module")
def i386_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program of the i386 ABI that makes three system calls and exits with what they answered."""
    source = tmp_path_factory.mktemp("i386") / "probe.S"
    source.write_text("""
        .globl _start
_start: mov $20, %eax
        int $0x80           # getpid: allowed
        test %eax, %eax
        jle bad
        mov $21, %eax
        int $0x80           # mount: EPERM
        cmp $-1, %eax
        jne bad
        mov $102, %eax
        int $0x80           # socketcall: ENOSYS
        cmp $-38, %eax
        jne bad
        xor %ebx, %ebx
        jmp out
bad:    mov $1, %ebx
out:    mov $1, %eax
        int $0x80
""")
    program = source.with_suffix("")
    command = ["gcc", "-m32", "-nostdlib", "-static", "-o", str(program), str(source)]
    if shutil.which("gcc") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no gcc that makes i386 programs")
    return program


def test_i386_programs_are_filtered_too(i386_program: Path) -> None:
    try:
        runs = subprocess.run([str(i386_program)], check=False).returncode in {0, 1}
    except OSError:
        runs = False
    if not runs:
        pytest.skip("this kernel runs no i386 programs")
    assert run_filtered(str(i386_program)).returncode == 0
    assert run_filtered(str(i386_program), policy="seccomp.policy(compat=False)").returncode == -31


def test_the_installed_filter_read_back_is_the_one_compiled() -> None:
    """PTRACE_SECCOMP_GET_FILTER, as an auditor would do it."""
    script = f"""
import ctypes, os, signal, sys
sys.path.insert(0, {SRC!r})
from linux import libc, seccomp
program = seccomp.compile(seccomp.default_policy())
pid = os.fork()
if not pid:
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(program)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(pid, os.WUNTRACED)
native = ctypes.CDLL(None, use_errno=True)
native.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
native.ptrace.restype = ctypes.c_long
try:
    if native.ptrace(0x4206, pid, None, None) < 0:  # PTRACE_SEIZE
        print("seize", ctypes.get_errno()); raise SystemExit
    native.ptrace(0x4207, pid, None, None)  # PTRACE_INTERRUPT
    os.waitpid(pid, 0)
    count = native.ptrace(0x420C, pid, 0, None)  # PTRACE_SECCOMP_GET_FILTER
    if count < 0:
        print("get", ctypes.get_errno()); raise SystemExit
    buffer = ctypes.create_string_buffer(8 * count)
    native.ptrace(0x420C, pid, 0, buffer)
    print("same" if buffer.raw == program else "different", count)
finally:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.stdout.startswith(("seize", "get")):
        pytest.skip(f"no PTRACE_SECCOMP_GET_FILTER here: {done.stdout}")
    assert done.stdout.startswith("same"), done
