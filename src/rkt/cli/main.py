"""The command `rkt`: its verbs, its global flags, and where its help topics are."""

from __future__ import annotations

import os

from console.verbs import GlobalFlag, Program, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from rkt.settings import GlobalOptions

_PODS, _IMAGES, _NETWORKS = "Pods", "Images", "Networks"
_TRUST, _HOST, _SERVICES = "Trust", "Host", "Services"

VERBS = (
    Verb("run", "rkt.cli.run", "run images as a pod", _PODS),
    Verb("prepare", "rkt.cli.prepare", "set up a pod without running it", _PODS),
    Verb("run-prepared", "rkt.cli.run_prepared", "run a prepared pod", _PODS),
    Verb("list", "rkt.cli.list", "show the pods on this host", _PODS),
    Verb("status", "rkt.cli.status", "show the state of a pod, or wait for it", _PODS),
    Verb("logs", "rkt.cli.logs", "show what the apps of a pod wrote", _PODS),
    Verb("enter", "rkt.cli.enter", "run a command inside an app of a pod", _PODS),
    Verb("stop", "rkt.cli.stop", "stop pods", _PODS),
    Verb("restart", "rkt.cli.restart", "run an exited pod again", _PODS),
    Verb("rm", "rkt.cli.rm", "remove pods that do not run", _PODS),
    Verb("gc", "rkt.cli.gc", "remove what ended pods left", _PODS),
    Verb("export", "rkt.cli.export", "write an app of an exited pod as an image", _PODS),
    Verb("cat-manifest", "rkt.cli.cat_manifest", "show the manifest of a pod", _PODS),
    Verb("fetch", "rkt.cli.fetch", "get images into the store", _IMAGES),
    Verb("image list", "rkt.cli.image.list", "show the images in the store", _IMAGES),
    Verb("image rm", "rkt.cli.image.rm", "remove images from the store", _IMAGES),
    Verb("image gc", "rkt.cli.image.gc", "remove images that nothing has used for a while", _IMAGES),
    Verb("image cat-manifest", "rkt.cli.image.cat_manifest", "show the manifest of an image", _IMAGES),
    Verb("image export", "rkt.cli.image.export", "write an image of the store to a file", _IMAGES),
    Verb("image extract", "rkt.cli.image.extract", "unpack one image into a directory", _IMAGES),
    Verb("image render", "rkt.cli.image.render", "unpack an image and its dependencies", _IMAGES),
    Verb("image verify", "rkt.cli.image.verify", "compare rendered trees with their hashes", _IMAGES),
    Verb("image inspect", "rkt.cli.image.inspect", "show what is known about an image", _IMAGES),
    Verb("image history", "rkt.cli.image.history", "show how an image came to be", _IMAGES),
    Verb("image tree", "rkt.cli.image.tree", "show what images are made of, and share", _IMAGES),
    Verb("image tag", "rkt.cli.image.tag", "give an image of layers another name", _IMAGES),
    Verb("image publish", "rkt.cli.image.publish", "write images for a web server to serve", _IMAGES),
    Verb("image push", "rkt.cli.image.push", "send an image to a registry", _IMAGES),
    Verb(
        "image convert",
        "rkt.cli.image.convert",
        "write an image as ACI, OCI layout or docker archive",
        _IMAGES,
    ),
    Verb("image fsck", "rkt.cli.image.fsck", "check the store and rebuild its index", _IMAGES),
    Verb("cni list", "rkt.cli.cni.list", "show what is attached to which network", _NETWORKS),
    Verb("cni inspect", "rkt.cli.cni.inspect", "show all of a container's attachments", _NETWORKS),
    Verb("cni check", "rkt.cli.cni.check", "check that attachments are as they were made", _NETWORKS),
    Verb("cni gc", "rkt.cli.cni.gc", "collect attachments of containers that are gone", _NETWORKS),
    Verb("cni reload", "rkt.cli.cni.reload", "put back rules that a firewall took away", _NETWORKS),
    Verb("cni install", "rkt.cli.cni.install", "give the plugins to other runtimes", _NETWORKS),
    Verb("cni doctor", "rkt.cli.cni.doctor", "check the networks, and say how to mend them", _NETWORKS),
    Verb("trust", "rkt.cli.trust", "trust a key to sign images", _TRUST),
    Verb("config", "rkt.cli.config", "show the configuration in effect", _HOST),
    Verb("doctor", "rkt.cli.doctor", "check what this host can do, and say how to mend it", _HOST),
    Verb("version", "rkt.cli.version", "show the version and the features of this build", _HOST),
    Verb("completion", "console.completion", "print a completion script for a shell", _HOST),
    Verb("help", "console.help", "explain a command or a topic", _HOST),
    Verb("metadata-service", "rkt.cli.metadata_service", "serve the appc metadata service", _SERVICES),
    Verb("__complete", "console.complete", "list completions of a command line", _HOST, hidden=True),
    Verb("__man", "console.man", "write the man pages", _HOST, hidden=True),
)

