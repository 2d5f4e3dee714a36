"""Mutated manifests and random bytes: read and written back the same, or refused with reasons, never else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appc import app_string, jsonfield
from appc.errors import InvalidManifest
from appc.schema.image import ImageManifest
from appc.schema.pod import PodManifest
from appc.types.mounts import MountPoint
from appc.types.ports import Port
from appc.types.volumes import Volume

ID = "sha512-" + "a" * 128
APP: dict[str, Any] = {
    "exec": ["/a", "b"],
    "eventHandlers": [{"name": "pre-start", "exec": ["/pre"]}],
    "user": "0",
    "group": "root",
    "supplementaryGIDs": [1],
    "workingDirectory": "/",
    "environment": [{"name": "A", "value": "x"}],
    "mountPoints": [{"name": "m", "path": "/m", "readOnly": True}],
    "ports": [{"name": "p", "protocol": "tcp", "port": 1, "count": 2, "socketActivated": False}],
    "isolators": [
        {"name": "resource/cpu", "value": {"limit": "1", "request": 1}},
        {"name": "os/linux/seccomp-retain-set", "value": {"set": ["read"], "errno": "EPERM"}},
        {"name": "os/unix/sysctl", "value": {"a": "b"}},
        {"name": "x", "value": [{}]},
    ],
    "userLabels": {"a": "b"},
}
IMAGE: dict[str, Any] = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/a",
    "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
    "app": APP,
    "dependencies": [{"imageName": "b", "imageID": ID, "labels": [], "size": 1}],
    "pathWhitelist": ["/a"],
    "annotations": [{"name": "created", "value": "2014-10-27T19:32:27.67Z"}],
}
POD: dict[str, Any] = {
    "acVersion": "0.8.11",
    "acKind": "PodManifest",
    "apps": [{"name": "a", "image": {"id": ID}, "app": APP, "mounts": [{"volume": "v", "path": "/m"}]}],
    "volumes": [{"name": "v", "kind": "empty", "mode": "0755", "uid": 0, "gid": 0}],
    "ports": [{"name": "p", "hostPort": 1, "hostIP": "1.2.3.4"}],
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["/", "/proc", "..", "a--b", "\0", "\ud800", "-1", "1Gi", "host", "é", "4294967295"]),
)
values = st.recursive(
    scalars, lambda item: st.lists(item, max_size=3) | st.dictionaries(st.text(max_size=4), item, max_size=3)
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found: list[tuple[Any, Any]] = []
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found += [(value, key), *places(value[key])]
    return found


@st.composite
def mutated(draw: st.DrawFn, content: dict[str, Any]) -> bytes:
    copy = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(places(copy)))
        change = draw(st.sampled_from(["replace", "remove", "add", "rename"]))
        if change == "replace" or (isinstance(container, list) and change == "rename"):
            container[key] = draw(values)
        elif change == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(draw(values))
        elif change == "add":
            container[draw(st.text(max_size=6))] = draw(values)
        else:
            container[key.upper()] = container.pop(key)
    return json.dumps(copy).encode("utf-8", "surrogatepass")


def survives(kind: type[ImageManifest | PodManifest], data: bytes) -> None:
    refusal = None
    try:
        manifest = kind.parse(data)
    except InvalidManifest as error:
        refusal = error
    if refusal is not None:
        assert refusal.problems
        assert "\n" not in str(refusal)
        return
    again = kind.parse(manifest.encode())
    assert again == manifest
    assert again.encode() == manifest.encode()


@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
@given(mutated(IMAGE))
def test_images(data: bytes) -> None:
    survives(ImageManifest, data)


@settings(max_examples=400, suppress_health_check=list(HealthCheck), deadline=None)
@given(mutated(POD))
def test_pods(data: bytes) -> None:
    survives(PodManifest, data)


@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0d8-+1e. \n\ttrufalsn', max_size=40).map(str.encode)
)
def test_any_bytes_are_read_as_json_reads_them_or_refused(data: bytes) -> None:
    try:
        value = jsonfield.parse(data)
    except ValueError:
        return
    assert value == json.loads(data)
    assert jsonfield.parse(jsonfield.encode(value)) == value


@given(st.text(alphabet="ab=,:/1 pathkindsourcemptyhro\0é", max_size=30))
def test_string_forms(text: str) -> None:
    for read in (app_string.parse, Volume.from_string, MountPoint.from_string, Port.from_string):
        try:
            found = read(text)
        except ValueError:
            continue
        if isinstance(found, Volume):
            assert Volume.from_string(str(found)) == found


@pytest.mark.campaign
@settings(max_examples=50_000, suppress_health_check=list(HealthCheck), deadline=None)
@given(mutated(IMAGE), mutated(POD))
def test_many_more(image: bytes, pod: bytes) -> None:
    survives(ImageManifest, image)
    survives(PodManifest, pod)
