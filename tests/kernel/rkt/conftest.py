"""Pods for tests of the stage 1 flavours: directories as stage 0 leaves them, each run by a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_RUNNER = """
import json, os, sys
from rkt.stage1.abi import Invocation
from rkt.stage1 import flavours
from linux import files
words = json.loads(sys.argv[1])
if words["private_users"]:
    words["private_users"] = tuple(words["private_users"])
words["net"] = tuple(words["net"])
if (grace := words.pop("grace", None)) is not None:
    from rkt.stage1.native import supervisor
    supervisor.GRACE = grace
if (limit := words.pop("log_limit", None)) is not None:
    from rkt.stage1.native import logs
    logs.MAX_FILE = limit
if words.pop("closed", False):
    for fd in (0, 1, 2):
        os.close(fd)
    sys.stdin = sys.stdout = sys.stderr = None
if words.pop("no_idmap", False):  # a kernel or filesystem that refuses: as Linux before 5.12 does
    from linux.mount import api
    setattr_ = api.mount_setattr
    def refuse(*args, userns_fd=0, **kw):
        if userns_fd:
            raise OSError(22, "Invalid argument", "mount_setattr")
        setattr_(*args, **kw)
    api.mount_setattr = refuse
invocation = Invocation(**words)
lock = files.lock_directory(invocation.pod_dir, exclusive=True)
try:
    code = flavours.bundled(sys.argv[2]).run(invocation, lock)
except Exception as error:
    if "--trace" in sys.argv:
        raise
    sys.stderr.write(f"failed: {error}\\n")
    code = 254
sys.exit(code)
"""
SHIFT = 0x7000_0000


class Done(NamedTuple):
    """How a pod ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """What the apps printed, without rkt's prefix."""
        return [line.partition("]: ")[2] for line in self.stdout.splitlines() if "]: " in line]


class Running(subprocess.Popen[str]):
    """The process of a pod; a test that fails while it runs kills it, instead of waiting for it."""

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None and self.poll() is None:
            self.kill()
        super().__exit__(kind, value, trace)


class TestPod:
    """A pod directory and ways to run it."""

    __test__ = False

    def __init__(self, directory: Path, manifest: dict[str, Any], flavour: str) -> None:
        self.directory = directory
        self.uuid = directory.name
        self.manifest = manifest
        self.flavour = flavour

    def start(
        self,
        *,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        **flags: Any,
    ) -> Running:
        """Start the pod in a process of its own; `flags` are fields of the Invocation."""
        words = {
            "uuid": self.uuid,
            "pod_dir": str(self.directory),
            "net": ["none"],
            "private_users": [SHIFT, 65536],
            "data_dir": str(self.directory.parent.parent.parent),
            **flags,
        }
        command = [sys.executable, "-I", "-c", _PATH + _RUNNER, json.dumps(words), self.flavour]
        return Running(command, stdin=stdin, stdout=stdout, stderr=stderr, text=True, errors="replace")

    def run(self, *, timeout: float = 60, **flags: Any) -> Done:
        """Run the pod to its end."""
        with self.start(**flags) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                stdout, stderr = process.communicate()
                raise AssertionError(f"the pod did not end:\n{stdout}\n{stderr}") from None
        return Done(process.returncode, stdout, stderr)

    def await_ready(self, process: subprocess.Popen[str], timeout: float = 20) -> None:
        """Wait until the supervisor says that all apps run."""
        self.await_(
            lambda: os.path.islink(self.directory / "stage1/rootfs/rkt/supervisor-status"), process, timeout
        )

    def await_(
        self, condition: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 20
    ) -> None:
        """Wait until `condition` holds; a failure when the pod ends before."""
        end = time.monotonic() + timeout
        while not condition():
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise AssertionError("the pod did not get there:\n" + "\n".join(process.communicate()))
            time.sleep(0.01)

    def status(self, app: str = "app") -> str:
        """The exit code that the stage 1 wrote down for `app`."""
        return (self.directory / "stage1/rootfs/rkt/status" / app).read_text().strip()

    def log(self, app: str = "app") -> str:
        """What is in the log file of `app`; empty before there is one."""
        try:
            return (self.directory / "logs" / app).read_text()
        except FileNotFoundError:
            return ""

    def gc(self) -> None:
        """What gc has the stage 1 do."""
        from rkt.stage1 import flavours

        flavours.bundled(self.flavour).gc(str(self.directory), "/etc/rkt")


