"""One request to a plugin: a command, what it is about, and the configuration."""

from __future__ import annotations

from cni.errors import DECODING_FAILURE, INVALID_CONFIG, INVALID_ENVIRONMENT, CniError
from cni.fields import Fields
from cni.types import version as versions
from cni.types.result import Result, result_version

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VALID_ATTACHMENTS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class Request:
    """What a plugin is asked for. Whoever makes one has checked the names in it.

    `netns` is a path, None when the caller knows none (DEL, GC, STATUS). `path` is CNI_PATH.
    `config` is the plugin's configuration as it came; read it through `fields`, which knows types.
    `environment` goes to executables that this request is delegated to.
    """

    __slots__ = (
        "_prev_result",
        "args",
        "command",
        "config",
        "container_id",
        "environment",
        "fields",
        "ifname",
        "netns",
        "path",
    )

    def __init__(
        self,
        command: str = "ADD",
        config: dict[str, object] | None = None,
        *,
        container_id: str = "",
        netns: str | None = None,
        ifname: str = "",
        args: str = "",
        path: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = command
        self.config: dict[str, object] = config if config is not None else {}
        self.fields = Fields(self.config)
        self.container_id = container_id
        self.netns = netns
        self.ifname = ifname
        self.args = args
        self.path = tuple(path)
        self.environment = dict(environment or {})
        self._prev_result: Result | None = None

    @property
    def name(self) -> str:
        """The network's name."""
        return self.fields.string("name")

    @property
    def type(self) -> str:
        """The plugin's own name."""
        return self.fields.string("type")

    @property
    def version(self) -> str:
        return self.fields.string("cniVersion") or versions.IMPLICIT

    @property
    def ipam(self) -> Fields:
        """The object `ipam`; empty when there is none."""
        return self.fields.mapping("ipam")

    @property
    def runtime_config(self) -> Fields:
        """What the runtime supplies for the capabilities of this plugin."""
        return self.fields.mapping("runtimeConfig")

    @property
    def prev_result(self) -> Result | None:
        """The result of the plugin before (ADD), or of the whole list (CHECK, DEL); None without one.

        Raises CniError 6 when it is damaged or of another family of versions than the configuration.
        """
        value = self.fields.get("prevResult")
        if self._prev_result is None and value is not None:
            try:
                given = result_version(Fields(value, "prevResult"), self.version)
                if given not in versions.family(self.version):
                    raise ValueError(f"it is of version {given}, the configuration of {self.version}")
                self._prev_result = Result.from_json(value, self.version)
            except ValueError as bad:
                raise CniError(DECODING_FAILURE, "could not parse prevResult", str(bad)) from None
        return self._prev_result

    @property
    def valid_attachments(self) -> frozenset[tuple[str, str]]:
        """GC: the (container ID, interface name) pairs that live; nothing else of the network does."""
        for key in _VALID_ATTACHMENTS:
            if self.fields.get(key) is not None:
                return frozenset(
                    (each.string("containerID"), each.string("ifname")) for each in self.fields.mappings(key)
                )
        return frozenset()

    def cni_args(self, known: Sequence[str]) -> dict[str, str]:
        """CNI_ARGS as a mapping of the keys in `known`; CniError 4 for other keys and for bad pairs.

        The caller may allow other keys by IgnoreUnknown=1. Only plugins with keys of their own look at
        CNI_ARGS at all.
        """
        found: dict[str, str] = {}
        unknown: list[str] = []
        ignore = False
        for pair in self.args.split(";") if self.args else ():
            key, equals, value = pair.partition("=")
            if not equals or "=" in value:
                raise CniError(INVALID_ENVIRONMENT, "invalid CNI_ARGS pair", repr(pair))
            if key == "IgnoreUnknown":
                ignore = _boolean(value)
            elif key in known:
                found[key] = value
            else:
                unknown.append(pair)
        if unknown and not ignore:
            raise CniError(INVALID_ENVIRONMENT, "unknown CNI_ARGS", ";".join(unknown))
        return found

    def with_config(self, config: dict[str, object], *, command: str = "") -> Request:
        """The same request with another configuration, and another command if one is given."""
        return Request(
            command or self.command,
            config,
            container_id=self.container_id,
            netns=self.netns,
            ifname=self.ifname,
            args=self.args,
            path=self.path,
            environment=self.environment,
        )

    def refuse(self, message: str, details: str = "") -> CniError:
        """The error (code 7) for a configuration that cannot work, to be raised."""
        return CniError(INVALID_CONFIG, message, details)


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("1", "true"):
        return True
    if lowered in ("0", "false"):
        return False
    raise CniError(INVALID_ENVIRONMENT, "IgnoreUnknown in CNI_ARGS is not true or false", repr(text))
