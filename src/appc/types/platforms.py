"""Operating systems and architectures: appc's table (spec/aci.md) and its relation to Go's names.

The label ``arch`` means something only next to ``os``. Where Go has no name for a platform
(aarch64_be, armv7b), or appc none for Go's, the conversions raise UnsupportedPlatform.
"""

from __future__ import annotations

from appc.errors import UnsupportedPlatform
from appc.jsonfield import quoted

ARCHITECTURES = {
    "linux": (
        "amd64",
        "i386",
        "aarch64",
        "aarch64_be",
        "armv6l",
        "armv7l",
        "armv7b",
        "ppc64",
        "ppc64le",
        "s390x",
    ),
    "freebsd": ("amd64", "i386", "arm"),
    "darwin": ("x86_64", "i386"),
}

#: GOOS, GOARCH, GOARM -> appc's os and arch.
_FROM_GO = {
    ("linux", "amd64", ""): ("linux", "amd64"),
    ("linux", "386", ""): ("linux", "i386"),
    ("linux", "arm64", ""): ("linux", "aarch64"),
    ("linux", "arm", ""): ("linux", "armv6l"),
    ("linux", "arm", "6"): ("linux", "armv6l"),
    ("linux", "arm", "7"): ("linux", "armv7l"),
    ("linux", "ppc64", ""): ("linux", "ppc64"),
    ("linux", "ppc64le", ""): ("linux", "ppc64le"),
    ("linux", "s390x", ""): ("linux", "s390x"),
    ("freebsd", "amd64", ""): ("freebsd", "amd64"),
    ("freebsd", "386", ""): ("freebsd", "i386"),
    ("freebsd", "arm", ""): ("freebsd", "arm"),
    ("freebsd", "arm", "5"): ("freebsd", "arm"),
    ("freebsd", "arm", "6"): ("freebsd", "arm"),
    ("freebsd", "arm", "7"): ("freebsd", "arm"),
    ("darwin", "amd64", ""): ("darwin", "x86_64"),
    ("darwin", "386", ""): ("darwin", "i386"),
}
#: The other way; the reference has no entry for darwin, nor for i386 but on linux, and programs rely on it.
_TO_GO = {
    ("linux", "amd64"): ("linux", "amd64", ""),
    ("linux", "i386"): ("linux", "386", ""),
    ("linux", "aarch64"): ("linux", "arm64", ""),
    ("linux", "armv6l"): ("linux", "arm", "6"),
    ("linux", "armv7l"): ("linux", "arm", "7"),
    ("linux", "ppc64"): ("linux", "ppc64", ""),
    ("linux", "ppc64le"): ("linux", "ppc64le", ""),
    ("linux", "s390x"): ("linux", "s390x", ""),
    ("freebsd", "amd64"): ("freebsd", "amd64", ""),
    ("freebsd", "arm"): ("freebsd", "arm", "6"),
}


def check(os: str, arch: str | None) -> None:
    """ValueError unless appc's table has `os` and, where one is given, `arch` for it."""
    if os not in ARCHITECTURES:
        known = " ".join(sorted(ARCHITECTURES))
        raise ValueError(f"bad os {quoted(os)} (must be one of: {known})")
    if arch is not None and arch not in ARCHITECTURES[os]:
        known = " ".join(ARCHITECTURES[os])
        raise ValueError(f"bad arch {quoted(arch)} for {os} (must be one of: {known})")


def from_go(goos: str, goarch: str, goarm: str = "") -> tuple[str, str]:
    """appc's (os, arch) for Go's names; `goarm` is the ARM version, empty if not ARM or unknown."""
    try:
        return _FROM_GO[goos, goarch, goarm]
    except KeyError:
        raise UnsupportedPlatform(f"appc has no name for {goos}/{goarch}{goarm and '/' + goarm}") from None


def to_go(os: str, arch: str) -> tuple[str, str, str]:
    """Go's (GOOS, GOARCH, GOARM) for appc's names."""
    try:
        return _TO_GO[os, arch]
    except KeyError:
        raise UnsupportedPlatform(f"Go has no name for {os}/{arch}") from None


_FROM_MACHINE = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "i386": "i386",
    "i486": "i386",
    "i586": "i386",
    "i686": "i386",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "aarch64_be": "aarch64_be",
    "armv6l": "armv6l",
    "armv7l": "armv7l",
    "armv8l": "armv7l",
    "armv7b": "armv7b",
    "ppc64": "ppc64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


def of_host() -> tuple[str, str]:
    """appc's (os, arch) of the running kernel, as uname(2) tells."""
    from os import uname

    name = uname()
    os = name.sysname.lower()
    arch = _FROM_MACHINE.get(name.machine, name.machine)
    if os == "darwin" and arch == "amd64":
        arch = "x86_64"
    try:
        check(os, arch)
    except ValueError as error:
        raise UnsupportedPlatform(str(error)) from None
    return os, arch
