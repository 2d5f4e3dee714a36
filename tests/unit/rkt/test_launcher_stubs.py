"""The programs in machine code: the bytes are those of their sources, the files are what ELF wants."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from rkt.stage1 import stub

SOURCES = Path(stub.__file__).parent
NAMES = ("exec", "wait", "idle")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_code_is_what_the_source_says(tmp_path: Path, name: str, machine: str) -> None:
    tools = f"{machine}-linux-gnu-as", f"{machine}-linux-gnu-objcopy"
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} (Debian: binutils-{machine.replace('_', '-')}-linux-gnu)")
    assembler, copy = tools
    plain, made, code = tmp_path / "plain.s", tmp_path / "made.o", tmp_path / "code"
    source = SOURCES / f"{name}_{machine}.S"
    subprocess.run(["gcc", "-E", "-P", "-x", "assembler-with-cpp", source, "-o", plain], check=True)
    subprocess.run([assembler, plain, "-o", made], check=True)
    subprocess.run([copy, "-O", "binary", "-j", ".text", made, code], check=True)
    assert stub.image(name, machine).endswith(code.read_bytes())
    assert len(stub.image(name, machine)) == 64 + 2 * 56 + code.stat().st_size


def test_an_unknown_machine_is_an_error() -> None:
    with pytest.raises(KeyError):
        stub.image("exec", "vax")


def sealed(name: str) -> int:
    try:
        return stub.sealed(name)
    except PermissionError:
        pytest.skip("this host forbids executable anonymous files")


def run(*argv: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    fd = sealed("exec")
    try:
        return subprocess.run(
            argv,
            executable=f"/proc/self/fd/{fd}",
            pass_fds=(fd,),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(fd)


def test_it_becomes_the_program() -> None:
    done = run(
        "complaint\n", "/bin/sh", "sh", "-c", 'echo "$0 $1 $A"; exit 7', "x y", "z", environment={"A": "b"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "x y z b\n", "")


@pytest.mark.parametrize(("program", "code"), [("/nope", 127), ("/etc/passwd", 126), ("/", 126)])
def test_it_complains_when_the_kernel_refuses(program: str, code: int) -> None:
    done = run("cannot do it\n", program, "x")
    assert (done.returncode, done.stderr) == (code, "cannot do it\n")


def test_cve_2019_5736_nobody_can_change_it() -> None:
    fd = sealed("exec")
    try:
        assert fcntl.fcntl(fd, 1034) == 0xF  # F_GET_SEALS
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.truncate(fd, 0)
    finally:
        os.close(fd)


# -- the waiter: descriptor 3 is the status file


def wait_for(tmp_path: Path, program: list[str], *, during: signal.Signals | None = None) -> tuple[int, str]:
    """Start `program` from a process that becomes the waiter; its exit code, and what the file says."""
    temporary, final = tmp_path / ".status", tmp_path / "status"
    launcher = sealed("wait")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            child = os.fork()
            if child == 0:
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.dup2(writing, 1)
                os.setpgid(0, 0)
                os.execv(program[0], program)
            status = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o644)
            code = os.dup(launcher)
            os.dup2(status, 3)
            os.closerange(4, code)
            os.set_inheritable(code, True)
            os.execve(f"/proc/self/fd/{code}", ["rkt", str(child), str(temporary), str(final)], {})
        finally:
            os._exit(99)
    os.close(launcher)
    os.close(writing)
    try:
        if during is not None:
            assert os.read(reading, 10).startswith(b"ready")
            os.kill(pid, during)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(reading)
    assert not temporary.exists()
    return status, final.read_text()


@pytest.mark.parametrize("code", [0, 1, 7, 100, 255])
def test_the_waiter_passes_the_code_on_and_writes_it_down(tmp_path: Path, code: int) -> None:
    assert wait_for(tmp_path, ["/bin/sh", "-c", f"exit {code}"]) == (code, f"{code}\n")


def test_the_waiter_tells_of_a_signal(tmp_path: Path) -> None:
    assert wait_for(tmp_path, ["/bin/sh", "-c", "kill -9 $$"]) == (137, "137\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_the_waiter_hands_signals_on(tmp_path: Path, number: signal.Signals) -> None:
    script = f"trap 'exit 9' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    assert wait_for(tmp_path, ["/bin/sh", "-c", script], during=number) == (9, "9\n")


def test_the_waiter_notices_a_child_that_ended_before(tmp_path: Path) -> None:
    for _ in range(20):
        assert wait_for(tmp_path, ["/bin/true"]) == (0, "0\n")
