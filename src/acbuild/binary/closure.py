"""All files that a program needs to start: its interpreter, its libraries, theirs, as the loader finds them.

Found by reading, as ld.so(8) and musl's loader search, and never by running anything: `ldd` executes what it
is asked about. What a program opens by name when it runs (plug-ins, name services, locales) is not known to
its headers: see `acbuild.binary.extras`.
"""

from __future__ import annotations

import os

from acbuild.binary import elf
from acbuild.errors import AcbuildError
from linux.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from acbuild.binary.elf import Elf
    from acbuild.binary.source import Source

PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_CACHE = "/etc/ld.so.cache"
_INCLUDES = 10
_MOST_FILES = 5000
# Where Debian's loaders look without being told, by the word of uname(2) for the machine.
_TRIPLETS = {
    "x86_64": "x86_64-linux-gnu", "i386": "i386-linux-gnu", "aarch64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf", "riscv64": "riscv64-linux-gnu", "s390x": "s390x-linux-gnu",
    "ppc64": "powerpc64le-linux-gnu",
}  # fmt: skip


class Object(NamedTuple):
    """A file being looked at: where it was found, its headers, the RPATHs of those that led to it."""

    path: str
    elf: Elf
    inherited: tuple[str, ...]


class Closure:
    """What `program` and the files added later need, as paths by which they are looked for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.paths: dict[str, None] = {}
        #: Things that the user should know.
        self.remarks: list[str] = []
        #: Class, byte order and machine of the first program.
        self.first: Elf | None = None
        #: Whether a file is found only relative to the program.
        self.by_origin = False

    def find(self, name: str) -> str:
        """The path of the program `name`: as given with a ``/``, else searched for. AcbuildError for none."""
        if "/" in name:
            path = os.path.normpath(os.path.join("/", name))
            if self._source.is_file(path):
                return path
            raise AcbuildError(f"{name}: no such file")
        for directory in PATH:
            if self._source.is_file(f"{directory}/{name}"):
                return f"{directory}/{name}"
        raise AcbuildError(f"{name}: not found in {':'.join(PATH)}", hint="give its path")

    def add(self, path: str, *, scripts: int = 4) -> None:
        """Add the program, library or script `path` with all that it needs."""
        found = self._read(path)
        self.paths[path] = None
        if isinstance(found, bytes):
            self._script(path, found, scripts)
            return
        self.first = self.first or found
        _Loading(self, self._source, path, found).run()

    def _read(self, path: str) -> Elf | bytes:
        """The headers of an ELF file, or the first bytes of another."""
        try:
            fd = self._source.open(path)
        except FileNotFoundError:
            raise AcbuildError(f"{path}: no such file") from None
        except ValueError as error:
            raise AcbuildError(str(error)) from None
        try:
            return elf.read(fd) or os.pread(fd, 256, 0)
        except ValueError as error:
            raise AcbuildError(f"{path}: {error}") from None
        finally:
            os.close(fd)

    def _script(self, path: str, head: bytes, levels: int) -> None:
        words = [os.fsdecode(word) for word in head[2:].split(b"\n", 1)[0].split()]
        if not head.startswith(b"#!") or not words:
            raise AcbuildError(f"{path}: neither a program nor a script", hint="use `acbuild copy` for data")
        if not levels:
            raise AcbuildError(f"{path}: scripts that run scripts without end")
        self.add(words[0], scripts=levels - 1)
        interpreter = words[0]
        if os.path.basename(interpreter) == "env" and len(words) > 1 and not words[1].startswith("-"):
            interpreter = self.find(words[1])
            self.add(interpreter, scripts=levels - 1)
        self.remarks.append(
            f"{path} is a script: {interpreter} comes with it, but not what it imports or runs"
        )


class _Loading:
    """One program and its libraries, breadth first, as the loader does it."""

    def __init__(self, closure: Closure, source: Source, path: str, program: Elf) -> None:
        self._closure = closure
        self._source = source
        self._kind = program.kind
        self._musl = os.path.basename(program.interpreter).startswith("ld-musl")
        self._loaded: dict[str, str] = {}
        self._queue = [Object(path, program, ())]
        self._configured = self._read_configuration(program)
        self._default = self._default_directories(program)

    def run(self) -> None:
        """Add everything to the closure. AcbuildError for a library that is nowhere."""
        program = self._queue[0]
        if program.elf.interpreter:
            self._add_interpreter(program)
        while self._queue:
            thing = self._queue.pop(0)
            for name in thing.elf.needed:
                if name not in self._loaded:
                    self._load(name, thing)

    def _add_interpreter(self, program: Object) -> None:
        path = program.elf.interpreter
        found = self._matching(path)
        if found is None:
            raise AcbuildError(
                f"{program.path}: its dynamic loader {path} is not there, or is for another machine"
            )
        self._closure.paths[path] = None
        self._loaded[os.path.basename(path)] = path
        self._queue.append(Object(path, found, ()))

    def _load(self, name: str, user: Object) -> None:
        for directory, origin in self._directories(name, user):
            path = os.path.normpath(f"{directory}/{name}") if directory else os.path.normpath(name)
            found = self._matching(path)
            if found is None:
                continue
            if len(self._closure.paths) >= _MOST_FILES:
                raise AcbuildError(f"{user.path}: needs more than {_MOST_FILES} files")
            self._loaded[name] = path
            self._closure.paths[path] = None
            self._closure.by_origin = self._closure.by_origin or origin
            if directory in self._configured and directory not in self._default and not self._musl:
                self._closure.paths[_CACHE] = None  # the loader finds it there by nothing else
            inherited = () if found.runpath else (*_origins(user), *user.inherited)
            self._queue.append(Object(path, found, inherited))
            return
        raise AcbuildError(
            f"{user.path}: needs {name}, which is in none of the directories that its loader searches",
            hint="copy it by itself, or give the directory to `ldconfig` and try again",
        )

    def _directories(self, name: str, user: Object) -> Iterator[tuple[str, bool]]:
        """Where the loader looks for `name`, in its order, and whether that depends on where `user` lies."""
        if "/" in name:
            yield "", False
            return
        if not user.elf.runpath:
            for path in (*_origins(user), *user.inherited):
                yield from self._expanded(path)
        for path in user.elf.runpath:
            yield from self._expanded(_with_origin(path, user))
        if not user.elf.own_paths_only:
            yield from ((directory, False) for directory in (*self._configured, *self._default))

    def _expanded(self, path: str) -> Iterator[tuple[str, bool]]:
        origin = path.startswith("//")  # see _with_origin
        for library in ("lib64", "lib", f"lib/{self._triplet}") if "LIB" in path else ("",):
            text = path.replace("${LIB}", library).replace("$LIB", library)
            if "$" not in text:
                yield os.path.normpath(text[1:] if origin else text), origin

    def _matching(self, path: str) -> Elf | None:
        """The headers of the library `path` if it is there and of the program's kind."""
        if not path.startswith("/") or not self._source.is_file(path):
            return None
        fd = self._source.open(path)
        try:
            found = elf.read(fd)
        except ValueError:
            return None
        finally:
            os.close(fd)
        return found if found is not None and found.kind == self._kind else None

    # --- directories

    @property
    def _triplet(self) -> str:
        machine = elf.machine_of(self._kind)
        return _TRIPLETS.get(machine, f"{machine}-linux-gnu")

    def _default_directories(self, program: Elf) -> tuple[str, ...]:
        if self._musl:
            return () if self._configured else ("/lib", "/usr/local/lib", "/usr/lib")
        wide = ("/lib64", "/usr/lib64") if program.bits == 64 else ()
        return f"/lib/{self._triplet}", f"/usr/lib/{self._triplet}", *wide, "/lib", "/usr/lib"

    def _read_configuration(self, program: Elf) -> tuple[str, ...]:
        if self._musl:
            machine = os.path.basename(program.interpreter)[len("ld-musl-") :].partition(".")[0]
            path = f"/etc/ld-musl-{machine}.path"
            text = self._source.text(path)
            if text:
                self._closure.paths[path] = None
            return tuple(text.replace(":", "\n").split())
        return tuple(dict.fromkeys(self._of_file("/etc/ld.so.conf", _INCLUDES)))

    def _of_file(self, path: str, levels: int) -> Iterator[str]:
        """The directories in a file of ldconfig(8), those of files that it includes in their place."""
        if not levels:
            return
        for line in self._source.text(path).split("\n"):
            words = line.partition("#")[0].replace(",", " ").replace(":", " ").split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    for name in self._glob(os.path.join(os.path.dirname(path), pattern)):
                        yield from self._of_file(name, levels - 1)
            else:
                yield from (word.rstrip("/") for word in words if word.startswith("/"))

    def _glob(self, pattern: str) -> list[str]:
        from fnmatch import fnmatchcase

        directory, base = os.path.split(pattern)
        return [f"{directory}/{name}" for name in self._source.names(directory) if fnmatchcase(name, base)]


def _origins(user: Object) -> tuple[str, ...]:
    return tuple(_with_origin(path, user) for path in user.elf.rpath)


def _with_origin(path: str, user: Object) -> str:
    """`path` with ``$ORIGIN`` put in; then it begins with two slashes, which no other path does."""
    directory = os.path.dirname(user.path)
    replaced = path.replace("${ORIGIN}", directory).replace("$ORIGIN", directory)
    return f"/{replaced}" if replaced != path else os.path.normpath(path)
