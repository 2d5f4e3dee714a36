"""Network configurations: one plugin (``*.conf``), a list (``*.conflist``), a directory of them."""

from __future__ import annotations

import os

from cni import jsontext
from cni.errors import INVALID_CONFIG, CniError
from cni.fields import Fields
from cni.types import names
from cni.types import version as versions
from cni.types.result import Value

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

DIRECTORY = "/etc/cni/net.d"
_LIMIT = 1 << 20  # bytes of a file
_LIST_KEYS = (
    "name",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "plugins",
)


class PluginConfig(Value):
    """The configuration of one plugin: `config` is the object as it was written, nothing left out.

    `capabilities` are the names that are true in it. `text` is the very text, when the file held one
    plugin; else None. `version`, if any, is spoken with this plugin instead of the list's: for one that a
    runtime adds to a list which is too old for it.
    """

    __slots__ = ("capabilities", "config", "text", "type", "version")

    def __init__(
        self, type_: str, config: dict[str, object], text: bytes | None = None, *, version: str = ""
    ) -> None:
        self.type: Final = type_
        self.config: Final = config
        self.text: Final = text
        self.version: Final = version
        flags = Fields(config).mapping("capabilities")
        self.capabilities: Final = frozenset(name for name in flags.values if flags.boolean(name))

    @property
    def name(self) -> str:
        """The network's name as this plugin has it, "" without one. The list's name is what counts."""
        return Fields(self.config).string("name")

    @property
    def masquerades(self) -> bool:
        return Fields(self.config).boolean("ipMasq")


class NetworkConfig(Value):
    """A network: plugins that run in turn. `version` is the one that was chosen of those it names.

    `data` is the JSON text of the whole list: what the cache keeps. `path` is the file, "" for none.
    """

    __slots__ = (
        "data",
        "disable_check",
        "disable_gc",
        "load_only_inlined_plugins",
        "name",
        "path",
        "plugins",
        "version",
    )

    def __init__(
        self,
        name: str,
        plugins: Sequence[PluginConfig],
        *,
        version: str,
        data: bytes,
        disable_check: bool = False,
        disable_gc: bool = False,
        load_only_inlined_plugins: bool = False,
        path: str = "",
    ) -> None:
        self.name: Final = name
        self.plugins: Final = tuple(plugins)
        self.version: Final = version
        self.data: Final = data
        self.disable_check: Final = disable_check
        self.disable_gc: Final = disable_gc
        self.load_only_inlined_plugins: Final = load_only_inlined_plugins
        self.path: Final = path

    def extended(self, plugins: Sequence[PluginConfig]) -> NetworkConfig:
        """The same list with further plugins at its end."""
        return NetworkConfig(
            self.name,
            self.plugins + tuple(plugins),
            version=self.version,
            data=self.data,
            disable_check=self.disable_check,
            disable_gc=self.disable_gc,
            load_only_inlined_plugins=self.load_only_inlined_plugins,
            path=self.path,
        )


def parse_plugin(data: bytes) -> PluginConfig:
    """One plugin object. Raises CniError 7 when it is none or has no type."""
    try:
        return _plugin(Fields(jsontext.loads(data)), data)
    except ValueError as bad:
        raise _refused(bad) from None


def parse_list(data: bytes, path: str = "") -> NetworkConfig:
    """A list of plugins. Raises CniError 7; names are not judged here, they are when a plugin runs."""
    try:
        return _list(Fields(jsontext.loads(data)), data, path)
    except ValueError as bad:
        raise _refused(bad) from None


def parse_single(data: bytes, path: str = "") -> NetworkConfig:
    """One plugin object as a network of one plugin."""
    try:
        fields = Fields(jsontext.loads(data))
        plugin = _plugin(fields, data)
        version = fields.string("cniVersion")
        whole = {"cniVersion": version, "name": plugin.name, "plugins": [plugin.config]}
        return NetworkConfig(
            plugin.name, [plugin], version=version, data=jsontext.dumps(whole).encode(), path=path
        )
    except ValueError as bad:
        raise _refused(bad) from None


def load(
    directory: str, name: str, *, strict: bool = True, warn: Callable[[str], object] | None = None
) -> NetworkConfig:
    """The network `name` from a configuration directory, with the plugins of ``DIRECTORY/NAME/*.conf``.

    Lists come before single plugins, each in the order of file names. `strict`: as for other
    implementations a file that cannot be parsed ends the search. Else each file is judged alone: `warn` is
    told of the broken ones, but for one that says it is the wanted network. Raises CniError 7.
    """
    problems: list[str] = []
    names: list[str] = []
    for path in _files(directory):
        try:
            found = read(path)
            if path.endswith(".conflist"):
                found = with_siblings(found, directory)
        except CniError as bad:
            if strict or _claims(path, name):
                raise
            problems.append(f"{path}: {bad}")
            if warn is not None:
                warn(problems[-1])
            continue
        if found.name == name:
            return found
        names.append(found.name)
    if not names and not problems:
        hint = "write one there, NAME.conflist; NETCONFPATH names another directory"
        raise CniError(INVALID_CONFIG, f"no net configurations found in {directory}", hint=hint)
    raise CniError(
        INVALID_CONFIG,
        f'no net configuration with name "{name}" in {directory}',
        "; ".join(problems),
        hint="there are: " + ", ".join(names) if names else None,
    )


