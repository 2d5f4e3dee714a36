"""Rows of rkt's own acceptance scenarios, with its messages: 23 to 25, 32, 33, 35 to 39, 47."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from linux.mount import api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"
RUN = (IMAGE, "run", "--net=none")


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the apps printed, without what rkt puts in front of a line."""
    return [line.partition("]: ")[2] for line in done.stdout.splitlines() if "]: " in line]


def sh(
    rkt: Rkt, image: Path, script: str, *flags: str, pod: tuple[str, ...] = (), **expected: Any
) -> list[str]:
    done = rkt(*RUN, *pod, image, *flags, "--exec=/bin/sh", "--", "-c", script, **expected)
    return [*said(done), *done.stderr.splitlines()]


@pytest.fixture
def shell(make_aci: MakeAci) -> Path:
    return make_aci(["/bin/sh"], name="example.com/shell", files={"dir1/file": "image\n"})


# -- 23: environment


@pytest.fixture
def variables(make_aci: MakeAci) -> Path:
    environment = [{"name": "VAR", "value": "manifest"}]
    return make_aci(["/bin/sh"], name="example.com/env", app={"environment": environment})


@pytest.mark.parametrize(
    ("pod", "app", "own", "expected"),
    [
        ((), (), {}, "manifest"),
        (("--set-env=VAR=set",), (), {}, "set"),
        (("--set-env-file=FILE",), (), {}, "file"),
        (("--set-env-file=FILE", "--set-env=VAR=set"), (), {}, "set"),
        (("--set-env=VAR=set",), ("--environment=VAR=app",), {}, "app"),
        (("--set-env-file=FILE",), ("--environment=VAR=app",), {}, "app"),
        ((), ("--environment=VAR=app",), {}, "app"),
        (("--inherit-env",), (), {"VAR": "own"}, "manifest"),
        (("--inherit-env", "--set-env=VAR=set"), (), {"VAR": "own"}, "set"),
        (("--inherit-env",), (), {"OTHER": "own"}, "manifest own"),
        ((), (), {"OTHER": "own"}, "manifest"),
    ],
)
def test_23_environment(
    rkt: Rkt,
    variables: Path,
    tmp_path: Path,
    pod: tuple[str, ...],
    app: tuple[str, ...],
    own: dict[str, str],
    expected: str,
) -> None:
    """Inherited < image < file < --set-env < --environment, in run and in enter alike."""
    (tmp_path / "FILE").write_text("# a comment\nVAR=file\n")
    flags = [flag.replace("FILE", str(tmp_path / "FILE")) for flag in pod]
    argv = (IMAGE, "run", "--detach", "--net=none", *flags, variables, *app, "--exec=/bin/sleep", "--", "60")
    uuid = rkt(*argv, environment=own).stdout.strip()
    shown = rkt("enter", uuid, "/bin/sh", "-c", "echo $VAR $OTHER").stdout.strip()
    init = next(
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and _is_sleep_of(path, rkt, uuid)
    )
    found = dict(
        item.split(b"=", 1)
        for item in Path(f"/proc/{init}/environ").read_bytes().split(b"\0")
        if b"=" in item
    )
    run = b" ".join(filter(None, [found.get(b"VAR"), found.get(b"OTHER")])).decode()
    rkt("stop", "--force", uuid)
    assert (shown, run) == (expected, expected)
    assert "--inherit-env" in pod or found[b"PATH"].startswith(b"/usr/local/sbin:")


def _is_sleep_of(path: Path, rkt: Rkt, uuid: str) -> bool:
    space = os.readlink(f"/proc/{(rkt.directory / f'data/pods/run/{uuid}/pid').read_text().strip()}/ns/pid")
    try:
        return (
            os.readlink(path / "ns/pid") == space
            and (path / "cmdline").read_bytes().split(b"\0")[0] == b"/bin/sleep"
        )
    except OSError:
        return False


# -- 24, 25: what is executed, and as whom


def test_24_exec(rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path) -> None:
    (busybox_rootfs / "dir1").mkdir()
    (busybox_rootfs / "dir1/tool").write_text("#!/bin/sh\necho tool $0\n")
    (busybox_rootfs / "dir1/tool").chmod(0o755)
    image = make_aci(["/bin/true"], name="example.com/exec", app={"workingDirectory": "/dir1"})
    for program, expected in (("/bin/echo", ["a b"]), ("echo", ["a b"]), ("./tool", ["tool ./tool"])):
        done = rkt(*RUN, image, f"--exec={program}", "--", "a b", code=None)
        if program == "./tool":
            assert said(done)[0].startswith("tool ")
        else:
            assert said(done) == expected


