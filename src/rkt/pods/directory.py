"""All pods of a data directory: enumerate, find by UUID prefix or name, create."""

from __future__ import annotations

import os

from appc.types.uuid import UUID
from linux import files
from rkt.errors import RktError
from rkt.pods import phases
from rkt.pods.pod import Pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEXADECIMAL = "0123456789abcdef"
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LONGEST_NAME = 63
# The phases that `list`, `status` and the rest show; embryos and garbage are nobody's business.
VISIBLE = (phases.PREPARE, phases.PREPARED, phases.RUN, phases.EXITED_GARBAGE)
NAME_FILE = "pod-name"


class PodDirectory:
    """The pods below DATA_DIR/pods."""

    __slots__ = ("data_dir", "root")

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir
        self.root = f"{data_dir}/pods"

    def uuids(self, shown: Iterable[str] = VISIBLE) -> list[str]:
        """The UUIDs of all pods in the phases `shown`, each once, sorted."""
        found: set[str] = set()
        for phase in shown:
            try:
                names = os.listdir(f"{self.root}/{phase}")
            except FileNotFoundError:
                continue
            found.update(name for name in names if _is_uuid(name))
        return sorted(found)

    def pods(self, shown: Iterable[str] = VISIBLE) -> Iterator[Pod]:
        """Every pod in the phases `shown`, open while the caller looks at it."""
        shown = tuple(shown)
        for uuid in self.uuids(shown):
            pod = Pod.open(self.root, uuid)
            if pod is None:
                continue
            with pod:
                if pod.phase in shown:
                    yield pod

    def get(self, wanted: str) -> Pod:
        """Open the pod that `wanted` means: its name, its UUID or a unique prefix of that.

        Raises RktError: `UUID cannot be empty`, `no matches found for …`, or the candidates.
        """
        if not wanted:
            raise RktError("UUID cannot be empty")
        uuid = self.named(wanted) or self._by_prefix(wanted)
        pod = Pod.open(self.root, uuid)
        if pod is None:
            raise RktError(f'no matches found for "{wanted}"')
        return pod

    def named(self, name: str) -> str | None:
        """The UUID of the pod called `name` by `--pod-name`, if there is one."""
        for pod in self.pods():
            if pod.read_text(NAME_FILE) == name:
                return pod.uuid
        return None

    def _by_prefix(self, prefix: str) -> str:
        matches = []
        if not prefix.strip(_HEXADECIMAL + "-"):
            matches = [uuid for uuid in self.uuids() if uuid.startswith(prefix)]
        if not matches:
            raise RktError(f'no matches found for "{prefix}"', hint="`rkt list` shows the pods on this host")
        if len(matches) > 1:
            raise RktError(
                f'ambiguous UUID "{prefix}": {len(matches)} pods match',
                hint="give more of: " + ", ".join(matches),
            )
        return matches[0]

    def create(self, *, name: str | None = None) -> Pod:
        """Make a new pod, locked, in phase `prepare`.

        It is made as an embryo that nobody looks at, locked there and only then renamed: a pod in
        `prepare` without a lock is one whose maker died. Raises RktError if `name` is malformed or
        another pod has it.
        """
        uuid = str(UUID.random())
        for phase in phases.PHASES:
            os.makedirs(f"{self.root}/{phase}", mode=0o700, exist_ok=True)
        embryo = f"{self.root}/{phases.EMBRYO}/{uuid}"
        os.mkdir(embryo, 0o700)
        pod = Pod.open(self.root, uuid)
        if pod is None:
            raise RktError(f"pod {uuid} was removed while it was being made", hint="try again")
        try:
            pod.lock()
            if name is not None:
                with self._locked("podNames", exclusive=True):
                    self._claim(pod, name)
                    pod.move(phases.PREPARE, durable=False)
            else:
                pod.move(phases.PREPARE, durable=False)
        except BaseException:
            pod.close()
            raise
        return pod

    def _locked(self, name: str, *, exclusive: bool, blocking: bool = True) -> _Lock:
        """Hold the lock file `name`; BlockingIOError if it is taken and `blocking` is off."""
        os.makedirs(f"{self.data_dir}/locks", mode=0o700, exist_ok=True)
        return _Lock(files.lock_file(f"{self.data_dir}/locks/{name}", exclusive=exclusive, blocking=blocking))

    def _claim(self, pod: Pod, name: str) -> None:
        if not _is_name(name) or _is_uuid(name):
            raise RktError(
                f"{name!r} cannot be a pod name",
                hint="use up to 63 letters, digits, `_`, `.` and `-`, beginning with a letter or digit",
            )
        owner = self.named(name)
        if owner is not None:
            raise RktError(
                f"the pod name {name!r} is in use by pod {owner}",
                hint=f"stop that pod and remove it with `rkt rm {name}`",
            )
        pod.write(NAME_FILE, name.encode() + b"\n")

    def nobody_preparing(self) -> _Lock:
        """Try to hold `prepareLock` alone, without waiting; the lock is `held` if that worked."""
        try:
            return self._locked("prepareLock", exclusive=True, blocking=False)
        except BlockingIOError:
            return _Lock(None)

    def preparing(self) -> _Lock:
        """Hold the shared `prepareLock`: image gc, which takes it exclusively, keeps away meanwhile."""
        return self._locked("prepareLock", exclusive=False)


class _Lock:
    """A lock that has been taken (or not: `held`), given back at the end of a `with`."""

    __slots__ = ("_fd", "held")

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self.held = fd is not None

    def __enter__(self) -> _Lock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def _is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in the form that pods are stored under."""
    groups = text.split("-")
    return [len(group) for group in groups] == [8, 4, 4, 4, 12] and not text.strip(_HEXADECIMAL + "-")


def _is_name(text: str) -> bool:
    """Whether `text` is fit for `--pod-name`."""
    fits = 0 < len(text) <= _LONGEST_NAME and text[0] in _ALPHANUMERIC
    return fits and not text.strip(_ALPHANUMERIC + "_.-")
