"""rkt enter: the same bounds as the app's own program, byte for byte (S7), in both flavours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from linux import capabilities
from rkt.stage1.confinement import DEFAULT_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("root")
GOLDEN = Path(__file__).parents[2] / "probe" / "golden"
FOURTEEN = capabilities.mask(DEFAULT_CAPABILITIES)


def detached(rkt: Any, *words: str | Path, flavour: str = "native") -> str:
    common = ("--insecure-options=image", "run", "--detach", f"--stage1-name={flavour}")
    net = ("--net=none",) if flavour == "native" else ()
    return str(rkt(*common, *net, *words).stdout.strip())


@pytest.fixture(params=["native", "fly"])
def pod(request: pytest.FixtureRequest, rkt: Any, make_probe_aci: Any) -> Iterator[str]:
    """A running pod whose app only sleeps."""
    uuid = detached(rkt, make_probe_aci("/probe", "sleep"), flavour=request.param)
    yield uuid
    rkt("stop", "--force", uuid, code=None)


@pytest.fixture
def native_pod(rkt: Any, make_probe_aci: Any) -> Iterator[str]:
    uuid = detached(rkt, make_probe_aci("/probe", "sleep"))
    yield uuid
    rkt("stop", "--force", uuid, code=None)


def lines_of(output: str) -> list[str]:
    """The probe's lines, without rkt's console prefix, and with the ids of namespaces made anew blotted out.

    Every program has a mount and a control group namespace of its own, made from the same ones.
    """
    found = []
    for line in output.splitlines():
        text = line.partition("]: ")[2] if line.startswith("[") else line
        if text.startswith(("namespace mnt", "namespace cgroup")):
            text = text.partition("[")[0]
        found.append(text)
    return found


# -- S7: the golden test


@pytest.mark.parametrize("users", ["true", "false"])
def test_s7_run_enter_and_handlers_see_the_same(rkt: Any, make_probe_aci: Any, users: str) -> None:
    """The probe's whole output: of the app, its handlers, `enter`; with and without a user namespace."""
    handlers = [{"name": "pre-start", "exec": ["/probe"]}, {"name": "post-stop", "exec": ["/probe"]}]
    aci = make_probe_aci("/probe", app={"eventHandlers": handlers})
    other = make_probe_aci("/probe", "sleep", name="example.com/other")
    uuid = detached(rkt, f"--private-users={users}", aci, other)
    wait_for_end_of_app(rkt, uuid)
    entered = lines_of(rkt("enter", "--app=probe", uuid, "/probe").stdout)
    rkt("stop", "--force", uuid)

    before, main, after = split_at_first_line(lines_of("\n".join(logged(rkt, uuid))))
    assert len(main) > 200
    assert before == main == after
    assert entered == main


def wait_for_end_of_app(rkt: Any, uuid: str) -> None:
    """The app has ended, and its post-stop handler: its status is written."""
    status = rkt.directory / "data/pods/run" / uuid / "stage1/rootfs/rkt/status/probe"
    for _ in range(1000):
        if status.exists():
            return
        time.sleep(0.01)
    raise AssertionError("the app has not ended")


def logged(rkt: Any, uuid: str) -> list[str]:
    """What the app and its handlers printed, from the pod's log."""
    log = rkt.directory / "data/pods/run" / uuid / "logs/probe"
    return [line.split(" ", 3)[3] for line in log.read_text().splitlines()]


def split_at_first_line(lines: list[str]) -> list[list[str]]:
    parts: list[list[str]] = []
    for line in lines:
        if line.startswith("cwd: "):
            parts.append([])
        parts[-1].append(line)
    return parts


@pytest.mark.parametrize("users", ["true", "false"])
def test_s7_the_golden_file(rkt: Any, make_probe_aci: Any, users: str) -> None:
    """What is promised about every default pod, written down: a change of it is a decision, no accident."""
    done = rkt("--insecure-options=image", "run", "--net=none", f"--private-users={users}", make_probe_aci())
    seen = {line.replace("\t", " ").rstrip() for line in lines_of(done.stdout)}
    broken = []
    for line in GOLDEN.read_text().splitlines():
        if line and not line.startswith("#"):
            first, *others = line.split(" | ")
            key = first.partition(": ")[0]
            if not {first, *(f"{key}: {other}" for other in others)} & seen:
                broken.append((line, [other for other in seen if other.startswith(key + ":")]))
    assert broken == []


# -- the three CVEs of rkt enter