def test_24_an_image_without_app(rkt: Rkt, tmp_path: Path) -> None:
    from fixtures import tars

    path = tmp_path / "bare.aci"
    path.write_bytes(tars.image(manifest_bytes=tars.manifest("example.com/bare")))
    done = rkt(*RUN, path, code=254)
    assert "has no app section and --exec argument is not provided" in done.stderr


def test_25_user_and_group(rkt: Rkt, make_aci: MakeAci, busybox_rootfs: Path) -> None:
    (busybox_rootfs / "etc/group").write_text("root:x:0:\ngroup1:x:2000:\n")
    (busybox_rootfs / "dir1").mkdir()
    (busybox_rootfs / "dir1/file").touch()
    os.chown(busybox_rootfs / "dir1/file", 1234, 5678)
    image = make_aci(["/bin/sh", "-c", "id -u; id -g; id -G"], name="example.com/who")
    for flags, expected in (
        (["--user=user", "--group=group1"], ["1000", "2000", "2000"]),
        (["--user=1001", "--group=1002"], ["1001", "1002", "1002"]),
        (["--user=/dir1/file", "--group=/dir1/file"], ["1234", "5678", "5678"]),
        (["--supplementary-gids=1000,1001"], ["0", "0", "0 1000 1001"]),
    ):
        assert said(rkt(*RUN, image, *flags)) == expected
    for flags, words in (
        (["--user=nope"], 'invalid user "nope"'),
        (["--group=nope"], 'invalid group "nope"'),
    ):
        done = rkt(*RUN, image, *flags, code=254)
        assert words in done.stdout + done.stderr


# -- 32, 33: volumes


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("host\n")
    return source


READ, WRITE = "cat /dir1/file", "echo app > /dir1/file && cat /dir1/file"


@pytest.mark.parametrize(
    ("volume", "points", "mounts", "script", "code", "expected"),
    [
        # with a mount point of the image
        ("kind=host,source=S", [False], [], READ, 0, "host"),
        ("kind=host,source=S", [False], [], WRITE, 0, "app"),
        ("kind=host,source=S,readOnly=true", [False], [], WRITE, 1, "Read-only file system"),
        ("kind=host,source=S,readOnly=false", [False], [], WRITE, 0, "app"),
        ("kind=host,source=S", [True], [], WRITE, 1, "Read-only file system"),
        ("kind=host,source=S,readOnly=false", [True], [], WRITE, 0, "app"),  # who runs it has the last word
        # without one
        ("kind=host,source=S", [], ["/dir1"], READ, 0, "host"),
        ("kind=host,source=S,readOnly=true", [], ["/dir1"], WRITE, 1, "Read-only file system"),
        ("kind=host,source=S", [], ["/new/deep"], "cat /new/deep/file; stat -c %a /new", 0, "755"),
        ("kind=host,source=S", [], ["/dir1/"], READ, 0, "host"),
        ("kind=host,source=S/file", [], ["/dir1/file"], READ, 0, "host"),
        ("kind=host,source=S/absent", [], ["/dir1"], READ, 254, "does not exist"),
        # empty volumes
        ("kind=empty", [False], [], "ls /dir1; stat -c '%a %u %g' /dir1", 0, "755 0 0"),
        ("kind=empty,mode=0700,uid=7,gid=8", [False], [], "stat -c '%a %u %g' /dir1", 0, "700 7 8"),
        (None, [False], [], "touch /dir1/x && ls /dir1", 0, "x"),
        (None, [True], [], "touch /dir1/x", 1, "Read-only file system"),
        # no such volume
        (None, [], ["/dir1"], READ, 254, "volume"),
    ],
)
def test_32_volumes(
    rkt: Rkt,
    make_aci: MakeAci,
    source: Path,
    volume: str | None,
    points: list[bool],
    mounts: list[str],
    script: str,
    code: int,
    expected: str,
) -> None:
    app = {"mountPoints": [{"name": "v", "path": "/dir1", "readOnly": only} for only in points]}
    image = make_aci(["/bin/sh"], name="example.com/vol", app=app, files={"dir1/file": "image\n"})
    pod = () if volume is None else (f"--volume=v,{volume.replace('=S', f'={source}')}",)
    flags = [f"--mount=volume=v,target={path}" for path in mounts]
    assert expected in "\n".join(sh(rkt, image, script, *flags, pod=pod, code=code))


