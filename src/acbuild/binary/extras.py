"""What programs open by name when they run: name services, locales, certificates, time zones."""

from __future__ import annotations

from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from acbuild.binary.closure import Closure
    from acbuild.binary.source import Source

_NSSWITCH = "/etc/nsswitch.conf"
_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted", "/etc/ssl/cert.pem")
_OPENSSL = ("/usr/lib/ssl/certs", "/usr/lib/ssl/cert.pem", "/usr/lib/ssl/openssl.cnf")
_LOCALES, _ZONES = "/usr/lib/locale", "/usr/share/zoneinfo"
_DEEPEST = 20


def add_name_services(closure: Closure, source: Source) -> None:
    """nsswitch.conf, and the libraries (``libnss_NAME.so.2``) of the services that it names."""
    services = {"files", "dns"}
    for line in source.text(_NSSWITCH).split("\n"):
        _, _, words = line.partition("#")[0].partition(":")
        services.update(word for word in words.split() if not word.startswith("["))
    if source.is_file(_NSSWITCH):
        closure.paths[_NSSWITCH] = None
    directories = sorted({path.rpartition("/")[0] for path in closure.paths if ".so" in path})
    missing = []
    for service in sorted(services):
        library = f"libnss_{service}.so.2"
        found = next((one for one in directories if source.is_file(f"{one}/{library}")), None)
        if found is not None:
            closure.add(f"{found}/{library}")
        elif service not in {"files", "dns"}:  # which are in libc itself since glibc 2.34
            missing.append(service)
    if missing:
        closure.remarks.append(f"{_NSSWITCH} names {', '.join(missing)}, whose libraries are not installed")


def add_certificates(closure: Closure, source: Source) -> None:
    """The certificates that are trusted, where OpenSSL, GnuTLS and Go look for them."""
    before = len(closure.paths)
    for path in _CERTIFICATES:
        _add_tree(closure, source, path)
    if len(closure.paths) == before:
        raise AcbuildError("there are no certificates here", hint="install the package ca-certificates")
    for path in _OPENSSL:
        if source.is_file(path) or source.is_directory(path):
            closure.paths[path] = None


def add_locales(closure: Closure, source: Source) -> None:
    """The locales that are installed, C.UTF-8 among them."""
    if not _add_tree(closure, source, _LOCALES):
        raise AcbuildError(f"there are no locales in {_LOCALES}", hint="install the package libc-bin")


def add_zones(closure: Closure, source: Source) -> None:
    """The time zones; which one the image has is left to it (TZ, /etc/localtime)."""
    if not _add_tree(closure, source, _ZONES):
        raise AcbuildError(f"there are no time zones in {_ZONES}", hint="install the package tzdata")


def _add_tree(closure: Closure, source: Source, path: str, level: int = 0) -> bool:
    """Add all files below `path`, each by its own path; False for none. Links to nothing are left out."""
    if level > _DEEPEST:
        raise AcbuildError(f"{path}: more than {_DEEPEST} levels deep")
    if source.is_file(path):
        closure.paths[path] = None
        return True
    found = False
    for name in source.names(path):
        found = _add_tree(closure, source, f"{path}/{name}", level + 1) or found
    return found
