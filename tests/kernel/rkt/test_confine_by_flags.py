"""Confinement as users ask for it: flags of `rkt run` and isolators of images, seen from inside the app."""

from __future__ import annotations

import time
from typing import Any

import pytest

from linux import capabilities
from linux.cgroups import Hierarchy

pytestmark = pytest.mark.usefixtures("root")
RUN = ("--insecure-options=image", "run", "--net=none")


def printed(rkt: Any, *words: Any, code: int | None = 0) -> list[str]:
    """What the app printed, without rkt's prefix."""
    stdout = rkt(*RUN, *words, code=code).stdout
    return [line.partition("]: ")[2] for line in stdout.splitlines() if "]: " in line]


def bounding(lines: list[str]) -> set[str]:
    value = next(line.split()[1] for line in lines if line.startswith("CapBnd:"))
    return set(capabilities.names(int(value, 16)))


def test_capabilities_by_flags(rkt: Any, make_probe_aci: Any) -> None:
    aci = make_probe_aci("/probe", "status")
    assert bounding(printed(rkt, aci, "--caps-retain=CAP_NET_ADMIN")) == {"CAP_NET_ADMIN"}
    assert "CAP_KILL" not in bounding(printed(rkt, aci, "--caps-remove=CAP_KILL"))
    both = rkt(*RUN, aci, "--caps-retain=CAP_KILL", "--caps-remove=CAP_KILL", code=254)
    assert "cannot use both --caps-retain and --caps-remove" in both.stderr
    unknown = rkt(*RUN, aci, "--caps-retain=CAP_NOPE", code=254)
    assert "CAP_NOPE" in unknown.stderr
    everything = ("--insecure-options=image,capabilities", "run", "--net=none")
    lines = [line.partition("]: ")[2] for line in rkt(*everything, aci).stdout.splitlines()]
    assert "CAP_SYS_ADMIN" in bounding(lines)


def test_a_user_other_than_root_has_no_capability(rkt: Any, make_probe_aci: Any) -> None:
    lines = printed(rkt, make_probe_aci("/probe", "status"), "--user=1000", "--caps-retain=CAP_NET_ADMIN")
    assert "CapEff:\t0000000000000000" in lines
    assert "CapPrm:\t0000000000000000" in lines


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--seccomp=mode=remove,errno=EXFULL,mkdir"], "call 83: EXFULL"),
        (["--seccomp=mode=remove,mkdir"], None),
        (["--seccomp=mode=retain,@appc.io/all"], "call 83: EFAULT"),
        (["--seccomp=mode=remove,@appc.io/empty"], "call 83: EFAULT"),
        (["--seccomp=mode=retain,@docker/default-whitelist"], "call 83: EFAULT"),
        (["--seccomp=mode=remove,@rkt/default-blacklist"], "call 83: EFAULT"),
        (["--seccomp=mode=remove,reboot", "--user=1000"], "call 83: EFAULT"),
    ],
)
def test_seccomp_by_flags(rkt: Any, make_probe_aci: Any, words: list[str], shown: str | None) -> None:
    """mkdir (83 on x86_64) of a bad pointer tells whether the kernel got to see the call."""
    lines = printed(rkt, make_probe_aci("/probe", "call", "83", "1"), *words, code=None)
    assert lines == ([shown] if shown else [])


def test_seccomp_of_the_image_and_how_it_is_overridden(rkt: Any, make_probe_aci: Any) -> None:
    isolator = {"name": "os/linux/seccomp-remove-set", "value": {"set": ["mkdir"], "errno": "EMULTIHOP"}}
    aci = make_probe_aci("/probe", "call", "83", "1", app={"isolators": [isolator]})
    assert printed(rkt, aci) == ["call 83: EMULTIHOP"]
    assert printed(rkt, aci, "--seccomp=mode=retain,@appc.io/all") == ["call 83: EFAULT"]
    done = rkt("--insecure-options=image,seccomp", "run", "--net=none", aci)
    assert "call 83: EFAULT" in done.stdout


