"""tuning: changes settings of the interface that the plugins before it made, and takes them back on DEL.

They are kernel settings below net (sysctl), the hardware address, MTU, queue length and two flags.
"""

from __future__ import annotations

import errno
import os

from cni import state, volatile
from cni.attachment import chained, names, sysctl, teardown, verify
from cni.attachment.veth import Namespaces
from cni.errors import INVALID_CONFIG, CniError
from cni.fields import Fields
from cni.types.result import Interface, Result
from cni.undo import Undo
from linux.netlink import link
from linux.netlink.batch import Batch

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from cni.request import Request
    from linux.netlink.link import Link

NAME = "tuning"

ALLOWED = "/etc/cni/tuning/allowlist.conf"
# Where the reference plugin keeps the old attributes, and looks for them on DEL.
DATA_DIRECTORY = "/run/cni/tuning"

_ARGUMENTS = ("MAC", "IP", "GATEWAY")  # of CNI_ARGS; the last two are for IPAM plugins
_HIGHEST = (1 << 31) - 1
_REFUSED = (errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.EOPNOTSUPP, errno.EADDRNOTAVAIL, errno.EACCES)


class Attributes:
    """Attributes of a link; None for what is not to be changed."""

    __slots__ = ("allmulti", "mac", "mtu", "promisc", "queue")

    def __init__(self, fields: Fields) -> None:
        text = fields.string("mac")
        self.mac = names.check_mac(text) if text else None
        self.promisc = _optional_boolean(fields, "promisc")
        self.mtu = fields.integer("mtu", low=0, high=_HIGHEST) or None
        self.allmulti = _optional_boolean(fields, "allmulti")
        self.queue = fields.optional_integer("txQLen", low=0, high=_HIGHEST)

    def to_json(self) -> dict[str, object]:
        """As the reference plugin writes them."""
        found = {
            "mac": self.mac,
            "promisc": self.promisc,
            "mtu": self.mtu,
            "allmulti": self.allmulti,
            "txQLen": self.queue,
        }
        return {key: value for key, value in found.items() if value is not None}

    def of(self, found: Link) -> Attributes:
        """What `found` has for each attribute that these change."""
        now = {
            "mac": found.mac,
            "promisc": bool(found.flags & link.PROMISCUOUS),
            "mtu": found.mtu,
            "allmulti": bool(found.flags & link.MULTICAST_ALL),
            "txQLen": found.transmit_queue,
        }
        return Attributes(Fields({key: now[key] for key in self.to_json()}))

    def give(self, namespaces: Namespaces, found: Link) -> None:
        if not self.to_json():
            return
        batch = Batch(namespaces.container)
        batch.add(
            link.change(
                found.name,
                mac=self.mac,
                mtu=self.mtu or 0,
                promiscuous=self.promisc,
                multicast_all=self.allmulti,
                transmit_queue=self.queue,
            )
        )
        batch.commit()


class Config:
    """The configuration of a request, checked. ValueError and CniError for what cannot be.

    `sysctl` maps paths below /proc/sys/net to values.
    """

    __slots__ = ("attributes", "sysctl")

    def __init__(self, request: Request) -> None:
        extra = request.fields.mapping("args").mapping("cni")
        merged: dict[str, object] = {}
        for key in ("mac", "promisc", "mtu", "allmulti", "txQLen"):
            merged[key] = extra.get(key) if extra.get(key) is not None else request.fields.get(key)
        if not extra.string("mac"):
            given = request.cni_args(_ARGUMENTS).get("MAC", "")
            merged["mac"] = request.runtime_config.string("mac") or given or request.fields.string("mac")
        if merged["promisc"] is False:
            merged["promisc"] = None  # the same as not to say so, unlike for `allmulti`
        self.attributes = Attributes(Fields(merged))
        self.sysctl: dict[str, str] = {}
        keys: dict[str, str] = {}
        for fields in (request.fields.mapping("sysctl"), extra.mapping("sysctl")):
            written: set[str] = set()
            for key in fields.values:
                path = sysctl.setting(key, request.ifname)
                if path in written:
                    raise ValueError(f"{fields.path(key)}: this setting is there twice")
                written.add(path)
                keys[path] = key
                self.sysctl[path] = _value(fields, key)
        if request.command == "ADD" and keys:
            _check_allowed(keys)


