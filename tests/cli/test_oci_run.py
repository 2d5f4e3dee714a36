"""Images of layers through the commands: run, stored once, checked, collected, written out again."""

from __future__ import annotations

import json
import os
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures import tars
from fixtures.layouts import add, base, digest_of

if TYPE_CHECKING:
    from conftest import Rkt
    from fixtures.layouts import MakeLayout

D, F, L, H = tars.directory, tars.file, tars.symlink, tars.hard_link
ANY = "--insecure-options=image"
pytestmark = [pytest.mark.usefixtures("root"), pytest.mark.needs("namespaces", "overlay")]


def said(rkt: Rkt, *words: str | Path, code: int = 0) -> list[str]:
    """What an app of a new pod printed, without the prefixes of its lines."""
    done = rkt("run", "--net=none", *words, code=code)
    return [line.partition("]: ")[2] for line in done.stdout.splitlines()]


def names(rkt: Rkt, directory: str) -> list[str]:
    place = rkt.directory / "data/cas" / directory
    return sorted(os.listdir(place)) if place.exists() else []


def test_who_vouches(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    image = make_layout(base(busybox), Cmd=["/bin/echo", "hello"])
    refused = rkt("run", image, code=254).stderr
    assert "nobody vouches for the image" in refused
    assert "--insecure-options=image" in refused
    assert names(rkt, "blob/sha512") == []

    warned = rkt(ANY, "fetch", image)
    assert "image signature verification has been disabled" in warned.stderr
    pinned = image.rpartition(":")[0] + "@" + digest_of(image)
    silent = rkt("fetch", pinned)
    assert silent.stderr == ""
    assert said(rkt, pinned) == ["hello"]
    wrong = pinned[:-4] + ("0000" if not pinned.endswith("0000") else "1111")
    assert "no image" in rkt("fetch", wrong, code=254).stderr


def test_arguments_replace_cmd_and_keep_the_entrypoint(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path
) -> None:
    image = make_layout(base(busybox), Entrypoint=["/bin/echo", "to"], Cmd=["all", "of you"])
    rkt(ANY, "fetch", image)
    assert said(rkt, "layout") == ["to all of you"]
    assert said(rkt, "layout", "--", "me") == ["to me"]
    assert said(rkt, "layout", "--exec=/bin/echo", "--", "just", "this") == ["just this"]
    assert said(rkt, "layout", "--exec=/bin/id", "--user=33", "--group=34") == ["uid=33(www) gid=34"]

    only_cmd = make_layout(base(busybox), tag="cmd", Cmd=["/bin/echo", "all"])
    assert said(rkt, ANY, only_cmd, "--", "/bin/echo", "other") == ["other"]
    manifest = json.loads(rkt("image", "cat-manifest", "layout:v1").stdout)
    annotations = {one["name"]: one["value"] for one in manifest["annotations"]}
    assert annotations["appc.io/docker/entrypoint"] == '["/bin/echo","to"]'
    assert annotations["appc.io/docker/cmd"] == '["all","of you"]'


CHANGES = [
    [
        D(b"opt"), F(b"opt/gone", b"1"), F(b"opt/stays", b"1"), D(b"hidden"), F(b"hidden/old", b"1"),
        D(b"srv", uid=33, gid=34), F(b"srv/seed", b"seed", uid=33, gid=34), D(b"was"), F(b"was/x"),
    ],
    [
        D(b"opt"), F(b"opt/.wh.gone"), D(b"hidden"), F(b"hidden/.wh..wh..opq"), F(b"hidden/new", b"2"),
        F(b".wh.was"), F(b"was", b"a file now"), D(b".", 0o751),
    ],
]  # fmt: skip
SHOWN = ["/opt", "/opt/stays", "/hidden", "/hidden/new", "/was"]


@pytest.mark.parametrize(
    "flags",
    [(), ("--private-users=false",), ("--stage1-name=fly",), ("--no-overlay",)],
    ids=["users", "host-users", "fly", "no-overlay"],
)
def test_whiteouts_and_opaque_directories(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, flags: tuple[str, ...]
) -> None:
    image = make_layout(base(busybox), *CHANGES)
    script = "find /opt /hidden /was; ls -ld / | cut -c1-10; cat /was; echo; rm /opt/stays && ls /opt"
    done = rkt(ANY, "run", "--net=none", *flags, image, "--exec=/bin/sh", "--", "-c", script)
    got = [line.partition("]: ")[2] or line for line in done.stdout.splitlines()]
    assert sorted(got) == sorted([*SHOWN, "drwxr-x--x", "a file now"])
    # What a pod changes is its own.
    assert "stays" in " ".join(said(rkt, "layout", "--exec=/bin/ls", "--", "/opt"))


def test_user_environment_directory_and_volumes(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, tmp_path: Path
) -> None:
    script = "id; pwd; echo $A; ls -n /srv | tail -1 | cut -c1-30; echo x > /srv/new && cat /srv/new"
    image = make_layout(
        base(busybox), CHANGES[0], Cmd=["/bin/sh", "-c", script], User="www", WorkingDir="/opt",
        Env=["A=b c", "PATH=/bin", "1bad=x"], Volumes={"/srv": {}}, ExposedPorts={"80/tcp": {}},
        Labels={"team": "x"}, StopSignal="SIGINT",
    )  # fmt: skip
    done = rkt(ANY, "run", "--net=none", image)
    got = [line.partition("]: ")[2] for line in done.stdout.splitlines()]
    # The primary group is the one in the image's passwd, and the volume begins with the image's files.
    assert got[:3] == ["uid=33(www) gid=34", "/opt", "b c"]
    assert " 33 " in got[3]
    assert got[4] == "x"
    assert "1bad" in done.stderr
    assert "no volume for /srv" in done.stderr

    manifest = json.loads(rkt("image", "cat-manifest", "layout").stdout)
    assert manifest["app"]["ports"][0]["port"] == 80
    assert manifest["app"]["userLabels"] == {"team": "x"}
    shown = json.loads(rkt("image", "inspect", "--format=json", "layout").stdout)
    assert shown["stop_signal"] == "SIGINT"
    assert shown["volumes"] == {"volume-srv": "/srv"}

    rkt("image", "convert", "layout", tmp_path / "out.aci")
    rkt("image", "convert", tmp_path / "out.aci", f"oci:{tmp_path}/back:v1")
    rkt(ANY, "fetch", f"oci:{tmp_path}/back:v1")
    back = json.loads(rkt("image", "inspect", "--format=json", "back").stdout)
    assert (back["stop_signal"], back["volumes"]) == ("SIGINT", {"volume-srv": "/srv"})


def test_groups_of_the_images_user(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    """Those that the image's own /etc/group lists the user in, as under Docker: the topmost file counts."""
    lower = F(b"etc/group", b"adm:x:4:www,root\n")
    upper = F(b"etc/group", b"adm:x:4:www\ntape:x:26:www\nwheel:x:10:root\n")

    def groups(tag: str, *words: str, user: str) -> str:
        image = make_layout(base(busybox), [lower], [upper], tag=tag, Cmd=["/bin/id", "-G"], User=user)
        done = rkt(ANY, "run", "--net=none", image, *words)
        return done.stdout.strip().partition("]: ")[2]

    assert groups("name", user="www") == "34 4 26"
    assert groups("number", user="33") == "34 4 26"
    assert groups("root", user="") == "0 10"
    assert groups("given", user="www:tape") == "26"
    # Who runs it as somebody else gets none of the groups of the image's own user.
    assert groups("other", "--user=5", "--group=6", user="") == "6"
    assert groups("chosen", "--supplementary-gids=7", user="www") == "34 7"


@pytest.mark.parametrize(
    ("word", "number", "flags"),
    [
        ("SIGINT", 2, ()),
        ("SIGRTMIN+3", 37, ("--stage1-name=fly",)),
        ("quit", 3, ("--private-users=false",)),
        ("12", 12, ("--stage1-name=fly",)),
        ("SIGNONE", 15, ()),
    ],
)
def test_stop_signal(
    rkt: Rkt,
    make_layout: MakeLayout,
    busybox: Path,
    tmp_path: Path,
    word: str,
    number: int,
    flags: tuple[str],
) -> None:
    """STOPSIGNAL asks the app to end, in every flavour; for what is none SIGTERM does, and that is told."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    others = " ".join(str(one) for one in (2, 3, 12, 15, 37) if one != number)
    loop = "echo > /shared/up; while :; do sleep 0.05; done"
    script = f"trap 'exit 7' {number}; trap 'exit 8' {others}; {loop}"
    files = [*base(busybox), L(b"bin/sleep", b"busybox")]
    image = make_layout(files, StopSignal=word, Cmd=["/bin/sh", "-c", script])
    volume = f"--volume=shared,kind=host,source={shared}"
    mount = "--mount=volume=shared,target=/shared"
    started = rkt(ANY, "run", "--detach", "--net=none", *flags, volume, image, mount)
    assert ("stop signal" in started.stderr) is (word == "SIGNONE")
    uuid = started.stdout.strip()
    try:
        end = time.monotonic() + 10
        while not (shared / "up").exists():
            assert time.monotonic() < end, "the app does not come up"
            time.sleep(0.02)
        rkt("stop", uuid)
    finally:
        rkt("stop", "--force", uuid, code=None)
    assert "app-layout=7" in rkt("status", uuid).stdout


def test_layers_are_stored_and_unpacked_once(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    common = base(busybox)
    one = make_layout(common, [F(b"one", b"1")], tag="one")
    two = make_layout(common, [F(b"two", b"2")], tag="two")
    first = rkt(ANY, "fetch", "--full", one).stdout
    inode = (rkt.directory / "data/cas/layer").stat().st_ino
    before = {name: (rkt.directory / "data/cas/layer" / name).stat().st_ino for name in names(rkt, "layer")}
    rkt(ANY, "fetch", two)
    assert rkt(ANY, "fetch", "--full", one).stdout == first  # the same image, the same ID
    assert len(names(rkt, "layer")) == 3
    assert len(names(rkt, "oci/sha256")) == 3 + 2 + 2  # layers, configurations, manifests
    for name, number in before.items():
        assert (rkt.directory / "data/cas/layer" / name).stat().st_ino == number
    assert (rkt.directory / "data/cas/layer").stat().st_ino == inode
    assert len(names(rkt, "tree")) == 2
    assert sorted(rkt("image", "list", "--no-legend", "--fields=name").stdout.split()) == [
        *("layout:one", "layout:two"),
    ]
    assert "(in 2 images)" in rkt("image", "tree", "layout:one").stdout

    # What one image alone has goes with it; what a pod uses stays until it is gone.
    said(rkt, "layout:two", "--exec=/bin/ls")
    rkt("image", "rm", "layout:one")
    rkt("image", "rm", "layout:two")
    rkt("image", "gc", "--grace-period=0s")
    assert len(names(rkt, "layer")) == 2
    assert names(rkt, "oci/sha256") == []
    rkt("gc", "--grace-period=0s")
    rkt("image", "gc", "--grace-period=0s")
    for directory in ("layer", "tree", "oci/sha256", "oci/partial", "tmp"):
        assert names(rkt, directory) == []


def test_a_hard_link_into_a_lower_layer_and_a_directory_that_nobody_describes(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path
) -> None:
    """No overlay shows these as they are: they are flattened, and look the same to the app."""
    linked = make_layout(base(busybox), [H(b"bin/busybox-2", b"bin/busybox")], tag="linked")
    assert said(rkt, ANY, linked, "--exec=/bin/busybox-2", "--", "echo", "ran") == ["ran"]
    implied = make_layout(base(busybox), [D(b"d", 0o700)], [F(b"d/f")], tag="implied")
    assert said(rkt, ANY, implied, "--exec=/bin/ls", "--", "-ld", "/d")[0].startswith("drwx------")
    assert rkt("image", "verify", "layout:linked", "layout:implied").stdout.count("successfully") == 2


def test_verify_and_fsck_tell_what_was_changed(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    image = make_layout(base(busybox), *CHANGES)
    rkt(ANY, "fetch", image)
    rkt("image", "verify", "layout")
    assert "0 problem(s)" in rkt("image", "fsck").stdout
    layers = rkt.directory / "data/cas/layer"
    (hidden,) = layers.glob("*/rootfs/hidden/new")

    os.removexattr(hidden.parent, "trusted.overlay.opaque")
    assert "opaque" in rkt("image", "verify", "layout", code=254).stderr
    os.setxattr(hidden.parent, "trusted.overlay.opaque", b"y")
    rkt("image", "verify", "layout")
    hidden.write_text("changed")
    assert "wrong tree hash" in rkt("image", "verify", "layout", code=254).stderr
    assert "1 problem(s)" in rkt("image", "fsck", code=254).stdout
    rkt("image", "fsck", "--repair", code=254)
    assert said(rkt, "layout", "--exec=/bin/cat", "--", "/hidden/new") == ["2"]

    blob = max((rkt.directory / "data/cas/oci/sha256").iterdir(), key=lambda path: path.stat().st_size)
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    blob.write_bytes(damaged)
    told = rkt("image", "fsck", "--repair", code=254).stdout
    assert blob.name in told
    assert not blob.exists()
    rkt(ANY, "fetch", image)
    assert "0 problem(s)" in rkt("image", "fsck").stdout
    # The index is made anew from the records.
    (rkt.directory / "data/cas/db/rkt.db").unlink()
    assert said(rkt, "layout", "--exec=/bin/cat", "--", "/hidden/new") == ["2"]


def test_export_extract_render_and_an_aci_that_depends_on_it(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, tmp_path: Path, checkout: Path
) -> None:
    import subprocess

    image = make_layout(base(busybox), *CHANGES)
    rkt(ANY, "fetch", image)
    for name in ("one.aci", "two.aci"):
        rkt("image", "export", "layout", tmp_path / name)
    assert (tmp_path / "one.aci").read_bytes() == (tmp_path / "two.aci").read_bytes()
    subprocess.run([checkout / "bin/actool", "validate", tmp_path / "one.aci"], check=True)
    with tarfile.open(tmp_path / "one.aci") as archive:
        members = archive.getnames()
    assert "rootfs/hidden/new" in members
    assert not {"rootfs/hidden/old", "rootfs/opt/gone", "rootfs/opt/.wh.gone"} & set(members)
    for verb in ("extract", "render"):
        rkt("image", verb, "layout", tmp_path / verb)
        assert (tmp_path / verb / "rootfs/was").read_text() == "a file now"
        assert not (tmp_path / verb / "rootfs/opt/gone").exists()
        assert (tmp_path / verb / "manifest").exists()

    aci = tmp_path / "upper.aci"
    manifest = tars.manifest(
        dependencies=[{"imageName": "layout"}],
        app={"exec": ["/bin/cat", "/was", "/mine"], "user": "0", "group": "0"},
    )
    aci.write_bytes(tars.image(F(b"rootfs/mine", b" and mine"), manifest_bytes=manifest))
    assert said(rkt, ANY, aci, "--pull-policy=new") == ["a file now and mine"]

    rkt("image", "convert", "layout", f"oci:{tmp_path}/back:v1")
    assert digest_of(f"oci:{tmp_path}/back:v1") == digest_of(image)
    rkt("image", "convert", "layout", f"docker-archive:{tmp_path}/back.tar:a/b:1")
    assert (
        "output file exists"
        in rkt("image", "convert", "layout", f"docker-archive:{tmp_path}/back.tar:a/b:1", code=254).stderr
    )
    assert said(rkt, ANY, f"docker-archive:{tmp_path}/back.tar", "--exec=/bin/cat", "--", "/was") == [
        "a file now"
    ]
    rkt("image", "convert", f"docker-archive:{tmp_path}/back.tar", tmp_path / "again.aci")
    subprocess.run([checkout / "bin/actool", "validate", tmp_path / "again.aci"], check=True)
    rkt("image", "convert", tmp_path / "again.aci", f"oci-archive:{tmp_path}/again.tar:v2")
    assert said(rkt, ANY, f"oci-archive:{tmp_path}/again.tar", "--exec=/bin/cat", "--", "/was") == [
        "a file now"
    ]
    assert "no format" in rkt("image", "convert", "layout", "x.zip", code=254).stderr


def test_a_pod_is_exported_with_its_layers(
    rkt: Rkt, make_layout: MakeLayout, busybox: Path, tmp_path: Path
) -> None:
    image = make_layout(base(busybox), *CHANGES)
    rkt(ANY, "run", "--net=none", f"--uuid-file-save={tmp_path}/uuid", image, "--exec=/bin/sh", "--", "-c",
        "echo mine > /opt/mine; rm /was")  # fmt: skip
    rkt("export", (tmp_path / "uuid").read_text(), tmp_path / "pod.aci")
    with tarfile.open(tmp_path / "pod.aci") as archive:
        members = set(archive.getnames())
    assert {"rootfs/opt/mine", "rootfs/opt/stays", "rootfs/bin/busybox"} <= members
    assert not {"rootfs/was", "rootfs/opt/gone", "rootfs/hidden/old"} & members


def test_history_and_tag(rkt: Rkt, make_layout: MakeLayout, busybox: Path) -> None:
    image = make_layout(base(busybox), [F(b"x", b"1")], Cmd=["/bin/echo", "tagged"])
    rkt(ANY, "fetch", image)
    rows = json.loads(rkt("image", "history", "--format=json", "layout").stdout)
    assert len(rows) == 2
    assert all(row["size"] > 0 for row in rows)
    rkt("image", "tag", "layout", "docker://example.com:5000/team/app:2")
    assert said(rkt, "docker://example.com:5000/team/app:2") == ["tagged"]
    assert said(rkt, "example.com_5000/team/app:2") == ["tagged"]
    assert (
        "docker://example.com:5000/team/app:3"
        in rkt("run", "--pull-policy=never", "docker://example.com:5000/team/app:3", code=254).stderr
    )
    assert len(names(rkt, "layer")) == 2
    assert rkt("image", "inspect", "--format={reference}", "docker://example.com:5000/team/app:2").stdout == (
        "example.com:5000/team/app:2\n"
    )


def test_an_image_for_another_machine_is_refused(rkt: Rkt, tmp_path: Path, busybox: Path) -> None:
    add(tmp_path / "layout", "v1", [b"".join(base(busybox)) + tars.END], {}, [])
    index = json.loads((tmp_path / "layout/index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    blobs = tmp_path / "layout/blobs/sha256"
    manifest = json.loads((blobs / digest).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    config["architecture"] = "s390x"
    import hashlib

    def put(value: object) -> tuple[str, int]:
        data = json.dumps(value).encode()
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return f"sha256:{name}", len(data)

    manifest["config"]["digest"], manifest["config"]["size"] = put(config)
    index["manifests"][0]["digest"], index["manifests"][0]["size"] = put(manifest)
    del index["manifests"][0]["platform"]
    (tmp_path / "layout/index.json").write_text(json.dumps(index))
    assert "arch" in rkt(ANY, "fetch", f"oci:{tmp_path}/layout", code=254).stderr
    assert names(rkt, "blob/sha512") == []
