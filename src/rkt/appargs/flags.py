"""The flags of ``run``, ``prepare`` and ``run-prepared``: one table for parser, help and completion."""

from __future__ import annotations

from appc.types.isolators import CAPABILITIES_REMOVE, CAPABILITIES_RETAIN, CPU_SHARES, OOM_SCORE_ADJ
from appc.types.volumes import Volume
from rkt.appargs import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

RUN, PREPARE, RUN_PREPARED = "run", "prepare", "run-prepared"
POD, NETWORK, ENVIRONMENT, IMAGES, STAGE1, APP = (
    "Pod",
    "Network",
    "Environment and volumes",
    "Images",
    "Stage1",
    "App (must follow an image)",
)

# How often a flag may be given, and what becomes of the values.
SWITCH = "switch"  #: true or false; the last one counts
LAST = "last"  #: the last one counts, as pflag has it
ONCE = "once"  #: a second one is an error
MANY = "many"  #: all are kept, in order
PAIRS = "pairs"  #: as MANY, for name=value: a name given twice is an error


class Flag:
    """One flag. `key` is the field of the options that it fills; `alone` its value without ``=``."""

    __slots__ = ("alone", "app", "group", "help", "hidden", "key", "kind", "metavar", "name", "read", "verbs")

    def __init__(
        self,
        name: str,
        metavar: str,
        help: str,
        *,
        group: str,
        kind: str = LAST,
        key: str = "",
        read: Callable[[str], object] = values.text,
        verbs: tuple[str, ...] = (RUN, PREPARE),
        alone: str | None = None,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.group = group
        self.kind = kind
        self.key = key or name.replace("-", "_")
        self.read = read
        self.verbs = verbs
        self.alone = alone
        self.hidden = hidden
        self.app = group == APP


_STARTING = (RUN, RUN_PREPARED)
_STREAMS = ("null", "tty", "stream")

FLAGS = (
    # --- the pod
    Flag(
        "detach",
        "",
        "run in the background and print the UUID of the pod",
        group=POD,
        kind=SWITCH,
        verbs=_STARTING,
    ),
    Flag("pod-name", "NAME", "a name that can be used wherever a UUID can", group=POD),
    Flag(
        "interactive",
        "",
        "connect the terminal to the app; one image only",
        group=POD,
        kind=SWITCH,
        verbs=_STARTING,
    ),
    Flag("pod-manifest", "FILE", "run the pod that this pod manifest describes", group=POD),
    Flag("uuid-file-save", "FILE", "write the UUID of the pod to FILE", group=POD, verbs=(RUN,)),
    Flag("quiet", "", "print nothing but the UUID of the pod", group=POD, kind=SWITCH, verbs=(PREPARE,)),
    Flag(
        "private-users",
        "",
        "give the pod a user namespace of its own: the default where the kernel can, =false is without",
        group=POD,
        kind=SWITCH,
    ),
    Flag("no-overlay", "", "copy the images instead of mounting an overlay", group=POD, kind=SWITCH),
    Flag(
        "ipc",
        "MODE",
        "IPC namespace: auto, private or parent",
        group=POD,
        read=values.choice("auto", "private", "parent"),
        verbs=_STARTING,
    ),
    Flag(
        "mds-register",
        "",
        "register the pod with the metadata service",
        group=POD,
        kind=SWITCH,
        verbs=_STARTING,
    ),
    # --- the network
    Flag(
        "net",
        "NETWORK[:KEY=VALUE;…]",
        "networks to join, comma separated: names of configurations, default, default-restricted, host, none",
        group=NETWORK,
        kind=MANY,
        alone="default",
        verbs=_STARTING,
    ),
    Flag(
        "port",
        "NAME:[IP:]HOSTPORT",
        "forward a port of the host to the port of an app",
        group=NETWORK,
        kind=MANY,
        key="ports",
        read=values.port,
    ),
    Flag(
        "hostname",
        "NAME",
        "host name of the pod (default: rkt-UUID)",
        group=NETWORK,
        read=values.hostname,
        verbs=_STARTING,
    ),
    Flag(
        "dns",
        "IP",
        "name server of the pod, or host, or none",
        group=NETWORK,
        kind=MANY,
        read=values.dns,
        verbs=_STARTING,
    ),
    Flag(
        "dns-search",
        "DOMAIN",
        "search domain of the pod",
        group=NETWORK,
        kind=MANY,
        read=values.resolver_word,
        verbs=_STARTING,
    ),
    Flag(
        "dns-opt",
        "OPTION",
        "resolver option of the pod",
        group=NETWORK,
        kind=MANY,
        read=values.resolver_word,
        verbs=_STARTING,
    ),
    Flag(
        "dns-domain", "DOMAIN", "domain of the pod", group=NETWORK, read=values.resolver_word, verbs=_STARTING
    ),
    Flag(
        "hosts-entry",
        "IP=NAME[,IP=NAME…]",
        "line of the pod's /etc/hosts, or host for a copy of the host's file",
        group=NETWORK,
        kind=MANY,
        key="hosts_entries",
        read=values.hosts_entry,
        verbs=_STARTING,
    ),
    # --- environment and volumes
    Flag("inherit-env", "", "pass the environment of this command on", group=ENVIRONMENT, kind=SWITCH),
    Flag(
        "set-env",
        "NAME=VALUE",
        "environment of all apps",
        group=ENVIRONMENT,
        kind=PAIRS,
        read=values.variable,
    ),
    Flag(
        "set-env-file",
        "FILE",
        "file of NAME=VALUE lines for the environment of all apps",
        group=ENVIRONMENT,
        kind=MANY,
        key="set_env_files",
    ),
    Flag(
        "volume",
        "NAME,kind=KIND,…",
        "volume: of kind=host with source=PATH[,readOnly=BOOL][,recursive=BOOL], or of kind=empty with "
        "[mode=MODE][,uid=UID][,gid=GID]",
        group=ENVIRONMENT,
        kind=MANY,
        key="volumes",
        read=Volume.from_string,
    ),
    Flag(
        "mount",
        "volume=NAME,target=PATH",
        "mount a volume in all apps, or, behind an image, in its app",
        group=ENVIRONMENT,
        kind=MANY,
        key="mounts",
        read=values.mount,
    ),
    # --- where images come from
    Flag(
        "pull-policy",
        "POLICY",
        "when to fetch: new (not in the store), update, never",
        group=IMAGES,
        read=values.choice("new", "never", "update"),
    ),
    Flag("store-only", "", "as --pull-policy=never", group=IMAGES, kind=SWITCH, hidden=True),
    Flag("no-store", "", "as --pull-policy=update", group=IMAGES, kind=SWITCH, hidden=True),
    # --- who runs the pod
    Flag(
        "stage1-name",
        "NAME",
        "stage1 image by name; the bundled ones are native and fly",
        group=STAGE1,
        kind=ONCE,
        key="stage1",
    ),
    Flag("stage1-path", "FILE", "stage1 image in a file", group=STAGE1, kind=ONCE, key="stage1"),
    Flag("stage1-url", "URL", "stage1 image at a URL", group=STAGE1, kind=ONCE, key="stage1"),
    Flag("stage1-hash", "HASH", "stage1 image in the store by its ID", group=STAGE1, kind=ONCE, key="stage1"),
    Flag(
        "stage1-from-dir",
        "FILE",
        "stage1 image in the configured directory",
        group=STAGE1,
        kind=ONCE,
        key="stage1",
    ),
    Flag("stage1-image", "IMAGE", "stage1 image by name, path or URL", group=STAGE1, kind=ONCE, key="stage1"),
    # --- one app
    Flag(
        "name",
        "NAME",
        "name of the app in the pod (default: end of the image's name)",
        group=APP,
        kind=ONCE,
        read=values.name,
    ),
    Flag("exec", "PROGRAM", "program to run instead of the image's", group=APP, kind=ONCE),
    Flag(
        "user",
        "USER",
        "name, ID, or path of a file whose owner it is",
        group=APP,
        kind=ONCE,
        read=values.identity,
    ),
    Flag(
        "group",
        "GROUP",
        "name, ID, or path of a file whose group it is",
        group=APP,
        kind=ONCE,
        read=values.identity,
    ),
    Flag(
        "supplementary-gids",
        "GID[,…]",
        "further groups of the app",
        group=APP,
        kind=ONCE,
        read=values.groups,
    ),
    Flag("working-dir", "PATH", "directory to start the app in", group=APP, kind=ONCE, read=values.directory),
    Flag("environment", "NAME=VALUE", "environment of this app", group=APP, kind=PAIRS, read=values.variable),
    Flag(
        "memory",
        "SIZE",
        "memory limit in bytes, such as 512Mi",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.memory,
    ),
    Flag(
        "cpu",
        "CORES",
        "CPU limit in cores, such as 500m",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.cpu,
    ),
    Flag(
        "cpu-shares",
        "SHARES",
        "weight among other apps, 2 to 262144 (default: 1024)",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.whole(CPU_SHARES),
    ),
    Flag(
        "oom-score-adj",
        "SCORE",
        "how likely the app dies when memory runs out, -1000 to 1000",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.whole(OOM_SCORE_ADJ),
    ),
    Flag(
        "caps-retain",
        "CAP[,…]",
        "capabilities to keep, all others are dropped",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.capabilities(CAPABILITIES_RETAIN),
    ),
    Flag(
        "caps-remove",
        "CAP[,…]",
        "capabilities to drop from the default ones",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.capabilities(CAPABILITIES_REMOVE),
    ),
    Flag(
        "seccomp",
        "mode=MODE[,errno=E],CALL[,…]",
        "system calls to retain or to remove",
        group=APP,
        kind=ONCE,
        key="isolators",
        read=values.seccomp,
    ),
    Flag("readonly-rootfs", "", "mount the root of the app read-only", group=APP, kind=SWITCH),
    Flag("signature", "FILE", "signature of the image", group=APP, kind=ONCE),
    Flag(
        "annotation",
        "NAME=VALUE",
        "annotation of the app",
        group=APP,
        kind=PAIRS,
        key="annotations",
        read=values.annotation,
    ),
    Flag(
        "user-annotation",
        "NAME=VALUE",
        "free annotation of the app",
        group=APP,
        kind=PAIRS,
        key="user_annotations",
        read=values.pair("user annotation"),
    ),
    Flag(
        "user-label",
        "NAME=VALUE",
        "free label of the app",
        group=APP,
        kind=PAIRS,
        key="user_labels",
        read=values.pair("user label"),
    ),
    Flag(
        "stdin",
        "MODE",
        "standard input: null, tty or stream",
        group=APP,
        kind=ONCE,
        read=values.choice(*_STREAMS),
    ),
    Flag(
        "stdout",
        "MODE",
        "standard output: log, null, tty or stream",
        group=APP,
        kind=ONCE,
        read=values.choice("log", *_STREAMS),
    ),
    Flag(
        "stderr",
        "MODE",
        "standard error: log, null, tty or stream",
        group=APP,
        kind=ONCE,
        read=values.choice("log", *_STREAMS),
    ),
)


def of_verb(verb: str) -> dict[str, Flag]:
    """The flags of one verb by name, in the order of the table."""
    return {flag.name: flag for flag in FLAGS if verb in flag.verbs}


def describe(parser: argparse.ArgumentParser, verb: str) -> None:
    """Tell an argparse parser about the flags of `verb`, for help, man page and completion."""
    from argparse import SUPPRESS

    groups: dict[str, argparse._ArgumentGroup] = {}
    for flag in of_verb(verb).values():
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        add = groups[flag.group].add_argument
        text = SUPPRESS if flag.hidden else flag.help.replace("%", "%%")
        if flag.kind == SWITCH:
            add(f"--{flag.name}", action="store_true", help=text)
        elif flag.alone is not None:
            add(f"--{flag.name}", metavar=flag.metavar, nargs="?", const=flag.alone, help=text)
        else:
            add(f"--{flag.name}", metavar=flag.metavar, help=text)
    if verb == RUN_PREPARED:
        parser.add_argument("uuid", metavar="UUID", help="a prepared pod")
    else:
        parser.usage = "[flags] IMAGE [flags for the image] [-- ARGUMENT…] [--- IMAGE …]"
        parser.add_argument(
            "image", metavar="IMAGE", nargs="*", help="images to run, each with its own flags"
        )
