"""The native stage 1: console and logs under load, rotation, slow and vanished readers, interactive pods."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import MakePod


def test_log_lines_carry_time_stream_and_whole_text(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "echo out; echo err >&2; printf 'no newline'"])
    pod.run()
    lines = [line.split(" ", 3) for line in pod.log().splitlines()]
    assert sorted((stream, tag, text) for _, stream, tag, text in lines) == [
        ("stderr", "F", "err"),
        ("stdout", "F", "no newline"),
        ("stdout", "F", "out"),
    ]
    assert all(stamp[4] == "-" and stamp.endswith("Z") for stamp, *_ in lines)


@pytest.mark.parametrize("user", ["0", "1000"])
def test_an_app_opens_its_own_streams_by_name(make_pod: MakePod, user: str) -> None:
    """As web servers do whose logs are links to /dev/stdout; what is written there it still cannot read."""
    pod = make_pod(
        ["sh", "-c", "echo out >/dev/stdout; echo err >/dev/stderr; : </dev/stdout"], app={"user": user}
    )
    pod.run()
    assert sorted(line.split(" ", 3)[1:] for line in pod.log().splitlines()) == [
        ["stderr", "F", "/bin/sh: can't open /dev/stdout: Permission denied"],
        ["stderr", "F", "err"],
        ["stdout", "F", "out"],
    ]


def test_an_interactive_app_opens_a_pipe_by_name(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "cat /dev/stdin >/dev/stdout"], app={"user": "1000"})
    with pod.start(interactive=True, stdin=subprocess.PIPE) as process:
        output, _ = process.communicate("text", timeout=60)
    assert output == "text"


def test_a_long_line_is_cut_and_put_together_again(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo after"])
    pod.run()
    lines = [line.split(" ", 3) for line in pod.log().splitlines()]
    assert [tag for _, _, tag, _ in lines[-2:]] == ["F", "F"]
    assert {tag for _, _, tag, _ in lines[:-2]} == {"P"}
    assert "".join(text for *_, text in lines[:-1]) == "x" * 100000
    assert lines[-1][3] == "after"


def test_rotation_caps_the_log_and_tears_no_line(make_pod: MakePod) -> None:
    """10 MiB x 5; a sample of it, with the limits made small."""
    pod = make_pod(["seq", "1", "400000"])
    with pod.start(log_limit=1 << 20) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.count("\n") == 400000
    names = sorted(os.listdir(pod.directory / "logs"))
    assert names == ["app", "app.1", "app.2", "app.3", "app.4"]
    numbers: list[int] = []
    for name in ("app.4", "app.3", "app.2", "app.1", "app"):
        path = pod.directory / "logs" / name
        assert path.stat().st_size <= 1 << 20
        content = path.read_text()
        assert content.endswith("\n")
        numbers += [int(line.split(" ")[3]) for line in content.splitlines()]
    assert numbers == list(range(numbers[0], 400001))


@pytest.mark.campaign
def test_a_gigabyte_of_output(make_pod: MakePod) -> None:
    flood(make_pod, 1 << 30)


def test_output_is_fast_and_memory_stays_flat(make_pod: MakePod) -> None:
    """At least 20 MB/s, at most 40 MB of memory; a sample of 64 MB in lines of 80 bytes."""
    flood(make_pod, 64 << 20)


def flood(make_pod: MakePod, size: int) -> None:
    line = "y" * 79
    pod = make_pod(["sh", "-c", f"yes {line} | head -c {size}"])
    with pod.start(stdout=subprocess.DEVNULL) as process:
        peak = 0
        start = time.monotonic()
        while process.poll() is None:
            try:
                with open(f"/proc/{process.pid}/status") as file:
                    peak = max(peak, *(int(row.split()[1]) for row in file if row.startswith("VmRSS")), 0)
            except (FileNotFoundError, ProcessLookupError):
                break
            time.sleep(0.05)
        process.wait(60)
    assert process.returncode == 0
    assert peak < 40_000
    print(f"{size / (time.monotonic() - start) / 1e6:.0f} MB/s, {peak} kB")


def test_a_reader_that_is_slow_does_not_block_the_app(make_pod: MakePod) -> None:
    """At most 1 s; the log has every line, the console says how many it left out."""
    pod = make_pod(["sh", "-c", "yes 0123456789012345678901234567890123456789 | head -n 40000; echo last"])
    with pod.start() as process:
        start = time.monotonic()
        pod.await_(lambda: "last" in pod.log(), process)
        assert time.monotonic() - start < 8
        assert process.stdout is not None
        output, _ = process.communicate(timeout=20)  # only now somebody reads
    assert pod.log().count("\n") == 40001
    assert process.returncode == 0
    assert "lines left out: the reader is too slow" in output or output.count("\n") == 40001


def test_a_reader_that_takes_a_little_now_and_then_does_not_block_it_either(make_pod: MakePod) -> None:
    script = "yes 0123456789012345678901234567890123456789 | head -n 100000; echo last"
    pod = make_pod(["sh", "-c", script])
    with pod.start() as process:
        assert process.stdout is not None
        fd = process.stdout.fileno()
        start = time.monotonic()
        while "last" not in pod.log() and time.monotonic() - start < 20:
            os.read(fd, 512)
            time.sleep(0.3)
        assert time.monotonic() - start < 6
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_reader_that_is_gone_ends_nothing(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "sleep 0.3; seq 1 1000; exit 3"])
    with pod.start() as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(20) == 3
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert pod.log().count("\n") == 1000


def test_a_full_disk_stops_no_app(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "seq 1 20000; exit 3"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "logs", pod.directory / "logs"], check=True)
    try:
        done = pod.run()
    finally:
        subprocess.run(["umount", pod.directory / "logs"], check=True)
    assert done.code == 3
    assert done.lines[-1] == "20000"


def test_interactive_with_a_pipe_passes_bytes_as_they_are(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "cat; echo err >&2; exit 4"])
    with pod.start(interactive=True, stdin=subprocess.PIPE) as process:
        stdout, stderr = process.communicate("typed\n", timeout=20)
    assert (process.returncode, stdout, stderr) == (4, "typed\n", "err\n")


def test_interactive_with_a_terminal(make_pod: MakePod) -> None:
    """Its own pseudo terminal (CVE-2017-5226), controlling, of the right size; the user's is raw."""
    script = "tty; stty size; echo $$ > /dev/tty; read line; echo got $line; ls -l /dev/console; sleep 600"
    pod = make_pod(["sh", "-c", f"{script}; echo over"])
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    before = termios.tcgetattr(slave)
    seen = b""

    def expect(text: bytes, timeout: float = 15) -> None:
        nonlocal seen
        end = time.monotonic() + timeout
        while text not in seen:
            left = end - time.monotonic()
            assert left > 0, seen
            assert select.select([master], [], [], left)[0], seen
            seen += os.read(master, 1024)

    try:
        with pod.start(interactive=True, stdin=slave, stdout=slave, stderr=subprocess.PIPE) as process:
            expect(b"/dev/pts/0\r\n33 101\r\n2\r\n")
            os.write(master, b"typed\r")
            expect(b"got typed\r\n")
            expect(b"/dev/console")
            assert termios.tcgetattr(slave) != before
            os.write(master, b"\x03")  # the app's terminal makes it SIGINT for the app's group, not for rkt
            assert process.wait(20) == 130
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_interactive_into_a_pipe_is_no_terminal(make_pod: MakePod) -> None:
    """`rkt run --interactive IMAGE -- tar c / | tar x` as typed at a terminal: it would write \\r\\n."""
    pod = make_pod(["sh", "-c", "echo out; echo err >&2"])
    master, slave = pty.openpty()
    try:
        with pod.start(interactive=True, stdin=slave) as process:
            assert process.communicate(timeout=20) == ("out\n", "err\n")
    finally:
        os.close(master)
        os.close(slave)


