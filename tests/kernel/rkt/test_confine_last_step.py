"""confine(): what the program is left with, in a namespace set of its own, for many confinements."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from linux import capabilities, seccomp
from rkt.stage1.confinement import DEFAULT_CAPABILITIES as FOURTEEN
from rkt.stage1.confinement import NOT_ON_THE_HOST, PATH, RLIMITS, Confinement

SRC = str(Path(__file__).parents[3] / "src")
pytestmark = pytest.mark.usefixtures("root")

ELEVEN = capabilities.mask([name for name in FOURTEEN if name not in NOT_ON_THE_HOST])

# A child in new mount, PID and IPC namespaces whose root is the directory; no user namespace, so that what is
# kept from the program is kept by confine() alone.
HARNESS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from linux import cgroups, clone, libc
from linux.mount import api
from rkt.errors import RktError
from rkt.stage1 import confine
from rkt.stage1.confinement import Confinement
rootfs, values, before, kept = sys.argv[2], json.loads(sys.argv[3]), sys.argv[4], int(sys.argv[5])
values["seccomp"] = bytes.fromhex(values["seccomp"])
pid = clone.clone(clone.NEWNS | clone.NEWPID | clone.NEWIPC)
if pid == 0:
    code = 1
    try:
        api.set_propagation("/", api.MountFlag.REC | api.MountFlag.PRIVATE)
        api.mount(rootfs, rootfs, flags=api.MountFlag.BIND)
        api.mount("proc", f"{rootfs}/proc", "proc")
        exec(before)
        os.chdir(rootfs)
        libc.pivot_root(".", ".")
        api.umount(".", api.UmountFlag.DETACH)
        os.chdir("/")
        confine.confine(Confinement(**values), kept_fds=kept)
    except (RktError, OSError, ValueError) as error:
        os.write(2, (str(error) + "\\n").encode())
        code = getattr(error, "exit_code", 1)
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(status if status >= 0 else 128 - status)
"""


def confinement(**changes: Any) -> Confinement:
    kept = changes.get("capabilities", ELEVEN)
    base = Confinement(
        app="probe",
        argv=("/probe", "status"),
        environment=(f"PATH={PATH}", "AC_APP_NAME=probe"),
        working_directory="/",
        user="0",
        group="0",
        home="",
        group_may_be_missing=False,
        supplementary_gids=(),
        capabilities=kept,
        seccomp=seccomp.compile(seccomp.default_policy(kept)),
        unfiltered=False,
        no_new_privileges=True,
        oom_score_adjust=None,
        rlimits=RLIMITS,
        label=None,
        limits=None,  # type: ignore[arg-type]
        not_enforced=(),
    )
    return base._replace(**changes)


def run(
    rootfs: Path,
    *argv: str,
    before: str = "",
    kept_fds: int = 0,
    pass_fds: tuple[int, ...] = (),
    **changes: Any,
) -> subprocess.CompletedProcess[str]:
    """The program `argv` (default: `/probe status`) confined in `rootfs`; `before` runs before the pivot."""
    if argv:
        changes["argv"] = argv
    values = {**confinement(**changes)._asdict()}
    values["seccomp"] = values["seccomp"].hex()
    command = [sys.executable, "-c", HARNESS, SRC, str(rootfs), json.dumps(values), before, str(kept_fds)]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        pass_fds=pass_fds,
        errors="surrogateescape",
    )


def status(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in done.stdout.splitlines())
    }


def mask(value: int) -> str:
    return f"{value:016x}"


# -- S8, S9: privileges and descriptors


def test_root_has_its_capabilities_and_no_more(probe_rootfs: Path) -> None:
    found = status(run(probe_rootfs))

    assert found["CapBnd"] == found["CapPrm"] == found["CapEff"] == mask(ELEVEN)
    assert found["CapInh"] == found["CapAmb"] == mask(0)
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert found["Uid"] == found["Gid"] == "0\t0\t0\t0"
    assert found["Groups"] == ""


