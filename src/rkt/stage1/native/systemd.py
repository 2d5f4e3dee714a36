"""A pod and its host's service manager: what systemd gave to `rkt run`, and what it is told about the pod.

The pod stays in the unit that `rkt run` was started in. Outside of a service, as in a user's session, it gets
a scope of its own in machine.slice, so that it does not end with the session; and on version 2 of control
groups also below a service that was not delegated (Delegate=no), as only a delegated unit may be divided.
Nothing of this must fail a pod: what cannot be had is a remark.
"""

from __future__ import annotations

import os

from linux import systemd

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 2 MB that typing loads
if TYPE_CHECKING:
    from appc.schema.pod import PodManifest
    from appc.types.ports import ExposedPort, Port
    from linux.cgroups import Hierarchy
    from linux.systemd.journal import Journal
    from linux.systemd.listen import Address, Passed
    from linux.systemd.notify import Notifier
    from linux.systemd.units import Unit
    from rkt.stage1.native.journal import AppJournal, PodJournal
    from rkt.stage1.native.plan import AppPlan, PodPlan

# Written into the pod before machined is told: what `release` has to take back.
REGISTERED = "machined"
# Where an app that supports sd_notify finds the socket.
NOTIFY_SOCKET = "/run/systemd/notify"
_SLICE = "machine.slice"
# How long, in seconds, the end of a scope of the same name is waited for.
_PATIENCE = 2.0


def machine_name(uuid: str) -> str:
    """What machined calls the pod."""
    return f"rkt-{uuid}"


class Place:
    """Where the pod's control groups are made. `holder` is a process that keeps a new scope alive, or 0."""

    __slots__ = ("_pipe", "hierarchy", "holder")

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.holder = 0
        self._pipe = -1

    def settle(self) -> None:
        """The pod has processes of its own: nobody has to keep its scope alive any more."""
        if self.holder:
            os.close(self._pipe)
            os.waitpid(self.holder, 0)
            self.holder = 0

    def hold(self) -> None:
        """Fork the process that a scope is made for."""
        from linux import process

        reading, self._pipe = os.pipe2(os.O_CLOEXEC)
        self.holder = os.fork()
        if self.holder == 0:
            try:
                process.close_fds_from(0, keep=(reading,))
                os.read(reading, 1)  # until the parent closes its end, or dies
            finally:
                os._exit(0)
        os.close(reading)


def find_place(uuid: str, remarks: list[str]) -> Place:
    """Decide where the pod's control groups belong, and start a scope for them if it takes one."""
    from linux.cgroups import Hierarchy

    place = Place(Hierarchy.detect())
    if not systemd.is_running():
        return place
    from linux.systemd import units

    unit = units.of_process()
    if _is_kept(unit) and (place.hierarchy.version != 2 or place.hierarchy.divide()):
        return place
    try:
        _start_scope(place, uuid, unit)
    except (OSError, ValueError) as error:
        if not isinstance(error, (FileNotFoundError, ConnectionRefusedError)):  # no bus, so none was asked
            remarks.append(f"systemd: no scope of the pod's own: {getattr(error, 'strerror', None) or error}")
        place.settle()
        place = Place(Hierarchy.detect())
    return place


def _is_kept(unit: Unit | None) -> bool:
    """Whether the pod may stay in `unit`: a service or scope of the system, not of a user's session."""
    return unit is not None and unit.name != "init.scope" and not unit.slice.startswith(("user-", "user."))


def _start_scope(place: Place, uuid: str, unit: Unit | None) -> None:
    import time

    from linux.cgroups import Hierarchy
    from linux.systemd import units
    from linux.systemd.bus import Bus, BusError

    # A service would lose its main process; a session does not mind.
    if _is_kept(unit):
        place.hold()
    moved = place.holder or os.getpid()
    name = "machine-" + machine_name(uuid).replace("-", r"\x2d") + ".scope"
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with Bus() as bus:
                units.start_scope(bus, name, [moved], slice=_SLICE, description=f"Pod {uuid} of rkt")
        except BusError as error:
            # A pod that is started again at once: systemd has not seen yet that the old scope is empty.
            if not error.name.endswith(".UnitExists") or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            break
    place.hierarchy = Hierarchy.detect(f"/proc/{moved}")
    place.hierarchy.divide(moved)


