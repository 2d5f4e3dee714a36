"""The same small root file system for every contender: an ACI, an OCI bundle, a podman image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
RKT = str(CHECKOUT / "bin/rkt")
ACTOOL = str(CHECKOUT / "bin/actool")
PODMAN_IMAGE = "localhost/rkt-bench:latest"
# Hosts that do not let root raise limits (no CAP_SYS_RESOURCE) need these for podman.
PODMAN_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


def rootfs(directory: Path) -> Path:
    """A busybox root file system below `directory`."""
    root = directory / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    for applet in ("true", "sh", "sleep", "cat", "httpd", "ls"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


def aci(directory: Path, root: Path, command: list[str], name: str = "example.com/bench") -> Path:
    """An unsigned ACI of `root` that runs `command`."""
    layout = directory / "layout"
    layout.mkdir()
    root.rename(layout / "rootfs")
    manifest = {
        "acKind": "ImageManifest",
        "acVersion": "0.8.11",
        "name": name,
        "labels": [{"name": "os", "value": "linux"}, {"name": "arch", "value": "amd64"}],
        "app": {"exec": command, "user": "0", "group": "0"},
    }
    (layout / "manifest").write_text(json.dumps(manifest))
    image = directory / "bench.aci"
    subprocess.run([ACTOOL, "build", str(layout), str(image)], check=True)
    (layout / "rootfs").rename(root)
    shutil.rmtree(layout)
    return image


def oci(directory: Path, root: Path, runtime: str, command: list[str]) -> Path:
    """A bundle for `runtime` (runc or crun) with its own default configuration, without a terminal."""
    bundle = directory / f"bundle-{runtime}"
    bundle.mkdir()
    subprocess.run([runtime, "spec"], cwd=bundle, check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = command
    config["root"] = {"path": str(root), "readonly": False}
    path.write_text(json.dumps(config))
    return bundle


def podman(root: Path) -> None:
    """Import `root` as PODMAN_IMAGE."""
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["podman", "import", "-q", "-", PODMAN_IMAGE], stdin=tar.stdout, check=True, capture_output=True
        )


def forget_podman(before: set[str]) -> None:
    """Remove PODMAN_IMAGE and what ran of it, and the tables of its network that were not there `before`."""
    if not have("podman"):
        return
    subprocess.run(["podman", "rmi", "-f", PODMAN_IMAGE], check=False, capture_output=True)
    for table in tables() - before:
        subprocess.run(["nft", "delete", *table.split()], check=True)


def tables() -> set[str]:
    """The nftables tables of the host, each as nft names it: ``table ip nat``."""
    told = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True)
    return set(told.stdout.splitlines())


def have(program: str) -> bool:
    """Whether the host has `program`."""
    return shutil.which(program) is not None


def data_dir(directory: Path, image: Path) -> list[str]:
    """A rkt with its own data directory that has the image: the words to begin a command with."""
    command = [RKT, f"--dir={directory / 'data'}", f"--local-config={directory / 'etc'}"]
    os.makedirs(directory / "etc", exist_ok=True)
    subprocess.run(
        [*command, "--insecure-options=image", "fetch", str(image)], check=True, capture_output=True
    )
    return [*command, "--insecure-options=image"]
