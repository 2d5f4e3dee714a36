"""actool as users type it: flags of one dash or two, exit codes, none of the reference's defects B1 to B8."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc.aci import compression, reader
from fixtures import tars

if TYPE_CHECKING:
    from fixtures.httpsserver import Server

MANIFEST = {
    "acKind": "ImageManifest",
    "acVersion": "0.8.11",
    "name": "example.com/app",
    "app": {"exec": ["/bin/app"], "user": "0", "group": "0"},
}


class Actool:
    """The command, in a directory of the test's own."""

    def __init__(self, launcher: Path, directory: Path) -> None:
        self.launcher = launcher
        self.directory = directory

    def __call__(
        self, *words: str, code: int = 0, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.launcher, *words],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **(environment or {})},
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def manifest(self, name: str) -> dict[str, object]:
        with open(self.directory / name, "rb") as file:
            return json.loads(reader.read_manifest(file))  # type: ignore[no-any-return]


@pytest.fixture
def actool(checkout: Path, tmp_path: Path) -> Actool:
    """actool, with a layout `app` to build from."""
    rootfs = tmp_path / "app/rootfs"
    (rootfs / "bin").mkdir(parents=True)
    (rootfs / "bin/app").write_text("#!/bin/sh\n")
    (tmp_path / "app/manifest").write_text(json.dumps(MANIFEST))
    return Actool(checkout / "bin/actool", tmp_path)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_build_and_look(actool: Actool) -> None:
    assert actool("build", "app", "app.aci").stdout == ""
    assert actool("validate", "app.aci").stdout == ""
    assert actool("--debug", "validate", "app.aci", "app").stderr.splitlines() == [
        "app.aci: valid app container image",
        "app: valid image layout",
    ]
    assert json.loads(actool("cat-manifest", "app.aci").stdout) == MANIFEST
    pretty = actool("cat-manifest", "-pretty-print", "app.aci").stdout
    assert pretty.startswith('{\n    "acKind"')


def test_two_builds_are_one_image_b1(actool: Actool) -> None:
    first = actool("build", "app", "one.aci")
    time.sleep(1.1)
    manifest = actool.directory / "app/manifest"
    manifest.write_text(json.dumps(MANIFEST, indent=2))  # the same manifest, other bytes, another time
    second = actool("--debug", "build", "app", "two.aci")
    assert digest(actool.directory / "one.aci") == digest(actool.directory / "two.aci")
    assert first.stderr == ""
    plain = b"".join(compression.inflate(io.BytesIO((actool.directory / "two.aci").read_bytes())))
    assert "sha512-" + hashlib.sha512(plain).hexdigest() in second.stderr


def test_source_date_epoch(actool: Actool) -> None:
    actool("build", "app", "one.aci", environment={"SOURCE_DATE_EPOCH": "1000000000"})
    os.utime(actool.directory / "app/rootfs/bin/app")
    os.utime(actool.directory / "app/rootfs/bin")
    actool("build", "app", "two.aci", environment={"SOURCE_DATE_EPOCH": "1000000000"})
    assert digest(actool.directory / "one.aci") == digest(actool.directory / "two.aci")
    told = actool("build", "app", "three.aci", code=1, environment={"SOURCE_DATE_EPOCH": "now"}).stderr
    assert "SOURCE_DATE_EPOCH" in told


@pytest.mark.parametrize("flag", ["-no-compression", "--no-compression", "--no-compression=true"])
def test_one_dash_or_two(actool: Actool, flag: str) -> None:
    actool("build", flag, "app", "app.aci")
    assert (actool.directory / "app.aci").read_bytes()[257:262] == b"ustar"


def test_build_refuses(actool: Actool) -> None:
    assert "directory and output file" in actool("build", "app", code=1).stderr
    assert "must end with .aci" in actool("build", "app", "app.tar", code=1).stderr
    assert "flag" in actool("build", "--bogus", "a", "b", code=2).stderr
    (actool.directory / "app.aci").write_text("mine")
    assert "Target file exists (try --overwrite)" in actool("build", "app", "app.aci", code=1).stderr
    assert (actool.directory / "app.aci").read_text() == "mine"
    (actool.directory / "app/extra").touch()
    told = actool("build", "--overwrite", "app", "app.aci", code=1).stderr
    assert "extra: only manifest and rootfs" in told
    assert (actool.directory / "app.aci").read_text() == "mine"  # B8


