"""acbuild as a process: builds, what they leave, what they refuse."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appc.aci import reader, tar
from appc.aci.compression import inflate

if TYPE_CHECKING:
    from conftest import SigningKey
    from fixtures.acbuild import Acbuild

GZIP = b"\x1f\x8b"


def entries(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {entry.name.decode(): entry for entry in tar.TarReader(inflate(file))}


def manifest_in(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return json.loads(reader.read_manifest(file))  # type: ignore[no-any-return]


def begun(acbuild: Acbuild) -> None:
    acbuild("begin")
    acbuild("--no-history", "set-name", "example.com/app")


def test_a_build_from_nothing_to_an_image(acbuild: Acbuild) -> None:
    (acbuild.directory / "hello").write_text("hello\n")
    acbuild("begin")
    acbuild("set-name", "example.com/hello")
    acbuild("set-exec", "--", "/bin/hello", "--loud")
    acbuild("copy", "hello", "/bin/hello")
    acbuild("port", "add", "http", "tcp", "80", "--socket-activated")
    acbuild("isolator", "add", "resource/memory", "-", stdin='{"limit": "1M"}')
    told = acbuild("write", "hello.aci").stdout
    acbuild("end")

    data = gzip.decompress((acbuild.directory / "hello.aci").read_bytes())
    assert told == f"sha512-{hashlib.sha512(data).hexdigest()}\n"
    assert set(entries(acbuild.directory / "hello.aci")) == {
        "manifest",
        "rootfs",
        "rootfs/bin",
        "rootfs/bin/hello",
    }
    manifest = manifest_in(acbuild.directory / "hello.aci")
    assert manifest["app"]["exec"] == ["/bin/hello", "--loud"]
    history = {one["name"]: one["value"] for one in manifest["annotations"]}
    assert history["coreos.com/acbuild/command-2"] == 'acbuild set-exec "/bin/hello" "--loud"'
    assert len(history) == 5
    assert sorted(os.listdir(acbuild.directory)) == ["hello", "hello.aci"]


def test_statuses_and_messages(acbuild: Acbuild) -> None:
    assert acbuild().stdout.startswith("acbuild: ")
    for words in (["end"], ["set-name", "a"], ["cat-manifest"], ["write", "x"]):
        assert "no build in progress" in acbuild(*words, code=1).stderr
    begun(acbuild)
    assert "in progress" in acbuild("begin", code=1).stderr
    assert "does not exist" in acbuild("label", "rm", "channel", code=2).stderr
    assert "does not exist" in acbuild("isolator", "rm", "resource/cpu", code=2).stderr
    assert "unknown flag" in acbuild("copy", "--recursive", "a", "b", code=3).stderr
    assert "unknown command" in acbuild("annotation", "bogus", code=3).stderr
    assert "unknown command" in acbuild("bogus", code=3).stderr
    assert "number of arguments" in acbuild("set-name", code=1).stderr
    assert "absolute path" in acbuild("set-wd", "srv", code=1).stderr
    before = acbuild.manifest()
    assert "no AC identifier" in acbuild("set-name", "BAD", code=1).stderr
    assert acbuild.manifest() == before


def test_the_names_of_old_scripts(acbuild: Acbuild) -> None:
    begun(acbuild)
    for words in (
        ["volume", "add", "data", "/data"],
        ["set-wd", "/srv"],
        ["set-eh", "pre-start", "/bin/prepare"],
        ["env", "add", "A", "b"],
        ["dep", "add", "example.com/base"],
        ["w", "one.aci"],  # `whitelist` came later
        ["re", code_file(acbuild)],  # and so did `remove`
    ):
        acbuild(*words)
    app = acbuild.manifest()["app"]
    assert app["mountPoints"] == [{"name": "data", "path": "/data"}]
    assert app["eventHandlers"] == [{"name": "pre-start", "exec": ["/bin/prepare"]}]


def code_file(acbuild: Acbuild) -> str:
    (acbuild.directory / "m.json").write_text('{"labels": []}')
    return "m.json"


def test_a_failed_write_keeps_what_was_there(acbuild: Acbuild) -> None:
    begun(acbuild)
    acbuild("write", "app.aci")
    before = (acbuild.directory / "app.aci").read_bytes()
    assert "already exists" in acbuild("write", "app.aci", code=1).stderr
    acbuild("label", "add", "version", "2")
    gpg = ["--", "--homedir", str(acbuild.directory / "nowhere"), "--batch"]
    failed = acbuild("write", "--overwrite", "--sign", "--provenance=p.json", "app.aci", *gpg, code=1)
    assert "gpg" in failed.stderr
    assert (acbuild.directory / "app.aci").read_bytes() == before
    assert sorted(os.listdir(acbuild.directory)) == [".acbuild", "app.aci"]
    acbuild("write", "--overwrite", "app.aci")
    assert (acbuild.directory / "app.aci").read_bytes() != before


def test_a_signed_image_says_what_it_was_made_of(acbuild: Acbuild, signing_key: SigningKey) -> None:
    (acbuild.directory / "one").write_text("1")
    (acbuild.directory / "tree/below").mkdir(parents=True)
    (acbuild.directory / "tree/below/two").write_text("2")
    begun(acbuild)
    acbuild("copy", "one", "/one")
    acbuild("copy", "tree", "/tree")
    acbuild("--no-history", "isolator", "add", "resource/memory", "-", stdin='{"limit": "1M"}')
    try:
        acbuild(
            "write",
            "--sign",
            "--provenance=app.json",
            "app.aci",
            "--",
            "--homedir",
            signing_key.home,
            "--batch",
        )
    finally:
        signing_key.gpg("--list-keys")  # takes the agent down
    for name in ("app.aci", "app.json"):
        signing_key.gpg("--verify", str(acbuild.directory / f"{name}.asc"), str(acbuild.directory / name))
    statement = json.loads((acbuild.directory / "app.json").read_text())
    image = (acbuild.directory / "app.aci").read_bytes()
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"] == {"sha256": hashlib.sha256(image).hexdigest()}
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["commands"] == [
        'acbuild copy "one" "/one"',
        'acbuild copy "tree" "/tree"',
    ]
    one, tree, isolator = definition["resolvedDependencies"]
    assert isolator["digest"] == {"sha256": hashlib.sha256(b'{"limit": "1M"}').hexdigest()}
    assert (one["uri"], one["digest"]) == ("file:one", {"sha256": hashlib.sha256(b"1").hexdigest()})
    line = hashlib.sha256(b"2").hexdigest() + "  below/two\n"
    assert tree["digest"] == {"dirHash": hashlib.sha256(line.encode()).hexdigest()}


SCRIPT = """\
#!/usr/bin/env acbuild-script
begin
set-name example.com/app   # the name
copy tree /srv/tree
copy-to-dir tree/file /opt/a/b
set-exec /bin/sh -c \\
    'echo "a,b"'
