"""The native stage 1: what an app finds as its root, and what it cannot reach from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from linux.mount import info

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import MakePod

DEVICES = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that no pod may change; nor may one change what is mounted on the host."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "keep").write_bytes(b"host secret")
    (canary / "ptmx").write_bytes(b"")
    before = [(entry.id, entry.target, entry.options) for entry in info.mounts()]
    yield canary
    assert sorted(os.listdir(canary)) == ["keep", "ptmx"]
    assert (canary / "keep").read_bytes() == b"host secret"
    assert [(entry.id, entry.target, entry.options) for entry in info.mounts()] == before


def sh(script: str) -> list[str]:
    """A shell that complains to nobody: the lines of two streams have no order."""
    return ["sh", "-c", f"exec 2>/dev/null; {script}"]


@pytest.fixture(params=["userns", "no-userns"])
def users(request: pytest.FixtureRequest) -> dict[str, object]:
    """Flags of a pod with and without a user namespace of its own."""
    return {} if request.param == "userns" else {"private_users": None}


def test_devices_and_links_of_the_specification(make_pod: MakePod, users: dict[str, object]) -> None:
    script = (
        "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty;"
        "for l in ptmx fd stdin; do readlink $l; done; ls;"
        " echo gone > null; head -c 3 zero | wc -c; head -c 4 urandom | wc -c; "
        "stat -f -c %T pts shm; echo x > shm/file && cat shm/file; echo x > full || echo is-full;"
        "echo > console; ls pts"
    )
    lines = make_pod(sh(script)).run(**users).lines
    expected = [f"{name} character special file {numbers} 666" for name, numbers in DEVICES.items()]
    assert lines[:6] == expected
    assert lines[6:9] == ["pts/ptmx", "/proc/self/fd", "/proc/self/fd/0"]
    names = "console fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert lines[9:24] == names.split()
    assert lines[24:29] == ["3", "4", "devpts", "tmpfs", "x"]
    assert "is-full" in lines
    assert lines[-1] == "ptmx"


def test_mounts_are_the_golden_ones(make_pod: MakePod, users: dict[str, object]) -> None:
    """Security reference, section 5: nodev everywhere, sys and cgroup read-only, shm of 64 MB."""
    lines = make_pod(["cat", "/proc/self/mountinfo"]).run(**users).lines
    entries = {entry.target: entry for entry in map(info.MountEntry, lines)}
    assert entries["/"].fstype == "overlay"
    assert {"nodev", "nosuid"} <= set(entries["/"].options)
    noexec = {"nosuid", "nodev", "noexec"}
    for target, fstype, options in (
        ("/proc", "proc", noexec),
        ("/sys", "sysfs", noexec | {"ro"}),
        ("/dev", "tmpfs", {"nosuid", "noexec"}),
        ("/dev/pts", "devpts", {"nosuid", "noexec"}),
        ("/dev/shm", "tmpfs", noexec),
        ("/dev/mqueue", "mqueue", noexec),
        ("/proc/sys", "proc", noexec | {"ro"}),
        ("/proc/irq", "proc", noexec | {"ro"}),
        ("/proc/bus", "proc", noexec | {"ro"}),
        ("/proc/fs", "proc", noexec | {"ro"}),
        ("/proc/sysrq-trigger", "proc", noexec | {"ro"}),
    ):
        if not os.path.exists(target):
            continue  # this kernel has none: /proc/sysrq-trigger
        assert entries[target].fstype == fstype
        assert options <= set(entries[target].options), entries[target].options
    assert "size=65536k" in entries["/dev/shm"].super_options
    for target, entry in entries.items():
        if target.startswith("/sys/fs/cgroup"):
            assert "ro" in entry.options
            assert entry.root == "/" or entry.fstype == "tmpfs"
        assert entry.optional == [], "propagation to or from the host"
        # Masks too: /null of a devtmpfs or of another /dev's tmpfs, or /…/dev/null of a directory.
        device_node = entry.root.rpartition("/")[2] in DEVICES
        assert "nodev" in entry.options or target in {"/dev", "/dev/pts"} or device_node, entry


def test_what_tells_about_the_host_is_hidden(make_pod: MakePod, users: dict[str, object]) -> None:
    script = (
        "for f in acpi asound interrupts kcore keys latency_stats sched_debug scsi timer_list timer_stats"
        " kallsyms config.gz; do"
        " [ -e /proc/$f ] && { cat /proc/$f /proc/$f/* | head -c 1; }; done;"
        "for d in firmware devices/virtual/powercap module; do ls /sys/$d 2>/dev/null; done; echo end"
    )
    assert make_pod(sh(script)).run(**users).lines == ["end"]


def test_nothing_of_the_kernels_can_be_written(make_pod: MakePod, users: dict[str, object]) -> None:
    """CVE-2022-0492 and the escape kit of S33."""
    script = (
        "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sysrq-trigger /sys/power/state"
        " /sys/kernel/uevent_helper /sys/kernel/mm/ksm/run /proc/sys/fs/binfmt_misc/register"
        " $(find /sys/fs/cgroup -name release_agent -o -name devices.allow -o -name notify_on_release"
        " -o -name cgroup.procs -o -name tasks);"
        " do (echo 1 > $f) 2>/dev/null && echo written $f; done;"
        "mkdir /sys/fs/cgroup/x 2>/dev/null && echo made;"
        "mount -t cgroup none /tmp && echo mounted; unshare -Ur true && echo unshared;"
        "mknod /tmp/kmsg c 1 11 2>/dev/null && cat /tmp/kmsg >/dev/null 2>&1 && echo device; echo end"
    )
    assert make_pod(sh(script)).run(**users).lines == ["end"]


def test_nothing_of_the_host_is_behind_pid_1(make_pod: MakePod, users: dict[str, object]) -> None:
    """CVE-2019-5736, CVE-2024-21626: root, cwd, exe and descriptors of PID 1; R11, R12."""
    script = (
        "for l in root cwd exe; do readlink /proc/1/$l; ls /proc/1/$l/ 2>/dev/null; done;"
        "ls /proc/1/fd 2>/dev/null; cat /proc/1/maps /proc/1/environ /proc/1/mem 2>/dev/null | head -c 10;"
        "cat /proc/1/cmdline | tr '\\0' ' '; echo; kill -9 1; kill -TERM 1; echo alive"
    )
    done = make_pod(sh(script)).run(**users)
    assert [line.strip() for line in done.lines] == ["rkt-init", "alive"]


def test_pid_1_holds_nothing_on_the_host_either(make_pod: MakePod) -> None:
    pod = make_pod(["sleep", "600"])
    with pod.start() as process:
        pod.await_ready(process)
        init = int((pod.directory / "pid").read_text())
        assert "rkt-idle" in os.readlink(f"/proc/{init}/exe")
        assert os.listdir(f"/proc/{init}/fd") == []
        with open(f"/proc/{init}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        targets = {entry.target for entry in info.mounts(init)}
        assert not {target for target in targets if target.startswith(("/work", "/usr", "/home", "/tmp"))}
        process.terminate()
        process.communicate(timeout=20)


def test_an_app_has_three_descriptors(make_pod: MakePod, users: dict[str, object]) -> None:
    """S8: whatever the caller of rkt had open."""
    held = [os.open("/etc", os.O_RDONLY) for _ in range(5)]
    for fd in held:
        os.set_inheritable(fd, True)
    try:
        assert make_pod(sh("ls /proc/$$/fd; true")).run(**users).lines == ["0", "1", "2"]
    finally:
        for fd in held:
            os.close(fd)


def test_ids_on_disk_are_the_pods_own(make_pod: MakePod) -> None:
    script = "touch /tmp/a; chown 5:6 /tmp/a; mkdir /m; chown 1000 /m; cat /proc/self/uid_map; rm /etc/group"
    pod = make_pod(sh(script))
    done = pod.run()
    assert done.lines[0].split() == ["0", str(0x70000000), "65536"]
    upper = pod.directory / "overlay/deps-app/upper/app"
    assert ((upper / "tmp/a").stat().st_uid, (upper / "tmp/a").stat().st_gid) == (5, 6)
    assert (upper / "m").stat().st_uid == 1000
    assert (upper / "etc/group").is_char_device()


def test_a_read_only_root(make_pod: MakePod) -> None:
    volume = {"name": "data", "kind": "empty"}
    runtime = {"readOnlyRootFS": True, "mounts": [{"volume": "data", "path": "/data"}]}
    script = "touch /x 2>&1; touch /data/x && touch /dev/shm/x && echo fine; cat /etc/hostname"
    done = make_pod(sh(script), volumes=[volume], runtime=runtime).run(hostname="name")
    assert "Read-only file system" in done.lines[0]
    assert done.lines[1:] == ["fine", "name"]


def test_names_of_the_pod(make_pod: MakePod) -> None:
    script = "hostname; cat /etc/hostname; grep -c localhost /etc/hosts; env | sort; readlink /etc/mtab"
    pod = make_pod(sh(script), app={"environment": [{"name": "A", "value": "b c"}]})
    lines = pod.run().lines
    assert lines[0] == lines[1] == f"rkt-{pod.uuid}"
    assert {"AC_APP_NAME=app", "A=b c", "container=rkt", "HOME=/root"} <= set(lines)
    assert lines[-1] == "../proc/mounts"


@pytest.mark.parametrize("name", ["dev", "proc", "sys"])
@pytest.mark.parametrize("relative", [False, True])
def test_cve_2019_19921_system_directories_that_are_links(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path, name: str, *, relative: bool
) -> None:
    """Also CVE-2023-27561, CVE-2026-41579 and CVE-2026-47766; and S4: gc takes no host mount away."""
    (busybox_rootfs / name).rmdir()
    (busybox_rootfs / name).symlink_to("../" * 30 + str(canary)[1:] if relative else canary)
    pod = make_pod(["true"])
    done = pod.run()
    assert done.code == 254
    assert f"/{name} of the image is not a directory" in done.stderr
    pod.gc()


@pytest.mark.parametrize("relative", [False, True])
def test_etc_as_a_link_writes_nothing_on_the_host(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path, *, relative: bool
) -> None:
    """S3: rkt 1.30 wrote hosts and mtab through it."""
    shutil.rmtree(busybox_rootfs / "etc")
    (busybox_rootfs / "etc").symlink_to("../" * 30 + str(canary)[1:] if relative else canary)
    done = make_pod(["true"]).run()
    assert done.code in {0, 254}


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf", "mtab"])
def test_generated_files_replace_links(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path, name: str
) -> None:
    """CVE-2024-5154: etc/mtab as a link; R9."""
    (busybox_rootfs / "etc" / name).symlink_to(canary / "keep")
    script = f"readlink /etc/{name}; cat /etc/{name}; echo end"
    done = make_pod(sh(script)).run()
    assert done.lines[-1] == "end"
    assert "host secret" not in done.stdout


def test_fifos_in_the_place_of_generated_files_block_nothing(make_pod: MakePod, busybox_rootfs: Path) -> None:
    for name in ("hosts", "hostname", "resolv.conf", "mtab"):
        os.mkfifo(busybox_rootfs / "etc" / name)
    assert make_pod(["true"]).run(timeout=10).code == 0


def test_device_nodes_of_an_image_cannot_be_opened(make_pod: MakePod, busybox_rootfs: Path) -> None:
    os.mknod(busybox_rootfs / "kmsg", 0o20666, os.makedev(1, 11))
    done = make_pod(["sh", "-c", "cat /kmsg 2>&1; echo end"]).run(private_users=None)
    assert "can't open" in done.lines[0]
    assert done.lines[-1] == "end"


DATA = {"mounts": [{"volume": "data", "path": "/data"}]}


def volume_pod(make_pod: MakePod, script: str, volume: dict[str, object], **mount: object) -> list[str]:
    runtime = {"mounts": [{"volume": volume["name"], "path": "/data", **mount}]}
    done = make_pod(sh(script), volumes=[volume], runtime=runtime).run()
    assert done.stderr == ""
    return done.lines


def test_a_volume_keeps_its_owners_through_the_user_namespace(make_pod: MakePod, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "of-1000").write_bytes(b"x")
    os.chown(source / "of-1000", 1000, 1001)
    lines = volume_pod(
        make_pod,
        "stat -c '%u:%g' /data/of-1000; touch /data/new; chown 7 /data/new; mkdir /data/d",
        {"name": "data", "kind": "host", "source": str(source)},
    )
    assert lines == ["1000:1001"]
    assert (source / "new").stat().st_uid == 7
    assert (source / "d").stat().st_uid == 0


def test_the_source_of_a_volume_may_be_a_link(make_pod: MakePod, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").write_text("text\n")
    (tmp_path / "link").symlink_to("directory")
    volume = {"name": "data", "kind": "host", "source": str(tmp_path / "link")}
    assert volume_pod(make_pod, "cat /data/file", volume) == ["text"]
    (tmp_path / "dangling").symlink_to("nowhere")
    pod = make_pod(["true"], volumes=[{**volume, "source": str(tmp_path / "dangling")}], runtime=DATA)
    assert "dangling does not exist" in pod.run().stderr


def test_a_file_and_a_directory_are_no_volumes_for_each_other(make_pod: MakePod, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    volume = {"name": "data", "kind": "host", "source": str(tmp_path / "file")}
    mounts = {"mounts": [{"volume": "data", "path": "/etc"}]}
    done = make_pod(["true"], volumes=[volume], runtime=mounts).run()
    assert "/etc is a directory, the volume for it is a file" in done.stderr
    mounts = {"mounts": [{"volume": "data", "path": "/etc/passwd"}]}
    done = make_pod(["true"], volumes=[{**volume, "source": str(tmp_path)}], runtime=mounts).run()
    assert "/etc/passwd cannot be made for the volume: Not a directory" in done.stderr


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
def test_volumes_read_only_and_recursive(
    make_pod: MakePod, tmp_path: Path, *, recursive: bool, read_only: bool
) -> None:
    source = tmp_path / "volume"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "inner", source / "below"], check=True)
    try:
        (source / "below/file").write_bytes(b"inner")
        lines = volume_pod(
            make_pod,
            "touch /data/x 2>/dev/null && echo rw; touch /data/below/y 2>/dev/null && echo rw-below; "
            "cat /data/below/file 2>/dev/null; echo; echo end; grep ' /data' /proc/self/mountinfo",
            {
                "name": "data",
                "kind": "host",
                "source": str(source),
                "readOnly": read_only,
                "recursive": recursive,
            },
        )
    finally:
        subprocess.run(["umount", source / "below"], check=True)
    written = [] if read_only else ["rw", "rw-below"]
    assert lines[: len(written)] == written
    assert ("inner" in lines) == recursive
    for entry in map(info.MountEntry, lines[lines.index("end") + 1 :]):
        assert {"nosuid", "nodev"} <= set(entry.options)
        assert ("ro" in entry.options) == read_only


def test_an_empty_volume_is_shared_by_the_apps_of_a_pod(make_pod: MakePod) -> None:
    mounts = {"mounts": [{"volume": "data", "path": "/data"}]}
    volume = {"name": "data", "kind": "empty", "mode": "0711", "uid": 3, "gid": 4}
    reader = "while [ ! -e /data/done ]; do sleep 0.05; done; stat -c '%a %u:%g' /data; cat /data/done"
    apps = {
        "writer": {"exec": ["sh", "-c", "echo text > /data/new; mv /data/new /data/done"], "runtime": mounts},
        "reader": {"exec": ["sh", "-c", reader], "runtime": mounts},
    }
    done = make_pod(apps=apps, volumes=[volume]).run()
    assert (done.code, done.lines) == (0, ["711 3:4", "text"])


@pytest.mark.parametrize("docker", [True, False])
def test_an_empty_volume_of_a_docker_image_starts_with_the_images_content(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path, *, docker: bool
) -> None:
    (busybox_rootfs / "data/sub").mkdir(parents=True)
    (busybox_rootfs / "data/sub/file").write_text("text")
    (busybox_rootfs / "data/link").symlink_to(canary)
    os.chown(busybox_rootfs / "data", 33, 34)
    (busybox_rootfs / "data").chmod(0o750)
    note = {"name": "appc.io/docker/registryurl", "value": "registry.example"}
    pod = make_pod(
        sh("stat -c '%a %u:%g' /data; cat /data/sub/file; readlink /data/link; touch /data/new"),
        volumes=[{"name": "data", "kind": "empty"}],
        runtime={"mounts": [{"volume": "data", "path": "/data"}]},
        annotations=[note] if docker else [],
    )
    lines = pod.run().lines
    assert lines == (["750 33:34", f"text{canary}"] if docker else ["755 0:0"])
    assert not (busybox_rootfs / "data/new").exists()


def test_a_volume_that_says_whether_it_is_read_only_decides(make_pod: MakePod, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    for said, expected in ((None, "ro"), (False, "rw"), (True, "ro")):
        volume = {"name": "data", "kind": "host", "source": str(tmp_path / "volume")}
        pod = make_pod(
            sh("touch /data/x && echo rw || echo ro"),
            app={"mountPoints": [{"name": "data", "path": "/data", "readOnly": True}]},
            volumes=[volume if said is None else {**volume, "readOnly": said}],
            runtime={"mounts": [{"volume": "data", "path": "/data"}]},
        )
        assert pod.run().lines == [expected]


def test_the_apps_of_a_pod_share_posix_memory(make_pod: MakePod) -> None:
    reader = "while [ ! -e /dev/shm/done ]; do sleep 0.05; done; cat /dev/shm/done"
    apps = {
        "writer": {"exec": sh("echo text > /dev/shm/new; mv /dev/shm/new /dev/shm/done")},
        "reader": {"exec": sh(reader)},
    }
    assert make_pod(apps=apps).run().lines == ["text"]


def test_a_file_as_a_volume(make_pod: MakePod, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    lines = volume_pod(
        make_pod, "cat /data", {"name": "data", "kind": "host", "source": str(tmp_path / "file")}
    )
    assert lines == ["text"]


def test_a_device_as_a_volume_is_allowed_and_no_other(make_pod: MakePod) -> None:
    lines = volume_pod(
        make_pod,
        "head -c 3 /data | wc -c; stat -c %t:%T /data",
        {"name": "data", "kind": "host", "source": "/dev/zero"},
    )
    assert lines == ["3", "1:5"]


@pytest.mark.parametrize("target", ["/link/sub", "/link", "/dots/../link/sub"])
def test_cve_2021_30465_a_mount_target_behind_a_link_stays_inside(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path, tmp_path: Path, target: str
) -> None:
    (busybox_rootfs / "link").symlink_to(canary)
    (busybox_rootfs / "dots").symlink_to("../../../../..")
    source = tmp_path / "source"
    source.mkdir()
    (source / "mine").touch()
    pod = make_pod(
        sh(f"ls {target}"),
        volumes=[{"name": "data", "kind": "host", "source": str(source)}],
        runtime={"mounts": [{"volume": "data", "path": target}]},
    )
    done = pod.run()
    assert (done.code, done.lines) == (0, ["mine"])


@pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/proc/self/attr", "/"])
def test_cve_2019_16884_a_volume_cannot_replace_proc(make_pod: MakePod, tmp_path: Path, target: str) -> None:
    (tmp_path / "source").mkdir()
    pod = make_pod(
        ["true"],
        volumes=[{"name": "data", "kind": "host", "source": str(tmp_path / "source")}],
        runtime={"mounts": [{"volume": "data", "path": target}]},
    )
    done = pod.run()
    assert done.code == 254
    assert "mounted over" in done.stderr


def test_cve_2025_52565_the_console_is_never_a_file_of_the_image(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path
) -> None:
    (busybox_rootfs / "dev/console").symlink_to(canary / "keep")
    (busybox_rootfs / "dev/null").symlink_to(canary / "keep")
    (busybox_rootfs / "dev/pts").symlink_to(canary)
    assert make_pod(sh("echo x > /dev/console; echo x > /dev/null; ls /dev/pts")).run().lines == ["ptmx"]


@pytest.mark.parametrize("directory", ["/proc/self/fd/3", "/proc/self/fd/7/..", "/proc/1/cwd", "/link"])
def test_cve_2024_21626_working_directories_that_lead_out(
    make_pod: MakePod, busybox_rootfs: Path, canary: Path, directory: str
) -> None:
    (busybox_rootfs / "link").symlink_to(canary)
    done = make_pod(sh("pwd; ls"), app={"workingDirectory": directory}).run()
    assert done.code != 0
    assert "host secret" not in done.stdout
    assert "keep" not in done.stdout


def test_pods_do_not_see_each_other(make_pod: MakePod) -> None:
    first = make_pod(["sleep", "600"])
    with first.start() as process:
        first.await_ready(process)
        lines = (
            make_pod(sh("ps -o comm | grep -c sleep; ls /dev/shm; ipcs -m 2>/dev/null | wc -l"))
            .run(private_users=[0x70010000, 65536])
            .lines
        )
        assert lines[0] == "0"
        process.terminate()
        process.communicate(timeout=20)


def test_a_sysctl_of_the_pods_own_and_none_of_the_hosts(make_pod: MakePod) -> None:
    def isolator(key: str, value: str) -> list[dict[str, object]]:
        return [{"name": "os/unix/sysctl", "value": {key: value}}]

    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    pod = make_pod(sh(script), isolators=isolator("net.ipv4.ip_unprivileged_port_start", "80"))
    assert pod.run().lines == ["80"]
    for key in ("kernel.core_pattern", "net/../kernel.core_pattern", "vm.drop_caches"):
        done = make_pod(["true"], isolators=isolator(key, "x")).run()
        assert done.code == 254
        assert "sysctl" in done.stderr, json.dumps(key)


@pytest.mark.parametrize(
    ("key", "shared"),
    [
        ("net.ipv4.ip_default_ttl", {"net": ["host"]}),
        ("net/ipv4/ip_default_ttl", {"net": ["host"]}),
        ("kernel.msgmax", {"ipc": "parent"}),
        ("fs.mqueue.msg_max", {"ipc": "parent"}),
    ],
)
def test_ghsa_w2j5_a_sysctl_of_a_namespace_shared_with_the_host(
    make_pod: MakePod, key: str, shared: dict[str, Any]
) -> None:
    present = Path("/proc/sys", key.replace(".", "/")).read_text().strip()
    done = make_pod(["true"], isolators=[{"name": "os/unix/sysctl", "value": {key: present}}]).run(**shared)
    assert done.code == 254
    assert f"sysctl '{key}' is the host's" in done.stderr


def test_host_network_and_parent_ipc(make_pod: MakePod) -> None:
    lines = (
        make_pod(sh("for n in net ipc; do readlink /proc/self/ns/$n; done; ls /sys/class/net"))
        .run(net=["host"], ipc="parent")
        .lines
    )
    assert lines[:2] == [os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/ipc")]
    lines = (
        make_pod(sh("ip -o link | wc -l; ip -o -4 addr show dev lo; ping -c 1 127.0.0.1 | grep -c ttl"))
        .run()
        .lines
    )
    assert lines[0] == "1"
    assert "127.0.0.1/8" in lines[1]