def test_a_failing_build_keeps_the_old_image_b8(actool: Actool) -> None:
    actool("build", "app", "app.aci")
    before = digest(actool.directory / "app.aci")
    for number in range(3):
        (actool.directory / f"app/rootfs/{number}").write_bytes(os.urandom(300_000))
    script = 'ulimit -f 100; exec "$0" build --overwrite app app.aci'
    done = subprocess.run(
        ["sh", "-c", script, actool.launcher],
        cwd=actool.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert digest(actool.directory / "app.aci") == before
    assert sorted(path.name for path in actool.directory.iterdir()) == ["app", "app.aci"]


def test_an_image_without_manifest_is_an_error_b5(actool: Actool) -> None:
    (actool.directory / "none.aci").write_bytes(tars.directory(b"rootfs") + tars.END)
    assert "no manifest" in actool("cat-manifest", "none.aci", code=1).stderr


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("binary", bytes(range(256)), "unable to detect filetype (try --type)"),
        ("empty", b"", "error unmarshaling manifest"),
        ("kind", b'{"acKind":"Other","acVersion":"0.8.11"}', "bad ACKind"),
        (
            "bad.json",
            b'{"acKind":"ImageManifest","acVersion":"0.8.11","name":"BAD"}',
            "invalid ImageManifest",
        ),
        ("bad.aci", tars.image(tars.file(b"x")), "x: only manifest and rootfs"),
        ("cut.aci", tars.image()[:700], "cut short"),
    ],
)
def test_validate_refuses(actool: Actool, name: str, data: bytes, told: str) -> None:
    (actool.directory / name).write_bytes(data)
    assert told in actool("validate", name, code=1).stderr


def test_validate_goes_on_after_an_invalid_file(actool: Actool) -> None:
    (actool.directory / "bad.aci").write_bytes(tars.image(tars.file(b"x")))
    actool("build", "app", "good.aci")
    told = actool("--debug", "validate", "bad.aci", "good.aci", code=1).stderr
    assert "good.aci: valid app container image" in told


def test_validate_of_a_type(actool: Actool) -> None:
    actool("validate", "--type=manifest", "app/manifest")
    actool("validate", "--type=layout", "app")
    actool("validate", "--type=appimage", "app/manifest", code=1)
    assert "unknown type 'bogus'" in actool("validate", "--type=bogus", "app", code=1).stderr  # B7
    actool("validate", "--type=appimage", "app", code=1)
    actool("validate", "--type=layout", "app/manifest", code=1)
    assert actool("validate", "none", code=1).stderr.startswith("unable to access none: ")
    assert "must pass one or more files" in actool("validate", code=1).stderr


def test_patch_manifest(actool: Actool) -> None:
    actool("build", "app", "app.aci")
    actool(
        *("patch-manifest", "--name=example.com/new", "--exec=/bin/sh -c true", "--user=5", "--group=6"),
        *("--supplementary-groups=1,2", "--capability=CAP_KILL,CAP_CHOWN", "--mounts=d,path=/d:e,path=/e"),
        *("--ports=www,protocol=tcp,port=80", "--isolators=resource/memory,limit=1G:os/linux/cpu-shares,512"),
        *("--seccomp-mode=retain,errno=EPERM", "--seccomp-set=read,write", "app.aci", "new.aci"),
    )
    manifest = actool.manifest("new.aci")
    assert manifest["name"] == "example.com/new"
    app = manifest["app"]
    assert isinstance(app, dict)
    assert (app["exec"], app["user"], app["group"]) == (["/bin/sh", "-c", "true"], "5", "6")
    assert app["supplementaryGIDs"] == [1, 2]
    assert [point["path"] for point in app["mountPoints"]] == ["/d", "/e"]
    assert sorted(isolator["name"] for isolator in app["isolators"]) == [
        "os/linux/capabilities-retain-set",
        "os/linux/cpu-shares",
        "os/linux/seccomp-retain-set",
        "resource/memory",
    ]
    actool("validate", "new.aci")