def test_cve_2022_24769_inheritable_and_ambient_sets_are_empty(probe_rootfs: Path) -> None:
    raise_them = (
        "from linux import capabilities as c; kill = c.mask(['CAP_KILL']); p = c.read().permitted; "
        "c.set_all(p, p, kill, kill)"
    )
    for user in ("0", "1000"):
        found = status(run(probe_rootfs, before=raise_them, user=user))
        assert found["CapInh"] == found["CapAmb"] == mask(0)


def test_cve_2018_10856_a_user_other_than_root_has_none(probe_rootfs: Path) -> None:
    found = status(run(probe_rootfs, user="1000", group="100", supplementary_gids=(7, 8, 7)))

    assert found["CapPrm"] == found["CapEff"] == found["CapInh"] == found["CapAmb"] == mask(0)
    assert found["CapBnd"] == mask(ELEVEN)
    assert found["Uid"] == "1000\t1000\t1000\t1000"
    assert found["Gid"] == "100\t100\t100\t100"
    assert found["Groups"] == "7 8"


def test_no_capabilities_at_all(probe_rootfs: Path) -> None:
    found = status(run(probe_rootfs, capabilities=0))
    assert found["CapBnd"] == found["CapPrm"] == mask(0)


def test_cve_2022_36109_groups_of_the_caller_are_dropped(probe_rootfs: Path) -> None:
    found = status(run(probe_rootfs, before="os.setgroups([0, 4, 27])", user="user", group="users"))
    assert (found["Uid"].split()[0], found["Gid"].split()[0], found["Groups"]) == ("1000", "100", "")


@pytest.mark.parametrize("user", ["0", "1000"])
def test_a_filter_without_no_new_privs(probe_rootfs: Path, user: str) -> None:
    """The isolator no-new-privileges=false: the filter stays, and so do the capability sets."""
    found = status(run(probe_rootfs, no_new_privileges=False, user=user))

    assert (found["NoNewPrivs"], found["Seccomp"]) == ("0", "2")
    assert found["CapBnd"] == mask(ELEVEN)
    assert found["CapEff"] == mask(ELEVEN if user == "0" else 0)


def test_set_user_id_programs_work_only_without_no_new_privs(probe_rootfs: Path) -> None:
    (probe_rootfs / "probe").chmod(0o4755)
    assert status(run(probe_rootfs, user="1000"))["Uid"].split()[1] == "1000"
    assert status(run(probe_rootfs, user="1000", no_new_privileges=False))["Uid"].split()[1] == "0"


def test_cve_2024_21626_no_descriptor_leaks(probe_rootfs: Path) -> None:
    many = (
        "held = [os.open('/etc', os.O_RDONLY) for _ in range(60)]\n"
        "for fd in held: os.set_inheritable(fd, True)"
    )
    with open("/etc/passwd") as inherited:
        done = run(probe_rootfs, "/probe", "fds", before=many, pass_fds=(inherited.fileno(),))
    assert done.stdout == "fds: 0 1 2\n"


def test_promised_sockets_stay_open(probe_rootfs: Path) -> None:
    sockets = "import socket; s = socket.socket(); [os.dup2(s.fileno(), n) for n in (3, 4, 5)]"
    done = run(probe_rootfs, "/probe", "fds", before=sockets, kept_fds=2)
    assert done.stdout == "fds: 0 1 2 3 4\n"


def test_signals_are_as_a_program_expects_them(probe_rootfs: Path) -> None:
    odd = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(40, signal.SIG_IGN); "
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])"
    )
    found = status(run(probe_rootfs, before=odd))
    assert found["SigBlk"] == found["SigIgn"] == mask(0)


# -- S29: keyring; limits


