"""The public keys that are trusted, and for which names: files under `trustedkeys/` of the configuration.

`trustedkeys/root.d/FPR` is trusted for every name, `trustedkeys/prefix.d/NAME/FPR` for the image NAME and all
below it (`NAME/…`, never `NAME-…`). FPR is the fingerprint in lower case and must be that of the armored key
in the file. The local directory is laid over the system's; an empty local file takes trust away.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from appc import openpgp
from appc.errors import AppcError
from appc.types.names import ACIdentifier
from linux.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.openpgp import PublicKey

_DIRECTORY_MODE = 0o755  # whatever the umask: a fetch without root reads the keys too
_FILE_NAME = re.compile(r"[0-9a-f]{40}")


class KeyStoreError(AppcError):
    """A key store that cannot be read or written."""


class TrustedKey(NamedTuple):
    """A key and the file that makes it trusted."""

    path: str
    key: PublicKey


class KeyStore:
    """The key store of two configuration directories; neither has to exist."""

    def __init__(self, system: str, local: str) -> None:
        self._system = os.path.join(system, "trustedkeys") if system else ""
        self._local = os.path.join(local, "trustedkeys") if local else ""

    def trusted(self, name: str) -> list[TrustedKey]:
        """The keys that are trusted for the image `name`. KeyStoreError if one of their files is no such key.

        In this order, later files replacing or masking earlier ones of the same fingerprint: the system's
        root keys, local root keys, then the keys along the path of the name, the system's and the local ones.
        """
        parts = str(ACIdentifier(name)).split("/")
        levels = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        places = [os.path.join(base, "root.d") for base in self._bases()]
        places += [os.path.join(base, "prefix.d", level) for base in self._bases() for level in levels]
        files: dict[str, str] = {}
        for place in places:
            for file_name, size in _key_files(place):
                if size:
                    files[file_name] = os.path.join(place, file_name)
                else:
                    files.pop(file_name, None)
        return [TrustedKey(path, _load(path)) for path in files.values()]

    def trusts(self, key: PublicKey, name: str) -> bool:
        """Whether `key`, of which a signature is known to be, is trusted for the image `name`."""
        return any(trusted.key.fingerprint == key.fingerprint for trusted in self.trusted(name))

    def all(self) -> list[TrustedKey]:
        """Every key that is trusted for any name at all, as far as the files can be read.

        To find out who made a signature before it is known which image it is of. Whoever uses this must ask
        `trusts` afterwards.
        """
        found: dict[str, TrustedKey] = {}
        for base in self._bases():
            for directory, _, _ in os.walk(base):
                for file_name, size in _key_files(directory):
                    if not size:
                        continue
                    path = os.path.join(directory, file_name)
                    try:
                        found.setdefault(file_name, TrustedKey(path, _load(path)))
                    except (KeyStoreError, OSError):
                        continue  # `trusted` complains about it where it matters
        return list(found.values())

    def add(self, key: PublicKey, prefix: str | None, *, data: bytes | None = None) -> str:
        """Trust `key` for `prefix` (None: for all names) from now on, durably; the path of its file.

        `data` is the armored file to be kept, if it holds nothing but this key.
        """
        from linux.files import write_atomically

        if not self._local:
            raise KeyStoreError("there is no local configuration directory to keep a key in")
        below = "root.d" if prefix is None else os.path.join("prefix.d", ACIdentifier(prefix))
        directory = os.path.join(self._local, below)
        _make_directories(directory)
        path = os.path.join(directory, key.fingerprint.lower())
        write_atomically(path, openpgp.armored_key(key) if data is None else data, mode=0o644)
        return path

    def mask(self, fingerprint: str, prefix: str | None) -> str:
        """Trust the system's key `fingerprint` for `prefix` no longer; the path of the empty file."""
        from linux.files import write_atomically

        below = "root.d" if prefix is None else os.path.join("prefix.d", ACIdentifier(prefix))
        directory = os.path.join(self._local, below)
        _make_directories(directory)
        path = os.path.join(directory, fingerprint.lower())
        write_atomically(path, b"", mode=0o644)
        return path

    def _bases(self) -> list[str]:
        return [base for base in (self._system, self._local) if base]


def _key_files(directory: str) -> Iterator[tuple[str, int]]:
    """Name and size of the files in `directory` that are named like a fingerprint, in order."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            continue
        try:
            state = os.stat(os.path.join(directory, name))
        except FileNotFoundError:
            continue
        if stat.S_ISREG(state.st_mode):
            yield name, state.st_size


def _load(path: str) -> PublicKey:
    """The one key in the file, which must be the one that the file is named after."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(fd, openpgp.KEY_LIMIT + 1)
    finally:
        os.close(fd)
    try:
        keys = openpgp.read_keys(data)
    except openpgp.MalformedError as error:
        raise KeyStoreError(f"keystore: {path}: {error}", hint=error.hint) from None
    if len(keys) != 1:
        raise KeyStoreError(f"keystore: {path}: the file holds {len(keys)} keys, not one")
    wanted, has = os.path.basename(path), keys[0].fingerprint.lower()
    if wanted != has:
        raise KeyStoreError(
            f'keystore: {path}: fingerprint mismatch: "{wanted}":"{has}"',
            hint="remove the file, or add the key again with `rkt trust`",
        )
    return keys[0]


def _make_directories(path: str) -> None:
    """Make `path` and what is missing above it, each durably."""
    from linux.files import sync_directory

    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path) or "."
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError:
            continue
        os.chmod(directory, _DIRECTORY_MODE)
        sync_directory(os.path.dirname(directory) or ".")
