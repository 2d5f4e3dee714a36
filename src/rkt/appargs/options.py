"""What the command lines of ``run``, ``prepare`` and ``run-prepared`` say, as typed values."""

from __future__ import annotations

from appc.types.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.isolators import Isolator
    from appc.types.mounts import Mount
    from appc.types.names import ACName
    from appc.types.ports import ExposedPort
    from appc.types.volumes import Volume

    Pairs = tuple[tuple[str, str], ...]


class AppOptions(Record):
    """One image of the command line and the flags behind it. None and () mean: as the image says.

    `isolators` come from --memory, --cpu, --cpu-shares, --oom-score-adj, --caps-* and --seccomp; each takes
    the place of the image's own of its kind. `stdin`, `stdout` and `stderr` are null, tty, stream or log.
    """

    image: str
    args: tuple[str, ...] = ()
    name: ACName | None = None
    exec: str | None = None
    user: str | None = None
    group: str | None = None
    supplementary_gids: tuple[int, ...] | None = None
    working_dir: str | None = None
    environment: Pairs = ()
    mounts: tuple[Mount, ...] = ()
    isolators: tuple[Isolator, ...] = ()
    readonly_rootfs: bool = False
    signature: str | None = None
    annotations: Pairs = ()
    user_annotations: Pairs = ()
    user_labels: Pairs = ()
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None


class Stage1Choice(Record):
    """Which stage1 was asked for: `by` is name, path, url, hash, from-dir or image; `value` is its value."""

    by: str
    value: str


class PodOptions(Record):
    """A whole command line.

    `net` holds the values of --net as typed, () if it was not given. `dns` may be the single word host or
    none. `hosts_entries` are pairs of an address and a name; `hosts_from_host` asks for the host's own file.
    `private_users` is None where neither --private-users nor its negation was given. `set_env_files` are
    paths, later ones win. `uuid` is the argument of ``run-prepared``.
    """

    apps: tuple[AppOptions, ...] = ()
    uuid: str | None = None
    net: tuple[str, ...] = ()
    ports: tuple[ExposedPort, ...] = ()
    hostname: str = ""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_domain: str = ""
    hosts_from_host: bool = False
    hosts_entries: Pairs = ()
    ipc: str = "auto"
    private_users: bool | None = None
    no_overlay: bool = False
    volumes: tuple[Volume, ...] = ()
    mounts: tuple[Mount, ...] = ()
    inherit_env: bool = False
    set_env: Pairs = ()
    set_env_files: tuple[str, ...] = ()
    interactive: bool = False
    mds_register: bool = False
    pod_manifest: str | None = None
    uuid_file_save: str | None = None
    pull_policy: str = "new"
    stage1: Stage1Choice | None = None
    detach: bool = False
    pod_name: str | None = None
    quiet: bool = False