def test_patching_again_replaces_and_does_not_append_b5(actool: Actool) -> None:
    actool("build", "app", "app.aci")
    for limit in ("1G", "2G"):
        actool("patch-manifest", "--replace", f"--isolators=resource/memory,limit={limit}", "app.aci")
        actool("patch-manifest", "--replace", f"--mounts=m,path=/{limit}", "app.aci")
    actool("patch-manifest", "--replace", "--capability=CAP_KILL", "app.aci")
    actool("patch-manifest", "--replace", "--revoke-capability=CAP_KILL", "app.aci")
    app = actool.manifest("app.aci")["app"]
    assert isinstance(app, dict)
    assert app["mountPoints"] == [{"name": "m", "path": "/2G"}]
    assert [isolator["name"] for isolator in app["isolators"]] == [
        "resource/memory",
        "os/linux/capabilities-remove-set",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["--name=BAD"],
        ["--manifest=garbage"],
        ["--manifest=garbage", "--ports=a,protocol=tcp,port=1"],
        ["--manifest=app/manifest", "--isolators=resource/memory,limit=1"],
        ["--seccomp-mode=retain"],
        ["--seccomp-set=read"],
        ["--seccomp-mode=bogus", "--seccomp-set=read"],
        ["--capability=CAP_KILL", "--revoke-capability=CAP_CHOWN"],
        ["--supplementary-groups=x"],
        ["--ports=a,port=0"],
        ["--ports=a,port=80"],
        ["--mounts=a"],
        ["--isolators=example.com/x,1"],
        ["--isolators=resource/memory"],
        ["--user=-1"],
    ],
)
def test_patch_manifest_refuses(actool: Actool, words: list[str]) -> None:
    actool("build", "app", "app.aci")
    (actool.directory / "garbage").write_text("garbage\n")
    actool("patch-manifest", *words, "app.aci", "new.aci", code=1)
    assert not (actool.directory / "new.aci").exists()


def test_an_empty_flag_changes_nothing_as_in_scripts_that_fill_it_from_a_variable(actool: Actool) -> None:
    actool("build", "app", "app.aci")
    before = actool.manifest("app.aci")
    empty = ("--name=", "--exec=", "--user=", "--mounts=", "--manifest=")
    actool("patch-manifest", *empty, "app.aci", "new.aci")
    assert actool.manifest("new.aci") == before
    assert actool("--debug", "validate", "--type=", "new.aci").stderr.endswith("valid app container image\n")
    actool("patch-manifest", "--seccomp-mode=remove", "--seccomp-set=reboot", "app.aci", "seccomp.aci")
    assert {"name": "os/linux/seccomp-remove-set", "value": {"errno": "", "set": ["reboot"]}} in (
        actool.manifest("seccomp.aci")["app"]["isolators"]  # type: ignore[index]
    )
    assert "must end with .aci" in actool("patch-manifest", "app.aci", "new", code=1).stderr
    assert actool("-help").stdout == actool("--help").stdout


def test_patch_manifest_of_an_image_without_app(actool: Actool) -> None:
    manifest = {key: value for key, value in MANIFEST.items() if key != "app"}
    (actool.directory / "app/manifest").write_text(json.dumps(manifest))
    actool("build", "app", "app.aci")
    assert "has no app" in actool("patch-manifest", "--user=0", "app.aci", "new.aci", code=1).stderr
    told = actool(
        "patch-manifest", "--seccomp-mode=retain", "--seccomp-set=read", "app.aci", "new.aci", code=1
    )
    assert "has no app" in told.stderr  # the reference panics
    assert "--user and --group" in actool("patch-manifest", "--exec=/a", "app.aci", "new.aci", code=1).stderr
    actool("patch-manifest", "--exec=/a", "--user=0", "--group=0", "app.aci", "new.aci")


def test_patch_manifest_keeps_the_files(actool: Actool) -> None:
    actool("build", "app", "app.aci")
    actool("patch-manifest", "--no-compression", "--name=example.com/x", "app.aci", "new.aci")
    listed = [
        subprocess.run(["tar", "taf", actool.directory / name], capture_output=True, check=True).stdout
        for name in ("app.aci", "new.aci")
    ]
    assert listed[0] == listed[1]


def test_extract(actool: Actool) -> None:
    actool("build", "app", "app.aci")
    actool("extract", "app.aci", "out")
    out = actool.directory / "out"
    assert sorted(path.name for path in out.rglob("*")) == ["app", "bin", "manifest", "rootfs"]
    assert "Target directory exists" in actool("extract", "app.aci", "out", code=1).stderr
    actool("extract", "--overwrite", "--rootfs-only", "app.aci", "out")
    assert sorted(path.name for path in out.rglob("*")) == ["app", "bin"]
    (actool.directory / "bad.aci").write_bytes(tars.image(tars.file(b"rootfs/../../evil")))
    actool("extract", "bad.aci", "bad", code=1)
    assert sorted(path.name for path in actool.directory.iterdir()) == ["app", "app.aci", "bad.aci", "out"]