def test_a_session_keyring_of_its_own(probe_rootfs: Path) -> None:
    """The caller's keys are not there; looked at without the filter, which forbids to ask."""
    add = "libc.syscall('keyctl', 1, None); libc.syscall('add_key', b'user', b'rkt-secret', b'x', 1, -3)"
    open_ = run(probe_rootfs, "/probe", "keyring", before=add, seccomp=b"", unfiltered=True)
    assert open_.stdout == "keyring: 0 keys\n"
    assert run(probe_rootfs, "/probe", "keyring", before=add).stdout == "keyring: EPERM\n"


def test_limits_of_resources(probe_rootfs: Path) -> None:
    lines = run(probe_rootfs, "/probe").stdout.splitlines()
    limits = {line.split()[1]: line.split()[2:] for line in lines if line.startswith("rlimit ")}
    assert limits["core:"] == ["0", "0"]
    soft, hard = map(int, limits["nofile:"])
    assert soft == 1024
    assert hard <= 524288
    assert int(limits["memlock:"][1]) <= 8 << 20


@pytest.mark.parametrize(
    ("given", "wanted", "expected"), [("0", None, "0"), ("100", None, "100"), ("0", 300, "300")]
)
def test_oom_score(probe_rootfs: Path, given: str, wanted: int | None, expected: str) -> None:
    before = f"open('/proc/self/oom_score_adj', 'w').write('{given}')"
    lines = run(probe_rootfs, "/probe", before=before, oom_score_adjust=wanted).stdout.splitlines()
    assert f"oom_score_adj: {expected}" in lines


def test_r7_a_proc_of_the_images_making_is_refused(probe_rootfs: Path) -> None:
    """CVE-2019-16884, CVE-2025-52881: what is written to files of /proc goes to the kernel or nowhere."""
    before = (
        "api.mount('fake', f'{rootfs}/proc', 'tmpfs'); os.mkdir(f'{rootfs}/proc/self'); "
        "open(f'{rootfs}/proc/self/oom_score_adj', 'w').write('0')"
    )
    done = run(probe_rootfs, before=before)
    assert done.returncode != 0
    assert "/proc of the app is no proc filesystem" in done.stderr


# -- working directory, R13


def test_the_working_directory(probe_rootfs: Path) -> None:
    lines = run(probe_rootfs, "/probe", working_directory="/work").stdout.splitlines()
    assert lines[0] == "cwd: /work"


def test_a_missing_working_directory_is_an_error(probe_rootfs: Path) -> None:
    done = run(probe_rootfs, working_directory="/nowhere")
    assert done.returncode != 0
    assert 'working directory "/nowhere" does not exist' in done.stderr


@pytest.mark.parametrize("way", ["/proc/self/fd/{fd}", "/link", "/proc/self/cwd/../etc", "/proc/1/root"])
def test_cve_2024_21626_a_working_directory_outside_is_refused(probe_rootfs: Path, way: str) -> None:
    fd = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.set_inheritable(fd, True)
        (probe_rootfs / "link").symlink_to(f"/proc/self/fd/{fd}")
        done = run(probe_rootfs, working_directory=way.format(fd=fd), pass_fds=(fd,))
    finally:
        os.close(fd)
    assert done.returncode != 0
    assert "working directory" in done.stderr


def test_a_link_in_the_working_directory_stays_inside(probe_rootfs: Path) -> None:
    (probe_rootfs / "inside").symlink_to("/../../../work")
    assert run(probe_rootfs, "/probe", working_directory="/inside").stdout.startswith("cwd: /work\n")


def test_a_working_directory_that_is_a_file(probe_rootfs: Path) -> None:
    assert "Not a directory" in run(probe_rootfs, working_directory="/etc/passwd").stderr


# -- what is executed