FLAGS = (
    GlobalFlag("dir", "DIR", "data directory (default: /var/lib/rkt)"),
    GlobalFlag("local-config", "DIR", "local configuration directory (default: /etc/rkt)"),
    GlobalFlag("system-config", "DIR", "system configuration directory (default: /usr/lib/rkt)"),
    GlobalFlag("user-config", "DIR", "user configuration directory (default: none)"),
    GlobalFlag(
        "insecure-options",
        "LIST",
        "checks to switch off: none, http, image, tls, pubkey, capabilities, paths, seccomp, "
        "all-fetch, all-run, all",
        repeatable=True,
    ),
    GlobalFlag("trust-keys-from-https", "", "trust keys found by discovery over HTTPS without asking"),
    GlobalFlag("debug", "", "say more: the trail of causes of an error, and timings"),
    GlobalFlag("color", "WHEN", "colour messages: auto, always, never (default: auto)"),
    GlobalFlag("cpuprofile", "FILE", "accepted for compatibility", hidden=True),
    GlobalFlag("memprofile", "FILE", "accepted for compatibility", hidden=True),
)

# What completes an argument, by its metavar in the help: functions (settings) -> list of words.
COMPLETERS = {
    "UUID": "rkt.cli.candidates:pods",
    "POD": "rkt.cli.candidates:pods",
    "IMAGE": "rkt.cli.candidates:images",
    "NETWORK": "rkt.cli.candidates:networks",
    "CONTAINER": "rkt.cli.candidates:containers",
}

# What users of docker and podman type first.
HINTS = {
    "attach": "`rkt run --interactive` connects the terminal, `rkt logs -f` follows the output",
    "build": "images are built by `acbuild`: see `acbuild help`",
    "commit": "`rkt export` writes an app of an exited pod as an image",
    "cp": "share files by `--volume`; `rkt enter POD tar c PATH | tar x` copies from a pod that runs",
    "create": "`rkt prepare` sets a pod up without running it",
    "events": "`rkt logs -f` follows the output, `rkt status --wait` blocks until a pod has ended",
    "exec": "`rkt enter` runs a command inside an app of a pod",
    "images": "`rkt image list` shows the images in the store",
    "info": "`rkt doctor` tells about the host, `rkt version` about the program",
    "inspect": "`rkt status` tells about a pod, `rkt image inspect` about an image",
    "kill": "`rkt stop --force` kills a pod",
    "load": "`rkt fetch docker-archive:FILE` gets an image of `docker save`",
    "login": "use `podman login` or `docker login`, or put a file into auth.d",
    "network": "`rkt cni list` shows what is attached; networks are files: see `rkt help networking`",
    "ps": "`rkt list` shows the pods on this host",
    "pull": "`rkt fetch docker://NAME` gets an image of a registry",
    "push": "`rkt image push` sends an image to a registry",
    "rmi": "`rkt image rm` removes images from the store",
    "save": "`rkt image convert IMAGE docker-archive:FILE` writes what `docker load` reads",
    "stats": "`rkt enter POD top` shows the processes; limits are control groups: see `systemd-cgtop`",
    "start": "`rkt restart` runs an exited pod again, `rkt run-prepared` a prepared one",
    "system": "`rkt gc` and `rkt image gc` remove what is not needed, `rkt doctor` checks the host",
    "tag": "`rkt image tag` gives an image of layers another name",
    "top": "`rkt enter POD ps` shows the processes",
    "volume": "volumes are directories of the host: see `--volume` in `rkt help run`",
    "wait": "`rkt status --wait` blocks until a pod has ended",
}


def settings(flags: Mapping[str, object]) -> GlobalOptions:
    """The global flags as GlobalOptions; symbolic links in the path of the data directory are resolved."""
    from rkt.settings import DATA_DIR, LOCAL_CONFIG, SYSTEM_CONFIG, GlobalOptions, parse_insecure

    insecure = flags.get("insecure-options")
    local = str(flags.get("local-config") or LOCAL_CONFIG)
    system = str(flags.get("system-config") or SYSTEM_CONFIG)
    user = str(flags.get("user-config") or "")
    return GlobalOptions(
        data_dir=_resolved(str(flags.get("dir") or _configured_data_dir(system, local, user) or DATA_DIR)),
        local_config=local,
        system_config=system,
        user_config=user,
        insecure=parse_insecure(insecure if isinstance(insecure, list) else []),
        debug=bool(flags.get("debug")),
        trust_keys_from_https=bool(flags.get("trust-keys-from-https")),
    )


def _configured_data_dir(*directories: str) -> str:
    """The data directory of `paths.d`, empty when none is configured; strongest directory last."""
    used = [directory for directory in directories if directory and os.path.isdir(f"{directory}/paths.d")]
    if not used:
        return ""
    from rkt.config.merged import load_paths

    return load_paths(used).data


def _resolved(path: str) -> str:
    """The real path of the operator's own data directory, as the kernel will name it in mountinfo."""
    return os.path.realpath(path)


def _version() -> str:
    from rkt.cli.version import text

    return text()


PROGRAM = Program(
    "rkt",
    "a pod runtime without a daemon",
    VERBS,
    version=_version,
    flags=FLAGS,
    settings=settings,
    failure=254,
    topics=os.path.join(os.path.dirname(os.path.dirname(__file__)), "help"),
    completers=COMPLETERS,
    hints=HINTS,
    of_root=True,
)


def main(argv: Sequence[str] | None = None) -> int:
    from console.main import main as run

    return run(PROGRAM, argv)


def command() -> NoReturn:
    """The command as a process of its own."""
    from console.main import process

    process(PROGRAM)


if __name__ == "__main__":
    command()