def test_32_an_implicit_volume_is_told(rkt: Rkt, make_aci: MakeAci) -> None:
    points = [{"name": "work", "path": "/work"}]
    image = make_aci(["/bin/sh"], name="example.com/points", app={"mountPoints": points})
    told = "app points: no volume for /work: it gets an empty one that goes with the pod"
    assert any(told in line for line in sh(rkt, image, "ls /work"))
    given = sh(rkt, image, "ls /work", pod=("--volume=work,kind=empty",))
    assert not any("warning: " in line and "/work" in line for line in given)
    other = "\n".join(sh(rkt, image, "ls /work", pod=("--volume=other,kind=empty",)))
    assert told in other
    assert "volume other: no app mounts it: name it as a mount point (work), or say --mount=volume=o" in other


def test_a_port_the_other_way_round_is_told(rkt: Rkt, make_aci: MakeAci) -> None:
    app = {"ports": [{"name": "http", "protocol": "tcp", "port": 80}]}
    image = make_aci(["/bin/sh"], name="example.com/ports", app=app)
    told = "the app says it has 80, so 80:8080 may be meant"
    prepare = ("--insecure-options=image", "prepare")
    assert told in rkt(*prepare, "--port=8080:80", image).stderr
    assert "may be meant" not in rkt(*prepare, "--port=80:8080", image).stderr


@pytest.mark.parametrize(("kind", "number"), [("uid", 65535), ("uid", 65536), ("gid", 70000)])
def test_32_an_empty_volume_belongs_to_an_id_of_the_pod(
    rkt: Rkt, shell: Path, kind: str, number: int
) -> None:
    pod = (f"--volume=v,kind=empty,{kind}={number}",)
    words = ("stat -c '%u %g' /v", "--mount=volume=v,target=/v")
    owners = f"{number} 0" if kind == "uid" else f"0 {number}"
    if number < 65536:
        assert sh(rkt, shell, *words, pod=pod)[0] == owners
        return
    *_, error, hint = sh(rkt, shell, *words, pod=pod, code=254)
    assert error == f'run: volume "v": {kind} {number} is beyond the 65536 IDs of the pod'
    assert hint == "hint: take a lower one, or `--private-users=false`"
    assert sh(rkt, shell, *words, pod=(*pod, "--private-users=false"))[0] == owners


def test_32_two_apps_share_a_volume(rkt: Rkt, shell: Path, source: Path) -> None:
    wait = "while [ ! -e /v/done ]; do sleep 0.05; done; cat /v/done"
    argv = [*RUN, f"--volume=v,kind=host,source={source}", "--mount=volume=v,target=/v"]
    argv += [
        str(shell),
        "--name=a",
        "--exec=/bin/sh",
        "--",
        "-c",
        "echo shared > /v/new; mv /v/new /v/done",
        "---",
    ]
    argv += [str(shell), "--name=b", "--exec=/bin/sh", "--", "-c", wait]
    assert said(rkt(*argv)) == ["shared"]


def test_33_duplicates(rkt: Rkt, shell: Path, source: Path) -> None:
    volume = f"--volume=v,kind=host,source={source}"
    done = rkt(*RUN, volume, volume, shell, code=254)
    assert '"v"' in done.stderr


@pytest.fixture
def mounted_source(source: Path) -> Iterator[Path]:
    """A source with a tmpfs mounted inside."""
    (source / "inner").mkdir()
    api.mount("inner", str(source / "inner"), "tmpfs")
    (source / "inner/file").write_text("inner\n")
    yield source
    api.umount(str(source / "inner"))