def available(directory: str) -> tuple[list[NetworkConfig], list[str]]:
    """Every network that `load` would find, in the order in which it looks, and what is wrong with others.

    Of several files with one name the first counts; what is wrong is ``PATH: reason``.
    """
    found: dict[str, NetworkConfig] = {}
    problems: list[str] = []
    for path in _files(directory):
        try:
            network = read(path)
            if network.name in found:
                problems.append(f"{path}: network {network.name} is that of {found[network.name].path}")
                continue
            names.check_network_name(network.name)
            found[network.name] = with_siblings(network, directory) if path.endswith(".conflist") else network
        except CniError as bad:
            problems.append(f"{path}: {bad}")
    return list(found.values()), problems


def read(path: str) -> NetworkConfig:
    """The network in one file, by its ending: a list in ``.conflist``, else one plugin. CniError 7."""
    data = _contents(path)
    return parse_list(data, path) if path.endswith(".conflist") else parse_single(data, path)


def with_siblings(network: NetworkConfig, directory: str) -> NetworkConfig:
    """`network` with the plugins that stand in the directory of its name, unless it wants none.

    Raises CniError 7 when there is no plugin at all in the end.
    """
    if (
        not network.load_only_inlined_plugins
        and network.name not in ("", ".", "..")
        and "/" not in network.name
    ):
        found = []
        for path in _with_ending(f"{directory}/{network.name}", (".conf",)):
            try:
                found.append(parse_plugin(_contents(path)))
            except CniError as bad:
                raise CniError(bad.code, f"{path}: {bad.msg}", bad.details) from None
        network = network.extended(found)
    if not network.plugins:
        raise CniError(INVALID_CONFIG, "no plugin configs found", network.path)
    return network


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LIMIT + 1)
    except OSError as failed:
        raise CniError(INVALID_CONFIG, f"error reading {path}", failed.strerror or str(failed)) from None


def _claims(path: str, name: str) -> bool:
    """Whether a file that cannot be used says nevertheless that it is the network `name`."""
    try:
        return Fields(jsontext.loads(_contents(path))).string("name") == name
    except (CniError, ValueError):
        return False


def _files(directory: str) -> Iterator[str]:
    yield from _with_ending(directory, (".conflist",))
    yield from _with_ending(directory, (".conf", ".json"))


def _with_ending(directory: str, endings: tuple[str, ...]) -> list[str]:
    """Files in byte order of their names; no directories; none at all in a directory that is missing."""
    try:
        entries = os.listdir(os.fsencode(directory))
    except FileNotFoundError:
        return []
    except OSError as failed:
        raise CniError(INVALID_CONFIG, f"error reading {directory}", failed.strerror or str(failed)) from None
    paths = [f"{directory}/{os.fsdecode(name)}" for name in sorted(entries)]
    return [path for path in paths if path.endswith(endings) and not os.path.isdir(path)]


def _list(whole: Fields, data: bytes, path: str) -> NetworkConfig:
    # Unlike those of a plugin, a list's own keys are read as they are spelled, and null is not absence.
    fields = Fields({key: whole.values[key] for key in _LIST_KEYS if key in whole.values})
    for key, value in fields.values.items():
        if value is None:
            raise ValueError(f"{key} is null")
    if "name" not in fields.values:
        raise ValueError("no name")
    inlined_only = _lenient_boolean(fields, "loadOnlyInlinedPlugins")
    plugins = []
    if "plugins" in fields.values:
        plugins = [_plugin(each, None) for each in fields.mappings("plugins")]
        if not plugins:
            raise ValueError("no plugins in list")
    elif inlined_only:
        raise ValueError("`loadOnlyInlinedPlugins` is true, and there is no `plugins`")
    return NetworkConfig(
        fields.string("name"),
        plugins,
        version=_chosen_version(fields),
        data=data,
        disable_check=_lenient_boolean(fields, "disableCheck"),
        disable_gc=_lenient_boolean(fields, "disableGC"),
        load_only_inlined_plugins=inlined_only,
        path=path,
    )


def _plugin(fields: Fields, text: bytes | None) -> PluginConfig:
    kind = fields.string("type")
    if not kind:
        raise ValueError(f"{fields.path('type')} is missing")
    # The fields that the specification knows must be of the types it says; the rest is the plugin's.
    fields.string("name"), fields.string("cniVersion"), fields.mapping("ipam").string("type")
    fields.mapping("prevResult")
    dns = fields.mapping("dns")
    dns.strings("nameservers"), dns.strings("search"), dns.strings("options"), dns.string("domain")
    return PluginConfig(kind, fields.values, text)


def _chosen_version(fields: Fields) -> str:
    """The newest version named that is not newer than what we know; what `cniVersion` says if all are.

    That one alone is not judged here: plugins do that.
    """
    single = fields.string("cniVersion")
    named = list(fields.strings("cniVersions"))
    if "cniVersions" not in fields.values:
        return single
    if single:
        named.append(single)
    for each in named:
        versions.parse(each)
    known = [each for each in named if versions.at_least(versions.LATEST, each)]
    return max(known, key=versions.parse) if known else single


def _lenient_boolean(fields: Fields, key: str) -> bool:
    """true, false, or these as a string in any case."""
    value = fields.get(key)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return fields.boolean(key)


def _refused(bad: ValueError) -> CniError:
    return CniError(INVALID_CONFIG, "error parsing the network configuration", str(bad))