_PATH = f"import sys; sys.path[:0] = {[str(Path(__file__).parents[3] / 'src')]!r}\n"

MakePod = Callable[..., TestPod]


@pytest.fixture
def make_pod(root: None, busybox_rootfs: Path, tmp_path: Path) -> Iterator[MakePod]:
    """A function that makes a pod of busybox apps.

    ``make_pod(["sh", "-c", "true"])`` or ``make_pod(apps={"one": {"exec": [...], ...}, ...})``; keywords:
    `app` (members of the manifest's app), `runtime` (members of the pod's app), `volumes`, `isolators` of the
    pod, `overlay`, `flavour`.
    """
    made: list[TestPod] = []

    def make(
        argv: Sequence[str] = ("/bin/true",),
        *,
        apps: Mapping[str, Mapping[str, Any]] | None = None,
        app: Mapping[str, Any] | None = None,
        runtime: Mapping[str, Any] | None = None,
        volumes: Sequence[Mapping[str, Any]] = (),
        isolators: Sequence[Mapping[str, Any]] = (),
        overlay: bool = True,
        flavour: str = "native",
        rootfs: Path = busybox_rootfs,
        annotations: Sequence[Mapping[str, str]] = (),
    ) -> TestPod:
        identity = str(uuid.uuid4())
        directory = tmp_path / "data/pods/run" / identity
        wanted = apps if apps is not None else {"app": {"exec": list(argv), **(app or {})}}
        image = {
            "acKind": "ImageManifest",
            "acVersion": "0.8.11",
            "name": "example.com/test",
            "annotations": list(annotations),
        }
        listed = []
        for name in ("logs", "stage1/rootfs/rkt/status", "stage1/rootfs/rkt/env", "stage1/rootfs/opt/stage2"):
            (directory / name).mkdir(parents=True)
        for name, words in wanted.items():
            words = dict(words)
            in_pod = {**(runtime or {}), **words.pop("runtime", {})}
            if words.get("exec", [""])[0][:1] != "/":
                words["exec"] = ["/bin/" + words["exec"][0], *words["exec"][1:]]
            full = {"user": "0", "group": "0", **words}
            information = directory / "appsinfo" / name
            information.mkdir(parents=True)
            (information / "manifest").write_text(json.dumps(image))
            (information / "treeStoreID").write_text(f"deps-{name}")
            (information / "rootfs-path").write_text(str(rootfs))
            if overlay:
                for kind in ("upper", "work"):
                    (directory / f"overlay/deps-{name}/{kind}/{name}").mkdir(parents=True)
            else:
                target = directory / f"stage1/rootfs/opt/stage2/{name}"
                target.mkdir(parents=True)
                subprocess.run(["cp", "-a", str(rootfs), str(target / "rootfs")], check=True)
            listed.append({"name": name, "image": {"id": "sha512-" + "0" * 128}, "app": full, **in_pod})
        if overlay:
            (directory / "overlay-prepared").touch()
        manifest = {
            "acKind": "PodManifest",
            "acVersion": "0.8.11",
            "apps": listed,
            "volumes": list(volumes),
            "isolators": list(isolators),
        }
        (directory / "pod").write_text(json.dumps(manifest))
        pod = TestPod(directory, manifest, flavour)
        made.append(pod)
        return pod

    yield make
    for pod in made:
        pod.gc()
