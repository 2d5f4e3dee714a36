"""What the flags of one command line may not be together."""

from __future__ import annotations

from appc.jsonfield import quoted
from appc.types.isolators import CAPABILITIES_REMOVE, CAPABILITIES_RETAIN
from rkt.appargs import flags as table
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

    from appc.types.mounts import Mount
    from rkt.appargs.options import AppOptions, PodOptions


def check(verb: str, options: PodOptions, given: Set[str]) -> None:
    """Raise RktError for the first contradiction. `given` has the names of the flags that count once."""
    if verb == table.RUN_PREPARED:
        if options.uuid is None:
            raise RktError(
                "must provide the UUID of a prepared pod", hint="`rkt list` shows pods and their states"
            )
    elif options.pod_manifest is not None:
        _pod_manifest(options)
    elif not options.apps:
        raise RktError(
            "must provide at least one image or specify the pod manifest",
            hint="`rkt help images` tells what may stand for an image",
        )
    if options.interactive and len(options.apps) > 1:
        raise RktError(
            "interactive option only supports one image", hint="arguments of an app stand behind `--`"
        )
    if options.interactive and options.detach:
        raise RktError("--interactive and --detach are mutually exclusive")
    _network(options)
    _resolver(options)
    _volumes(options)
    for app in options.apps:
        _app(app)


def networks(options: PodOptions) -> frozenset[str]:
    """The names of the networks asked for, without their arguments."""
    return frozenset(part.partition(":")[0] for value in options.net for part in value.split(","))


def _pod_manifest(options: PodOptions) -> None:
    conflicting = {
        "an image": options.apps,
        "--volume": options.volumes,
        "--mount": options.mounts,
        "--port": options.ports,
        "--inherit-env": options.inherit_env,
        "--set-env": options.set_env,
        "--set-env-file": options.set_env_files,
        "--pull-policy=update": options.pull_policy == "update",
    }
    if found := [what for what, present in conflicting.items() if present]:
        raise RktError(
            "conflicting flags set with --pod-manifest (see --help)",
            hint=f"leave out {', '.join(found)}: the manifest says it all",
        )


def _network(options: PodOptions) -> None:
    from rkt import network

    network.parse_net_flags(options.net)
    names = networks(options)
    if options.ports and names & {"none", "host"}:
        raise RktError("--port flag does not work with 'none' or 'host' networking")
    if options.mds_register and "none" in names:
        raise RktError(
            "--mds-register flag does not work with --net=none",
            hint="please use 'host', 'default' or an equivalent network",
        )


def _resolver(options: PodOptions) -> None:
    words = {"host", "none"} & set(options.dns)
    others = options.dns_search or options.dns_opt or options.dns_domain
    if words and (len(options.dns) > 1 or others):
        raise RktError(f"--dns={sorted(words)[0]} excludes every other DNS flag")


def _volumes(options: PodOptions) -> None:
    names = [volume.name for volume in options.volumes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RktError(f"--volume: the volume {quoted(twice[0])} is given twice")
    mounts: list[Mount] = [*options.mounts]
    for app in options.apps:
        mounts += app.mounts
    for mount in mounts:
        if mount.volume not in names:
            raise RktError(
                f"dangling mount point {quoted(mount.path)}: volume {quoted(mount.volume)} not found",
                hint=f"add `--volume={mount.volume},kind=…`",
            )


def _app(app: AppOptions) -> None:
    names = {isolator.name for isolator in app.isolators}
    if {CAPABILITIES_RETAIN, CAPABILITIES_REMOVE} <= names:
        raise RktError(f"{app.image}: cannot use both --caps-retain and --caps-remove on the same image")