def test_unknown_calls_are_refused_before_the_pod_starts(rkt: Any, make_probe_aci: Any) -> None:
    done = rkt(*RUN, make_probe_aci(), "--seccomp=mode=retain,opne", code=254)
    assert "did you mean open" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_new_privileges_by_isolator(rkt: Any, make_probe_aci: Any) -> None:
    off = {"name": "os/linux/no-new-privileges", "value": False}
    lines = printed(rkt, make_probe_aci("/probe", "status", app={"isolators": [off]}))
    assert "NoNewPrivs:\t0" in lines
    assert "Seccomp:\t2" in lines


def test_limits_by_flags(rkt: Any, make_probe_aci: Any) -> None:
    if Hierarchy.detect().version != 1:
        pytest.skip("reads the files of version 1")
    files = ("memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.shares")
    aci = make_probe_aci("/bin/cat", *(f"/sys/fs/cgroup/{name}" for name in files))
    lines = printed(rkt, aci, "--memory=42Mi", "--cpu=800m", "--cpu-shares=12345")
    assert lines == [str(42 << 20), "80000", "12345"]


def test_pids_are_limited_by_default(rkt: Any, make_probe_aci: Any) -> None:
    if "pids" not in Hierarchy.detect().bases and Hierarchy.detect().version != 2:
        pytest.skip("no pids controller here")
    bomb = "i=0; while [ $i -lt 3000 ]; do /bin/sleep 30 & i=$((i+1)); done 2>/dev/null; echo survived"
    start = time.monotonic()
    rkt(*RUN, make_probe_aci("/bin/sh", "-c", bomb), code=None)
    assert time.monotonic() - start < 50
    assert rkt("list").stdout


def test_what_is_not_enforced_is_said(rkt: Any, make_probe_aci: Any) -> None:
    odd = {"name": "example.com/odd", "value": 1}
    rkt(*RUN, make_probe_aci("/probe", "print", "x", app={"isolators": [odd]}))
    uuid = rkt("list", "--full", "--no-legend").stdout.split()[0]
    assert "example.com/odd: not known, ignored" in rkt("status", uuid).stdout


# -- S15: who the app is


@pytest.mark.parametrize(
    "user", ["4294967295", "4294967296", "-1", "+0", " 0", "0x0", "1_0", "\u0661", "9" * 30]
)
def test_containerd_cve_2024_40635_odd_users_are_refused(rkt: Any, make_probe_aci: Any, user: str) -> None:
    done = rkt(*RUN, make_probe_aci("/probe", "status"), f"--user={user}", code=None)
    assert done.returncode != 0
    assert "Uid:" not in done.stdout
    assert "Traceback" not in done.stderr


def test_runc_cve_2016_3697_a_numeric_name_is_a_number(
    rkt: Any, make_probe_aci: Any, probe_rootfs: Any
) -> None:
    (probe_rootfs / "etc/passwd").write_text("1000:x:0:0::/:/bin/sh\n")
    lines = printed(rkt, make_probe_aci("/probe", "status"), "--user=1000")
    assert "Uid:\t1000\t1000\t1000\t1000" in lines


def test_a_passwd_that_overflows_gives_no_root(rkt: Any, make_probe_aci: Any, probe_rootfs: Any) -> None:
    (probe_rootfs / "etc/passwd").write_text("alice:x:4294967296:0::/:\nalice:x:0:0::/:\n")
    done = rkt(*RUN, make_probe_aci("/probe", "status"), "--user=alice", code=None)
    assert done.returncode != 0
    assert "Uid:" not in done.stdout


def test_as_many_groups_as_the_kernel_has(rkt: Any, make_probe_aci: Any) -> None:
    """S34: rkt hung for nine minutes over 70,000."""
    start = time.monotonic()
    groups = list(range(1, 65001))
    lines = printed(rkt, make_probe_aci("/probe", "fds", app={"supplementaryGIDs": groups}))
    assert lines == ["fds: 0 1 2"]
    assert time.monotonic() - start < 20