def add(request: Request) -> Result:
    """Change what is asked for; the result is that of the plugin before, with the new MAC address and MTU."""
    result = verify.previous(request)
    config = Config(request)
    attributes = config.attributes
    if state.load(request, NAME) is not None:
        delete(request)  # of an ADD that was killed
    with Namespaces(request) as namespaces, Undo() as undo:
        found = chained.container_link(request, namespaces)
        before = attributes.of(found)
        made: dict[str, object] = {
            "netns": chained.identity(namespaces),
            "index": found.index,
            "before": before.to_json(),
            "attributes": attributes.to_json(),
            "file": _file(request),
        }
        with _inside(namespaces):
            made["sysctl"] = settings = _read_settings(config.sysctl)
        undo.push(lambda: delete(request))
        state.save(request, NAME, made)
        if before.to_json():
            _save_for_others(_file(request), before)
        with _inside(namespaces):
            _write_settings(settings)
        # What the kernel has made of the values, to know on DEL whether somebody else has changed them.
        state.save(request, NAME, made)
        try:
            attributes.give(namespaces, found)
        except OSError as failed:
            if failed.errno in _REFUSED:
                raise CniError(INVALID_CONFIG, f"{request.ifname} does not take it", str(failed)) from None
            raise
    return chained.changed(result, lambda each: _changed(request, each, attributes))


def check(request: Request) -> None:
    """What this plugin changed is still so; what others changed is their affair."""
    verify.previous(request)
    config = Config(request)
    with Namespaces(request) as namespaces:
        found = chained.checked_link(request, namespaces)
        now, wanted = config.attributes.of(found).to_json(), config.attributes.to_json()
        for key, value in wanted.items():
            if now[key] != value:
                raise verify.damaged(f"{request.ifname} has {key} {now[key]}", f"not {value}")
        record = state.load(request, NAME)
        made = Fields(record).mapping("sysctl") if record is not None else Fields({})
        with _inside(namespaces):
            for path, text in config.sysctl.items():
                value = made.mapping(path).string("value", _normal(text))
                if (current := sysctl.read_text(path)) != value:
                    raise verify.damaged(f"the setting net/{path} is {current!r}", f"not {value!r}")


def delete(request: Request) -> None:
    """Give the interface and its namespace back what they had before; nothing, when they are gone."""
    record = state.load(request, NAME)
    if record is None:
        _delete_unrecorded(request)
        return
    made = Fields(record)
    steps = teardown.Steps()
    if chained.is_there(request, made):
        with Namespaces(request) as namespaces:
            found = link.get(namespaces.container, made.integer("index"))
            if found is not None:
                steps.run(lambda: _give_back(Attributes(made.mapping("before")), namespaces, found))
            with _inside(namespaces):
                steps.run(lambda: _restore_settings(made.mapping("sysctl")))
    _remove(made.string("file"))
    steps.finish()
    state.remove(request, NAME)


def _give_back(before: Attributes, namespaces: Namespaces, found: Link) -> None:
    """What the interface refuses now is left as it is: the rest of the attachment has to go all the same."""
    try:
        before.give(namespaces, found)
    except OSError as failed:
        if failed.errno not in (errno.ENODEV, *_REFUSED):
            raise


def _changed(request: Request, each: Interface, attributes: Attributes) -> Interface:
    if each.name != request.ifname or each.sandbox != (request.netns or ""):
        return each
    return Interface(
        each.name,
        mac=attributes.mac or each.mac,
        mtu=attributes.mtu or each.mtu,
        sandbox=each.sandbox,
        socket_path=each.socket_path,
        pci_id=each.pci_id,
    )