remove /srv/tree/gone
write --overwrite %s
"""


def script(acbuild: Acbuild, target: str, *, when: int, epoch: str = "") -> bytes:
    """What the script writes from files of the time `when`, which is in the past as the kernel sees it."""
    tree = acbuild.directory / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "below").mkdir(parents=True)
    for name in ("file", "gone", "below/other"):
        (tree / name).write_text(name)
    for path in (tree / "below/other", tree / "below", tree / "file", tree / "gone", tree):
        os.utime(path, (when, when))
    (acbuild.directory / "build.acb").write_text(SCRIPT % target)
    environment = {"SOURCE_DATE_EPOCH": epoch} if epoch else {}
    acbuild("script", "build.acb", environment=environment)
    return (acbuild.directory / target).read_bytes()


def test_the_same_script_gives_the_same_bytes_on_another_day(acbuild: Acbuild) -> None:
    first = script(acbuild, "one.aci", when=1_700_000_000)
    assert script(acbuild, "two.aci", when=1_700_000_000) == first
    assert manifest_in(acbuild.directory / "one.aci")["app"]["exec"] == ["/bin/sh", "-c", 'echo "a,b"']
    times = {name: entry.mtime for name, entry in entries(acbuild.directory / "one.aci").items()}
    assert times["rootfs/opt/a/b"] == 0
    assert times["rootfs/srv/tree"] == 1_700_000_000_000_000_000  # though something was removed there


def test_source_date_epoch_makes_files_of_two_days_the_same(acbuild: Acbuild) -> None:
    first = script(acbuild, "one.aci", when=1_700_000_000, epoch="1600000000")
    assert script(acbuild, "two.aci", when=1_710_000_000, epoch="1600000000") == first
    assert script(acbuild, "three.aci", when=1_710_000_000) != first


def test_a_script_is_a_program(acbuild: Acbuild, checkout: Path) -> None:
    script(acbuild, "one.aci", when=1_700_000_000)
    (acbuild.directory / "build.acb").chmod(0o755)
    environment = acbuild.environment | {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"}
    first = (acbuild.directory / "one.aci").read_bytes()
    (acbuild.directory / "one.aci").unlink()
    subprocess.run(
        ["./build.acb"], cwd=acbuild.directory, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    assert (acbuild.directory / "one.aci").read_bytes() == first
    assert not [name for name in os.listdir(acbuild.directory) if name.startswith("acbuild")]


def test_a_script_that_fails_says_where_and_leaves_nothing(acbuild: Acbuild) -> None:
    cases = {
        "begin\nset-name BAD\nwrite x.aci\n": (1, "s.acb:2: set-name: "),
        "begin\n\nlabel rm channel\n": (2, "s.acb:3: label remove: "),
        "begin\nfrobnicate\n": (3, "s.acb:2: frobnicate: "),
        "begin\nset-name 'a\n": (1, "s.acb:2: unterminated single quote"),
        "begin\nEND\n": (1, "s.acb:2: a script does not call end"),
        "set-name a\n": (1, "s.acb:1: set-name: no build in progress"),
    }
    for text, (code, message) in cases.items():
        (acbuild.directory / "s.acb").write_text(text)
        assert message in acbuild("script", "s.acb", code=code).stderr
        assert os.listdir(acbuild.directory) == ["s.acb"]


@pytest.mark.parametrize("content", [b"begin\nset-name a\0b\n", b"\xff\xfe"])
def test_a_script_that_is_no_text_is_not_begun(acbuild: Acbuild, content: bytes) -> None:
    (acbuild.directory / "s.acb").write_bytes(content)
    assert "s.acb: is no text" in acbuild("script", "s.acb", code=1).stderr


def test_a_script_in_a_script_works_on_the_same_build(acbuild: Acbuild) -> None:
    (acbuild.directory / "inner.acb").write_text("label add channel inner\n")
    (acbuild.directory / "outer.acb").write_text(
        "begin\nset-name example.com/outer\nscript inner.acb\nwrite o.aci\n"
    )
    acbuild("script", "outer.acb")
    assert {"name": "channel", "value": "inner"} in manifest_in(acbuild.directory / "o.aci")["labels"]


def test_one_command_from_file_to_file(acbuild: Acbuild) -> None:
    (acbuild.directory / "data").write_text("data")
    acbuild("--to", "one.aci", "copy", "data", "/data")
    acbuild("--from=one.aci", "--to=two.aci", "set-name", "example.com/two")
    acbuild("--from=two.aci", "--to=three.aci", "remove", "/data")
    assert manifest_in(acbuild.directory / "one.aci")["name"] == "acbuild-unnamed"
    assert manifest_in(acbuild.directory / "two.aci")["name"] == "example.com/two"
    assert entries(acbuild.directory / "two.aci").keys() - entries(
        acbuild.directory / "three.aci"
    ).keys() == {"rootfs/data"}
    before = (acbuild.directory / "two.aci").read_bytes()
    acbuild("--from=two.aci", "--to=two.aci", "set-name", "BAD", code=1)
    acbuild("--from=two.aci", "write", "x.aci", code=1)
    acbuild("--from=absent.aci", "--to=x.aci", "set-tag", "1", code=1)
    assert (acbuild.directory / "two.aci").read_bytes() == before
    assert sorted(os.listdir(acbuild.directory)) == ["data", "one.aci", "three.aci", "two.aci"]


def test_modify_leaves_an_open_build_alone(acbuild: Acbuild) -> None:
    acbuild("--to", "one.aci", "set-name", "example.com/one")
    begun(acbuild)
    acbuild("--modify-appc=one.aci", "label", "add", "version", "2")
    assert json.loads(acbuild("--modify-appc=one.aci", "cat-manifest").stdout)["labels"][2]["value"] == "2"
    assert len(acbuild.manifest()["labels"]) == 2
    assert "cannot be used" in acbuild("--modify-appc=one.aci", "end", code=1).stderr


def test_commands_at_once_lose_nothing(acbuild: Acbuild) -> None:
    begun(acbuild)
    names = [f"V{number}" for number in range(8)]
    running = [
        subprocess.Popen(
            acbuild.argv("environment", "add", name, "x"),
            cwd=acbuild.directory,
            stderr=subprocess.DEVNULL,
            env=acbuild.environment,
        )
        for name in names
    ]
    assert [process.wait(timeout=60) for process in running] == [0] * len(names)
    assert {one["name"] for one in acbuild.manifest()["app"]["environment"]} == set(names)
    acbuild("end")
    beginning = [
        subprocess.Popen(acbuild.argv("begin"), cwd=acbuild.directory, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert sorted(process.wait(timeout=60) for process in beginning) == [0, 1, 1, 1]
    racing = [
        subprocess.Popen(acbuild.argv("end"), cwd=acbuild.directory, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert sorted(process.wait(timeout=60) for process in racing) == [0, 1, 1, 1]


def test_begin_clears_what_a_killed_command_left(acbuild: Acbuild) -> None:
    (acbuild.directory / ".acbuild/currentaci/rootfs/x").mkdir(parents=True)
    acbuild("begin")
    assert list(acbuild.rootfs.iterdir()) == []
    (acbuild.directory / ".acbuild/buildMode").unlink()
    acbuild("set-name", "a", code=1)
    acbuild("end")
    assert os.listdir(acbuild.directory) == []


def test_a_command_that_was_cut_short_must_come_again(acbuild: Acbuild) -> None:
    begun(acbuild)
    (acbuild.directory / "f").write_text("f")
    (acbuild.directory / ".acbuild/pending").write_text("copy\0f\0/f")
    for words in (["write", "x.aci"], ["set-name", "b"], ["copy", "f", "/g"]):
        assert "cut short" in acbuild(*words, code=1).stderr
    acbuild("cat-manifest")
    acbuild("copy", "f", "/f")
    acbuild("write", "x.aci")


def test_a_cut_short_command_whose_name_was_lost(acbuild: Acbuild) -> None:
    """What a machine that lost power leaves: the name of the file, and none of its content."""
    begun(acbuild)
    (acbuild.directory / ".acbuild/pending").touch()
    failed = acbuild("set-name", "b", code=1).stderr
    assert "a command was cut short" in failed
    assert "run that command again" not in failed
    acbuild("cat-manifest")
    acbuild("end")


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_the_context_is_refused(acbuild: Acbuild, tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/keep").write_text("keep")
    (acbuild.directory / ".acbuild").symlink_to(tmp_path / "elsewhere")
    acbuild("begin", code=1)
    acbuild("end", code=1)
    assert not there or (tmp_path / "elsewhere/keep").exists()


def test_end_takes_off_what_is_mounted_there(acbuild: Acbuild, root: None) -> None:
    acbuild("begin")
    for name in ("target", "target/below", "with blank"):
        place = acbuild.directory / ".acbuild" / name
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "x", place], check=True)
    acbuild("end")
    assert str(acbuild.directory) not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir(acbuild.directory) == []


# --- files


def test_copies_keep_all_that_files_are(acbuild: Acbuild, root: None) -> None:
    source = acbuild.directory / "src"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_text("x")
    os.link(source / "d/f", source / "hard")
    os.chown(source / "d/f", 12, 34)
    (source / "d/f").chmod(0o4755)
    os.setxattr(source / "d/f", "user.note", b"yes")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
    (source / "d").chmod(0o2750)
    os.utime(source / "d", (5, 5))
    begun(acbuild)
    acbuild("copy", "src", "/")
    acbuild("write", "x.aci")
    found = entries(acbuild.directory / "x.aci")
    file = found["rootfs/d/f"]
    assert (file.mode, file.uid, file.gid, file.xattrs) == (0o4755, 12, 34, {b"user.note": b"yes"})
    assert (found["rootfs/hard"].kind, found["rootfs/hard"].target) == (tar.HARD_LINK, b"rootfs/d/f")
    assert found["rootfs/link"].target == b"/etc/passwd"
    assert (found["rootfs/fifo"].kind, found["rootfs/fifo"].mode) == (tar.FIFO, 0o640)
    assert (found["rootfs/full"].kind, found["rootfs/full"].device) == (tar.CHARACTER_DEVICE, (1, 7))
    assert (found["rootfs/d"].mode, found["rootfs/d"].mtime) == (0o2750, 5_000_000_000)

    acbuild("end")
    acbuild("begin", "./x.aci")
    acbuild("write", "y.aci")
    assert (acbuild.directory / "y.aci").read_bytes() == (acbuild.directory / "x.aci").read_bytes()


def test_directories_are_merged_and_files_replaced(acbuild: Acbuild) -> None:
    for name, content in {"a/x": "1", "a/same": "1", "b/y": "2", "b/same": "2"}.items():
        path = acbuild.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    begun(acbuild)
    acbuild("copy", "a", "/d")
    acbuild.rootfs.joinpath("d").chmod(0o700)
    acbuild("copy", "b", "/d")
    acbuild("copy-to-dir", "a/", "b", "/d")
    found = {
        str(p.relative_to(acbuild.rootfs)): p.read_text() for p in acbuild.rootfs.rglob("*") if p.is_file()
    }
    assert found == {
        "d/x": "1",
        "d/y": "2",
        "d/same": "2",
        "d/a/x": "1",
        "d/a/same": "1",
        "d/b/y": "2",
        "d/b/same": "2",
    }
    assert stat.S_IMODE(acbuild.rootfs.joinpath("d").stat().st_mode) == 0o700
    assert "is a directory" in acbuild("copy", "a/x", "/d", code=1).stderr
    assert "no directory" in acbuild("copy", "a", "/d/x", code=1).stderr
    assert "not a directory" in acbuild("copy-to-dir", "a", "/d/x", code=1).stderr


def test_a_slash_behind_a_link_means_the_directory(acbuild: Acbuild) -> None:
    """As with every other tool; without it the link is copied."""
    begun(acbuild)
    (acbuild.directory / "d").mkdir()
    (acbuild.directory / "d/f").write_text("f")
    (acbuild.directory / "link").symlink_to("d")
    acbuild("copy", "link/", "/one")
    acbuild("copy-to-dir", "link/", "/two")
    acbuild("copy", "link", "/three")
    assert (acbuild.rootfs / "one/f").is_file()
    assert (acbuild.rootfs / "two/link/f").is_file()
    assert (acbuild.rootfs / "three").is_symlink()
    assert "d/f/" in acbuild("copy", "d/f/", "/four", code=1).stderr


def test_the_context_is_not_copied_into_itself(acbuild: Acbuild) -> None:
    (acbuild.directory / "f").write_text("f")
    begun(acbuild)
    acbuild("copy", ".", "/app")
    assert sorted(os.listdir(acbuild.rootfs / "app")) == ["f"]


def test_chown_takes_names_of_the_image_and_numbers(acbuild: Acbuild, root: None) -> None:
    (acbuild.directory / "etc").mkdir()
    (acbuild.directory / "etc/passwd").write_text("root:x:0:0::/:\nweb:x:33:44::/:\n7:x:0:0::/:\n")
    (acbuild.directory / "etc/group").write_text("staff:x:50:\n")
    (acbuild.directory / "f").write_text("f")
    begun(acbuild)
    acbuild("copy", "etc", "/etc")
    for owner, ids in {"web": (33, 44), "web:staff": (33, 50), "7": (7, 7), "1:2": (1, 2)}.items():
        acbuild("copy", f"--chown={owner}", "f", "/f")
        status = (acbuild.rootfs / "f").stat()
        assert (status.st_uid, status.st_gid) == ids
    for owner in ("nobody", "web:", "4294967295", "-1"):
        acbuild("copy", f"--chown={owner}", "f", "/f", code=1)


@pytest.mark.parametrize("target", ["absolute", "relative"])
def test_links_in_the_image_lead_nowhere_out_of_it(acbuild: Acbuild, tmp_path: Path, target: str) -> None:
    """CVE-2018-15664, CVE-2019-10152 and others: a link of the image, followed on the host."""
    canary = tmp_path / "canary"
    (canary / "etc").mkdir(parents=True)
    (canary / "etc/keep").write_text("keep")
    before = {str(path): path.lstat().st_mtime_ns for path in [canary, *canary.rglob("*")]}
    text = str(canary) if target == "absolute" else "../" * 30 + str(canary)[1:]
    (acbuild.directory / "base").mkdir()
    for name in ("dir", "file"):
        (acbuild.directory / "base" / name).symlink_to(f"{text}/etc" if name == "dir" else f"{text}/etc/keep")
    (acbuild.directory / "base/srv").symlink_to(f"{text}")
    (acbuild.directory / "f").write_text("new")
    (acbuild.directory / "tree/etc").mkdir(parents=True)
    (acbuild.directory / "tree/etc/keep").write_text("new")
    (acbuild.directory / "tree/dir").mkdir()
    (acbuild.directory / "tree/dir/keep").write_text("new")
    acbuild("begin", "./base")
    acbuild("set-name", "example.com/hostile")
    for words in (
        ["copy", "f", "/dir/keep"],
        ["copy", "f", "/file"],
        ["copy", "f", "/../../../x"],
        ["copy", "tree", "/srv"],
        ["copy", "tree", "/"],
        ["copy-to-dir", "f", "/dir"],
        ["remove", "/dir/keep"],
        ["remove", "/srv/etc/keep"],
        ["remove", "/dir"],
        ["whitelist", "add", "/srv/etc/keep"],
        ["write", "x.aci"],
        ["squash"],
    ):
        acbuild(*words, code=None)
    assert (canary / "etc/keep").read_text() == "keep"
    assert {str(path): path.lstat().st_mtime_ns for path in [canary, *canary.rglob("*")]} == before
    assert sorted(os.listdir(acbuild.directory / ".acbuild")) == ["buildMode", "currentaci"]
    acbuild("end")
    assert (canary / "etc/keep").read_text() == "keep"


def test_removing_and_whitelists(acbuild: Acbuild) -> None:
    (acbuild.directory / "d/e").mkdir(parents=True)
    begun(acbuild)
    acbuild("copy", "d", "/d")
    acbuild("remove", "/d/absent", code=2)
    acbuild("remove", "/d/e", "/d/absent", code=2)
    assert (acbuild.rootfs / "d/e").is_dir()
    acbuild("remove", "/d/e")
    acbuild("remove", "/", code=1)
    assert os.listdir(acbuild.rootfs / "d") == []
    acbuild("whitelist", "add", "/bin//sh", "/lib")
    acbuild("whitelist", "add", "/lib", "/etc/")
    assert acbuild.manifest()["pathWhitelist"] == ["/bin/sh", "/lib", "/etc"]
    acbuild("whitelist", "rm", "/lib")
    acbuild("whitelist", "rm", "/lib", code=2)
    assert "absolute" in acbuild("whitelist", "add", "lib", code=1).stderr


def test_a_user_builds_what_belongs_to_root(tmp_path: Path, open_checkout: Path, root: None) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "f").write_text("f")
    for path in (work, work / "f"):
        os.chown(path, 65534, 65534)
    for directory in [tmp_path, *tmp_path.parents[:2]]:
        directory.chmod(0o755)
    command = open_checkout / "bin/acbuild"
    for words in (["begin"], ["set-name", "a"], ["copy", "f", "/f"], ["write", "a.aci"], ["end"]):
        subprocess.run(
            [command, *words],
            cwd=work,
            user=65534,
            group=65534,
            extra_groups=[],
            check=True,
            stdout=subprocess.PIPE,
        )
    assert {(entry.uid, entry.gid) for entry in entries(work / "a.aci").values()} == {(0, 0)}


def test_begin_makes_the_work_path(acbuild: Acbuild) -> None:
    acbuild("--work-path=a/b", "begin")
    acbuild("--work-path=a/b", "set-name", "example.com/a")
    acbuild("--work-path=a/b", "end")
    assert os.listdir(acbuild.directory / "a/b") == []


def test_the_history_has_the_event_in_the_name_of_the_command(acbuild: Acbuild) -> None:
    begun(acbuild)
    acbuild("set-eh", "pre-start", "--", "/bin/prepare", "--all")
    assert acbuild.manifest()["annotations"][-1]["value"] == (
        'acbuild set-event-handler pre-start "/bin/prepare" "--all"'
    )


def test_version_is_of_no_image(acbuild: Acbuild) -> None:
    assert "cannot be used with" in acbuild("--modify-appc", "a.aci", "version", code=1).stderr
