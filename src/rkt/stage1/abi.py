"""The stage 1 ABI: what stage 0 hands to a stage 1, and the names of its entry points.

Source: rkt, Documentation/devel/stage1-implementors-guide.md. The bundled flavours get an `Invocation`;
a stage 1 from an image gets the same as the command line that `arguments` makes of it.
"""

from __future__ import annotations

from linux.named_tuple import NamedTuple

# Annotations of a stage 1 image's manifest. The values are paths relative to its root file system.
RUN = "coreos.com/rkt/stage1/run"
ENTER = "coreos.com/rkt/stage1/enter"
GC = "coreos.com/rkt/stage1/gc"
STOP = "coreos.com/rkt/stage1/stop"
INTERFACE_VERSION = "coreos.com/rkt/stage1/interface-version"

# A link in the pod's directory: to `ready`, or to `failed` if a program could not be executed before that.
SUPERVISOR_STATUS = "stage1/rootfs/rkt/supervisor-status"

# The environment variable that names the descriptor which carries the pod's lock.
LOCK_FD = "RKT_LOCK_FD"


class Invocation(NamedTuple):
    """How a pod is to be run.

    `pod_dir` is the pod's directory, absolute. `net` holds the values of `--net`. `private_users` is
    (first host ID, number of IDs), None for a pod without a user namespace of its own. `dns_mode` says
    where /etc/resolv.conf comes from (`host`, `stage0`, `none`, `default`), `hosts_mode` where /etc/hosts.
    `ipc` is `auto`, `private` or `parent`. `data_dir` and `ports` (tuples that `rkt.network` understands) are
    for the bundled flavours only: the ABI has no word for them.
    """

    uuid: str
    pod_dir: str
    net: tuple[str, ...] = ("default",)
    interactive: bool = False
    private_users: tuple[int, int] | None = None
    mds_token: str = ""
    local_config: str = "/etc/rkt"
    hostname: str = ""
    disable_capabilities: bool = False
    disable_paths: bool = False
    disable_seccomp: bool = False
    dns_mode: str = "default"
    hosts_mode: str = "default"
    ipc: str = "auto"
    debug: bool = False
    data_dir: str = ""
    ports: tuple[object, ...] = ()


def arguments(invocation: Invocation, version: int) -> tuple[list[str], list[str]]:
    """The flags for the `run` entry point of a stage 1 of interface `version`, and those left out.

    Flags that came with a later version of the interface than the stage 1's are left out; what the user
    asked for by them is named, so that a warning can tell.
    """
    flags = ["--debug"] if invocation.debug else []
    flags.append("--net=" + ",".join(invocation.net))
    if invocation.interactive:
        flags.append("--interactive")
    if invocation.private_users:
        flags.append("--private-users={}:{}".format(*invocation.private_users))
    if invocation.mds_token:
        flags.append(f"--mds-token={invocation.mds_token}")
    flags.append(f"--local-config={invocation.local_config}")
    since = [
        (2, f"--hostname={invocation.hostname}" if invocation.hostname else ""),
        (3, "--disable-capabilities-restriction" if invocation.disable_capabilities else ""),
        (3, "--disable-paths" if invocation.disable_paths else ""),
        (3, "--disable-seccomp" if invocation.disable_seccomp else ""),
        (4, f"--dns-conf-mode=resolv={invocation.dns_mode},hosts={invocation.hosts_mode}"),
        (6, f"--ipc={invocation.ipc}"),
    ]
    flags += [flag for needed, flag in since if flag and needed <= version]
    silent = {"--dns-conf-mode=resolv=default,hosts=default", "--ipc=auto"}
    dropped = [flag for needed, flag in since if flag and needed > version and flag not in silent]
    return [*flags, invocation.uuid], dropped
