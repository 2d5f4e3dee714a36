"""Joining a pod to its networks and taking it off again.

The plugins run in one forked child, whatever their number: what they do to themselves, and the memory of
all that had to be imported, ends with it. It holds the locks too, so that a child whose parent was killed
is waited for by whoever comes to clean up.
"""

from __future__ import annotations

import os

from cni import exclusion, jsontext, volatile
from cni.errors import CniError
from cni.fields import Fields
from rkt.errors import RktError
from rkt.network import bandwidth, definitions, flags, netinfo, plan, ports

TYPE_CHECKING = False  # not from typing: start-up time counts here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appc.schema.pod import PodManifest
    from cni.runtime import Runtime
    from rkt.network.netinfo import NetInfo
    from rkt.network.plan import Plan

LOCK = exclusion.PATH


def setup(
    pod_dir: str,
    uuid: str,
    netns_path: str,
    net: Iterable[str],
    manifest: PodManifest,
    local_config: str,
    remarks: list[str],
) -> list[NetInfo]:
    """Bring up lo and join the pod `uuid`, whose network namespace is at `netns_path`, to its networks.

    `net` holds values of `--net` (`flags.parse_net_flags`); the ports to forward are those of `manifest`.
    To `remarks` is added what was asked for and cannot be had. Writes net-info.json. Raises RktError when it
    cannot be done; then nothing is left of what was.
    """
    net = flags.parse_net_flags(net)
    if "host" in flags.split(net):
        return []
    forwards = ports.forwards(manifest)
    if forwards:
        flags.check_ports_allowed(net)
        ports.check_free(forwards)
    chosen = definitions.select(net, local_config)
    rate = bandwidth.limit(manifest)
    remarks += _unlimited(manifest, rate, chosen)
    _check_plugins(chosen, local_config)
    _load_plugins(chosen)
    os.makedirs(f"{pod_dir}/{plan.DIRECTORY}", mode=0o700, exist_ok=True)
    path = definitions.plugin_path(local_config)
    wanted = plan.make(uuid, pod_dir, netns_path, path, chosen, forwards, rate)
    with _Locks(pod_dir) as locks:
        wanted.save()
        try:
            joined = _decode(locks.run(lambda: _join(wanted)))
            _write_netinfo(pod_dir, joined)
        except BaseException as failure:
            for problem in _undo(wanted, locks):
                failure.add_note(problem)
            raise
    return joined


def teardown(pod_dir: str, uuid: str) -> None:
    """Take a pod off its networks, in reverse order. No error when it is on none, or not any more.

    Every network is tried; RktError names what could not be undone, and the plan is kept for another try.
    """
    if not os.path.isdir(f"{pod_dir}/{plan.DIRECTORY}"):
        return
    with _Locks(pod_dir) as locks:
        try:
            wanted = plan.load(pod_dir, uuid)
        except ValueError as bad:
            raise RktError(f"the record of the pod's networks is damaged: {bad}") from None
        problems = [] if wanted is None else _undo(wanted, locks)
    if problems:
        raise RktError("; ".join(problems))


def undo(wanted: Plan) -> list[str]:
    """Undo a plan whose pod is gone; what went wrong. The caller has the exclusive lock."""
    from linux.process import fork_and_read

    return _finish(wanted, fork_and_read(lambda: _leave(wanted)))


class _Locks:
    """The node's lock, shared (gc takes it alone), and the pod's own."""

    def __init__(self, pod_dir: str) -> None:
        self._directory = f"{pod_dir}/{plan.DIRECTORY}"
        self._fds: list[int] = []

    def __enter__(self) -> _Locks:
        from linux.files import lock_directory, lock_file

        os.makedirs(os.path.dirname(LOCK), mode=0o755, exist_ok=True)
        try:
            self._fds.append(lock_file(LOCK, exclusive=False))
            self._fds.append(lock_directory(self._directory, exclusive=True))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def run(self, function: Callable[[], bytes]) -> bytes:
        """Run `function` in a child that keeps the locks."""
        from linux.process import fork_and_read

        return fork_and_read(function, pass_fds=self._fds)


