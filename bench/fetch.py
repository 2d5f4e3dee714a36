"""Import of a signed, compressed image, beside what anybody would type: gpgv, tar, sync."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import bundle
from timing import Contender, compare, table

if TYPE_CHECKING:
    from pathlib import Path


def run(directory: Path, rounds: int) -> str:
    """The table, in Markdown. The tree is a copy of the host's own /usr/share/doc and Python library."""
    root = bundle.rootfs(directory)
    for number, source in enumerate(("/usr/lib/python3", "/usr/share/doc", "/usr/lib/x86_64-linux-gnu")):
        shutil.copytree(source, root / str(number), symlinks=True, ignore_dangling_symlinks=True)
    image = bundle.aci(directory, root, ["/bin/true"])
    home = directory / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--yes", "--pinentry-mode=loopback", "--passphrase="]
    subprocess.run([*gpg, "--quick-generate-key", "bench@example.com"], check=True, capture_output=True)
    subprocess.run([*gpg, "--armor", "--detach-sign", str(image)], check=True, capture_output=True)
    signature = f"{image}.asc"
    public = directory / "key.asc"
    ring = directory / "ring.gpg"
    public.write_bytes(
        subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True).stdout
    )
    ring.write_bytes(subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
    rkt = [bundle.RKT, f"--dir={directory / 'data'}", f"--local-config={directory / 'etc'}"]
    trust = ["trust", "--skip-fingerprint-review", "--prefix=example.com/bench", str(public)]
    subprocess.run([*rkt, *trust], check=True, capture_output=True)
    target = directory / "out"

    def empty_store() -> None:
        shutil.rmtree(directory / "data", ignore_errors=True)

    def empty_target() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()

    by_hand = f'gpgv --keyring "{ring}" "{signature}" "{image}" && tar -xzf "{image}" -C "{target}" && sync'
    contenders = [
        Contender("gpgv && tar -xz && sync", ["sh", "-c", by_hand], before=empty_target),
        Contender("rkt fetch", [*rkt, "fetch", str(image)], before=empty_store),
    ]
    size = image.stat().st_size / 1e6
    title = f"Fetch of a signed gzip image of {size:.0f} MB"
    return table(title, compare(contenders, rounds=rounds), base="gpgv && tar -xz && sync")
