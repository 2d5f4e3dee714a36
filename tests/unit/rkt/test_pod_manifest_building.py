"""Pod manifests from command lines and from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appc.schema.image import ImageManifest
from appc.schema.pod import PodManifest
from appc.types.image_id import ImageID
from rkt.appargs import RUN, parse
from rkt.errors import RktError
from rkt.stage0.podmanifest import (
    Image,
    app_name,
    build_pod_manifest,
    check_pod_manifest,
    implicit_mounts,
)
from rkt.stage1.native import plan

APP: dict[str, Any] = {
    "exec": ["/bin/server", "--fast"],
    "user": "500",
    "group": "501",
    "environment": [{"name": "PATH", "value": "/bin"}, {"name": "FROM", "value": "image"}],
    "mountPoints": [{"name": "data", "path": "/data/", "readOnly": True}, {"name": "work", "path": "/work"}],
    "ports": [{"name": "www", "protocol": "tcp", "port": 80}],
    "isolators": [
        {"name": "resource/memory", "value": {"limit": "1G"}},
        {"name": "os/linux/capabilities-remove-set", "value": {"set": ["CAP_KILL"]}},
        {"name": "example.com/unknown", "value": 1},
    ],
}


def image(name: str = "example.com/web/server", app: dict[str, Any] | None = APP, digit: str = "a") -> Image:
    content: dict[str, Any] = {"acKind": "ImageManifest", "acVersion": "0.8.11", "name": name}
    if app is not None:
        content["app"] = app
    return Image(ImageID("sha512-" + digit * 128), ImageManifest.from_json(content))


def build(
    *words: str, images: list[Image] | None = None, inherited: dict[str, str] | None = None
) -> PodManifest:
    return build_pod_manifest(parse(RUN, words), images or [image()], inherited=inherited or {})


def refused(*words: str, images: list[Image] | None = None) -> RktError:
    with pytest.raises(RktError) as caught:
        build(*words, images=images)
    return caught.value


def test_an_image_alone_gives_its_app_under_the_last_part_of_its_name() -> None:
    (app,) = build("x").apps
    assert app.name == "server"
    assert app.image.name == "example.com/web/server"
    assert app.app is not None
    assert app.app.exec == ("/bin/server", "--fast")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("busybox", "busybox"), ("example.com/a_b..c", "a-b-c"), ("example.com/app-1.0", "app-1-0")],
)
def test_names_of_apps_are_valid(name: str, expected: str) -> None:
    assert app_name(name) == expected


def test_exec_replaces_the_program_and_arguments_are_appended() -> None:
    assert build("x", "--", "-v").apps[0].app.exec == ("/bin/server", "--fast", "-v")  # type: ignore[union-attr]
    assert build("x", "--exec=/sh", "--", "-c").apps[0].app.exec == ("/sh", "-c")  # type: ignore[union-attr]


def test_two_apps_of_one_name_need_names() -> None:
    images = [image(), image(digit="b")]
    assert "multiple apps with name server" in str(refused("x", "y", images=images))
    manifest = build("x", "y", "--name=other", images=images)
    assert [app.name for app in manifest.apps] == ["server", "other"]


def test_an_image_without_app_needs_exec() -> None:
    error = refused("x", images=[image(app=None)])
    assert "example.com/web/server has no app section and --exec argument is not provided" in str(error)
    app = build("x", "--exec=/sh", images=[image(app=None)]).apps[0].app
    assert app is not None
    assert (app.exec, app.user, app.group) == (("/sh",), "0", "0")


def test_an_image_without_a_program_needs_one() -> None:
    empty = image(app={"user": "0", "group": "0"})
    assert "has no program to run" in str(refused("x", images=[empty]))


def test_flags_override_the_app() -> None:
    words = ("--user=u", "--group=g", "--supplementary-gids=1,2", "--working-dir=/w", "--readonly-rootfs")
    runtime = build("x", *words, "--user-label=a b=c", "--annotation=example.com/x=y", "--stdin=stream").apps[
        0
    ]
    app = runtime.app
    assert app is not None
    assert (app.user, app.group, app.supplementary_gids, app.working_directory) == ("u", "g", (1, 2), "/w")
    assert runtime.read_only_root_fs
    assert app.user_labels == {"a b": "c"}
    assert runtime.annotations.as_dict() == {"example.com/x": "y", "coreos.com/rkt/stage2/stdin": "stream"}


def test_isolators_of_flags_take_the_place_of_the_images() -> None:
    app = build("x", "--memory=2M", "--caps-retain=CAP_CHOWN", "--cpu-shares=5").apps[0].app
    assert app is not None
    assert [isolator.name for isolator in app.isolators] == [
        "example.com/unknown",
        "resource/memory",
        "os/linux/capabilities-retain-set",
        "os/linux/cpu-shares",
    ]
    memory = app.isolators.get("resource/memory")
    assert memory is not None
    assert memory.value == {"request": "2M", "limit": "2M"}


# --- environment ---


def variables(*words: str, inherited: dict[str, str] | None = None) -> dict[str, str]:
    app = build(*words, inherited=inherited).apps[0].app
    assert app is not None
    return app.environment.as_dict()


def test_environment_of_each_source_beats_those_before_it(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n; another\n\n FROM=file \nONLY_FILE=a=b\n")
    host = {"FROM": "host", "ONLY_HOST": "h", "BASH_FUNC_x%%": "() {}", "LATIN": "\udce9"}
    flags = ["x", f"--set-env-file={file}"]
    assert variables("x", inherited=host)["FROM"] == "image"
    assert "ONLY_HOST" not in variables("x", inherited=host)
    everything = variables("--inherit-env", *flags, inherited=host)
    assert everything == {"PATH": "/bin", "FROM": "file", "ONLY_HOST": "h", "ONLY_FILE": "a=b"}
    assert variables(*flags, "--set-env=FROM=set")["FROM"] == "set"
    assert variables(*flags, "--set-env=FROM=set", "--environment=FROM=app")["FROM"] == "app"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\nB", "line 2: this is not NAME=VALUE"),
        (b"1A=1", "line 1: what is before the = cannot be a variable's name"),
        (b"A=1\nA=2", 'line 2: environment variable "A" already set'),
        (b"A=\xff", "line 1: the value is not UTF-8"),
        (b"A=\0", "line 1: the value of A holds a NUL"),
        (b"#" * (1 << 20) + b"\n", "is larger than"),
    ],
)
def test_bad_files_of_variables(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(content)
    assert message in str(refused("x", f"--set-env-file={file}"))
    assert "cannot read" in str(refused("x", f"--set-env-file={file}.absent"))


# --- volumes ---


def test_mount_points_without_a_volume_get_an_empty_one() -> None:
    options = parse(RUN, ["--volume=data,kind=host,source=/srv", "x"])
    manifest = build_pod_manifest(options, [image()])
    assert [str(volume) for volume in manifest.volumes] == [
        "data,kind=host,source=/srv",
        "server-work,kind=empty",
    ]
    assert [(mount.volume, mount.path) for mount in manifest.apps[0].mounts] == [
        ("data", "/data/"),
        ("server-work", "/work"),
    ]
    assert implicit_mounts(manifest, options) == [("server", "/work")]


def test_implicit_names_do_not_collide() -> None:
    manifest = build("--volume=server-work,kind=empty", "x")
    assert "server-work-2" in [volume.name for volume in manifest.volumes]


def test_a_mount_takes_the_mount_points_place_by_path() -> None:
    manifest = build("--volume=v,kind=empty", "x", "--mount=volume=v,target=/./work")
    assert [(mount.volume, mount.path) for mount in manifest.apps[0].mounts] == [
        ("v", "/./work"),
        ("server-data", "/data/"),
    ]


def test_the_mount_of_the_app_beats_that_of_the_pod() -> None:
    volumes = ("--volume=one,kind=empty", "--volume=two,kind=empty")
    manifest = build(*volumes, "--mount=volume=one,target=/m", "x", "--mount=volume=two,target=/m/")
    assert [mount.volume for mount in manifest.apps[0].mounts if mount.path.startswith("/m")] == ["two"]


@pytest.mark.parametrize("second", ["/m", "/m/", "/./x/../m"])
def test_two_mounts_at_one_path_are_refused(second: str) -> None:
    volumes = ("--volume=one,kind=empty", "--volume=two,kind=empty")
    mounts = ("--mount=volume=one,target=/m", f"--mount=volume=two,target={second}")
    told = 'the volumes "one" and "two" are both to be mounted at /m'
    assert str(refused(*volumes, "x", *mounts)) == f"app server: {told}"
    assert str(refused(*volumes, *mounts, "x")) == f"all apps: {told}"
    value = build(*volumes, "x", mounts[0]).to_json()
    assert isinstance(value["apps"], list)
    value["apps"][0]["mounts"].append({"volume": "two", "path": second})
    with pytest.raises(RktError, match=f"app server: {told}"):
        check_pod_manifest(json.dumps(value).encode(), lambda _: image())


def _mounts(manifest: PodManifest) -> list[tuple[str, bool]]:
    volumes = {str(volume.name): plan.volume_plan("/pod", volume) for volume in manifest.volumes}
    (app,) = manifest.apps
    assert app.app is not None
    return [(mount.path, mount.read_only) for mount in plan.mounts(app, app.app, volumes, "/pod")]


@pytest.mark.parametrize(
    ("flag", "expected"), [("", True), (",readOnly=false", False), (",readOnly=true", True)]
)
def test_the_volume_decides_about_read_only_before_the_mount_point(flag: str, expected: bool) -> None:
    manifest = build(f"--volume=data,kind=host,source=/srv{flag}", "x")
    assert _mounts(manifest) == [("/data", expected), ("/work", False)]


def test_outer_mounts_come_first() -> None:
    flags = ["--volume=v,kind=empty"] + [f"--mount=volume=v,target={path}" for path in ("/a/b", "/a-b", "/a")]
    manifest = build(*flags, "x", images=[image(app={"exec": ["/x"], "user": "0", "group": "0"})])
    assert [path for path, _ in _mounts(manifest)] == ["/a", "/a/b", "/a-b"]


# --- amounts ---


@pytest.mark.parametrize("name", ["memory", "cpu", "block-bandwidth"])
def test_a_limit_that_no_kernel_can_hold_is_refused(name: str) -> None:
    def of(limit: str) -> list[Image]:
        value = {"limit": limit} | ({"default": True} if name == "block-bandwidth" else {})
        return [image(app=APP | {"isolators": [{"name": f"resource/{name}", "value": value}]})]

    build("x", images=of("9223372036854775807"))
    error = refused("x", images=of("9223372036854775808"))
    assert str(error).startswith(f"app server: resource/{name}: the limit 9223372036854775808 is more than ")
    assert "is more than 9223372036854775807" in str(refused("x", images=of("1e30")))


def test_a_memory_limit_of_the_command_line_is_checked_too() -> None:
    assert "resource/memory: the limit 16E is more" in str(refused("x", "--memory=16E"))


# --- ports ---


def test_ports_are_resolved_to_the_apps_port() -> None:
    (port,) = build("--port=www:127.0.0.1:8080", "x").ports
    assert port.pod_port is not None
    assert (port.host_ip, port.host_port, port.pod_port.port) == ("127.0.0.1", 8080, 80)


def test_a_number_stands_for_a_port_that_the_image_does_not_name() -> None:
    (port,) = build("--port=53-udp:5353", "x").ports
    assert port.pod_port is not None
    assert (port.pod_port.protocol, port.pod_port.port) == ("udp", 53)


def test_unknown_and_ambiguous_ports() -> None:
    error = refused("--port=web:80", "x")
    assert 'no app has a port "web"' in str(error)
    assert "www" in str(error.hint)
    images = [image(), image(digit="b")]
    assert "is ambiguous" in str(refused("--port=www:80", "x", "y", "--name=z", images=images))


def test_two_mappings_may_not_want_one_port_of_the_host() -> None:
    assert "want the same tcp port 80" in str(refused("--port=www:80", "--port=81:127.0.0.1:80", "x"))
    assert len(build("--port=53-udp:53", "--port=53-tcp:53", "x").ports) == 2
    assert len(build("--port=www:127.0.0.1:80", "--port=www:127.0.0.2:80", "x").ports) == 2


# --- pod manifests from files ---


def pod(**changes: object) -> dict[str, Any]:
    app = {"name": "web", "image": {"id": "sha512-" + "a" * 64}}
    return {"acKind": "PodManifest", "acVersion": "0.8.11", "apps": [app], **changes}


def find(image_id: str) -> Image:
    assert image_id.startswith("sha512-")
    return image()


def check(content: object) -> PodManifest:
    return check_pod_manifest(json.dumps(content).encode(), find)


def test_a_pod_manifest_is_completed_from_its_images() -> None:
    manifest = check(pod(acVersion="1.30.0", ports=[{"name": "www", "hostPort": 8080}]))
    (app,) = manifest.apps
    assert app.image.id == "sha512-" + "a" * 128
    assert app.image.name == "example.com/web/server"
    assert app.app is not None
    assert app.app.exec == ("/bin/server", "--fast")
    assert [mount.volume for mount in app.mounts] == ["web-data", "web-work"]
    assert manifest.ac_version == "0.8.11"
    assert manifest.ports[0].pod_port is not None
    assert PodManifest.parse(manifest.encode()) == manifest


def test_the_app_of_a_pod_manifest_replaces_the_images_as_a_whole() -> None:
    section = {"exec": ["/other"], "user": "0", "group": "0"}
    content = pod(apps=[{"name": "web", "image": {"id": "sha512-" + "a" * 128}, "app": section}])
    app = check(content).apps[0]
    assert app.app is not None
    assert app.app.mount_points == ()
    assert app.mounts == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pod(apps=[]), "the pod manifest has no apps"),
        (pod(apps=[{"name": "a", "image": {"name": "x"}}]), "apps[0].image.id: is required"),
        (pod(acKind="ImageManifest"), "bad ACKind"),
        (pod(apps=pod()["apps"] * 2), 'apps: the name "web" occurs twice'),
        (pod(ports=[{"name": "www", "hostPort": 0}]), "has no port of the host"),
        (pod(ports=[{"name": "web", "hostPort": 1}]), 'no app has a port "web"'),
        (pod(volumes=[{"name": "v", "kind": "disk"}]), "volumes[0].kind"),
        (
            pod(apps=[{"name": "web", "image": {"id": "sha512-aa", "name": "example.com/x"}}]),
            "is called example.com/web/server, not example.com/x",
        ),
        ("x", "is not an object"),
    ],
)
def test_bad_pod_manifests(content: object, message: str) -> None:
    with pytest.raises(RktError) as caught:
        check(content)
    assert message in str(caught.value)


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(RktError, match="invalid pod manifest: line 1"):
        check_pod_manifest(b"{", find)


def test_an_image_without_app_in_a_pod_manifest_without_app() -> None:
    content = json.dumps(pod()).encode()
    with pytest.raises(RktError, match="no app section in the pod manifest or the image manifest"):
        check_pod_manifest(content, lambda _: image(app=None))