def _optional_boolean(fields: Fields, key: str) -> bool | None:
    return None if fields.get(key) is None else fields.boolean(key)


def _value(fields: Fields, key: str) -> str:
    value = fields.values[key]
    if not isinstance(value, str):
        raise ValueError(f"{fields.path(key)} is not a string")
    if any(char < " " and char != "\t" for char in value):
        raise ValueError(f"{fields.path(key)}: a value has no control characters")
    return value


def _normal(text: str) -> str:
    return " ".join(text.split())


def _check_allowed(keys: Mapping[str, str]) -> None:
    """The administrator's list of regular expressions: every key, as it is written, has to match one."""
    try:
        with open(ALLOWED, encoding="utf-8") as file:
            lines = [line for line in file.read().split("\n") if line]
    except FileNotFoundError:
        return
    import re

    try:
        patterns = [re.compile(line) for line in lines]
    except re.error as bad:
        raise CniError(INVALID_CONFIG, f"{ALLOWED} holds no regular expression", str(bad)) from None
    for key in keys.values():
        if not any(pattern.search(key) for pattern in patterns):
            raise CniError(
                INVALID_CONFIG,
                f"sysctl {key} is not allowed",
                f"only these are: {', '.join(lines)}",
                hint=f"the administrator of this host can allow it in {ALLOWED}",
            )


def _inside(namespaces: Namespaces) -> AbstractContextManager[None]:
    """In the container's namespace, whose settings /proc/sys/net then shows."""
    from linux.namespaces import inside

    return inside(namespaces.fd)


def _read_settings(wanted: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found = {}
    for path, value in wanted.items():
        try:
            found[path] = {"before": sysctl.read_text(path), "value": value}
        except OSError as failed:
            raise _not_settable(path, failed) from None
    return found


def _write_settings(settings: Mapping[str, dict[str, str]]) -> None:
    for path, each in settings.items():
        try:
            sysctl.write_text(path, each["value"])
            each["value"] = sysctl.read_text(path)
        except OSError as failed:
            raise _not_settable(path, failed) from None


def _not_settable(path: str, failed: OSError) -> CniError:
    return CniError(INVALID_CONFIG, f"the setting net/{path} cannot be set", failed.strerror or str(failed))


def _restore_settings(settings: Fields) -> None:
    """Unless somebody has changed a value since: of two attachments with one setting, the first to come."""
    steps = teardown.Steps()
    for path in settings.values:
        each = settings.mapping(path)

        def restore(path: str = path, each: Fields = each) -> None:
            try:
                if sysctl.read_text(path) == _normal(each.string("value")):
                    sysctl.write_text(path, each.string("before"))
            except OSError as failed:
                # ENOENT: the interface's, which is gone.
                if failed.errno not in (errno.ENOENT, *_REFUSED):
                    raise

        steps.run(restore)
    steps.finish()


def _file(request: Request) -> str:
    directory = request.fields.string("dataDir") or DATA_DIRECTORY
    if "\0" in directory:
        raise ValueError("dataDir is not a path")
    return f"{directory}/{request.container_id}_{request.ifname}.json"


def _save_for_others(path: str, before: Attributes) -> None:
    """The old attributes in the reference plugin's form, so that its DEL finds them too."""
    from cni import jsontext

    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    volatile.replace(path, jsontext.dumps(before.to_json(), indent=1).encode())


def _delete_unrecorded(request: Request) -> None:
    """DEL of what the reference plugin made, or nobody."""
    from cni import jsontext

    path = _file(request)
    try:
        with open(path, "rb") as file:
            before = Attributes(Fields(jsontext.loads(file.read())))
    except FileNotFoundError:
        return
    except ValueError:
        before = Attributes(Fields({}))  # damaged: it tells nothing
    if request.netns is not None and os.path.exists(request.netns):
        with Namespaces(request) as namespaces:
            found = link.get(namespaces.container, request.ifname)
            if found is not None:
                _give_back(before, namespaces, found)
    _remove(path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