def journal_directory(pod_dir: str) -> int:
    """Where `journalctl -M` will find the pod's journal files, as a detached mount that nobody can write."""
    from linux.mount import api
    from rkt.stage1.native import journal

    attributes = api.Attribute
    fd = api.open_tree(journal.make_directory(pod_dir))
    api.mount_setattr(fd, set_=attributes.RDONLY | attributes.NOSUID | attributes.NODEV | attributes.NOEXEC)
    return fd


def register(pod_dir: str, uuid: str, init: int) -> tuple[bool, str]:
    """Tell machined about the pod whose PID 1 is `init`: whether it took it, and else a remark or "" ."""
    if not systemd.is_running():
        return False, ""
    from linux.systemd import machined
    from linux.systemd.bus import Bus, BusError
    from rkt.stage1.native.supervisor import put

    put(f"{pod_dir}/{REGISTERED}", machine_name(uuid) + "\n")
    try:
        with Bus() as bus:
            machined.register(
                bus,
                machine_name(uuid),
                bytes.fromhex(uuid.replace("-", "")),
                service="rkt",
                leader=init,
                root=f"{pod_dir}/stage1/rootfs",
            )
    except (FileNotFoundError, ConnectionRefusedError):
        return False, ""  # a host without a message bus has no machined
    except BusError as error:
        if error.name.endswith((".ServiceUnknown", ".NameHasNoOwner")):
            return False, ""  # not installed
        return False, f"machined: the pod is not registered: {error.strerror}"
    except OSError as error:
        return False, f"machined: the pod is not registered: {error.strerror or error}"
    return True, ""


def unregister(pod_dir: str, uuid: str) -> None:
    """Have machined forget the pod, if it was told. A machine that is gone already is no error."""
    if not os.path.exists(f"{pod_dir}/{REGISTERED}") or not systemd.is_running():
        return
    from linux.systemd import machined
    from linux.systemd.bus import Bus, BusError

    try:
        with Bus() as bus:
            machined.unregister(bus, machine_name(uuid))
    except (BusError, FileNotFoundError, ConnectionRefusedError):
        return


# What the apps print


class Journals:
    """The host's journal for the apps of a pod, if it has one, and the pod's `own`, if machined knows it."""

    def __init__(self, uuid: str, own: PodJournal | None) -> None:
        self._uuid = uuid
        self._journal: Journal | None = None
        self._instead = False
        self._own = own
        if systemd.is_running():
            from linux.systemd import journal

            self._journal = journal.Journal()
            self._instead = journal.is_stream(1)

    def of(self, app: AppPlan) -> AppJournal | None:
        """Where the output of `app` goes; None where there is no journal."""
        if self._journal is None:
            return None
        from rkt.stage1.native import journal

        fields = journal.fields_of(app.name, self._uuid, app.image_id, os.getpid())
        return journal.AppJournal(self._journal, fields, instead=self._instead, own=self._own)


# Readiness


def notifier() -> Notifier | None:
    """The service manager that wants to hear from this process, if one does."""
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from linux.systemd.notify import Notifier

    return Notifier.take()


def notifies(app: AppPlan) -> bool:
    """Whether the app says itself when it is ready (spec/aci.md, annotations)."""
    from appc.types.annotations import SUPPORTS_SYSTEMD_NOTIFY

    return any(
        annotation.name == SUPPORTS_SYSTEMD_NOTIFY and annotation.value == "true"
        for annotation in app.image.annotations
    )


