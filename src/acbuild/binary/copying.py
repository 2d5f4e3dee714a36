"""A program with all that it needs, from a root filesystem into the image: the same paths, the same links."""

from __future__ import annotations

import os

from acbuild.binary.closure import Closure
from acbuild.binary.source import Source
from acbuild.errors import AcbuildError
from acbuild.tree.places import cleaned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from acbuild.context import Build
    from acbuild.tree.copying import Copied
    from acbuild.tree.places import Places

#: The architectures of appc by the names that ELF files have for them.
_MACHINES = {
    "amd64": "x86_64",
    "i386": "i386",
    "aarch64": "aarch64",
    "armv6l": "arm",
    "armv7l": "arm",
    "ppc64": "ppc64",
    "ppc64le": "ppc64",
    "s390x": "s390x",
}
NSS, LOCALE, CERTS, TZDATA = "nss", "locale", "certs", "tzdata"


def copy(
    build: Build,
    program: str,
    target: str,
    *,
    directory: str = "/",
    extras: Collection[str] = (),
    say: Callable[[str], None],
) -> None:
    """Copy `program` of the root filesystem `directory`, as `target` if that is given, and what it needs."""
    from acbuild import provenance

    if not os.path.isdir(directory):
        raise AcbuildError(f"{directory}: no such directory")
    with Source(directory) as source:
        closure = Closure(source)
        path = closure.find(program)
        closure.add(path)
        _check_machine(build, path, closure)
        _add_extras(closure, source, extras)
        with build.places() as places:
            build.about_to_change()
            copied = _Copier(source, places).all(closure, path, target)
        if target and closure.by_origin:
            say(f"{path} looks for libraries relative to its own place, which is another in the image")
    for remark in closure.remarks:
        say(remark)
    provenance.note_copied(build, copied)


def _add_extras(closure: Closure, source: Source, wanted: Collection[str]) -> None:
    from acbuild.binary import extras

    functions = {
        NSS: extras.add_name_services,
        LOCALE: extras.add_locales,
        CERTS: extras.add_certificates,
        TZDATA: extras.add_zones,
    }
    for name in wanted:
        functions[name](closure, source)


def _check_machine(build: Build, path: str, closure: Closure) -> None:
    """A program for another machine than the image's is refused: it would never start."""
    found, arch = closure.first, build.image.architecture()
    if found is None or found.machine == _MACHINES.get(arch, found.machine):
        return
    raise AcbuildError(
        f"{path}: is a program for {found.machine}, and the image is for {arch}",
        hint="set the image's label arch first, or take the program of another root: --root",
    )


class _Copier:
    """Every path of the closure: the links on its way, and the file at its end."""

    def __init__(self, source: Source, places: Places) -> None:
        self._source = source
        self._places = places
        self._done: set[str] = set()
        self._copied: list[Copied] = []

    def all(self, closure: Closure, program: str, target: str) -> list[Copied]:
        if target:
            self._file(self._source.trail(program).end, cleaned(target))
        for path in closure.paths:
            if path == program and target:
                continue
            try:
                self._follow(path)
            except FileNotFoundError:
                raise AcbuildError(f"{path}: a link that leads to nothing") from None
        return self._copied

    def _follow(self, path: str) -> None:
        trail = self._source.trail(path)
        for link in trail.links:
            name = cleaned(link)
            if link not in self._done and not self._places.is_directory(name):
                self._file(link, name)
            self._done.add(link)
        name = cleaned(trail.end)
        if self._source.is_directory(trail.end):
            os.close(self._places.made(name))
        elif trail.end not in self._done:
            self._file(trail.end, name)
        self._done.add(trail.end)
        if not self._leads(path, name):
            # a directory of the image is in place of a link on the way: then the file goes there too
            self._file(trail.end, cleaned(path))

    def _leads(self, path: str, name: str) -> bool:
        try:
            found = self._places.root.open_file(cleaned(path), os.O_PATH)
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(found), self._places.root.lstat(name))
        finally:
            os.close(found)

    def _file(self, path: str, name: str) -> None:
        from acbuild.tree.copying import copy as copy_one

        self._copied.append(copy_one(self._places, self._source.outside(path), name))