def test_r4_limits_are_changed_by_a_flag(actool: Actool) -> None:
    (actool.directory / "app/rootfs/big").write_bytes(bytes(1 << 20))
    actool("build", "app", "app.aci")
    for words in (("validate",), ("extract", "out"), ("patch-manifest", "--name=example.com/x", "out.aci")):
        verb, *more = words
        flags, out = [word for word in more if word[0] == "-"], [word for word in more if word[0] != "-"]
        told = actool(verb, "--limit=size=1Mi", *flags, "app.aci", *out, code=1).stderr
        assert "more than 1048576 bytes when uncompressed" in told
        told = actool(verb, "--limit=entries=2", *flags, "app.aci", *out, code=1).stderr
        assert "more than 2 entries" in told
        assert (
            "there is no limit 'sise'"
            in actool(verb, "--limit=sise=1", *flags, "app.aci", *out, code=1).stderr
        )
        actool(verb, "--limit=size=2Mi", "--limit=entries=10", *flags, "app.aci", *out)


def test_sign(actool: Actool, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("gpg", numbered=True)
    home.chmod(0o700)
    environment = {"GNUPGHOME": str(home)}

    def gpg(*words: str) -> bytes:
        done = subprocess.run(
            ["gpg", "--batch", "--quiet", *words],
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
        )
        return done.stdout

    try:
        gpg("--passphrase", "", "--quick-gen-key", "Signer <signer@example.com>", "rsa2048", "sign", "never")
        actool("build", "app", "app.aci")
        actool("sign", "app.aci", environment=environment)
        signature = actool.directory / "app.aci.asc"
        assert signature.read_text().startswith("-----BEGIN PGP SIGNATURE-----")
        (actool.directory / "key").write_bytes(gpg("--export"))
        subprocess.run(
            ["gpgv", "--keyring", actool.directory / "key", signature, actool.directory / "app.aci"],
            capture_output=True,
            check=True,
        )
        assert "Target file exists" in actool("sign", "app.aci", code=1, environment=environment).stderr
        words = ("sign", "--key=nobody", "--overwrite", "app.aci")
        assert "gpg failed" in actool(*words, code=1, environment=environment).stderr
        assert signature.read_text().startswith("-----BEGIN PGP SIGNATURE-----")
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env={**os.environ, **environment}, check=True)


def test_discover(actool: Actool, https_server: Server) -> None:
    port = str(https_server.port)
    page = (
        b'<meta name="ac-discovery" content="localhost https://localhost/{name}-{os}-{arch}.{ext}?a=1&b=2">'
        b'<meta name="ac-discovery-pubkeys" content="localhost https://localhost/keys.gpg">'
    )
    https_server.page("/", page)
    image = f"https://localhost/localhost/app-linux-{tars.MACHINE}.aci?a=1&b=2"
    signature = image.replace(".aci", ".aci.asc")
    told = actool("discover", "--port", port, "localhost/app").stdout.splitlines()
    assert told == [
        "discover endpoints walk: prefix: localhost/app error: expected a 200 OK got 404",
        "discover public keys walk: prefix: localhost/app error: expected a 200 OK got 404",
        f"ACI: {image}, ASC: {signature}",
        "PublicKeys: https://localhost/keys.gpg",
    ]
    done = actool("discover", "--json", "--port", port, "localhost/app")
    assert "&" not in done.stdout  # as Go writes it
    assert json.loads(done.stdout) == {  # nothing but JSON: B6
        "ACIEndpoints": [{"ACI": image, "ASC": signature}],
        "PublicKeys": ["https://localhost/keys.gpg"],
    }
    https_server.page("/", page.partition(b'">')[0] + b'">')
    actool("discover", "--port", port, "localhost/app", code=1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["help"], 0),
        (["help", "build"], 0),
        (["help", "bogus"], 1),
        (["version"], 0),
        (["bogus"], 2),
        (["--bogus"], 2),
        (["discover"], 1),
        (["discover", "BAD"], 1),
        (["discover", "--port=70000", "example.com/a"], 1),
        (["cat-manifest"], 1),
        (["cat-manifest", "none"], 1),
        (["patch-manifest", "one"], 1),
        (["extract", "one"], 1),
        (["sign"], 1),
        (["sign", "none"], 1),
    ],
)
def test_exit_codes(actool: Actool, words: list[str], code: int) -> None:
    actool(*words, code=code)


@pytest.mark.parametrize(
    "verb",
    ["build", "validate", "cat-manifest", "patch-manifest", "extract", "sign", "discover", "version", "help"],
)
def test_help_of_each_verb(actool: Actool, verb: str) -> None:
    assert f"actool {verb}" in actool(verb, "--help").stdout


def test_version(actool: Actool) -> None:
    assert actool("version").stdout.startswith("actool version 0.8.11")
    assert actool("--version").stdout == actool("version").stdout