def test_cve_2019_10144_capabilities_of_the_app(rkt: Any, native_pod: str) -> None:
    lines = rkt("enter", native_pod, "/probe", "status").stdout.splitlines()
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t{FOURTEEN:016x}" in lines or f"{name}:\t{eleven():016x}" in lines
    assert "CapInh:\t0000000000000000" in lines


def eleven() -> int:
    return FOURTEEN & ~capabilities.mask(["CAP_AUDIT_WRITE", "CAP_MKNOD", "CAP_NET_RAW"])


def test_cve_2019_10145_the_filter_of_the_app(rkt: Any, native_pod: str) -> None:
    lines = rkt("enter", native_pod, "/probe").stdout.splitlines()
    assert "Seccomp:\t2" in lines
    for line in ("call keyctl-session: EPERM", "call unshare-user: EPERM", "call number-1000: ENOSYS"):
        assert line in lines


def test_cve_2019_10147_the_control_group_of_the_app(rkt: Any, pod: str) -> None:
    directory = rkt.directory / "data/pods/run" / pod
    app = int((directory / "apps/probe/pid").read_text())
    with subprocess.Popen(rkt.argv("enter", pod, "/probe", "sleep"), stdout=subprocess.PIPE) as entered:
        try:
            assert entered.stdout is not None
            entered.stdout.readline()
            child = only_child(entered.pid)
            assert Path(f"/proc/{child}/cgroup").read_text() == Path(f"/proc/{app}/cgroup").read_text()
        finally:
            entered.terminate()
            entered.wait()


def only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_s8_no_descriptor_of_the_caller(rkt: Any, pod: str) -> None:
    with open("/etc/passwd") as one, open("/etc/shadow") as two:
        for file in (one, two):
            os.set_inheritable(file.fileno(), True)
        argv = rkt.argv("enter", pod, "/probe", "fds")
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, pass_fds=(one.fileno(), two.fileno())
        )
    assert done.stdout == "fds: 0 1 2\n"


def test_s29_a_session_keyring_of_its_own(rkt: Any, pod: str) -> None:
    assert rkt("enter", "--privileged", pod, "/probe", "keyring").stdout == "keyring: 0 keys\n"


# -- CVE-2019-5736


def test_cve_2019_5736_enter_does_not_run_what_is_behind_a_magic_link(
    rkt: Any, make_probe_aci: Any, probe_rootfs: Path
) -> None:
    (probe_rootfs / "shell").symlink_to("/proc/self/exe")
    (probe_rootfs / "script").write_text("#!/proc/self/exe\n")
    (probe_rootfs / "script").chmod(0o755)
    uuid = detached(rkt, make_probe_aci("/probe", "sleep"))
    for program in ("/proc/self/exe", "/shell", "/script"):
        done = rkt("enter", uuid, program, code=None)
        assert done.returncode in {126, 127}
        assert "exec:" in done.stderr
    rkt("stop", "--force", uuid)


def test_cve_2019_5736_the_interpreter_cannot_be_opened_for_writing(rkt: Any, make_probe_aci: Any) -> None:
    """S12 in small: an app tries every /proc/PID/exe while others enter, as root without a user namespace."""
    interpreter = Path(os.path.realpath("/usr/bin/python3"))
    before = (interpreter.stat().st_mtime_ns, interpreter.stat().st_size)
    script = (
        "while :; do for p in /proc/[0-9]*; do "
        'if (exec 3>>$p/exe) 2>/dev/null; then echo "opened $p $(busybox readlink $p/exe)"; fi; done; done'
    )
    aci = make_probe_aci("/bin/sh", "-c", script)
    common = ("--insecure-options=image", "run", "--detach", "--net=none", "--private-users=false")
    uuid = rkt(*common, aci).stdout.strip()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert rkt("enter", uuid, "/probe", "print", "x").stdout == "x\n"
    rkt("stop", "--force", uuid)
    opened = [line for line in logged(rkt, uuid) if "opened" in line and "python" in line]
    assert opened == []
    assert (interpreter.stat().st_mtime_ns, interpreter.stat().st_size) == before


# -- behaviour


def test_environment_and_working_directory_of_the_app(rkt: Any, make_probe_aci: Any) -> None:
    app = {"workingDirectory": "/work", "environment": [{"name": "A", "value": "1"}]}
    uuid = detached(rkt, make_probe_aci("/probe", "sleep", app=app))
    lines = rkt("enter", uuid, "/probe").stdout.splitlines()
    assert lines[0] == "cwd: /work"
    assert "env A=1" in lines
    assert "env AC_APP_NAME=probe" in lines
    assert not any(line.startswith("env TERM=") for line in lines)
    rkt("stop", "--force", uuid)