@pytest.mark.parametrize("recursive", [None, True, False])
@pytest.mark.parametrize("read_only", [None, True, False])
@pytest.mark.parametrize("manifest", [False, True])
def test_33_recursive_and_read_only(
    rkt: Rkt,
    shell: Path,
    mounted_source: Path,
    tmp_path: Path,
    recursive: bool | None,
    read_only: bool | None,
    manifest: bool,
) -> None:
    """What is mounted inside is there unless not wanted (rkt's default outside of fly), and as read-only."""
    script = "cat /v/inner/file; touch /v/outer && echo rw; touch /v/inner/new && echo rw; exit 0"
    if manifest:
        fetched = rkt(IMAGE, "fetch", "--full", shell).stdout.strip()
        volume: dict[str, Any] = {"name": "v", "kind": "host", "source": str(mounted_source)}
        volume |= {} if recursive is None else {"recursive": recursive}
        volume |= {} if read_only is None else {"readOnly": read_only}
        app = {"exec": ["/bin/sh", "-c", script], "user": "0", "group": "0"}
        mounts = [{"volume": "v", "path": "/v"}]
        image = {"id": fetched}
        pod = {
            "acKind": "PodManifest",
            "acVersion": "0.8.11",
            "apps": [{"name": "a", "image": image, "app": app, "mounts": mounts}],
            "volumes": [volume],
        }
        file = tmp_path / "pod.json"
        file.write_text(json.dumps(pod))
        lines = said(rkt(IMAGE, "run", "--net=none", f"--pod-manifest={file}"))
    else:
        words = "" if recursive is None else f",recursive={str(recursive).lower()}"
        words += "" if read_only is None else f",readOnly={str(read_only).lower()}"
        pod_flags = (f"--volume=v,kind=host,source={mounted_source}{words}",)
        lines = sh(rkt, shell, script, "--mount=volume=v,target=/v", pod=pod_flags)
    assert ("inner" in lines) == (recursive is not False)
    assert lines.count("rw") == (0 if read_only else 2)
    assert (mounted_source / "inner/new").exists() == (recursive is not False and not read_only)


# -- 35 to 37: isolation


CAPABILITY = {"net_admin": 12, "chown": 0, "sys_admin": 21}


def _bounding(rkt: Rkt, image: Path, *flags: str, pod: tuple[str, ...] = ()) -> tuple[int, int]:
    done = rkt(
        *pod, *RUN, image, *flags, "--exec=/bin/grep", "--", "-E", "CapEff|CapBnd", "/proc/self/status"
    )
    effective, bounding = (int(line.split()[1], 16) for line in said(done))
    return effective, bounding


def test_35_capabilities(rkt: Rkt, shell: Path) -> None:
    admin, chown = 1 << 12, 1
    assert _bounding(rkt, shell)[0] & admin == 0
    assert _bounding(rkt, shell, "--caps-retain=CAP_NET_ADMIN") == (admin, admin)
    removed = _bounding(rkt, shell, "--caps-remove=CAP_CHOWN")
    assert removed[0] & chown == removed[1] & chown == 0
    done = rkt(*RUN, shell, "--caps-retain=CAP_CHOWN", "--caps-remove=CAP_KILL", code=254)
    assert "cannot use both --caps-retain and --caps-remove" in done.stderr
    everything = _bounding(rkt, shell, pod=("--insecure-options=capabilities",))
    assert everything[0] & admin
    assert _bounding(rkt, shell, "--user=1000")[0] == 0
    assert "CAP_NOPE" in rkt(*RUN, shell, "--caps-retain=CAP_NOPE", code=254).stderr


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("", True),
        ("mode=remove,errno=EXFULL,mkdir,mkdirat", False),
        ("mode=remove,errno=EPERM,@docker/default-blacklist", True),
        ("mode=remove,@appc.io/empty", True),
        ("mode=retain,@appc.io/all", True),
        ("mode=retain,errno=EPERM,@docker/default-whitelist", True),
        ("mode=retain,errno=EPERM,@rkt/default-whitelist", True),
        ("mode=retain,errno=EPERM,@rkt/default-whitelist,mount", True),
        ("mode=remove,mkdir,mkdirat", False),
    ],
)
def test_36_seccomp(rkt: Rkt, shell: Path, flag: str, allowed: bool) -> None:
    flags = [f"--seccomp={flag}"] if flag else []
    done = rkt(*RUN, shell, *flags, "--exec=/bin/mkdir", "--", "/made", code=None)
    assert (done.returncode == 0) == allowed, done
    if "EXFULL" in flag:
        assert "Exchange full" in done.stdout
        done = rkt("--insecure-options=seccomp", *RUN, shell, *flags, "--exec=/bin/mkdir", "--", "/made")


