"""Unpacked layers, one directory for each diff ID, whatever image brought it and however it was compressed.

A layer is there when its directory has its name (D3): then its files have been compared with the diff ID.
Whiteouts and opaque directories are as overlayfs wants them. Nothing here says what is below: an image's tree
does.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import ExitStack

from appc import jsonfield
from appc.aci import treehash
from linux import files, process
from oci.layers import stack
from oci.layers.flatten import Source
from oci.layers.stack import Unpacked
from oci.types.digest import Digest
from rkt.store.oci.content import names
from rkt.store.paths import make_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appc.aci.limits import Limits
    from oci.blobs import Blobs
    from rkt.store.oci.records import StoredLayer
    from rkt.store.paths import Paths

_FACTS = "facts"
_ALONE = b"1"
_LARGEST_FACTS = 256 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def name_of(diff_id: Digest) -> str:
    """The name of the directory of a layer."""
    return f"{diff_id.algorithm}-{diff_id.hex}"


def rootfs(paths: Paths, diff_id: Digest) -> str:
    """Where the files of the layer are, or would be."""
    return f"{paths.layers}/{name_of(diff_id)}/rootfs"


def is_unpacked(paths: Paths, diff_id: Digest) -> bool:
    """Whether the layer is there."""
    return os.path.isdir(rootfs(paths, diff_id))


def stored(paths: Paths) -> list[Digest]:
    """The diff IDs of all unpacked layers."""
    found = []
    for name in sorted(names(paths.layers)):
        try:
            found.append(Digest(name.replace("-", ":", 1)))
        except ValueError:
            continue
    return found


def facts(paths: Paths, diff_id: Digest) -> Unpacked:
    """What was found when the layer was unpacked."""
    with open(f"{paths.layers}/{name_of(diff_id)}/{_FACTS}", "rb") as file:
        value = jsonfield.obj(jsonfield.parse(file.read(), limit=_LARGEST_FACTS))
    return _from_json(value)


def ensure(paths: Paths, wanted: Iterable[StoredLayer], blobs: Blobs, limits: Limits) -> bool:
    """Unpack the layers that are missing, durably. False if one of them cannot stand alone.

    Either it holds a hard link into another layer, or the marks of overlays cannot be made here. Raises what
    is wrong with a layer; then nothing is left. The caller must have a single thread, and `content.InUse`.
    """
    by_id = {layer.diff_id: layer for layer in wanted}
    missing = {diff_id: by_id[diff_id] for diff_id in sorted(by_id) if not is_unpacked(paths, diff_id)}
    if not missing:
        return True
    for directory in (paths.layers, paths.temporary, paths.tree_locks):
        make_directory(directory)
    with ExitStack() as held:
        for diff_id in missing:  # in one order, so that no two processes wait for each other
            held.callback(os.close, files.lock_file(_lock(paths, diff_id), exclusive=True))
        ready = []
        for diff_id in missing:
            if is_unpacked(paths, diff_id):
                continue  # another process was first
            temporary = files.temporary_directory(paths.temporary, name_of(diff_id))
            ready.append((diff_id, temporary, held.enter_context(temporary)))
        jobs = [(directory, missing[diff_id]) for diff_id, _, directory in ready]
        if not _fill_all(jobs, blobs, limits):
            return False
        if ready:
            files.sync_filesystem(paths.layers)
        for diff_id, temporary, directory in ready:
            os.rename(directory, f"{paths.layers}/{name_of(diff_id)}")
            temporary.keep()
        files.sync_directory(paths.layers)
    return True


def _lock(paths: Paths, diff_id: Digest) -> str:
    return f"{paths.tree_locks}/layer-{name_of(diff_id)}"


def _fill_all(jobs: list[tuple[str, StoredLayer]], blobs: Blobs, limits: Limits) -> bool:
    """Unpack several layers, as many at once as there are processors, the largest first."""
    waiting = sorted(jobs, key=lambda job: job[1].descriptor.size)
    most = min(len(os.sched_getaffinity(0)), len(jobs))
    if most < 2:
        return all(_fill(directory, layer, blobs, limits) for directory, layer in waiting)
    running: dict[int, tuple[int, str, StoredLayer]] = {}  # by the descriptor of the answer
    try:
        while waiting or running:
            while waiting and len(running) < most:
                directory, layer = waiting.pop()
                fd, pid = _start(directory, layer, blobs, limits)
                running[fd] = pid, directory, layer
            for fd in select.select(running, (), ())[0]:
                pid, directory, layer = running.pop(fd)
                answer = os.read(fd, 1)
                os.close(fd)
                os.waitpid(pid, 0)
                if answer == _ALONE:
                    continue
                # Not, or for a reason that is to be told: here it is raised.
                files.remove_tree(f"{directory}/rootfs")
                if not _fill(directory, layer, blobs, limits):
                    return False
    finally:
        for fd, (pid, _, _) in running.items():
            os.close(fd)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return True


def _start(directory: str, layer: StoredLayer, blobs: Blobs, limits: Limits) -> tuple[int, int]:
    """Unpack one layer in a child process; where it answers `_ALONE` if that is done, and its pid."""
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            process.set_parent_death_signal(parent)
            if _fill(directory, layer, blobs, limits):
                os.write(writing, _ALONE)
        finally:
            os._exit(0)
    os.close(writing)
    return reading, pid


def _fill(directory: str, layer: StoredLayer, blobs: Blobs, limits: Limits) -> bool:
    top = f"{directory}/rootfs"
    os.mkdir(top, 0o700)  # as the layer says in the end; 0755 when it says nothing
    fd = os.open(top, _DIRECTORY)
    try:
        with blobs.open(layer.descriptor) as file:
            found = stack.unpack(Source(file, layer.diff_id), fd, limits=limits)
        if found.links_below:
            return False
        try:
            stack.mark(fd, found)
        except PermissionError:
            return False  # in a user namespace nobody may set the attribute
    finally:
        os.close(fd)
    data = jsonfield.encode(_to_json(found))
    out = os.open(f"{directory}/{_FACTS}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(out, "wb") as written:
        written.write(data)
    return True


def _to_json(found: Unpacked) -> dict[str, object]:
    value: dict[str, object] = {"diffId": found.diff_id, "size": found.size}
    for name in ("whiteouts", "opaques", "described", "implied"):
        value[name] = sorted(path.decode("latin-1") for path in getattr(found, name))
    return value


def _from_json(value: dict[str, object]) -> Unpacked:
    def paths(name: str) -> frozenset[bytes]:
        return frozenset(path.encode("latin-1") for path in jsonfield.listed(jsonfield.string)(value[name]))

    return Unpacked(
        jsonfield.string(value["diffId"]),
        links_below=False,
        whiteouts=paths("whiteouts"),
        opaques=paths("opaques"),
        described=paths("described"),
        implied=paths("implied"),
        size=jsonfield.integer(value["size"]),
    )


def remove(paths: Paths, diff_id: Digest) -> None:
    """Remove a layer that no tree has; the caller has `content.Idle`. It loses its name first."""
    make_directory(paths.temporary)
    temporary = f"{paths.temporary}/.tmp-{os.getpid()}-{name_of(diff_id)}"
    os.rename(f"{paths.layers}/{name_of(diff_id)}", temporary)
    files.sync_directory(paths.layers)
    files.remove_tree(temporary)
    try:
        os.unlink(_lock(paths, diff_id))
    except FileNotFoundError:
        return


def compare(paths: Paths, layer: StoredLayer, blobs: Blobs, limits: Limits) -> str | None:
    """What is wrong with an unpacked layer: it is unpacked once more and compared. None if all is well."""
    make_directory(paths.temporary)
    with files.temporary_directory(paths.temporary, "compare") as directory:
        if not _fill(directory, layer, blobs, limits):
            return "it cannot be unpacked any more"
        hashes = []
        for path in (f"{directory}/rootfs", rootfs(paths, layer.diff_id)):
            fd = os.open(path, _DIRECTORY)
            try:
                hashes.append((treehash.measure(fd).hash, _opaque_directories(fd)))
            finally:
                os.close(fd)
    expected, found = hashes
    if expected == found:
        return None
    if expected[0] == found[0]:
        return "other directories are opaque than the layer says"
    return f"wrong tree hash: {found[0][:39]}, expected: {expected[0][:39]}"


def _opaque_directories(top: int) -> set[bytes]:
    found = set()
    for directory, _, _, fd in os.fwalk(b".", dir_fd=top):
        try:
            if os.getxattr(fd, stack.OPAQUE_ATTRIBUTE) == b"y":
                found.add(directory)
        except OSError:
            continue
    return found


def stackable(paths: Paths, wanted: Sequence[Digest]) -> tuple[bool, int]:
    """Whether an overlay of these layers (the lowest first) is the image, and the bytes of all files."""
    found = {diff_id: facts(paths, diff_id) for diff_id in set(wanted)}
    unpacked = [found[diff_id] for diff_id in wanted]
    return stack.stackable(unpacked), sum(one.size for one in found.values())
