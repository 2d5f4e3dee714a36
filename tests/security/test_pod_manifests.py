"""Pod manifests that must not run, by `run --pod-manifest`: refused, the member named (S20, R25)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Rkt

pytestmark = [pytest.mark.usefixtures("root")]
IMAGE = "--insecure-options=image"


def _app(**members: Any) -> Callable[[dict[str, Any]], object]:
    return lambda pod: pod["apps"][0].update(members)


def _program(**members: Any) -> Callable[[dict[str, Any]], object]:
    return lambda pod: pod["apps"][0]["app"].update(members)


def _pod(**members: Any) -> Callable[[dict[str, Any]], object]:
    return lambda pod: pod.update(members)


def _isolator(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return _program(isolators=[{"name": name, "value": value}])


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no apps": (_pod(apps=[]), "apps"),
    "wrong kind": (_pod(acKind="ImageManifest"), "acKind"),
    "a name that is a path": (_app(name="../x"), "apps[0].name"),
    "a name with upper case": (_app(name="A"), "apps[0].name"),
    "an image that is a path": (_app(image={"id": "sha512-../../x"}), "image ID"),
    "an image without ID": (_app(image={"name": "example.com/true"}), "apps[0].image.id"),
    "an image nobody has": (_app(image={"id": "sha512-" + "0" * 128}), "store"),
    "a relative source": (
        _pod(volumes=[{"name": "v", "kind": "host", "source": "etc"}]),
        "volumes[0].source",
    ),
    "a volume twice": (_pod(volumes=[{"name": "v", "kind": "empty"}] * 2), "volumes"),
    "a mode that is none": (
        _pod(volumes=[{"name": "v", "kind": "empty", "mode": "99999"}]),
        "volumes[0].mode",
    ),
    "uid -1": (_pod(volumes=[{"name": "v", "kind": "empty", "uid": -1}]), "volumes[0].uid"),
    "uid true": (_pod(volumes=[{"name": "v", "kind": "empty", "uid": True}]), "volumes[0].uid"),
    "CVE-2024-40635": (_pod(volumes=[{"name": "v", "kind": "empty", "uid": 1 << 32}]), "volumes[0].uid"),
    "a volume of its own that is a path": (
        _app(mounts=[{"volume": "v", "path": "/v", "appVolume": {"name": "../x", "kind": "empty"}}]),
        "appVolume.name",
    ),
    "CVE-2019-16884": (_app(mounts=[{"volume": "v", "path": "/proc/self"}]), "apps[0].mounts[0].path"),
    "over the root": (_app(mounts=[{"volume": "v", "path": "/a/.."}]), "apps[0].mounts[0].path"),
    "a mount of nothing": (_app(mounts=[{"volume": "nope", "path": "/v"}]), "nope"),
    "port 70000": (_pod(ports=[{"name": "p", "hostPort": 70000}]), "ports[0].hostPort"),
    "a port of no app": (_pod(ports=[{"name": "p", "hostPort": 80}]), '"p"'),
    "NUL in exec": (_program(exec=["/bin/true", "a\0b"]), "exec[1]"),
    "NUL in a variable": (_program(environment=[{"name": "A", "value": "\0"}]), "environment[0].value"),
    "a variable's name": (_program(environment=[{"name": "A=B", "value": "x"}]), "environment[0].name"),
    "a relative directory": (_program(workingDirectory="tmp"), "workingDirectory"),
    "an event of no kind": (
        _program(eventHandlers=[{"name": "../x", "exec": ["/bin/true"]}]),
        "eventHandlers[0].name",
    ),
    "negative memory": (_isolator("resource/memory", {"limit": "-1"}), "isolators[0].value"),
    "an oom score": (_isolator("os/linux/oom-score-adj", -99999), "isolators[0].value"),
    "shares of 31 digits": (_isolator("os/linux/cpu-shares", 10**30), "31 digits"),
    "CVE-2023-2431, an empty filter": (_isolator("os/linux/seccomp-retain-set", {"set": []}), "value.set"),
    "a system call": (_isolator("os/linux/seccomp-retain-set", {"set": ["no_such_call"]}), "no_such_call"),
    "a capability": (_isolator("os/linux/capabilities-retain-set", {"set": ["CAP_ALL"]}), "CAP_ALL"),
    "CVE-2022-0811": (
        _pod(
            isolators=[{"name": "os/unix/sysctl", "value": {"kernel.shm_rmid_forced": "1+kernel.core=|/x\n"}}]
        ),
        "sysctl",
    ),
    "a sysctl of the host": (
        _pod(isolators=[{"name": "os/unix/sysctl", "value": {"kernel.core_pattern": "|/x"}}]),
        "sysctl",
    ),
}
RAW = {
    "null": b"null",
    "a list": b"[]",
    "nothing": b"",
    "NaN": b'{"acKind":NaN}',
    "a member twice": b'{"acKind":"PodManifest","acKind":"PodManifest"}',
    "100,000 deep, GHSA-74fp-r6jw-h4mp": b'{"a":' * 100_000,
    "100,000 digits, CVE-2020-10735": b'{"a":' + b"9" * 100_000 + b"}",
    "20 MiB": b" " * (20 << 20),
    "no text": bytes(range(256)),
}


def _refused(rkt: Rkt, file: Path, name: str) -> str:
    done = rkt(IMAGE, "run", "--net=none", f"--pod-manifest={file}", code=None, timeout=20)
    assert done.returncode == 254, (name, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, name
    assert "internal error" not in done.stderr, name
    return done.stderr


def test_s20_bad_pod_manifests_are_refused_with_the_member_named(
    rkt: Rkt, true_aci: Path, tmp_path: Path
) -> None:
    fetched = rkt(IMAGE, "fetch", "--full", true_aci).stdout.strip()
    file = tmp_path / "pod.json"
    for name, (change, member) in BAD.items():
        app = {"exec": ["/bin/true"], "user": "0", "group": "0"}
        pod: dict[str, Any] = {"acKind": "PodManifest", "acVersion": "0.8.11"}
        pod["apps"] = [{"name": "a", "image": {"id": fetched}, "app": app}]
        change(pod)
        file.write_text(json.dumps(pod))
        assert member in _refused(rkt, file, name), name
    listed = rkt("list", "--format=json").stdout
    assert not [pod for pod in json.loads(listed) if pod["state"] == "running"]


def test_s20_what_is_no_manifest_at_all(rkt: Rkt, tmp_path: Path) -> None:
    file = tmp_path / "pod.json"
    for name, content in RAW.items():
        file.write_bytes(content)
        assert "manifest" in _refused(rkt, file, name)
    file.unlink()
    _refused(rkt, file, "absent")


def test_class_2_text_arrives_exactly_and_commands_nobody(rkt: Rkt, true_aci: Path, tmp_path: Path) -> None:
    """R20, CVE-2024-3154: words of systemd's unit files in arguments, variables and annotations."""
    fetched = rkt(IMAGE, "fetch", "--full", true_aci).stdout.strip()
    text = "a%n$HOME\\x20\"'`touch /canary`;\n[Service]\nExecStart=/bin/sh\t\x01-@+!"
    app = {
        "exec": ["/bin/sh", "-c", 'printf "%s|%s" "$1" "$V" | od -An -tx1 | tr -d " \\n"', "sh", text],
        "user": "0",
        "group": "0",
        "environment": [{"name": "V", "value": text}],
    }
    annotations = [{"name": "example.com/unit", "value": text}]
    pod = {
        "acKind": "PodManifest",
        "acVersion": "0.8.11",
        "apps": [{"name": "a", "image": {"id": fetched}, "app": app, "annotations": annotations}],
        "annotations": annotations,
    }
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod))
    done = rkt(IMAGE, "run", "--net=none", f"--pod-manifest={file}")
    assert done.stdout.strip().endswith(f"{text}|{text}".encode().hex())
    assert not os.path.lexists("/canary")