IMITATION = "printf '\\r[    1.000000] other[7]: lie\\033[2K\\n'"
TAMED = r"\r[    1.000000] other[7]: lie\x1b[2K"


def test_a_terminal_obeys_no_app(make_pod: MakePod) -> None:
    """Neither at once nor when the small supervisor has taken over; the log has the bytes."""
    pod = make_pod(["sh", "-c", f"{IMITATION}; sleep 1.5; {IMITATION}"])
    master, slave = pty.openpty()
    try:
        with pod.start(stdout=slave) as process:
            seen = b""
            while seen.count(b"lie") < 2:
                assert select.select([master], [], [], 15)[0], seen
                seen += os.read(master, 1024)
            assert process.wait(20) == 0
    finally:
        os.close(master)
        os.close(slave)
    assert seen.count(TAMED.encode() + b"\r\n") == 2
    assert b"\x1b" not in seen
    assert pod.log().count("\x1b[2K") == 2


def test_a_terminal_full_of_input_holds_up_nothing(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "echo up; stty -icanon -echo; sleep 600"])
    master, slave = pty.openpty()
    try:
        with pod.start(interactive=True, stdin=slave, stdout=slave, stderr=subprocess.PIPE) as process:
            pod.await_ready(process)
            os.set_blocking(master, False)
            time.sleep(0.3)
            for _ in range(300):
                try:
                    os.write(master, b"x" * 1024)
                except BlockingIOError:
                    time.sleep(0.002)
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
    finally:
        os.close(master)
        os.close(slave)


def test_closed_standard_streams_are_nobody_elses(make_pod: MakePod) -> None:
    """With 0, 1 and 2 closed by the caller no file of the pod may get one of these numbers."""
    pod = make_pod(["sh", "-c", "echo text; echo err >&2; exit 5"])
    with pod.start(closed=True) as process:
        assert process.wait(20) == 5
    assert sorted(line.split(" ", 3)[3] for line in pod.log().splitlines()) == ["err", "text"]
    assert pod.status() == "5"