@pytest.mark.parametrize(
    "flag",
    [
        "mode=retain,nope",
        "mode=both,mkdir",
        "mode=retain",
        "mode=remove,errno=ENOPE,mkdir",
        "mode=retain,@nope/x",
        "",
    ],
)
def test_36_bad_seccomp(rkt: Rkt, shell: Path, flag: str) -> None:
    done = rkt(*RUN, shell, f"--seccomp={flag}", code=254)
    assert "Traceback" not in done.stderr
    assert "seccomp" in done.stderr


def test_37_limits_are_those_asked_for(rkt: Rkt, shell: Path) -> None:
    script = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max;"
        "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu.weight;"
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us /sys/fs/cgroup/cpu.max;"
        "cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; touch /x && echo writable; exit 0"
    )
    flags = (
        "--memory=42Mi",
        "--cpu=800m",
        "--cpu-shares=12345",
        "--oom-score-adj=200",
        "--readonly-rootfs=true",
    )
    lines = sh(rkt, shell, f"exec 2>/dev/null; {script}", *flags)
    assert str(42 << 20) in lines
    assert "200" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "writable" not in lines
    if "12345" in lines:  # cgroup version 1
        shares = lines.index("12345")
        assert int(lines[shares + 1]) * 10 == int(lines[shares + 2]) * 8
    else:
        assert "80000 100000" in lines
    done = rkt(*RUN, shell, "--memory=16m", code=254)
    assert "memory limit of 1 bytes too low" in done.stderr


# -- 38, 39: names


def test_38_hostname_and_hosts(rkt: Rkt, shell: Path, make_aci: MakeAci, busybox_rootfs: Path) -> None:
    assert sh(rkt, shell, "hostname", pod=("--hostname=test",))[0] == "test"
    assert sh(rkt, shell, "hostname")[0].startswith("rkt-")
    hosts = sh(rkt, shell, "cat /etc/hosts")
    assert any("localhost" in line for line in hosts)
    entries = ("--hosts-entry=192.0.2.4=a,192.0.2.4=b",)
    line = next(
        line for line in sh(rkt, shell, "cat /etc/hosts", pod=entries) if line.startswith("192.0.2.4")
    )
    assert line.split()[1:] == ["a", "b"]
    digest = hashlib.sha1(Path("/etc/hosts").read_bytes()).hexdigest()
    assert digest in sh(rkt, shell, "sha1sum /etc/hosts", pod=("--hosts-entry=host",))[0]
    (busybox_rootfs / "etc/hosts").write_text("192.0.2.7 from-the-image\n")
    own = make_aci(["/bin/sh"], name="example.com/own-hosts")
    assert "192.0.2.7 from-the-image" in sh(rkt, own, "cat /etc/hosts")


def test_39_dns(rkt: Rkt, shell: Path) -> None:
    show = "cat /etc/resolv.conf 2>/dev/null || echo none"
    assert sh(rkt, shell, show)[0] == "none"
    flags = (
        "--dns=192.0.2.8",
        "--dns=192.0.2.9",
        "--dns-search=s.example",
        "--dns-opt=debug",
        "--dns-domain=d.example",
    )
    lines = sh(rkt, shell, show, pod=flags)
    assert lines[0] == "# Generated by rkt run"
    for line in (
        "nameserver 192.0.2.8",
        "nameserver 192.0.2.9",
        "search s.example",
        "options debug",
        "domain d.example",
    ):
        assert line in lines
    host = Path("/etc/resolv.conf").read_text().split()
    assert "\n".join(sh(rkt, shell, show, pod=("--dns=host",))).split()[: len(host)] == host
    assert sh(rkt, shell, show, pod=("--dns=none",))[0] == "none"


# -- 47: user namespaces


def test_47_private_users(rkt: Rkt, shell: Path) -> None:
    script = "stat -c %u /; cat /proc/self/uid_map"
    for flags in (("--private-users",), ("--private-users", "--no-overlay"), ("--no-overlay",), ()):
        owner, mapped = sh(rkt, shell, script, pod=flags)[:2]
        assert owner == "0"
        assert int(mapped.split()[1]) >= 1 << 16
    assert sh(rkt, shell, script, pod=("--private-users=false",))[1].split()[1] == "0"
