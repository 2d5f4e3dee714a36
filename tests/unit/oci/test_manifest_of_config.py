"""Docker's configurations as image manifests: what docker2aci's order, names and times are."""

from __future__ import annotations

import json

import pytest

from appc.schema.image import ImageManifest
from oci.convert.to_manifest import Ids, Origin, manifest
from oci.types.config import ImageConfig


def converted(notes: list[str] | None = None, *, process: object = None, **members: object) -> ImageManifest:
    value = {"architecture": "amd64", "os": "linux", "config": process or {}, **members}
    config = ImageConfig.parse(json.dumps(value).encode(), "test")
    return manifest(config, Origin("a/b", "1"), Ids(), [] if notes is None else notes)


def test_volumes_and_ports_are_sorted_by_their_names() -> None:
    app = converted(
        process={
            "Volumes": {"/a": {}, "/a-c": {}, "/a/b": {}},
            "ExposedPorts": {"80/tcp": {}, "8/tcp": {}, "80": {}, "443/tcp": {}},
        }
    ).app
    assert app is not None
    assert [(point.name, point.path) for point in app.mount_points] == [
        ("volume-a", "/a"),
        ("volume-a-b", "/a/b"),
        ("volume-a-c", "/a-c"),
    ]
    assert [port.name for port in app.ports] == ["443-tcp", "8-tcp", "80", "80-tcp"]


def test_two_ports_of_one_name_are_one() -> None:
    notes: list[str] = []
    app = converted(notes, process={"ExposedPorts": {"80/tcp": {}, "80/TCP": {}}}).app
    assert app is not None
    assert [port.name for port in app.ports] == ["80-tcp"]
    assert notes == ['port "80/tcp": left out: there is one named 80-tcp already']


def test_many_volumes_of_one_name_take_no_time() -> None:
    """Linear: each was once tried with every number that the ones before it had taken."""
    import itertools

    names = ("".join(name) for name in itertools.product("_.-+", repeat=7))
    app = converted(process={"Volumes": {f"/{name}x": {} for name in names}}).app
    assert app is not None
    assert len({point.name for point in app.mount_points}) == len(app.mount_points) == 4**7


@pytest.mark.parametrize(
    ("created", "oldest", "wanted"),
    [
        ("2016-06-02T21:43:31.291506236Z", False, "2016-06-02T21:43:31.291506236Z"),
        ("2016-06-02T21:43:31.291506236Z", True, "2016-06-02T21:43:31Z"),
        ("2016-06-02T21:43:31.5+02:00", True, "2016-06-02T21:43:31+02:00"),
        ("1970-01-01T00:00:00Z", False, "1970-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00Z", True, None),
        ("0001-01-01T00:00:00Z", False, None),
        ("yesterday", True, None),
    ],
)
def test_the_oldest_format_has_whole_seconds(created: str, oldest: bool, wanted: str | None) -> None:
    found = converted(created=created, id="0" * 64 if oldest else "")
    assert found.annotations.as_dict().get("created") == wanted
