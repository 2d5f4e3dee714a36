"""What goes wrong in the first ten minutes: each message names the object, and says what to do."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LAB = '{"cniVersion": "1.1.0", "name": "lab", "plugins": [{"type": "ptp", "ipam": {"type": "static"}}]}'


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with what somebody may have at hand, open to every user."""
    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d/lab.conflist").write_text(LAB)
    (tmp_path / "layout").mkdir()
    (tmp_path / "garbage.aci").write_text("garbage")
    for directory in (tmp_path, *list(tmp_path.parents)[:2]):
        directory.chmod(0o755)
    return tmp_path


def failed(checkout: Path, here: Path, line: str, *prefix: str) -> str:
    """What a command line that fails says; the last line is the hint."""
    program, *words = line.split()
    command = [*prefix, checkout / "bin" / program, *words]
    environment = {"PATH": os.environ["PATH"], "NETCONFPATH": str(here / "net.d"), "HOME": str(here)}
    done = subprocess.run(
        command,
        cwd=here,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("rkt rnu app", "rkt: rnu: unknown command", "did you mean `run`?"),
        ("rkt image lst", "rkt: image lst: unknown command", "did you mean `image list`?"),
        ("rkt cni ls", "rkt: cni ls: unknown command", "did you mean `cni list`?"),
        ("rkt ps", "rkt: ps: unknown command", "`rkt list` shows the pods on this host"),
        ("rkt list extra", "list: unexpected argument: extra", "see `rkt list --help`"),
        ("rkt --versoin", "rkt: unknown flag: --versoin", "did you mean `--version`?"),
        ("rkt help nothing", "help: nothing: no such command or topic", "see `rkt help`"),
        ("rkt run -p 80:80 app", "run: unknown flag: -p", "forward a port with `--port=NAME:HOSTPORT`"),
        ("rkt cp web:/data .", "rkt: cp: unknown command", "share files by `--volume`; `rkt enter POD tar c"),
        (
            "rkt run --volume=/srv:/data:ro app",
            '--volume: "/srv:/data:ro" is no AC name',
            "say `--volume=NAME,kind=host,source=/srv --mount=volume=NAME,target=/data`",
        ),
        (
            "rkt run --port=80 app",
            '--port: "80" is not NAME:',
            "first the app's port, then the host's: `--port=80:80`",
        ),
        ("rkt run --interactive app sh", "only supports one image", "arguments of an app stand behind `--`"),
        ("rkt --dir=d fetch none.aci", "fetch: error opening ACI file: none.aci: No such file", ""),
        ("rkt --dir=d fetch ./layout", "./layout: not a regular file", "an image layout becomes an image by"),
        (
            "rkt --dir=d fetch garbage.aci",
            "error opening signature file: garbage.aci.asc",
            "sign it with `gpg",
        ),
        (
            "rkt --dir=d fetch docker://localhost:1/app",
            "nobody vouches for the image",
            "name it by its digest",
        ),
        (
            "rkt --dir=d --insecure-options=image fetch docker://localhost:1/app",
            "https://localhost:1: cannot connect: connection refused",
            "nothing listens there",
        ),
        (
            "rkt trust --prefix=example.com garbage.aci",
            "is not an armored public key",
            "`gpg --armor --export",
        ),
        ("rkt --dir=d status web", 'status: no matches found for "web"', "`rkt list` shows the pods"),
        ("actool bulid layout a.aci", "actool: bulid: unknown command", "did you mean `build`?"),
        ("actool validate none", "unable to access none: No such file or directory", ""),
        ("acbuild copy a /b", "copy: no build in progress here", "start one with `acbuild begin`"),
        ("cnitool add labb /run/none", 'Error: no net configuration with name "labb"', "there are: lab"),
        ("cnitool add lab", "Error: requires at least 2 arg(s), only received 1", "cnitool add NETWORK"),
        (
            "docker2aci busybox",
            "Error: busybox: No such file or directory",
            "an image of a registry is docker://",
        ),
        ("acpush app.aci", "acpush: 1 arguments are not what is expected", "acpush IMAGE SIGNATURE NAME"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(
    checkout: Path, here: Path, line: str, message: str, hint: str
) -> None:
    told = failed(checkout, here, line)

    assert message in told
    assert (f"hint: {hint}" in told) if hint else ("hint:" not in told)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("line", ["rkt --dir=data list", "rkt --dir=data image list", "cnitool add lab none"])
def test_who_is_not_root_is_told_so(open_checkout: Path, here: Path, line: str) -> None:
    for directory in ("data", "data/pods", "data/cas"):
        (here / directory).mkdir(mode=0o700)
    told = failed(open_checkout, here, line, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    assert "Permission denied" in told
    assert told.endswith("hint: become root, for example with sudo\n")


@pytest.mark.needs("namespaces", "network-links")
@pytest.mark.usefixtures("root")
def test_a_namespace_that_is_not_there_says_how_to_make_one(checkout: Path, here: Path) -> None:
    for path in ("/run/netns/none", here / "garbage.aci"):
        told = failed(checkout, here, f"cnitool add lab {path}")
        assert str(path) in told
        assert told.endswith("hint: `ip netns add NAME` makes a namespace, which is /run/netns/NAME\n")
