"""What the last ADD of an attachment gave, kept until its DEL, in the format of libcni.

One file for each (network, container ID, interface name), so that other runtimes on the node can read
ours and we theirs. Written durably; read with the expectation that somebody else did not.
"""

from __future__ import annotations

import os

from cni import jsontext, volatile
from cni.fields import Fields
from cni.types.result import Result, Value

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Final

DIRECTORY = "/var/lib/cni"
_KIND = "cniCacheV1"
_LIMIT = 4 << 20  # bytes


class Attachment(Value):
    """A container's interface on a network, and what the runtime has to say about it."""

    __slots__ = ("args", "capability_args", "container_id", "ifname", "netns")

    def __init__(
        self,
        container_id: str,
        ifname: str,
        *,
        netns: str = "",
        args: Sequence[tuple[str, str]] = (),
        capability_args: Mapping[str, object] | None = None,
    ) -> None:
        self.container_id: Final = container_id
        self.ifname: Final = ifname
        self.netns: Final = netns
        self.args: Final = tuple(args)
        self.capability_args: Final = dict(capability_args or {})


class Cached(Value):
    """The contents of a cache file. `config` is the text of the network's list, b"" in old files."""

    __slots__ = ("attachment", "config", "network", "result")

    def __init__(self, network: str, attachment: Attachment, config: bytes, result: Result | None) -> None:
        self.network: Final = network
        self.attachment: Final = attachment
        self.config: Final = config
        self.result: Final = result


class Cache:
    """The directory ``<root>/results``.

    `durable` False is for a caller all of whose plugins forget at the next boot what they did;
    `make_root` False for one whose root is a part of something that is not to be made again when it is gone.
    """

    def __init__(self, root: str = DIRECTORY, *, durable: bool = True, make_root: bool = True) -> None:
        self._directory = f"{root}/results"
        self._durable = durable
        self._make_root = make_root

    def store(self, network: str, attachment: Attachment, config: bytes, result: dict[str, object]) -> None:
        """Keep `result` until `remove`; on return it survives a power cut. Raises OSError."""
        from binascii import b2a_base64

        record: dict[str, object] = {
            "kind": _KIND,
            "containerId": attachment.container_id,
            "config": b2a_base64(config, newline=False).decode(),
            "ifName": attachment.ifname,
            "networkName": network,
            "netns": attachment.netns,
        }
        if attachment.args:
            record["cniArgs"] = [list(pair) for pair in attachment.args]
        if attachment.capability_args:
            record["capabilityArgs"] = attachment.capability_args
        record["result"] = result
        self._make_directory()
        path = self._path(network, attachment.container_id, attachment.ifname)
        data = jsontext.dumps(record).encode()
        if not self._durable:
            volatile.replace(path, data)
            return
        from linux.files import write_atomically

        write_atomically(path, data, mode=0o600)

    def _make_directory(self) -> None:
        if self._make_root:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            return
        try:
            os.mkdir(self._directory, 0o700)
        except FileExistsError:
            return

    def remove(self, network: str, attachment: Attachment) -> None:
        """Forget. No error when there is nothing; the file of another attachment stays."""
        try:
            if self.read(network, attachment) is None:
                return
        except ValueError:
            pass  # damaged: nobody will read it
        try:
            os.unlink(self._path(network, attachment.container_id, attachment.ifname))
        except FileNotFoundError:
            return

    def read(self, network: str, attachment: Attachment) -> Cached | None:
        """What is kept; None without a file, or with one of another attachment that has the same name.

        Raises ValueError for a damaged file (empty after a power cut, as others write it).
        """
        path = self._path(network, attachment.container_id, attachment.ifname)
        try:
            with open(path, "rb") as file:
                fields = Fields(jsontext.loads(file.read(_LIMIT + 1), limit=_LIMIT))
        except FileNotFoundError:
            return None
        if fields.get("kind") is None:
            # Before libcni 0.7 the file was the result alone; its name is all that says whose it is.
            return Cached(network, attachment, b"", Result.from_json(fields.values))
        found = _decode(fields)
        same = (network, attachment.container_id, attachment.ifname)
        if (found.network, found.attachment.container_id, found.attachment.ifname) != same:
            return None  # network "a-b" with container "c" has the file of network "a" with container "b-c"
        return found

    def attachments(self, container_id: str = "", network: str = "") -> Iterator[Cached]:
        """All that is kept, of one container or one network if named; unreadable files are passed over."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return
        for name in names:
            try:
                with open(f"{self._directory}/{name}", "rb") as file:
                    found = _decode(Fields(jsontext.loads(file.read(_LIMIT + 1), limit=_LIMIT)))
            except (OSError, ValueError):
                continue
            key = (found.network, found.attachment.container_id, found.attachment.ifname)
            if self._path(*key) != f"{self._directory}/{name}":
                continue  # it says it is another file: whoever believed that would remove that one
            if container_id in ("", found.attachment.container_id) and network in ("", found.network):
                yield found

    def damaged(self) -> list[str]:
        """The paths of files that cannot be read; bare results of old runtimes are none of them."""
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            return []
        found = []
        for name in names:
            path = f"{self._directory}/{name}"
            try:
                with open(path, "rb") as file:
                    fields = Fields(jsontext.loads(file.read(_LIMIT + 1), limit=_LIMIT))
                if fields.get("kind") is None:
                    Result.from_json(fields.values)
                else:
                    _decode(fields)
            except (OSError, ValueError):
                found.append(path)
        return found

    def _path(self, network: str, container_id: str, ifname: str) -> str:
        return f"{self._directory}/{network}-{container_id}-{ifname}"


def _decode(fields: Fields) -> Cached:
    from binascii import a2b_base64

    if fields.string("kind") != _KIND:
        raise ValueError(f"a cache file of kind {fields.get('kind')!r}")
    pairs = []
    for pair in fields.array("cniArgs"):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
            raise ValueError("cniArgs is not a list of pairs of strings")
        pairs.append((str(pair[0]), str(pair[1])))
    result = fields.get("result")
    return Cached(
        fields.string("networkName"),
        Attachment(
            fields.string("containerId"),
            fields.string("ifName"),
            netns=fields.string("netns"),
            args=pairs,
            capability_args=fields.mapping("capabilityArgs").values,
        ),
        a2b_base64(fields.string("config")),
        None if result is None else Result.from_json(result),
    )