def with_notify_sockets(pod: PodPlan, pod_dir: str) -> tuple[PodPlan, dict[str, int]]:
    """The pod with a socket mounted into each app that notifies, and the descriptors to receive on."""
    apps = [app for app in pod.apps if notifies(app)]
    if not apps:
        return pod, {}
    from linux.systemd import notify
    from rkt.stage1.native.plan import MountPlan, VolumePlan

    os.makedirs(f"{pod_dir}/notify", mode=0o700, exist_ok=True)
    directory = os.open(f"{pod_dir}/notify", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        receivers = {app.name: notify.bind(directory, app.name) for app in apps}
    finally:
        os.close(directory)

    def mounted(app: AppPlan) -> AppPlan:
        if app.name not in receivers:
            return app
        source = f"{pod_dir}/notify/{app.name}"
        volume = VolumePlan("notify", "host", source, False, False, 0o666, 0, 0)  # noqa: FBT003
        mounts = (*app.mounts, MountPlan(NOTIFY_SOCKET, volume, read_only=False))
        return app._replace(mounts=tuple(sorted(mounts, key=lambda mount: mount.path.split("/"))))

    return pod._replace(apps=tuple(mounted(app) for app in pod.apps)), receivers


# Socket activation


class Sockets:
    """The sockets that systemd passed, and whose they are."""

    def __init__(self, pod: PodPlan) -> None:
        """Take them and match them with the apps' `socketActivated` ports, by getsockname(2).

        RktError when the environment lies about them.
        """
        self._of_app: dict[str, list[Passed]] = {}
        self._ports: set[str] = set()
        self.remarks: list[str] = []
        if "LISTEN_PID" not in os.environ:
            return
        from linux.systemd import listen
        from rkt.errors import RktError

        try:
            passed = [(one, listen.address(one.fd)) for one in listen.take()]
        except (OSError, ValueError) as error:
            raise RktError(f"the sockets that were passed: {error}") from error
        for one, address in passed:
            if not self._give(pod, one, address):
                os.close(one.fd)
                where = f"{address.protocol} {address.port}" if address.port else address.protocol or "other"
                self.remarks.append(f'socket "{one.name}" ({where}) belongs to no socketActivated port')

    def _give(self, pod: PodPlan, passed: Passed, address: Address) -> bool:
        exposed = {str(port.name): port for port in pod.manifest.ports}
        for app in pod.apps:
            for port in app.app.ports:
                if port.socket_activated and _matches(port, exposed.get(str(port.name)), passed, address):
                    self._of_app.setdefault(app.name, []).append(passed)
                    self._ports.add(str(port.name))
                    return True
        return False

    def without_activated_ports(self, manifest: PodManifest) -> PodManifest:
        """The manifest without the ports whose sockets are on the host already: forwarding such a port would
        lead its traffic past the socket.
        """
        if not self._ports:
            return manifest
        return manifest.replace(ports=tuple(port for port in manifest.ports if port.name not in self._ports))

    def fds(self, app: str) -> tuple[int, ...]:
        """The descriptors of the app's sockets."""
        return tuple(passed.fd for passed in self._of_app.get(app, ()))

    def variables(self, app: str) -> dict[str, str]:
        """What the app's environment tells of its sockets; LISTEN_PID is added by its own process."""
        if app not in self._of_app:
            return {}
        from linux.systemd import listen

        return listen.variables([passed.name for passed in self._of_app[app]], 0)

    def close(self, app: str) -> None:
        """The app has its sockets."""
        for passed in self._of_app.pop(app, ()):
            os.close(passed.fd)


def _matches(port: Port, exposed: ExposedPort | None, passed: Passed, address: Address) -> bool:
    """Whether the socket is the app's port: by protocol and number, that of the host if the pod exposes it; a
    Unix socket by the name that its unit gave it.
    """
    if address.protocol == "unix":
        return passed.name == port.name
    first = exposed.host_port if exposed is not None and exposed.host_port else port.port
    return address.protocol == port.protocol.lower() and first <= address.port < first + port.count
