"""Which pods are registered: tokens, manifests, addresses; kept in files, so that a restart loses nothing."""

from __future__ import annotations

import hashlib
import hmac
import os
import re

from appc import jsonfield
from appc.schema.image import ImageManifest
from appc.schema.pod import PodManifest
from appc.types.names import ACName
from appc.types.uuid import UUID
from linux import files
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY_BYTES = 64
# At least the 128 bits that the specification asks for; ours have 256.
_TOKEN = re.compile(r"[0-9A-Za-z_-]{32,256}")
_HMAC_KEY = "hmac.key"


class Registration(NamedTuple):
    """A pod as it was registered. Manifests are the bytes that are given out again.

    `net_info` is the pod's net-info.json, empty when not told; `local` is True for a pod that uses the host's
    network. With neither, a request may come from anywhere (rkt's own interface has no addresses).
    """

    uuid: UUID
    token: str
    pod_manifest: bytes
    images: dict[str, bytes]
    net_info: str = ""
    local: bool = False

    def to_json(self) -> dict[str, object]:
        return {
            "uuid": self.uuid,
            "token": self.token,
            "podManifest": self.pod_manifest.decode(),
            "images": {name: data.decode() for name, data in self.images.items()},
            "netInfo": self.net_info,
            "local": self.local,
        }

    @classmethod
    def from_json(cls, value: object) -> Registration:
        fields = jsonfield.Fields(value)
        found = cls(
            fields.required("uuid", UUID.from_json),
            fields.required("token", jsonfield.string),
            fields.required("podManifest", jsonfield.string).encode(),
            {name: data.encode() for name, data in fields.required("images", jsonfield.string_map).items()},
            fields.optional("netInfo", jsonfield.string, ""),
            fields.optional("local", jsonfield.boolean, default=False),
        )
        fields.finish()
        return found

    def manifest(self) -> PodManifest:
        return PodManifest.parse(self.pod_manifest)

    def image(self, app: str) -> ImageManifest:
        return ImageManifest.parse(self.images[app])


class Registry:
    """The registrations in `directory` (0700, made when missing), and the key that signs for pods."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pods: dict[UUID, Registration] = {}
        self._by_token: dict[bytes, UUID] = {}
        self._addresses: dict[UUID, frozenset[str]] = {}
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chmod(directory, 0o700)
        self.key = self._load_key()
        for name in sorted(os.listdir(directory)):
            if name.endswith(".json"):
                self._load(os.path.join(directory, name))

    def _load_key(self) -> bytes:
        path = os.path.join(self._directory, _HMAC_KEY)
        try:
            with open(path, "rb") as file:
                key = file.read()
            if len(key) == _KEY_BYTES:
                return key
        except FileNotFoundError:
            pass
        key = os.urandom(_KEY_BYTES)
        files.write_atomically(path, key, mode=0o600)
        return key

    def _load(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                self._keep(Registration.from_json(jsonfield.parse(file.read())))
        except (OSError, ValueError):
            os.unlink(path)  # half of it is of no use to anybody

    def _keep(self, registration: Registration) -> None:
        self._drop(registration.uuid)
        self._pods[registration.uuid] = registration
        self._by_token[_digest(registration.token)] = registration.uuid

    def _drop(self, uuid: UUID) -> None:
        old = self._pods.pop(uuid, None)
        if old is not None:
            self._by_token.pop(_digest(old.token), None)
        self._addresses.pop(uuid, None)

    def add(self, registration: Registration) -> None:
        """Register a pod, or again with other facts. ValueError for manifests that are none, a weak token."""
        if not _TOKEN.fullmatch(registration.token):
            raise ValueError("the token must have 32 to 256 characters out of A-Z, a-z, 0-9, - and _")
        holder = self._by_token.get(_digest(registration.token))
        if holder not in {None, registration.uuid}:
            raise ValueError("the token is another pod's")
        registration.manifest()
        self._write(registration)
        self._keep(registration)

    def add_image(self, uuid: UUID, app: str, manifest: bytes) -> None:
        """Add the image manifest of one app. KeyError for a pod that is not registered, else ValueError."""
        registration = self._pods[uuid]
        ImageManifest.parse(manifest)
        changed = registration._replace(images={**registration.images, ACName(app): manifest})
        self._write(changed)
        self._pods[uuid] = changed

    def remove(self, uuid: UUID) -> None:
        """Forget a pod. KeyError when it is not registered."""
        _ = self._pods[uuid]
        self._drop(uuid)
        try:
            os.unlink(self._path(uuid))
        except FileNotFoundError:
            return

    def _path(self, uuid: UUID) -> str:
        return os.path.join(self._directory, f"{uuid}.json")

    def _write(self, registration: Registration) -> None:
        data = jsonfield.encode(registration.to_json())
        files.write_atomically(self._path(registration.uuid), data, mode=0o600)

    def find(self, token: str, peer: str, *, local: bool) -> Registration | None:
        """The pod that `token` belongs to, if a request from the address `peer` may be its own.

        `local` says that the peer is this host. The token is looked up by its hash, which tells a stopwatch
        nothing, and then compared in constant time.
        """
        uuid = self._by_token.get(_digest(token))
        if uuid is None:
            return None
        found = self._pods[uuid]
        if not hmac.compare_digest(found.token.encode(), token.encode(errors="replace")):
            return None
        return found if self._may_come_from(found, peer, local=local) else None

    def expects(self, peer: str, *, local: bool) -> bool:
        """Whether any pod may send requests from this address: others are not even listened to."""
        return any(self._may_come_from(pod, peer, local=local) for pod in self._pods.values())

    def _may_come_from(self, pod: Registration, peer: str, *, local: bool) -> bool:
        if pod.local:
            return local
        if not pod.net_info:
            return True
        return peer in self._addresses_of(pod)

    def _addresses_of(self, pod: Registration) -> frozenset[str]:
        """The pod's addresses; its networks are joined after it was registered, so they may come later."""
        known = self._addresses.get(pod.uuid)
        if known is None:
            known = frozenset(_addresses(pod.net_info))
            if known:
                self._addresses[pod.uuid] = known
        return known


def _addresses(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            networks = jsonfield.parse(file.read(1 << 20))
    except (OSError, ValueError):
        return
    for network in networks if isinstance(networks, list) else []:
        for name in ("ip", "ip6"):
            address = network.get(name) if isinstance(network, dict) else None
            if isinstance(address, str) and address:
                yield normal_address(address)


def normal_address(text: str) -> str:
    """One spelling of an IP address: without a zone, IPv4 also where it is written as IPv6."""
    import ipaddress

    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
