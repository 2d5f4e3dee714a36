"""Ways out of a pod, tried by apps that run and by those who enter: S8, S12, S33 (R11, R12, R14)."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

from linux import capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Rkt
    from fixtures.images import MakeAci

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"

# Prints a line for everything that it could do and should not; `end` when it got to the end.
KIT = """
exec 2>/dev/null
for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches \
  /proc/sys/fs/binfmt_misc/register /proc/sysrq-trigger /sys/kernel/uevent_helper /sys/power/state \
  /proc/sys/kernel/ns_last_pid /proc/sys/kernel/hotplug \
  $(find /sys/fs/cgroup -name release_agent -o -name devices.allow -o -name notify_on_release \
    -o -name cgroup.procs -o -name tasks -o -name cgroup.subtree_control -o -name memory.limit_in_bytes)
do (echo 1 > $f) && echo wrote $f; done
mkdir /sys/fs/cgroup/x && echo made a group
for t in cgroup cgroup2 proc sysfs tmpfs devpts debugfs binfmt_misc; do
  mount -t $t none /mnt && echo mounted $t; done
mount -o remount,rw /sys && echo remounted sys
mount -o remount,rw /proc/sys && echo remounted proc
umount /proc/sys && echo uncovered proc
umount /sys/firmware && echo uncovered sys
mount --bind / /mnt && echo bound
unshare -Ur true && echo unshared user
unshare -m true && echo unshared mounts
nsenter -t 1 -m true && echo entered
for n in 1:1 1:2 1:11 8:0 254:0 10:229; do
  rm -f /tmp/n; mknod /tmp/n c ${n%:*} ${n#*:} && (: < /tmp/n) && echo opened $n; done
mknod /tmp/b b 254 0 && (: < /tmp/b) && echo opened block
chroot /proc/1/root ls / && echo went to the root of 1
for p in /proc/[0-9]*; do (: >> $p/exe) && echo opened $p/exe; (: < $p/mem) && [ $p != /proc/$$ ] && \
  case "$(readlink $p/exe)" in /bin/*) ;; *) echo opened $p/mem ;; esac; done
insmod /etc/passwd && echo loaded
reboot -f && echo rebooted
hwclock -w && echo set the clock
swapoff -a && [ -s /proc/swaps ] && echo swapped
dmesg | head -c 1 | grep -q . && echo read the log
echo end
"""


@pytest.fixture
def inherited() -> Iterator[None]:
    """Descriptors 3 to 60 and up that whoever calls rkt has open and would hand down."""
    held = [os.open("/etc", os.O_RDONLY) for _ in range(40)]
    for fd in held:
        os.set_inheritable(fd, True)
    yield
    for fd in held:
        os.close(fd)


def _said(text: str) -> list[str]:
    return [line.rpartition("]: ")[2] for line in text.splitlines()]


@pytest.mark.parametrize("users", ["--private-users", "--private-users=false"])
def test_s33_cve_2022_0492_nothing_of_the_escape_kit_works(rkt: Rkt, make_aci: MakeAci, users: str) -> None:
    """CVE-2018-10892, CVE-2022-0811 and the rest of the kit: as the app, and by way of enter."""
    image = make_aci(["/bin/sleep", "600"], files={"kit": KIT, "mnt/empty": ""})
    done = rkt(IMAGE, "run", "--net=none", users, image, "--exec=/bin/sh", "--", "/kit")
    assert _said(done.stdout) == ["end"]
    uuid = rkt(IMAGE, "run", "--detach", "--net=none", users, image).stdout.strip()
    entered = rkt("enter", uuid, "/bin/sh", "/kit", code=None)
    rkt("stop", "--force", uuid)
    assert entered.stdout.splitlines() == ["end"]


@pytest.mark.parametrize("flavour", ["native", "fly"])
def test_s8_cve_2024_21626_three_descriptors_whatever_the_caller_had(
    rkt: Rkt, make_aci: MakeAci, flavour: str, inherited: None
) -> None:
    """run, detached run, enter and handlers; rkt's fly leaked the pod's directory (CVE-2016-9962)."""
    handlers = [{"name": "pre-start", "exec": ["/bin/sh", "-c", "ls /proc/$$/fd; true"]}]
    image = make_aci(["/bin/sleep", "600"], app={"eventHandlers": handlers})
    show = ["--exec=/bin/sh", "--", "-c", "ls /proc/$$/fd; true"]
    argv = rkt.argv(IMAGE, "run", f"--stage1-name={flavour}", "--net=none", image, *show)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, close_fds=False)
    assert _said(done.stdout) == ["0", "1", "2"] * 2, done.stderr
    argv = rkt.argv(IMAGE, "run", "--detach", f"--stage1-name={flavour}", "--net=none", image)
    started = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, close_fds=False)
    uuid = started.stdout.strip()
    argv = rkt.argv("enter", uuid, "/bin/sh", "-c", "ls /proc/$$/fd; true")
    entered = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, close_fds=False)
    rkt("stop", "--force", uuid)
    assert entered.stdout.splitlines() == ["0", "1", "2"], entered.stderr


def test_p3_nobody_gets_into_what_joins_the_pod_before_it_is_confined(
    rkt: Rkt, make_aci: MakeAci, attacks: str
) -> None:
    """An app may trace what is in its pod, and enter's process has rkt's memory and no filter at first."""
    isolator = {"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_SYS_PTRACE"]}}
    image = make_aci([attacks, "intrude"], app={"isolators": [isolator]})
    uuid = rkt(IMAGE, "run", "--detach", "--net=none", image).stdout.strip()
    for _ in range(25):
        rkt("enter", uuid, "/bin/true")
    found = _said(rkt("logs", uuid).stdout)
    rkt("stop", "--force", uuid)
    assert "inside an app" in found  # it is fast enough
    assert "inside rkt" not in found


@pytest.mark.parametrize("typed", ["stdin", "stderr"])
def test_cve_2017_5226_what_enter_leaves_behind_has_no_terminal_of_the_users(
    rkt: Rkt, make_aci: MakeAci, typed: str
) -> None:
    """With one stream that is none, the command gets no terminal of its own; and not the user's either."""
    uuid = rkt(IMAGE, "run", "--detach", "--net=none", make_aci(["/bin/sleep", "600"])).stdout.strip()
    master, slave = pty.openpty()
    try:
        fd = {"stdin": 0, "stderr": 2}[typed]
        # The shell gives what it starts in the background an empty input, so what it inherits is kept as 5.
        script = (
            f"exec 5<&{fd}; (read -t 5 x <&5; echo got $x >/tmp/got; echo lie >&5) 2>/dev/null & echo on >&2"
        )
        terminal = dict.fromkeys({typed, "stderr"}, slave)
        argv = rkt.argv("enter", uuid, "/bin/sh", "-c", script)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **terminal}
        subprocess.run(argv, **streams, check=True, timeout=20)  # type: ignore[call-overload]
        os.write(master, b"secret\n")
        left = "until [ -e /tmp/got ]; do sleep 0.1; done; cat /tmp/got"
        assert rkt("enter", uuid, "/bin/sh", "-c", left).stdout == "got\n"
        assert os.read(master, 4096) == b"on\r\nsecret\r\n"
    finally:
        os.close(master)
        os.close(slave)
        rkt("stop", "--force", uuid)


def test_p8_no_app_sees_the_command_line_of_rkt(rkt: Rkt, make_aci: MakeAci, attacks: str) -> None:
    """What starts an app, or enters one, is a fork of rkt at first; a flag may be for another app alone."""
    image = make_aci([attacks, "look", "p=secret"], app={"user": "1000", "group": "1000"})
    uuid = rkt(IMAGE, "run", "--detach", "--net=none", image).stdout.strip()
    for _ in range(25):
        rkt("enter", "--group=secret", uuid, "/bin/true", code=None)
    found = _said(rkt("logs", uuid).stdout)
    rkt("stop", "--force", uuid)
    assert found == ["begun"]


# With the capabilities for it: in the app's own mount namespace, and in those of all that it can trace.
_WRITE = """
exec 2>/dev/null
mount -t tmpfs none /mnt && echo mounted
for p in self $(ls /proc); do [ -d /proc/$p/ns ] && nsenter --mount=/proc/$p/ns/mnt /bin/sh -c '
  for v in /vol /apps/*/vol; do mount -o remount,bind,rw $v; echo no > $v/file; rm $v/file; done'
done
umount /proc/sys && echo uncovered
umount /vol && echo unmounted
"""


@pytest.mark.parametrize("how", ["capabilities", "privileged"])
def test_p3_a_read_only_volume_is_that_whatever_the_image_asks_for(
    rkt: Rkt, make_aci: MakeAci, tmp_path: Path, how: str
) -> None:
    """In a pod of two apps; with all capabilities in the user namespace of the pod."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("kept\n")
    flags = (f"--volume=v,kind=host,source={volume},readOnly=true", "--mount=volume=v,target=/vol")
    every = [name for name in capabilities.NAMES if how == "capabilities"]
    isolators = [{"name": "os/linux/capabilities-retain-set", "value": {"set": every}}] if every else []
    files = {"write": _WRITE, "mnt/empty": ""}
    image = make_aci(["/bin/sleep", "600"], app={"isolators": isolators}, files=files)
    other = make_aci(["/bin/sleep", "600"], name="example.com/other")
    run = (IMAGE, "run", "--detach", "--net=none", *flags, image, "---", other)
    uuid = rkt(*run).stdout.strip()
    extra = ("--privileged",) if how == "privileged" else ()
    entered = rkt("enter", *extra, "--app=app", uuid, "/bin/sh", "/write", code=None)
    rkt("stop", "--force", uuid)
    assert (volume / "file").read_text() == "kept\n"
    assert entered.stdout == "mounted\n"  # what it may mount is its own