def test_user_of_the_app_or_as_asked_for(rkt: Any, make_probe_aci: Any) -> None:
    uuid = detached(rkt, make_probe_aci("/probe", "sleep", app={"user": "user", "group": "users"}))

    def uid(*words: str) -> str:
        status = rkt("enter", *words, uuid, "/probe", "status").stdout
        return next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))

    assert uid() == "1000"
    assert uid("--user=0") == "0"
    assert uid("--user=77", "--group=7") == "77"
    assert uid("--privileged") == "0"
    done = rkt("enter", "--user=nobody-here", uuid, "/probe", code=None)
    assert done.returncode == 254
    assert 'invalid user "nobody-here"' in done.stderr
    rkt("stop", "--force", uuid)


def test_privileged(rkt: Any, native_pod: str) -> None:
    lines = rkt("enter", "--privileged", native_pod, "/probe", "status").stdout.splitlines()
    assert "Seccomp:\t0" in lines
    assert "NoNewPrivs:\t0" in lines
    assert any(line.startswith("CapEff:") and line > "CapEff:\t000001" for line in lines)


def test_exit_codes_pass_through(rkt: Any, pod: str) -> None:
    for code in (0, 1, 7, 255):
        rkt("enter", pod, "/probe", "exit", str(code), code=code)
    rkt("enter", pod, "/bin/sh", "-c", "kill -9 $$", code=137)


def test_a_missing_program(rkt: Any, pod: str) -> None:
    done = rkt("enter", pod, "/nope", code=127)
    assert 'exec: "/nope" not found' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipe_on_stdin_works(rkt: Any, pod: str) -> None:
    assert rkt("enter", pod, "/bin/cat", stdin=b"through the pipe\n").stdout == "through the pipe\n"


def test_without_a_command_a_shell_is_assumed(rkt: Any, pod: str) -> None:
    done = rkt("enter", pod, stdin=b"echo from the shell; exit 3\n", code=3)
    assert done.stdout == "from the shell\n"
    assert "/bin/sh" in done.stderr


def test_words_that_look_like_flags_belong_to_the_command(rkt: Any, pod: str) -> None:
    assert rkt("enter", pod, "/bin/sh", "-c", 'echo "$0 $1"', "--app", "--help").stdout == "--app --help\n"


