"""Pull and first run of an OCI image from a registry on this host, beside podman; both stores are empty."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import tarfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bundle
from timing import Contender, compare, table

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1 << 20
#: Bytes of each layer above the base: of the host's own files, and of noise, which nothing compresses.
_LAYERS = ((60 * _MIB, 0), (60 * _MIB, 0), (50 * _MIB, 20 * _MIB), (20 * _MIB, 40 * _MIB))
_LARGEST_FILE = 8 * _MIB
_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}/registry}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def run(directory: Path, rounds: int) -> str:
    """The table, in Markdown; without a registry or skopeo to fill it, a line that says so."""
    if not (bundle.have("docker-registry") and bundle.have("skopeo")):
        return "### Pull and first run\n\nLeft out: needs docker-registry and skopeo."
    plain, packed = _image(directory)
    with _registry(directory) as host:
        name = f"{host}/bench:latest"
        source = f"oci:{directory / 'layout'}:bench"
        copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, f"docker://{name}"]
        subprocess.run(copy, check=True)
        results = compare(_contenders(directory, name), rounds=rounds)
    title = f"Pull and first run of an image of {plain >> 20} MiB ({packed >> 20} MiB packed)"
    return table(f"{title}, {len(_LAYERS) + 1} layers", results, base="podman run")


def _contenders(directory: Path, name: str) -> list[Contender]:
    data = directory / "data"
    rkt = [bundle.RKT, f"--dir={data}", f"--local-config={directory}", "--insecure-options=image,http"]
    storage = directory / "podman"

    def keep(store: Path) -> None:
        """Move it aside. Deleted now, it would slow down the next: ext4 steps around such inodes."""
        store.rename(f"{store}-{time.monotonic_ns()}")
        os.sync()  # what one has left to be written is not the next one's

    def after_rkt() -> None:
        subprocess.run([*rkt, "gc", "--grace-period=0s"], check=True, capture_output=True)
        keep(data)

    def after_podman() -> None:
        # It keeps its own directory as a mount as long as the host is up.
        subprocess.run(["umount", storage / "root/overlay"], check=False, capture_output=True)
        keep(storage)

    contenders = [
        Contender("rkt run", [*rkt, "run", "--net=none", f"docker://{name}"], after=after_rkt),
    ]
    if bundle.have("podman"):
        podman = ["podman", f"--root={storage / 'root'}", f"--runroot={storage / 'run'}", "--runtime=runc"]
        flags = ["--rm", "--network=none", "--tls-verify=false", *bundle.PODMAN_LIMITS]
        contenders.append(Contender("podman run", [*podman, "run", *flags, name], after=after_podman))
    return contenders


@contextmanager
def _registry(directory: Path) -> Iterator[str]:
    """Debian's registry on loopback, over plain http: its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = int(found.getsockname()[1])
    config = directory / "registry.yml"
    config.write_text(_CONFIG.format(directory=directory, port=port))
    environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
    with subprocess.Popen(
        ["docker-registry", "serve", config], stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            end = time.monotonic() + 20
            while not _answers(port):
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError("docker-registry does not come up")
                time.sleep(0.02)
            yield f"localhost:{port}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# --- the image


def _image(directory: Path) -> tuple[int, int]:
    """An OCI layout in `directory`; the bytes of all files, and those of all layers as they are stored."""
    layout = directory / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    layers, diff_ids, plain = [], [], 0
    for archive, size in (_base(directory), *_above()):
        plain += size
        diff_ids.append(_digest(archive))
        layers.append(_blob(layout, gzip.compress(archive, 6, mtime=0), "layer.v1.tar+gzip"))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(layout, json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    index = _blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    index["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return plain, sum(layer["size"] for layer in layers)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _blob(layout: Path, data: bytes, kind: str) -> dict[str, Any]:
    digest = _digest(data)
    (layout / "blobs" / digest.replace(":", "/")).write_bytes(data)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": len(data)}


def _base(directory: Path) -> tuple[bytes, int]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(bundle.rootfs(directory), ".")
    return out.getvalue(), out.tell()


def _above() -> Iterator[tuple[bytes, int]]:
    """Archives with the host's own files, and some with noise (the same in each run)."""
    source = _files(Path("/usr"))
    noise = random.Random(1)
    for number, (files, noisy) in enumerate(_LAYERS):
        out = io.BytesIO()
        left = files
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            while left > 0:
                path = next(source)
                archive.add(path, str(path)[1:], recursive=False)
                left -= path.stat().st_size
            for part in range(noisy // (4 * _MIB)):
                entry = tarfile.TarInfo(f"srv/noise-{number}-{part}")
                entry.size = 4 * _MIB
                archive.addfile(entry, io.BytesIO(noise.randbytes(entry.size)))
        yield out.getvalue(), files - left + noisy


def _files(directory: Path) -> Iterator[Path]:
    for above, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files):
            path = Path(above, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST_FILE:
                yield path
