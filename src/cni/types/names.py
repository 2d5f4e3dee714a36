"""What may be called what: container IDs, networks, interfaces, plugins (specification, "Parameters")."""

from __future__ import annotations

from cni.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, UNKNOWN_CONTAINER, CniError

_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_INSIDE = _ALPHANUMERIC | frozenset("_.-")
_IFNAMSIZ = 16  # with the final NUL, linux/if.h
_SEPARATORS = "\x1c\x1d\x1e\x1f"  # white space to Python, but neither to Unicode nor to the kernel


def is_identifier(text: str) -> bool:
    """Whether `text` starts with an ASCII letter or digit and goes on with these or ``_``, ``.``, ``-``."""
    return bool(text) and text[0] in _ALPHANUMERIC and _INSIDE.issuperset(text)


def check_container_id(text: str) -> None:
    """Raise CniError 4 when `text` cannot name a container, 3 when it is empty."""
    if not text:
        raise CniError(UNKNOWN_CONTAINER, "missing containerID")
    if not is_identifier(text):
        raise CniError(INVALID_ENVIRONMENT, "invalid characters in containerID", text)


def check_network_name(text: str) -> None:
    """Raise CniError 7 when `text` cannot name a network. It becomes a part of file names."""
    if not text:
        raise CniError(INVALID_CONFIG, "missing network name")
    if not is_identifier(text):
        raise CniError(INVALID_CONFIG, "invalid characters found in network name", text)


def check_interface_name(text: str) -> None:
    """Raise CniError 4 when the kernel would refuse `text` as the name of an interface."""
    if not text:
        raise CniError(INVALID_ENVIRONMENT, "interface name is empty")
    if len(text.encode("utf-8", "surrogateescape")) >= _IFNAMSIZ:
        raise CniError(INVALID_ENVIRONMENT, "interface name is too long", f"{text!r}: 15 bytes are the most")
    if text in (".", ".."):
        raise CniError(INVALID_ENVIRONMENT, "interface name is . or ..")
    if any(each in "/:\0" or (each.isspace() and each not in _SEPARATORS) for each in text):
        raise CniError(
            INVALID_ENVIRONMENT, "interface name contains / or : or whitespace characters", repr(text)
        )


def check_plugin_type(text: str) -> None:
    """Raise CniError 7 when `text` could lead out of the plugin directories (CVE-2021-20206)."""
    if not text:
        raise CniError(INVALID_CONFIG, "no plugin name provided")
    if "/" in text or "\0" in text or text in (".", ".."):
        raise CniError(INVALID_CONFIG, "invalid plugin name", repr(text))
