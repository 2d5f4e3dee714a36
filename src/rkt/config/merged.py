"""The configuration in effect: the system's, under the local one, under the user's."""

from __future__ import annotations

from linux.named_tuple import NamedTuple
from rkt.config.kinds import (
    Paths,
    Stage1,
    read_image_limits,
    read_paths,
    read_private_users,
    read_stage1,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.http.auth import Credentials
    from appc.settings.auth import Auth
    from oci.registry.settings import Rule
    from rkt.config.policies import Policy


class Config(NamedTuple):
    """Everything that is configured: credentials by domain and registry, paths, the default stage1,
    pods, limits of images, registries, and what is believed of them."""

    auth: dict[str, Auth]
    docker_auth: dict[str, Auth]
    paths: Paths
    stage1: Stage1
    private_users: bool
    image_limits: dict[str, int]
    registries: dict[str, Rule]
    policies: dict[str, Policy]

    def credentials(self) -> Credentials:
        """What the web client needs."""
        from appc.http.auth import Credentials

        return Credentials({domain: auth.credential() for domain, auth in self.auth.items()})

    def to_json(self) -> dict[str, object]:
        """As `rkt config` prints it: entries that could be configuration files, one a domain or registry."""
        entries: list[dict[str, object]] = []
        for domain, auth in sorted(self.auth.items()):
            entries.append({
                "rktVersion": "v1",
                "rktKind": "auth",
                "domains": [domain],
                "type": auth.type,
                "credentials": auth.credentials,
            })
        for registry, auth in sorted(self.docker_auth.items()):
            entries.append({
                "rktVersion": "v1",
                "rktKind": "dockerAuth",
                "registries": [registry],
                "credentials": auth.credentials,
            })
        entries.append({
            "rktVersion": "v1",
            "rktKind": "paths",
            "data": self.paths.data,
            "stage1-images": self.paths.stage1_images,
        })
        entries.append({
            "rktVersion": "v1",
            "rktKind": "stage1",
            "name": self.stage1.name,
            "version": self.stage1.version,
            "location": self.stage1.location,
        })
        if not self.private_users:  # the kind is not rkt's: a script that reads the list expects the others
            entries.append({"rktVersion": "v1", "rktKind": "pods", "privateUsers": False})
        if self.image_limits:
            entries.append({"rktVersion": "v1", "rktKind": "images", "limits": self.image_limits})
        for registry, rule in sorted(self.registries.items()):
            entries.append({
                "rktVersion": "v1",
                "rktKind": "registries",
                "registries": [registry],
                "mirrors": list(rule.mirrors),
                "plainHttp": rule.plain_http,
                "blocked": rule.blocked,
            })
        for name, policy in sorted(self.policies.items()):
            entries.append({
                "rktVersion": "v1",
                "rktKind": "imagePolicy",
                "names": [name],
                "accept": list(policy.accept),
                "lookaside": policy.lookaside,
            })
        return {"stage0": entries}


def load(directories: Iterable[str]) -> Config:
    """The configuration of `directories`, the weakest first. Credentials override each other one by one."""
    from appc.settings.auth import read_directories
    from oci.registry.configured import load_rules

    directories = list(directories)
    auth, docker = read_directories(directories)
    return Config(
        auth,
        docker,
        load_paths(directories),
        load_stage1(directories),
        load_private_users(directories),
        load_image_limits(directories),
        load_rules(directories),
        load_policies(directories),
    )


def load_policies(directories: Iterable[str]) -> dict[str, Policy]:
    """Only what vouches for images of layers, by name or beginning of names."""
    from rkt.config.policies import read_policies

    merged: dict[str, Policy] = {}
    for directory in directories:
        merged |= read_policies(directory)
    return merged


def load_paths(directories: Iterable[str]) -> Paths:
    """Only the paths; reads nothing but `paths.d`."""
    merged = Paths()
    for directory in directories:
        found = read_paths(directory)
        merged = Paths(found.data or merged.data, found.stage1_images or merged.stage1_images)
    return merged


def load_private_users(directories: Iterable[str]) -> bool:
    """Only whether pods get user namespaces where they can: they do unless a file says `false`."""
    merged = True
    for directory in directories:
        found = read_private_users(directory)
        merged = merged if found is None else found
    return merged


def load_image_limits(directories: Iterable[str]) -> dict[str, int]:
    """Only the limits of images that are not the default ones, by name."""
    merged: dict[str, int] = {}
    for directory in directories:
        merged |= read_image_limits(directory)
    return merged


def load_stage1(directories: Iterable[str]) -> Stage1:
    """Only the default stage1."""
    merged = Stage1()
    for directory in directories:
        found = read_stage1(directory)
        if found.name:
            merged = merged._replace(name=found.name, version=found.version)
        if found.location:
            merged = merged._replace(location=found.location)
    return merged
