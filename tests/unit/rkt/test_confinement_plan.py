"""From isolators and flags to a confinement: what is kept, filtered, limited, and what is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appc.schema.app import App
from appc.schema.image import ImageManifest
from appc.schema.pod import PodManifest
from linux import capabilities, seccomp
from rkt.errors import RktError
from rkt.stage1 import confinement
from rkt.stage1.abi import Invocation

ID = "sha512-" + "ab" * 64
WITH_USERS = Invocation(uuid="u", pod_dir="/nowhere", private_users=(1 << 20, 65536))
WITHOUT = Invocation(uuid="u", pod_dir="/nowhere")


def app(*isolators: tuple[str, Any], **members: Any) -> App:
    return App.from_json({
        "exec": ["/bin/app"],
        "user": "0",
        "group": "0",
        "isolators": [{"name": name, "value": value} for name, value in isolators],
        **members,
    })


def image(**members: Any) -> ImageManifest:
    base = {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/a"}
    return ImageManifest.from_json({**base, **members})


def pod(*isolators: tuple[str, Any]) -> PodManifest:
    return PodManifest.from_json({
        "acKind": "PodManifest",
        "acVersion": "0.8.11",
        "apps": [{"name": "a", "image": {"id": ID}}],
        "isolators": [{"name": name, "value": value} for name, value in isolators],
    })


def plan(
    *isolators: tuple[str, Any],
    flags: Invocation = WITH_USERS,
    of: ImageManifest | None = None,
    **members: Any,
) -> confinement.Confinement:
    return confinement.plan("a", app(*isolators, **members), of or image(), pod(), flags)


def kept(found: confinement.Confinement) -> set[str]:
    return set(capabilities.names(found.capabilities))


# -- capabilities


def test_fourteen_in_a_user_namespace_and_eleven_on_the_host() -> None:
    assert kept(plan()) == set(confinement.DEFAULT_CAPABILITIES)
    on_host = kept(plan(flags=WITHOUT))
    assert len(on_host) == 11
    assert not on_host & {"CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE", "CAP_SYS_ADMIN"}


def test_retain_replaces_and_remove_subtracts() -> None:
    retain = ("os/linux/capabilities-retain-set", {"set": ["CAP_NET_ADMIN", "CAP_KILL"]})
    assert kept(plan(retain)) == {"CAP_NET_ADMIN", "CAP_KILL"}
    remove = ("os/linux/capabilities-remove-set", {"set": ["CAP_KILL", "CAP_SYS_ADMIN"]})
    assert kept(plan(remove)) == set(confinement.DEFAULT_CAPABILITIES) - {"CAP_KILL"}


def test_the_restriction_can_be_switched_off() -> None:
    everything = plan(flags=WITH_USERS._replace(disable_capabilities=True))
    assert everything.capabilities == (1 << capabilities.last() + 1) - 1


def test_a_capability_that_rkt_lacks_is_told() -> None:
    lacking = ~capabilities.read().bounding & (1 << capabilities.last() + 1) - 1
    if not lacking:
        pytest.skip("this process lacks no capability")
    name = capabilities.names(lacking)[0]
    retain = ("os/linux/capabilities-retain-set", {"set": [name]})
    assert f"{name}: rkt itself does not have it" in plan(retain, flags=WITHOUT).not_enforced
    assert plan(retain).not_enforced == ()


# -- seccomp


def test_the_default_filter() -> None:
    found = plan()
    assert found.seccomp == seccomp.compile(seccomp.default_policy(found.capabilities))
    assert not found.unfiltered


def test_a_retained_capability_opens_its_calls_in_the_filter() -> None:
    retain = ("os/linux/capabilities-retain-set", {"set": ["CAP_SYS_TIME"]})
    assert plan(retain).seccomp == seccomp.compile(
        seccomp.default_policy(capabilities.mask(["CAP_SYS_TIME"]))
    )


def test_a_set_with_an_errno() -> None:
    remove = ("os/linux/seccomp-remove-set", {"set": ["stat"], "errno": "EXFULL"})
    found = plan(remove)
    policy = seccomp.policy("remove", ("stat",), errno=54, capabilities=found.capabilities)
    assert found.seccomp == seccomp.compile(policy)


def test_all_calls_retained_and_the_insecure_option_mean_no_filter() -> None:
    assert plan(("os/linux/seccomp-retain-set", {"set": ["@appc.io/all"]})).unfiltered
    assert plan(flags=WITH_USERS._replace(disable_seccomp=True)).unfiltered
    assert not plan(("os/linux/seccomp-remove-set", {"set": ["@appc.io/empty"]})).unfiltered


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"set": ["opne"]}, "did you mean open"),
        ({"set": ["@rkt/default"]}, "no known group"),
        ({"set": ["open"], "errno": "EACCESS"}, "'EACCESS' is no errno"),
    ],
)
def test_what_cannot_be_filtered_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(RktError, match=message):
        plan(("os/linux/seccomp-retain-set", value))


def test_i386_images_get_their_sockets() -> None:
    labels = [{"name": "os", "value": "linux"}, {"name": "arch", "value": "i386"}]
    assert plan(of=image(labels=labels)).seccomp != plan().seccomp


# -- the rest


def test_no_new_privileges_unless_the_isolator_says_otherwise() -> None:
    assert plan().no_new_privileges
    assert plan(("os/linux/no-new-privileges", True)).no_new_privileges
    assert not plan(("os/linux/no-new-privileges", False)).no_new_privileges


def test_environment() -> None:
    given = [{"name": "PATH", "value": "/mine"}, {"name": "AC_APP_NAME", "value": "other"}]
    found = plan(environment=[*given, {"name": "A", "value": "1"}])
    assert found.environment == ("PATH=/mine", "AC_APP_NAME=a", "A=1", "container=rkt")
    later = found.with_environment({"AC_METADATA_URL": "http://x", "A": "2"})
    assert later.environment == (
        "PATH=/mine",
        "AC_APP_NAME=a",
        "container=rkt",
        "AC_METADATA_URL=http://x",
        "A=2",
    )
    assert f"PATH={confinement.PATH}" in plan().environment


def test_limits_round_away_from_zero() -> None:
    found = plan(
        ("resource/memory", {"limit": "42Mi"}),
        ("resource/cpu", {"limit": "800m"}),
        ("os/linux/cpu-shares", 12345),
        ("resource/block-iops", {"default": True, "limit": "10"}),
    )
    assert (found.limits.memory, found.limits.cpu, found.limits.cpu_shares) == (42 << 20, 800, 12345)
    assert found.limits.block_iops == 10
    assert found.not_enforced == ()


def test_what_is_not_enforced_is_told() -> None:
    found = plan(
        ("example.com/unknown", {"a": 1}),
        ("resource/memory", {"request": "1G"}),
        ("os/linux/oom-score-adj", -500),
    )
    told = "; ".join(found.not_enforced)
    for word in (
        "example.com/unknown: not known",
        "resource/memory: only a limit",
        "-500",
    ):
        assert word in told
    assert found.oom_score_adjust == 0


def test_security_modules_that_are_not_there_are_told() -> None:
    if os.path.exists("/sys/fs/selinux/enforce") or os.path.exists("/sys/module/apparmor"):
        pytest.skip("this kernel has one")
    found = plan(
        ("os/linux/apparmor-profile", {"profile": "p"}),
        ("os/linux/selinux-context", {"user": "u", "role": "r", "type": "t", "level": "l"}),
    )
    assert found.label is None
    assert len(found.not_enforced) == 2


def test_pod_limits() -> None:
    limits, missed = confinement.pod_limits(pod(("resource/memory", {"limit": "1G"}), ("x/y", 1)))
    assert (limits.memory, limits.pids) == (10**9, 2048)
    assert limits.devices is not None
    assert missed == ["x/y: not known, ignored"]


def test_event_handlers_are_confined_alike() -> None:
    handlers = [{"name": "pre-start", "exec": ["/pre"]}, {"name": "post-stop", "exec": []}]
    main = plan(eventHandlers=handlers)
    found = confinement.programs(main, app(eventHandlers=handlers))
    assert found["main"] is main
    assert found["pre-start"] == main._replace(argv=("/pre",))
    assert set(found) == {"main", "pre-start"}


def test_groups_may_be_missing_only_in_images_from_docker() -> None:
    assert not plan().group_may_be_missing
    converted = image(annotations=[{"name": "appc.io/docker/imageid", "value": "1"}])
    assert plan(of=converted).group_may_be_missing


def test_a_confinement_survives_in_the_pods_directory(tmp_path: Path) -> None:
    (tmp_path / "appsinfo/a").mkdir(parents=True)
    wanted = plan(("resource/memory", {"limit": "1G"}), supplementaryGIDs=[5, 6])
    wanted = wanted.with_environment({"ODD": "line\nbreak \udcff"})
    confinement.save(str(tmp_path), wanted)
    assert confinement.load(str(tmp_path), "a") == wanted
    assert (tmp_path / "appsinfo/a/confinement").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"app": 1}', "null"])
def test_a_damaged_record_is_a_readable_error(tmp_path: Path, damage: str) -> None:
    (tmp_path / "appsinfo/a").mkdir(parents=True)
    (tmp_path / "appsinfo/a/confinement").write_text(damage)
    with pytest.raises(RktError, match="damaged"):
        confinement.load(str(tmp_path), "a")


def test_an_app_that_was_never_started(tmp_path: Path) -> None:
    with pytest.raises(RktError, match="not started"):
        confinement.load(str(tmp_path), "a")
