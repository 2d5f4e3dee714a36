"""Media types of OCI 1.0 and 1.1 and of Docker's schema 2, and what they mean."""

from __future__ import annotations

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

SCHEMA_1 = frozenset((
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
INDEXES = frozenset((OCI_INDEX, DOCKER_LIST))
CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))
#: What a registry is asked for, the best first.
ACCEPT = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST))

_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_COMPRESSIONS = ("", "+gzip", "+zstd", ".gzip", ".zstd")
_LAYER_TYPES = frozenset(base + end for base in _LAYERS for end in _COMPRESSIONS)
_OF_COMPRESSION = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


def is_layer(media_type: str) -> bool:
    """Whether it is a layer of a root filesystem; an ending such as ``+encrypted`` makes it another thing."""
    return media_type in _LAYER_TYPES


def layer(compression: str) -> str:
    """OCI's media type of a layer with `compression`: none, gzip or zstd."""
    try:
        return _OF_COMPRESSION[compression]
    except KeyError:
        raise ValueError(f"{compression!r} is no compression of layers (none, gzip, zstd)") from None


def essence(header: str | None) -> str:
    """The media type in a Content-Type header, without parameters (RFC 9110, section 8.3.1)."""
    return (header or "").partition(";")[0].strip().lower()
