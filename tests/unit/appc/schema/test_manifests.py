"""Image and pod manifests: every problem at once, stable bytes, hostile members (S20)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appc.errors import AppcError, InvalidManifest
from appc.schema import lastditch
from appc.schema.image import ImageManifest
from appc.schema.kind import Kind
from appc.schema.pod import PodManifest

ID = "sha512-" + "a" * 128
FULL_IMAGE: dict[str, Any] = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/reduce-worker",
    "labels": [{"name": "version", "value": "1.0.0"}, {"name": "os", "value": "linux"}],
    "app": {
        "exec": ["/usr/bin/reduce-worker", ""],
        "eventHandlers": [{"name": "pre-start", "exec": ["/pre"]}, {"name": "post-stop", "exec": ["/post"]}],
        "user": "100",
        "group": "300",
        "supplementaryGIDs": [400, 500],
        "workingDirectory": "/opt/work",
        "environment": [{"name": "REDUCE_WORKER_DEBUG", "value": "true"}],
        "mountPoints": [{"name": "work", "path": "/var/lib/work", "readOnly": True}],
        "ports": [{"name": "health", "protocol": "tcp", "port": 4000, "count": 2, "socketActivated": True}],
        "isolators": [{"name": "resource/cpu", "value": {"request": "250m", "limit": "500m"}}],
        "userAnnotations": {"any key": "x"},
        "userLabels": {"b": "1"},
    },
    "dependencies": [
        {"imageName": "example.com/base", "imageID": ID, "labels": [{"name": "x", "value": ""}], "size": 9}
    ],
    "pathWhitelist": ["/etc/ca/example.com/crt", "/usr/bin/map-reduce-worker"],
    "annotations": [{"name": "created", "value": "2014-10-27T19:32:27.67021798Z"}],
}  # fmt: skip
FULL_POD: dict[str, Any] = {
    "acVersion": "0.8.11",
    "acKind": "PodManifest",
    "apps": [
        {
            "name": "reduce-worker",
            "image": {
                "name": "example.com/reduce-worker",
                "id": ID,
                "labels": [{"name": "os", "value": "linux"}],
            },
            "app": FULL_IMAGE["app"],
            "readOnlyRootFS": True,
            "mounts": [
                {"volume": "work", "path": "/var/lib/work"},
                {
                    "volume": "own",
                    "path": "/own",
                    "appVolume": {"name": "own", "kind": "host", "source": "/x"},
                },
            ],
            "annotations": [{"name": "foo", "value": "baz"}],
        }
    ],
    "volumes": [{"name": "work", "kind": "empty", "mode": "0700", "uid": 5, "gid": 6}],
    "isolators": [{"name": "resource/memory", "value": {"limit": "4G"}}],
    "annotations": [{"name": "ip-address", "value": "10.1.2.3"}],
    "ports": [{"name": "health", "hostPort": 4000, "hostIP": "127.0.0.1"}],
    "userAnnotations": {"x": "y"},
    "userLabels": {"x": "y"},
}


def test_manifests_survive_unchanged() -> None:
    image = ImageManifest.parse(json.dumps(FULL_IMAGE).encode())
    assert image.to_json() == FULL_IMAGE
    assert list(image.to_json()) == list(FULL_IMAGE)
    pod = PodManifest.parse(json.dumps(FULL_POD).encode())
    assert pod.to_json() == FULL_POD
    assert PodManifest.parse(pod.encode()).encode() == pod.encode()


def test_equal_manifests_give_equal_bytes() -> None:
    shuffled = json.loads(json.dumps(FULL_IMAGE, sort_keys=True))
    shuffled["app"]["userLabels"] = {"b": "1"}
    assert ImageManifest.from_json(shuffled).encode() == ImageManifest.from_json(FULL_IMAGE).encode()
    assert ImageManifest.from_json(shuffled) == ImageManifest.from_json(FULL_IMAGE)


def test_every_problem_is_reported_at_once() -> None:
    data = json.dumps({
        "acKind": "ImageManifest",
        "acVersion": "9.0.0",
        "labels": [{"name": "os", "value": "darwin"}, {"name": "arch", "value": "vax"}],
        "app": {"user": "", "environment": [{"name": "A"}, {"name": "A"}], "ports": [{"name": "x"}]},
        "dependencies": [{}],
        "annotations": [{"name": "homepage", "value": "ftp://x"}],
    }).encode()
    with pytest.raises(InvalidManifest) as caught:
        ImageManifest.parse(data)
    assert caught.value.problems == (
        "acVersion: 9.0.0 is newer than 0.8.11, the newest version that is supported",
        "name: is required",
        'labels: bad arch "vax" for darwin (must be one of: x86_64 i386)',
        "app.user: may not be empty",
        "app.group: is required",
        'app.environment: the name "A" occurs twice',
        "app.ports[0].protocol: is required",
        "app.ports[0].port: is required",
        "dependencies[0].imageName: is required",
        'annotations[0].value: "ftp://x": the scheme must be http or https',
    )
    assert isinstance(caught.value, AppcError)


def changed(content: dict[str, Any], path: str, value: object) -> bytes:
    """`content` with the member at `path`, such as ``app.ports.0.port``, set to `value`."""
    copy = json.loads(json.dumps(content))
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = copy
    for part in way:
        place = place[part]
    place[last] = value
    return json.dumps(copy).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "example.com/../../etc"),
        ("acVersion", "0.0.0"),
        ("acKind", None),
        ("app.exec", ["a\0b"]),
        ("app.exec", "a"),
        ("app.environment", [{"name": "A", "value": "x\0"}]),
        ("app.environment", [{"name": "A=B", "value": ""}]),
        ("app.workingDirectory", "x\0"),
        ("app.workingDirectory", "x"),
        ("app.user", "-1"),
        ("app.user", "4294967295"),
        ("app.supplementaryGIDs", [-1]),
        ("app.supplementaryGIDs", [4294967295]),
        ("app.supplementaryGIDs", [1.0]),
        ("app.supplementaryGIDs", [True]),
        ("app.supplementaryGIDs", [1] * 70000),
        ("app.mountPoints.0.path", "/"),
        ("app.mountPoints.0.path", "/x/../proc/sys"),
        ("app.mountPoints.0.path", "/proc"),
        ("app.mountPoints.0.path", ""),
        ("app.mountPoints.0.readOnly", 1),
        ("app.ports.0.port", 65536),
        ("app.ports.0.port", 65535),
        ("app.ports.0.count", 0),
        ("app.ports.0.protocol", ""),
        ("app.isolators", [{"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_PONIES"]}}]),
        ("app.eventHandlers", [{"name": "on-start"}]),
        ("app.userLabels", {"a": 1}),
        ("dependencies.0.imageID", "sha512-..."),
        ("dependencies.0.size", -1),
        ("dependencies", {}),
        ("pathWhitelist", ["x"]),
        ("annotations", [{"name": "created", "value": "yesterday"}]),
        ("labels", [{"name": "name", "value": "x"}]),
    ],
)
def test_hostile_members_of_images(path: str, value: object) -> None:
    with pytest.raises(InvalidManifest) as caught:
        ImageManifest.parse(changed(FULL_IMAGE, path, value))
    place = path.replace(".0", "[0]").split("[")[0]
    assert any(place.split(".")[-1] in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("apps", None),
        ("apps.0.name", "../x"),
        ("apps.0.image", None),
        ("apps.0.image.id", "sha512-" + "a" * 64),
        ("apps.0.mounts.0.volume", "other"),
        ("apps.0.mounts.0.path", "/proc/self"),
        ("apps.0.app.user", None),
        ("volumes.0.kind", "tmpfs"),
        ("volumes.0.kind", []),
        ("apps.0.app.eventHandlers.0.name", {}),
        ("volumes.0.source", "/x"),
        ("volumes.0.mode", "0999"),
        ("volumes.0.mode", "77777"),
        ("volumes.0.uid", -1),
        ("ports.0.hostPort", 70000),
        ("ports.0.hostPort", True),
        ("ports.0.hostIP", "::1"),
        ("ports.0.hostIP", "127.1"),
        ("isolators", [{"name": "os/unix/sysctl", "value": {}}] * 2),
    ],
)
def test_hostile_members_of_pods(path: str, value: object) -> None:
    with pytest.raises(InvalidManifest):
        PodManifest.parse(changed(FULL_POD, path, value))


def test_names_in_a_pod_are_unique() -> None:
    twice = json.loads(json.dumps(FULL_POD))
    twice["apps"] *= 2
    twice["volumes"] *= 2
    with pytest.raises(InvalidManifest) as caught:
        PodManifest.parse(json.dumps(twice).encode())
    assert caught.value.problems == (
        'apps: the name "reduce-worker" occurs twice',
        'volumes: the name "work" occurs twice',
    )


def test_by_the_letter_the_annotations_of_pods_have_ac_names() -> None:
    data = changed(FULL_POD, "annotations", [{"name": "coreos.com/rkt/stage1/mutable", "value": "true"}])
    assert PodManifest.parse(data).annotations.get("coreos.com/rkt/stage1/mutable") == "true"
    with pytest.raises(InvalidManifest, match=r"annotations\[0\].name"):
        PodManifest.parse(data, by_the_letter=True)


def test_annotations_of_a_pod_override_those_of_the_image_in_place() -> None:
    image = ImageManifest.from_json(
        FULL_IMAGE | {"annotations": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}
    ).annotations
    pod = PodManifest.from_json(
        FULL_POD | {"annotations": [{"name": "c", "value": "3"}, {"name": "a", "value": "9"}]}
    ).annotations
    assert image.overridden(pod).as_dict() == {"a": "9", "b": "2", "c": "3"}


def test_the_kind_can_be_told_of_any_manifest() -> None:
    assert Kind.parse(json.dumps(FULL_POD).encode()).ac_kind == "PodManifest"
    with pytest.raises(InvalidManifest, match="bad ACKind"):
        Kind.parse(b'{"acKind": "AppManifest"}')


def test_a_broken_manifest_can_still_be_shown() -> None:
    broken = changed(json.loads(changed(FULL_POD, "apps.0.name", "A!")), "volumes", [{}])
    with pytest.raises(InvalidManifest):
        PodManifest.parse(broken)
    (app,) = lastditch.PodManifest.parse(broken).apps
    assert (app.name, app.image_name, app.image_id) == ("A!", "example.com/reduce-worker", ID)
    (app,) = lastditch.PodManifest.from_json({"acKind": "PodManifest", "apps": [None]}).apps
    assert (app.name, app.image_id, app.labels) == ("", "", ())
    image = lastditch.ImageManifest.from_json({"acKind": "ImageManifest", "labels": [None]})
    assert [label.name for label in image.labels] == [""]


def test_loading_the_manifests_needs_no_heavy_module() -> None:
    source = Path(__file__).resolve().parents[4] / "src"
    code = (
        "import sys; before = set(sys.modules); import appc.schema.image, appc.schema.pod; "
        "appc.schema.image.ImageManifest.parse(sys.stdin.buffer.read()); print(*set(sys.modules) - before)"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {code}"],
        input=json.dumps(FULL_IMAGE).encode(),
        capture_output=True,
        check=True,
    )
    heavy = {"json", "re", "typing", "dataclasses", "enum", "datetime", "urllib", "decimal", "inspect"}
    assert not heavy & set(result.stdout.decode().split())
