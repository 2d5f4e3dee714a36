"""Running the plugins of a network for a container: what libcni does for its callers.

The caller sees to it that no two operations run on one container at once, and no GC beside an ADD or DEL.
"""

from __future__ import annotations

import os

from cni import invoke, plugins
from cni.cache import Attachment, Cache
from cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    CniError,
)
from cni.fields import Fields
from cni.types import names
from cni.types import version as versions
from cni.types.result import Result

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cni.config import NetworkConfig, PluginConfig

__all__ = ["Attachment", "Runtime"]

_LONGEST_FILE_NAME = 255  # NAME_MAX
_NOWHERE = "/nonexistent"  # what built-in plugins get for a path: it must not be empty
_VERBS = {
    "ADD": "add",
    "DEL": "delete",
    "CHECK": "check",
    "STATUS": "status",
    "GC": "GC",
    "VERSION": "version",
}


class Runtime:
    """Plugins from `path`, results kept in `cache`.

    An executable in `path` goes before the built-in plugin of its name. `environment` is what plugins
    inherit. `isolated`: a built-in plugin runs in a child of its own, else in this very process.
    `verbatim`: the configuration of a single plugin is handed on as the bytes it was read as, where the
    runtime has nothing to add to it.
    """

    def __init__(
        self,
        path: Sequence[str],
        *,
        cache: Cache | None = None,
        environment: Mapping[str, str] | None = None,
        isolated: bool = True,
        verbatim: bool = False,
    ) -> None:
        self.path = tuple(path)
        self.cache = cache or Cache()
        self._environment = dict(environment or {})
        self._isolated = isolated
        self._verbatim = verbatim

    def add(self, network: NetworkConfig, attachment: Attachment) -> Result:
        """ADD each plugin in turn; the last one's result is kept and returned.

        On an error nothing is undone: the caller runs `delete`, as the specification says.
        """
        self._check_names(network, attachment)
        result: Result | None = None
        for plugin in network.plugins:
            request = self._request(network, plugin, attachment, result)
            answer = self._call(network, plugin, "ADD", attachment, request)
            result = self._result(answer, plugin.version or network.version, plugin)
        if result is None:
            raise CniError(INVALID_CONFIG, f"network {network.name} has no plugins")
        shown = result.to_json(result.version or network.version)
        try:
            self.cache.store(network.name, attachment, network.data, shown)
        except OSError as failed:
            raise CniError(IO_FAILURE, "failed to set network cached result", str(failed)) from None
        return result

    def delete(
        self,
        network: NetworkConfig,
        attachment: Attachment,
        *,
        keep_going: bool = False,
        thorough: bool = False,
    ) -> None:
        """DEL each plugin, last one first, with the kept result; then forget it.

        The first error stops, or with `keep_going` is raised after all were tried; the result is kept for
        another try. Needs no kept result, and passes over one that cannot be read: a container must be
        removable after a power cut. `thorough`: after an executable the built-in plugin of its name does its
        DEL too, for a namespace that is gone: the reference plugins leave rules then.
        """
        self._check_names(network, attachment)
        try:
            result = self._cached(network, attachment)
        except ValueError:
            result = None
        first: CniError | None = None
        for plugin in reversed(network.plugins):
            known = _since(plugin.version or network.version, "0.4.0")
            request = self._request(network, plugin, attachment, result if known else None)
            try:
                self._call(network, plugin, "DEL", attachment, request)
                if thorough and self._is_replaced(plugin.type):
                    self._call(network, plugin, "DEL", attachment, request, path=())
            except CniError as failed:
                if not keep_going:
                    raise
                first = first or failed
        if first is not None:
            raise first
        self.cache.remove(network.name, attachment)

    def check(self, network: NetworkConfig, attachment: Attachment) -> None:
        """CHECK each plugin in turn against the kept result; the first error stops."""
        self._check_names(network, attachment)
        if not _since(network.version, "0.4.0"):
            raise CniError(
                INCOMPATIBLE_VERSION,
                f'configuration version "{network.version}" does not support the CHECK command',
            )
        if network.disable_check:
            return
        try:
            result = self._cached(network, attachment)
        except ValueError as bad:
            raise CniError(DECODING_FAILURE, "failed to read the cached result", str(bad)) from None
        for plugin in network.plugins:
            request = self._request(network, plugin, attachment, result)
            self._call(network, plugin, "CHECK", attachment, request)

    def status(self, network: NetworkConfig) -> None:
        """STATUS of each plugin in turn; the first error stops. Nothing to ask before 1.1.0."""
        if not _since(network.version, "1.1.0"):
            return
        for plugin in network.plugins:
            self._call(network, plugin, "STATUS", None, self._bare_request(network, plugin))

    def collect(self, network: NetworkConfig, valid: Iterable[tuple[str, str]] | None) -> None:
        """GC: DEL for every kept attachment of the network that is not in `valid`, then GC of each plugin.

        `valid` holds (container ID, interface name); None means that nothing is. Everything is tried, the
        errors are raised together at the end.
        """
        if network.disable_gc:
            return
        keys = None if valid is None else sorted(set(valid))
        problems: list[str] = []
        for each in list(self.cache.attachments(network=network.name)):
            if keys is not None and (each.attachment.container_id, each.attachment.ifname) in keys:
                continue
            try:
                self.delete(network, each.attachment)
            except CniError as failed:
                problems.append(f"failed to delete stale attachment {each.attachment.container_id}: {failed}")
        if _since(network.version, "1.1.0"):
            for plugin in network.plugins:
                request = self._bare_request(network, plugin)
                if keys is not None:
                    living = [{"containerID": cid, "ifname": ifname} for cid, ifname in keys]
                    # The second is the name that libcni used by mistake until 1.1; plugins look for both.
                    request["cni.dev/valid-attachments"] = request["cni.dev/attachments"] = living
                try:
                    self._call(network, plugin, "GC", None, request)
                except CniError as failed:
                    problems.append(f"failed to GC plugin {plugin.type}: {failed}")
        if problems:
            raise CniError(INTERNAL, "\n".join(problems))

    def validate(self, network: NetworkConfig) -> frozenset[str]:
        """Raise unless every plugin exists and speaks the network's version; the capabilities of all."""
        for plugin in network.plugins:
            self._check_version(plugin.type, network.version)
        return frozenset().union(*(plugin.capabilities for plugin in network.plugins))

    def problems(self, network: NetworkConfig) -> list[CniError]:
        """All that stands in the way of running `network`: each plugin, and the IPAM plugin it names."""
        found = []
        for plugin in network.plugins:
            try:
                kinds = [plugin.type, Fields(plugin.config).mapping("ipam").string("type")]
            except ValueError as bad:
                found.append(CniError(INVALID_CONFIG, f"plugin {plugin.type}: {bad}"))
                continue
            for kind in filter(None, kinds):
                try:
                    self._check_version(kind, plugin.version or network.version)
                except CniError as problem:
                    found.append(problem)
        return found

    def supported_versions(self, plugin: str) -> tuple[str, ...]:
        """The versions that `plugin` says it speaks."""
        variables = {
            **self._environment,
            "CNI_COMMAND": "VERSION",
            # Plugins of 0.1.0 know no VERSION and insist on the others before they say so.
            "CNI_CONTAINERID": "dummy",
            "CNI_NETNS": "dummy",
            "CNI_IFNAME": "dummy",
            "CNI_ARGS": "",
            "CNI_PATH": "dummy",
        }
        found = invoke.find(plugin, self.path)
        try:
            request: dict[str, object] = {"cniVersion": versions.LATEST}
            answer = (
                invoke.call_builtin(plugin, variables, request)
                if found is None
                else invoke.execute(found, variables, request)
            )
        except CniError as failed:
            if failed.msg == "unknown CNI_COMMAND: VERSION":
                return ("0.1.0",)
            raise
        try:
            fields = Fields(answer)
            spoken = fields.strings("supportedVersions")
            if not fields.string("cniVersion"):
                raise ValueError("it says no cniVersion")
            if not spoken and fields.string("cniVersion") == "0.2.0":
                return ("0.1.0", "0.2.0")
            return spoken
        except ValueError as bad:
            raise CniError(DECODING_FAILURE, f"the version of {plugin} makes no sense", str(bad)) from None

    def _check_version(self, plugin: str, version: str) -> None:
        spoken = self.supported_versions(plugin)
        if (version or versions.IMPLICIT) not in spoken:
            raise CniError(
                INCOMPATIBLE_VERSION,
                f"plugin {plugin} does not support config version {version!r}",
                f"it supports {', '.join(spoken)}",
            )

    def _check_names(self, network: NetworkConfig, attachment: Attachment) -> None:
        names.check_network_name(network.name)
        names.check_container_id(attachment.container_id)
        names.check_interface_name(attachment.ifname)
        kept = f"{network.name}-{attachment.container_id}-{attachment.ifname}"
        if len(os.fsencode(kept)) > _LONGEST_FILE_NAME:
            # Said now: when the result is to be kept, the network is up already.
            raise CniError(
                INVALID_ENVIRONMENT,
                "network name, container ID and interface name are too long together",
                f"{len(os.fsencode(kept))} bytes are more than a file name can have",
            )

    def _cached(self, network: NetworkConfig, attachment: Attachment) -> Result | None:
        cached = self.cache.read(network.name, attachment)
        return None if cached is None else cached.result

    def _bare_request(self, network: NetworkConfig, plugin: PluginConfig) -> dict[str, object]:
        return {
            **plugin.config,
            "name": network.name,
            "cniVersion": plugin.version or network.version,
        }

    def _request(
        self,
        network: NetworkConfig,
        plugin: PluginConfig,
        attachment: Attachment,
        result: Result | None,
    ) -> dict[str, object]:
        request = self._bare_request(network, plugin)
        supplied = {
            name: value for name, value in attachment.capability_args.items() if name in plugin.capabilities
        }
        if supplied:
            request["runtimeConfig"] = supplied
        if result is not None:
            request["prevResult"] = self._printed(result, plugin.version or network.version)
        return request

    def _printed(self, result: Result, version: str) -> dict[str, object]:
        try:
            return result.to_json(version)
        except ValueError as bad:
            raise CniError(
                INCOMPATIBLE_VERSION, "the previous result cannot be converted", str(bad)
            ) from None

    def _call(
        self,
        network: NetworkConfig,
        plugin: PluginConfig,
        command: str,
        attachment: Attachment | None,
        request: dict[str, object],
        *,
        path: Sequence[str] | None = None,
    ) -> object:
        """Run one plugin, ours or another's; an error says which one and at what.

        It is looked for in `path`, which is that of the runtime by default.
        """
        variables = {
            **self._environment,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id if attachment else "",
            "CNI_NETNS": attachment.netns if attachment else "",
            "CNI_IFNAME": attachment.ifname if attachment else "",
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in attachment.args) if attachment else "",
            "CNI_PATH": ":".join(self.path) or _NOWHERE,
        }
        try:
            found = invoke.find(plugin.type, self.path if path is None else path)
            if found is not None:
                text = plugin.text if self._verbatim and _adds_nothing(request, plugin) else None
                return invoke.execute(found, variables, request, text=text)
            if self._isolated:
                return invoke.call_builtin(plugin.type, variables, request)
            from cni.plugin import handle

            return handle(plugin.type, variables, request)
        except CniError as failed:
            if command == "GC":
                raise
            message = f'plugin type="{plugin.type}" failed ({_VERBS[command]}): {failed.msg}'
            raise CniError(failed.code, message, failed.details, hint=failed.hint) from failed

    def _is_replaced(self, name: str) -> bool:
        """Whether a built-in plugin has an executable before it."""
        return plugins.is_builtin(name) and invoke.find(name, self.path) is not None

    def _result(self, answer: object, version: str, plugin: PluginConfig) -> Result:
        try:
            return Result.from_json(answer, version)
        except ValueError as bad:
            raise CniError(
                DECODING_FAILURE,
                f'plugin type="{plugin.type}" failed (add): its result makes no sense',
                str(bad),
            ) from None


def find_missing(network: NetworkConfig, path: Sequence[str]) -> CniError | None:
    """Why the first plugin of `network` that cannot be found cannot; None when all can.

    Also looks for the IPAM plugin of a built-in one.
    """
    for plugin in network.plugins:
        try:
            if invoke.find(plugin.type, path) is None:
                ipam = Fields(plugin.config).mapping("ipam").string("type")
                if ipam:
                    invoke.find(ipam, path)
        except CniError as missing:
            return missing
    return None


def _since(version: str, minimum: str) -> bool:
    try:
        return versions.at_least(version, minimum)
    except ValueError:
        return False


def _adds_nothing(request: dict[str, object], plugin: PluginConfig) -> bool:
    """Whether `request` is the plugin's own text, but perhaps for a version that it does not have."""
    return {**request, "cniVersion": request.get("cniVersion") or None} == {
        **plugin.config,
        "cniVersion": plugin.config.get("cniVersion") or None,
    }
