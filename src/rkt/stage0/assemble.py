"""From a command line to a pod: images, pod manifest, preparation, and how a stage 1 is to run it."""

from __future__ import annotations

import os

from rkt.errors import RktError
from rkt.stage0 import etc, prepare
from rkt.stage1 import flavours
from rkt.stage1.abi import Invocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.schema.pod import PodManifest
    from console.output import Output
    from rkt.appargs import PodOptions
    from rkt.appargs.options import Stage1Choice
    from rkt.pods.directory import PodDirectory
    from rkt.pods.pod import Pod
    from rkt.settings import GlobalOptions
    from rkt.stage0.podmanifest import Image
    from rkt.store import Store


def assemble(settings: GlobalOptions, pods: PodDirectory, options: PodOptions, out: Output) -> Pod:
    """Fetch the images, make the pod manifest, prepare the pod; locked, in phase `prepare`.

    Raises RktError, AppcError or OSError; then no pod is left.
    """
    from rkt.stage0 import podmanifest
    from rkt.store import Store

    with Store(settings.data_dir, settings.config_dirs()) as store:
        if options.pod_manifest is not None:
            manifest = podmanifest.check_pod_manifest(
                _read(options.pod_manifest), lambda wanted: _stored(store, wanted)
            )
        else:
            manifest = podmanifest.build_pod_manifest(options, _images(settings, store, options, out))
            for name, path in podmanifest.implicit_mounts(manifest, options):
                out.warn(f"app {name}: no volume for {path}: it gets an empty one that goes with the pod")
            for text in (*_mounted_nowhere(manifest, options), *_ports_the_other_way_round(manifest)):
                out.warn(text)
        flavour, stage1_image = _stage1(settings, store, options, out)
        wanted = prepare.Preparation(
            manifest=manifest.encode(),
            apps=tuple((str(app.name), str(app.image.id)) for app in manifest.apps),
            flavour=flavour,
            stage1_image=stage1_image,
            # A stage 1 from an image finds whole trees in the pod: an overlay would be a mount of the host.
            overlay=not options.no_overlay and flavour != flavours.EXTERNAL,
            private_users=_private_users(settings, options, flavour),
            pod_name=options.pod_name,
            uuid_file=options.uuid_file_save,
        )
        return prepare.prepare(settings, store, pods, wanted)


def invocation(settings: GlobalOptions, options: PodOptions, pod: Pod) -> Invocation:
    """How the pod, which lies prepared, is to be run; writes the files that the stage 1 finds in the pod."""
    from rkt import network

    dns_mode, hosts_mode = etc.write(pod, options)
    return Invocation(
        uuid=pod.uuid,
        pod_dir=pod.path,
        net=network.parse_net_flags(options.net),
        interactive=options.interactive,
        private_users=_range(pod),
        local_config=os.path.abspath(settings.local_config),
        hostname=options.hostname,
        disable_capabilities="capabilities" in settings.insecure,
        disable_paths="paths" in settings.insecure,
        disable_seccomp="seccomp" in settings.insecure,
        dns_mode=dns_mode,
        hosts_mode=hosts_mode,
        ipc=options.ipc,
        debug=settings.debug,
        data_dir=settings.data_dir,
    )


def _mounted_nowhere(manifest: PodManifest, options: PodOptions) -> list[str]:
    """What is to be said of volumes given by a name that no image has a mount point for."""
    mounted = {mount.volume for app in manifest.apps for mount in app.mounts}
    points = sorted({point.name for app in manifest.apps if app.app for point in app.app.mount_points})
    named = f"name it as a mount point ({', '.join(points)}), or " if points else ""
    return [
        f"volume {volume.name}: no app mounts it: {named}say --mount=volume={volume.name},target=PATH"
        for volume in options.volumes
        if volume.name not in mounted
    ]


def _ports_the_other_way_round(manifest: PodManifest) -> list[str]:
    """What is to be said of ports that were given as Docker has them, the host's first."""
    known = {port.port for app in manifest.apps if app.app for port in app.app.ports}
    return [
        f"--port: {exposed.name} is taken as the app's port, {exposed.host_port} as the host's"
        f": the app says it has {exposed.host_port}, so {exposed.host_port}:{exposed.name} may be meant"
        for exposed in manifest.ports
        if exposed.pod_port and exposed.pod_port.port not in known and exposed.host_port in known
    ]


def _stored(store: Store, wanted: str) -> Image:
    from rkt.stage0.podmanifest import Image

    image = store.resolve(wanted)
    return Image(image, store.manifest(image))


def _images(settings: GlobalOptions, store: Store, options: PodOptions, out: Output) -> list[Image]:
    from rkt.fetch import fetch
    from rkt.stage0.podmanifest import Image

    found = []
    for app in options.apps:
        image = fetch(
            settings, store, app.image, pull_policy=options.pull_policy, signature=app.signature, out=out
        )
        found.append(Image(image, store.manifest(image)))
    return found


def _stage1(
    settings: GlobalOptions, store: Store, options: PodOptions, out: Output
) -> tuple[str, str | None]:
    """The flavour that was asked for, and the image of one that is not bundled."""
    choice = options.stage1 or _configured_stage1(settings, store)
    if choice is None:
        return flavours.DEFAULT, None
    name = flavours.bundled_name(choice.by, choice.value)
    if name is not None:
        return name, None
    from rkt.stage0.stage1image import fetch_stage1

    return flavours.EXTERNAL, fetch_stage1(settings, store, choice, out)


def _configured_stage1(settings: GlobalOptions, store: Store) -> Stage1Choice | None:
    """The default stage1 of `stage1.d`, None when none is configured."""
    directories = [each for each in settings.config_dirs() if os.path.isdir(f"{each}/stage1.d")]
    if not directories:
        return None
    from rkt.stage0.stage1image import configured

    return configured(directories, store)


def _private_users(settings: GlobalOptions, options: PodOptions, flavour: str) -> bool:
    """Whether the pod gets a user namespace: unless told otherwise, if the flavour has namespaces at all."""
    if flavour != flavours.DEFAULT:
        if options.private_users:
            raise RktError(f"--private-users: a pod of stage1 {flavour} cannot have a user namespace")
        return False
    if options.private_users is not None:
        return options.private_users
    if options.ipc == "parent" or "host" in options.net:
        return False
    directories = [each for each in settings.config_dirs() if os.path.isdir(f"{each}/pods.d")]
    if not directories:
        return True
    from rkt.config.merged import load_private_users

    return load_private_users(directories)


def _range(pod: Pod) -> tuple[int, int] | None:
    text = pod.read_text("private-users-prepared")
    if not text:
        return None
    shift, count = text.split(":")
    return int(shift), int(count)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(8 << 20)
    except OSError as error:
        raise RktError(f"the pod manifest {path} cannot be read") from error