def _unlimited(manifest: PodManifest, rate: int | None, chosen: list[definitions.Definition]) -> list[str]:
    """What is not enforced of the isolator for network bandwidth."""
    if not bandwidth.is_wanted(manifest):
        return []
    name = "resource/network-bandwidth"
    if rate is None:
        return [f"{name}: not every app of the pod has a limit, and they share its interfaces"]
    return [
        f'{name}: interfaces of network "{each.network.name}" have no end on the host to be limited at'
        for each in chosen
        if not bandwidth.can_limit(each.network)
    ]


def _check_plugins(chosen: list[definitions.Definition], local_config: str) -> None:
    """A plugin that is missing is seen before anything is made, and so never when it is to be undone."""
    from cni.runtime import find_missing

    path = definitions.plugin_path(local_config)
    for each in chosen:
        missing = find_missing(each.network, path)
        if missing is not None:
            raise RktError(
                f'error adding network "{each.network.name}": {missing.msg}',
                hint=missing.hint or f"put the plugin's executable into {path[-1]}",
            )


def _load_plugins(chosen: list[definitions.Definition]) -> None:
    """Import here what the child that joins needs and the one that leaves needs again: they inherit it."""
    from cni import plugins
    from cni.plugins import loopback  # noqa: F401

    for each in chosen:
        for plugin in each.network.plugins:
            for name in (plugin.type, Fields(plugin.config).mapping("ipam").string("type")):
                if plugins.is_builtin(name):
                    plugins.load(name)
        if each.masquerades:
            from cni.nft import masquerade  # noqa: F401


def _runtime(wanted: Plan) -> Runtime:
    from cni.runtime import Runtime

    return Runtime(
        wanted.path, cache=wanted.cache, environment=dict(os.environ), isolated=False, verbatim=True
    )


def _join(wanted: Plan) -> bytes:
    """In the child: the networks as JSON, or the network that failed and why."""
    from cni.plugins import loopback
    from linux.namespaces import inside
    from rkt.network.netinfo import NetInfo

    with inside(wanted.netns):
        loopback.set_up(up=True)
    runtime = _runtime(wanted)
    joined = []
    for each in wanted.joinings:
        try:
            result = runtime.add(each.network, wanted.attachment(each))
        except CniError as failed:
            answer = {"network": each.network.name, "error": str(failed), "hint": failed.hint}
            return jsontext.dumps(answer).encode()
        joined.append(NetInfo.from_result(each.network.name, each.if_name, each.conf_path, each.args, result))
    return netinfo.encode(joined)


def _decode(answer: bytes) -> list[NetInfo]:
    value = jsontext.loads(answer)
    if isinstance(value, dict):
        fields = Fields(value)
        raise RktError(
            f'error adding network "{fields.string("network")}": {fields.string("error")}',
            hint=fields.string("hint") or None,
        )
    return netinfo.decode(answer)


def _leave(wanted: Plan) -> bytes:
    """In the child: what could not be undone, as a JSON list."""
    runtime = _runtime(wanted)
    problems: list[object] = []
    for each in reversed(wanted.joinings):
        try:
            attachment = wanted.attachment(each)
            gone = not os.path.exists(attachment.netns)
            runtime.delete(each.network, attachment, keep_going=True, thorough=gone)
        except Exception as failed:  # noqa: BLE001  whatever it is, the other networks must be left
            problems.append(f'error deleting network "{each.network.name}": {failed}')
    return jsontext.dumps(problems).encode()


def _undo(wanted: Plan, locks: _Locks) -> list[str]:
    try:
        answer = locks.run(lambda: _leave(wanted))
    except (OSError, RuntimeError) as failed:
        return [f"error deleting networks: {failed}"]
    return _finish(wanted, answer)


def _finish(wanted: Plan, answer: bytes) -> list[str]:
    problems = [str(each) for each in Fields({"problems": jsontext.loads(answer)}).strings("problems")]
    if not problems:
        wanted.forget()
    return problems


def _write_netinfo(pod_dir: str, joined: list[NetInfo]) -> None:
    volatile.replace(f"{pod_dir}/{netinfo.FILE}", netinfo.encode(joined), mode=0o644)