def test_lookup_along_the_apps_path(probe_rootfs: Path) -> None:
    done = run(probe_rootfs, "inpath", "print", "found")
    assert done.stdout == "found\n"
    done = run(probe_rootfs, "./probe", "print", "found")
    assert done.stdout == "found\n"


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("/nope",), 127, 'exec: "/nope" not found'),
        (("nope",), 127, 'exec: "nope": executable file not found in $PATH'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 126, 'exec: "/etc" is not a file'),
        (("",), 127, "no program is given"),
        (("/dynamic",), 127, 'exec: "/dynamic" needs /lib64/ld-linux-x86-64.so.2'),
        (("/script",), 127, 'exec: "/script" needs /bin/nothing'),
        (("/text",), 126, "neither a program nor a script"),
        (("/empty",), 126, "it is empty"),
        (("/arm",), 126, "it is a program for aarch64, and this machine is x86_64"),
        (("/fifo",), 126, "is not a file"),
        (("/loop",), 126, "Too many levels of symbolic links"),
    ],
)
def test_errors_are_readable(probe_rootfs: Path, argv: tuple[str, ...], code: int, message: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the messages name x86_64")
    files = {
        "dynamic": Path("/bin/true").read_bytes(),
        "script": b"#!/bin/nothing\n",
        "text": b"hello\n",
        "empty": b"",
        "arm": (probe_rootfs / "probe").read_bytes()[:18] + b"\xb7\0" + b"\0" * 100,
    }
    for name, content in files.items():
        (probe_rootfs / name).write_bytes(content)
        (probe_rootfs / name).chmod(0o755)
    os.mkfifo(probe_rootfs / "fifo", 0o755)
    (probe_rootfs / "loop").symlink_to("loop")

    done = run(probe_rootfs, *argv)

    assert message in done.stderr
    assert done.returncode == code


def test_a_script_runs(probe_rootfs: Path) -> None:
    (probe_rootfs / "script").write_text("#!/probe print\n")
    (probe_rootfs / "script").chmod(0o755)
    assert run(probe_rootfs, "/script").stdout == "/script\n"


@pytest.mark.parametrize("link", ["/proc/self/exe", "/proc/1/exe", "/proc/self/fd/3"])
def test_cve_2019_5736_magic_links_are_not_executed(probe_rootfs: Path, link: str) -> None:
    (probe_rootfs / "link").symlink_to(link)
    (probe_rootfs / "script").write_text(f"#!{link}\n")
    (probe_rootfs / "script").chmod(0o755)
    for argv in (link, "/link", "/script"):
        done = run(probe_rootfs, argv)
        assert done.returncode in {126, 127}
        assert "exec:" in done.stderr


def test_cve_2019_5736_what_executes_the_app_is_not_the_hosts_interpreter(probe_rootfs: Path) -> None:
    """Even when the check is fooled, /proc/self/exe is a sealed file of ours at the moment of the exec."""
    skip_check = (
        "from rkt.stage1 import executable; executable.find = lambda root, name, path, cwd: (name, '')"
    )
    argv = ("/proc/self/exe", "/probe", "probe", "print", "from the launcher")
    done = run(probe_rootfs, *argv, before=skip_check)
    # The launcher executed itself, and took the app's arguments for its own.
    assert done.stdout == "from the launcher\n"


def test_environment_is_exactly_what_was_planned(probe_rootfs: Path) -> None:
    wanted = ("PATH=/bin", "A=1", "B=two words", "C=", "D=line\nbreak", "E=\udcff")
    done = run(probe_rootfs, "/probe", "env", environment=wanted)
    assert done.stdout == "".join(f"env {item}\n" for item in sorted([*wanted, "HOME=/root"]))


def test_home_comes_from_the_images_passwd(probe_rootfs: Path) -> None:
    assert "env HOME=/work\n" in run(probe_rootfs, "/probe", "env", user="1000").stdout
    assert "env HOME=/\n" in run(probe_rootfs, "/probe", "env", user="77").stdout
    done = run(probe_rootfs, "/probe", "env", environment=("PATH=/bin", "HOME=/mine"))
    assert "env HOME=/mine\n" in done.stdout


def test_exit_codes_and_signals_pass_through(probe_rootfs: Path) -> None:
    assert run(probe_rootfs, "/probe", "exit", "7").returncode == 7


# -- the filter


def test_kubelet_cve_2023_2431_an_empty_filter_is_an_error(probe_rootfs: Path) -> None:
    done = run(probe_rootfs, seccomp=b"")
    assert done.returncode != 0
    assert "no seccomp filter, and nobody asked for none" in done.stderr


def test_no_filter_when_asked_for_none(probe_rootfs: Path) -> None:
    assert status(run(probe_rootfs, seccomp=b"", unfiltered=True))["Seccomp"] == "0"


def test_the_strictest_filter_still_gets_as_far_as_the_program(probe_rootfs: Path) -> None:
    """Nothing but the life cycle: the program is executed, and killed by its own first call, not by ours."""
    program = seccomp.compile(seccomp.policy("retain", ("@appc.io/empty",)))
    for _ in range(5):
        done = run(probe_rootfs, "/probe", "exit", "0", seccomp=program)
        assert (done.returncode, done.stderr) == (128 + 31, "")


def test_a_program_that_needs_only_what_is_retained(tmp_path: Path, probe_rootfs: Path) -> None:
    source = tmp_path / "three.S"
    source.write_text(
        ".globl _start\n_start: mov $3, %edi\nmov $231, %eax\nsyscall\n"
        if os.uname().machine == "x86_64"
        else ".globl _start\n_start: mov x0, #3\nmov x8, #94\nsvc #0\n"
    )
    command = ["gcc", "-nostdlib", "-static", "-o", str(probe_rootfs / "three"), str(source)]
    subprocess.run(command, check=True)
    program = seccomp.compile(seccomp.policy("retain", ("@appc.io/empty",)))
    for _ in range(20):
        assert run(probe_rootfs, "/three", seccomp=program).returncode == 3


def test_a_removed_call_fails_with_the_errno_asked_for(probe_rootfs: Path) -> None:
    program = seccomp.compile(seccomp.policy("remove", ("mkdirat", "mkdir"), errno=errno.EXFULL))
    done = run(probe_rootfs, "/probe", "call", "83", "0", "0", seccomp=program)
    assert done.stdout == "call 83: EXFULL\n"


def test_the_process_is_not_dumpable_before_the_exec(probe_rootfs: Path) -> None:
    """Nothing in the pod can open the interpreter's /proc entries (CVE-2016-9962)."""
    look = (
        "from rkt.stage1 import executable; find = executable.find\n"
        "def looked(*a):\n"
        "    os.write(1, b'%d ' % libc.prctl(libc.PR_GET_DUMPABLE)); return find(*a)\n"
        "executable.find = looked"
    )
    for user in ("0", "1000"):
        done = run(probe_rootfs, "/probe", "print", "x", before=look, user=user)
        assert done.stdout == "0 x\n"


def test_a_security_module_that_is_not_there_refuses(probe_rootfs: Path) -> None:
    """A profile that was asked for and is not loaded must not be ignored (spec/ace.md)."""
    done = run(probe_rootfs, label=("apparmor", "no-such-profile"))
    assert done.returncode != 0
    assert "apparmor refuses no-such-profile" in done.stderr


def test_r11_nothing_can_be_imported_from_the_image(probe_rootfs: Path) -> None:
    for directory in ("", *(path.lstrip("/") for path in sys.path if path.startswith("/"))):
        (probe_rootfs / directory).mkdir(parents=True, exist_ok=True)
        (probe_rootfs / directory / "hostile.py").write_text("raise SystemExit('code of the image ran')")
    late = (
        "from rkt.stage1 import executable\n"
        "def find(*a):\n"
        "    try:\n        import hostile\n"
        "    except ModuleNotFoundError as refused:\n        os.write(1, str(refused).encode())\n"
        "    except BaseException as ran:\n        os.write(1, str(ran).encode())\n"
        "    os._exit(0)\n"
        "executable.find = find"
    )
    assert run(probe_rootfs, before=late).stdout == "No module named 'hostile'"
    allowed = "from rkt.stage1 import confine; confine.forbid_imports = lambda: None\n" + late
    assert run(probe_rootfs, before=allowed).stdout == "code of the image ran"
