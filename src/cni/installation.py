"""Putting the built-in plugins where other runtimes look for executables: a launcher, and a link for each.

`DIRECTORY/rkt-platform-cni` starts the plugin of the name it is called by, from wherever this package is
installed, be it a checkout or a directory of pip's; `DIRECTORY/bridge` and the others are links to it.
"""

from __future__ import annotations

import os
import sys

from cni import invoke, plugins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

LAUNCHER = "rkt-platform-cni"
_LONGEST_SHEBANG = 120  # bytes of the interpreter's path; the kernel reads 255, others 127
_SYSTEM_PYTHON = "/usr/bin/python3"
_TEXT = '''\
#!{python} -ISs
"""rkt-platform CNI plugin launcher: runs the built-in plugin of the name it is called by."""

import gc
import os
import sys

gc.set_threshold(20_000)
sys.path.insert(0, {root!r})

from linux import bundle

bundle.use(sys.path[0])

from cni.plugin import main

os._exit(main(os.path.basename(sys.argv[0]), sys.argv[1:]))
'''


class Foreign(Exception):
    """Plugins of others stand where ours are to go: `names`."""

    def __init__(self, directory: str, names: Sequence[str]) -> None:
        super().__init__(f"{directory}: plugins of others are there: {', '.join(names)}")
        self.names = tuple(names)
        self.hint = "leave them, and take the others with --only; or replace them with --force"


def install(directory: str, *, only: Collection[str] = (), force: bool = False) -> list[str]:
    """Install the built-in plugins, or those in `only`, into `directory`, which is made; their names.

    May be repeated, also after a move of this package. Raises Foreign, with nothing changed, when a plugin
    of others has one of the names and not `force`; ValueError for a name that is not built in; OSError.
    """
    unknown = sorted(set(only) - set(plugins.PLUGINS))
    if unknown:
        raise ValueError(
            f"{unknown[0]} is not a built-in plugin: those are {', '.join(sorted(plugins.PLUGINS))}"
        )
    names = sorted(only or plugins.PLUGINS)
    foreign = [name for name in names if _is_foreign(f"{directory}/{name}")]
    if _is_foreign(f"{directory}/{LAUNCHER}"):
        foreign.append(LAUNCHER)
    if foreign and not force:
        raise Foreign(directory, foreign)
    from linux.files import sync_directory, write_atomically

    os.makedirs(directory, mode=0o755, exist_ok=True)
    # First what the links lead to: a runtime may call at any moment.
    write_atomically(f"{directory}/{LAUNCHER}", launcher().encode(), mode=0o755)
    for name in names:
        _link(directory, name)
    sync_directory(directory)
    return names


def remove(directory: str) -> list[str]:
    """Remove what `install` made from `directory`, and nothing else; the names of the plugins."""
    try:
        entries = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    names = [name for name in entries if _leads_to_launcher(directory, name)]
    for name in names:
        os.unlink(f"{directory}/{name}")
    path = f"{directory}/{LAUNCHER}"
    if os.path.isfile(path) and invoke.is_launcher(path):
        os.unlink(path)
    return names


def launcher() -> str:
    """The text of a launcher for this very installation."""
    python = sys.executable
    if len(python) > _LONGEST_SHEBANG or any(character.isspace() for character in python) or not python:
        python = _SYSTEM_PYTHON
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return _TEXT.format(python=python, root=root)


def _is_foreign(path: str) -> bool:
    """Whether something is there that is neither our launcher nor a link to one, nor a link to nothing."""
    if os.path.islink(path) and not os.path.exists(path):
        return os.path.basename(os.readlink(path)) not in (LAUNCHER, "plugin")
    return os.path.lexists(path) and not (os.path.isfile(path) and invoke.is_launcher(path))


def _leads_to_launcher(directory: str, name: str) -> bool:
    path = f"{directory}/{name}"
    return os.path.islink(path) and os.readlink(path) == LAUNCHER


def _link(directory: str, name: str) -> None:
    if _leads_to_launcher(directory, name):
        return
    temporary = f"{directory}/.new-{os.getpid()}-{name}"
    os.symlink(LAUNCHER, temporary)
    try:
        os.rename(temporary, f"{directory}/{name}")
    except BaseException:
        os.unlink(temporary)
        raise