def test_signals_reach_the_command(rkt: Any, pod: str) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(rkt.argv("enter", pod, "/bin/sh", "-c", script), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 9
        assert process.stdout.read() == b"got\n"


def test_several_apps_need_a_choice(rkt: Any, make_probe_aci: Any) -> None:
    one = make_probe_aci("/probe", "sleep", name="example.com/one")
    two = make_probe_aci("/probe", "sleep", name="example.com/two")
    uuid = detached(rkt, one, two)
    done = rkt("enter", uuid, "/probe", code=254)
    assert "pod contains multiple apps: one, two" in done.stderr
    for app in ("one", "two"):
        assert f"env AC_APP_NAME={app}\n" in rkt("enter", f"--app={app}", uuid, "/probe", "env").stdout
    assert 'no app with name "three"' in rkt("enter", "--app=three", uuid, "/probe", code=254).stderr
    rkt("stop", "--force", uuid)


def test_pods_that_do_not_run(rkt: Any, make_probe_aci: Any) -> None:
    rkt("--insecure-options=image", "run", "--net=none", make_probe_aci("/probe", "print", "x"))
    uuid = rkt("list", "--full", "--no-legend").stdout.split()[0]
    assert "isn't currently running" in rkt("enter", uuid, "/probe", code=254).stderr
    assert "no matches found" in rkt("enter", "00000000", "/probe", code=254).stderr


def test_volume_contents_are_those_of_the_app(rkt: Any, make_probe_aci: Any, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "file").write_text("shared\n")
    words = (f"--volume=v,kind=host,source={source}", "--mount=volume=v,target=/v")
    uuid = detached(rkt, *words, make_probe_aci("/probe", "sleep"))
    assert rkt("enter", uuid, "/bin/cat", "/v/file").stdout == "shared\n"
    rkt("stop", "--force", uuid)


# -- terminals


def at_a_terminal(argv: list[str], typed: bytes, until: bytes) -> tuple[int, bytes]:
    """Run `argv` at a terminal of 33 rows, type when something is printed; its code and what was shown."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, {**os.environ, "TERM": "xterm-test"})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    shown, sent, end = b"", False, time.monotonic() + 20
    try:
        while time.monotonic() < end:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(master, 4096)
            except OSError:
                break  # EIO: nobody has the other side open any more
            if not sent and until in shown:
                sent = True
                os.write(master, typed)
    finally:
        os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_a_terminal_of_the_pods_own(rkt: Any, pod: str) -> None:
    script = "busybox tty; busybox stty size; echo $TERM; read word; echo got $word; exit 4"
    code, shown = at_a_terminal(rkt.argv("enter", pod, "/bin/sh", "-c", script), b"hello\n", b"xterm-test")
    text = shown.decode().replace("\r", "")
    assert code == 4
    assert "/dev/pts/" in text
    assert "33 99\n" in text
    assert "got hello\n" in text


def test_cve_2017_5226_the_users_terminal_is_not_the_commands(rkt: Any, native_pod: str) -> None:
    """TIOCSTI (0x5412) on one's own terminal types into that one, never into the shell that ran rkt."""
    command = shlex.join(rkt.argv("enter", native_pod, "/probe", "call", "16", "0", "0x5412", "0"))
    shell = f"{command}; echo ready; read x; echo $x"  # what is typed before that, the command may get
    _, shown = at_a_terminal(["/bin/sh", "-c", shell], b"typed by the user\n", b"ready")
    assert b"call 16" in shown
    assert b"typed by the user" in shown


@pytest.mark.campaign
def test_500_enters(rkt: Any, native_pod: str) -> None:
    for _ in range(25):
        batch = [subprocess.Popen(rkt.argv("enter", native_pod, "/probe", "exit", "3")) for _ in range(20)]
        assert [process.wait() for process in batch] == [3] * 20


# -- a stage 1 of somebody else's


def test_a_stage1_image_is_asked_by_its_entry_point(rkt: Any, make_aci: Any, busybox_rootfs: Path) -> None:
    scripts = {
        "init": "echo $$ > pid; ln -s ready stage1/rootfs/rkt/supervisor-status; exec sleep 60",
        "enter": 'echo "$PWD: $*"; exit 6',
    }
    for name, script in scripts.items():
        (busybox_rootfs / name).write_text(f"#!/bin/sh\n{script}\n")
        (busybox_rootfs / name).chmod(0o755)
    abi = "coreos.com/rkt/stage1"
    annotations = [{"name": f"{abi}/run", "value": "/init"}, {"name": f"{abi}/enter", "value": "/enter"}]
    stage1 = make_aci(["/init"], name="example.com/stage1", annotations=annotations)
    app = make_aci(["/bin/true"], name="example.com/app")
    words = ("run", "--detach", "--net=none", f"--stage1-path={stage1}", app)
    uuid = rkt("--insecure-options=image", *words).stdout.strip()
    pod = rkt.directory / "data/pods/run" / uuid
    try:
        done = rkt("enter", uuid, "/bin/app", "--flag", code=6)
        pid = (pod / "pid").read_text().strip()
        assert done.stdout == f"{pod}: --pid={pid} --appname=app -- /bin/app --flag\n"
    finally:
        rkt("stop", "--force", uuid, code=None)


# -- what an app can change before somebody enters

_HOSTILE = {
    "a FIFO": "rm {0}; mkfifo {0}",
    "endless": "rm {0}; ln -s /dev/zero {0}",
    "a device": "rm {0}; ln -s /dev/tty {0}",
    "a loop": "rm {0}; ln -s {0} {0}",
    "a descriptor": "rm {0}; ln -s /proc/self/fd/0 {0}",
    "a directory": "rm {0}; mkdir {0}",
    "huge": "dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' a >> {0}",
    "an overflow": "echo user:x:4294967296:4294967296::/: > {0}; echo users:x:4294967296: >> {0}",
    "no number": "echo user:x:0x0:0::/: > {0}; echo users:x:-1: >> {0}",
}


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/group"])
def test_cve_2026_47262_accounts_that_the_app_made_hostile_keep_nobody_waiting(
    rkt: Any, make_probe_aci: Any, path: str
) -> None:
    """A name is looked up in the files as they are now: an error then; numbers and other pods work on."""
    uuid = detached(rkt, make_probe_aci("/probe", "sleep"))
    who = "--user=user" if path == "/etc/passwd" else "--group=users"
    rkt("enter", who, uuid, "/probe", "exit", "0")
    rkt("enter", uuid, "/bin/sh", "-c", f"cp {path} /kept")
    for what, script in _HOSTILE.items():
        rkt("enter", uuid, "/bin/sh", "-c", script.format(path))
        done = rkt("enter", who, uuid, "/probe", "exit", "0", code=None, timeout=10)
        assert done.returncode == 254, what
        assert done.stderr.count("\n") <= 2, what
        assert "Traceback" not in done.stderr, what
        rkt("enter", "--user=77", "--group=7", uuid, "/probe", "exit", "0", timeout=10)
        rkt("enter", uuid, "/bin/sh", "-c", f"rm -rf {path}; cp /kept {path}")
    rkt("stop", "--force", uuid)


def test_an_account_that_the_app_made_root_is_bound_as_the_app_is(rkt: Any, make_probe_aci: Any) -> None:
    """Names mean what the files say now. What they cannot change: capabilities, filter, control group."""
    uuid = detached(rkt, make_probe_aci("/probe", "sleep", app={"user": "0", "group": "0"}))
    rkt("enter", uuid, "/bin/sh", "-c", "echo user:x:0:0::/root: > /etc/passwd")
    app = rkt("enter", uuid, "/probe", "status").stdout.splitlines()
    named = rkt("enter", "--user=user", uuid, "/probe", "status").stdout.splitlines()
    for field in ("Uid", "Cap", "NoNewPrivs", "Seccomp:"):
        assert [line for line in named if line.startswith(field)] == [
            line for line in app if line.startswith(field)
        ]
    rkt("stop", "--force", uuid)


@pytest.mark.parametrize("flavour", ["native", "fly"])
def test_an_app_that_changes_its_account_is_entered_and_ended_as_before(
    rkt: Any, make_probe_aci: Any, tmp_path: Path, flavour: str
) -> None:
    """Names of the manifest are looked up once, before anything of the app has run."""
    handlers = [
        {"name": "post-stop", "exec": ["/bin/sh", "-c", "id -u > /out/after; echo $HOME >> /out/after"]}
    ]
    app = {"user": "user", "group": "users", "eventHandlers": handlers}
    out = tmp_path / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    volume = (f"--volume=out,kind=host,source={out}", "--mount=volume=out,target=/out")
    uuid = detached(rkt, *volume, make_probe_aci("/probe", "sleep", app=app), flavour=flavour)
    home = rkt("enter", uuid, "/bin/sh", "-c", "echo $HOME").stdout
    hostile = "echo user:x:0:0::/tmp: > /etc/passwd; echo users:x:0: > /etc/group"
    rkt("enter", "--user=0", uuid, "/bin/sh", "-c", hostile)
    status = rkt("enter", uuid, "/probe", "status").stdout
    assert "Uid:\t1000\t1000\t1000\t1000" in status
    assert re.search(r"^Gid:\t100\t", status, re.MULTILINE)
    assert rkt("enter", uuid, "/bin/sh", "-c", "echo $HOME").stdout == home
    rkt("stop", uuid)
    rkt("status", "--wait", uuid)
    assert (out / "after").read_text() == f"1000\n{home}"


def test_a_profile_that_the_app_wrote_has_nothing_of_the_caller(
    rkt: Any, make_probe_aci: Any, tmp_path: Path
) -> None:
    """A shell may read it: as the app is confined, with no descriptor, variable or file of who enters."""
    uuid = detached(rkt, make_probe_aci("/probe", "sleep"))
    hostile = "ls /proc/self/fd; env; grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status; cat /proc/1/environ"
    files = "/etc/profile /etc/shinit /root/.profile /root/.bashrc /.profile /.bashrc"
    rkt(
        *("enter", uuid, "/bin/sh", "-c"),
        f'mkdir -p /root; for file in {files}; do echo "$0" > $file; done',
        hostile,
    )
    with open(tmp_path / "open", "w", encoding="ascii") as secret:
        os.set_inheritable(secret.fileno(), True)
        environment = {**os.environ, "SECRET": "hunter2", "ENV": "/etc/shinit", "BASH_ENV": "/etc/shinit"}
        for words in ((), ("/bin/sh", "-l"), ("/bin/sh", "-l", "-i")):
            done = subprocess.run(
                rkt.argv("enter", uuid, *words),
                input=". /etc/profile; exit 7\n",
                pass_fds=(secret.fileno(),),
                capture_output=True,
                text=True,
                env=environment,
                timeout=20,
                check=False,
            )
            assert done.returncode == 7
            assert "hunter2" not in done.stdout + done.stderr
            lines = done.stdout.splitlines()
            assert {line for line in lines if line.isdigit()} <= {"0", "1", "2", "3"}, (
                "3 is the listing's own"
            )
            assert "Seccomp:\t2" in lines
            assert f"CapBnd:\t{FOURTEEN:016x}" in lines
    rkt("stop", "--force", uuid)
