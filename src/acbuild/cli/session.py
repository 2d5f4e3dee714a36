"""How a command gets the build that it works on: the one in progress, or one of its own (context-free)."""

from __future__ import annotations

import os

from acbuild.context import LOOKING, Build, Work
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from acbuild.settings import Settings
    from console.main import Options
    from console.output import Output


def settings_of(options: Options) -> Settings:
    """The global flags, which `acbuild.cli.main` has made a Settings of."""
    return options.settings  # type: ignore[return-value]


def opened(options: Options, out: Output, work: Work | None = None) -> Build:
    """The build in progress, locked; to be used in a ``with``."""
    as_owner(options, out)
    return Build.open(settings_of(options).work_path, work, waiting=lambda: waiting(out))


def as_owner(options: Options, out: Output) -> None:
    """Become whom the files of the build belong to, if that is nobody but a user namespace's root."""
    if os.geteuid() == 0:
        return
    from acbuild import rootless
    from acbuild.context import DIRECTORY

    if rootless.is_needed(os.path.join(settings_of(options).work_path, DIRECTORY)):
        rootless.enter(say=out.note)


def reading(options: Options, out: Output) -> Build:
    """As `opened`, for a command that changes nothing."""
    return opened(options, out, Work(LOOKING))


def waiting(out: Output) -> None:
    """Tell that another command has the build."""
    out.note("waiting for another acbuild command to end")


def in_progress_only(options: Options) -> None:
    """AcbuildError for a command that makes no sense on an image of its own."""
    settings = settings_of(options)
    if settings.free:
        flag = "--modify-*" if settings.modify_mode else "--from and --to"
        raise AcbuildError(f"cannot be used with {flag}")


def edit(
    options: Options,
    out: Output,
    words: Sequence[str],
    change: Callable[[Build], None],
    *,
    changes_files: bool = False,
    recorded: bool = True,
    named: int = 0,
) -> int:
    """Apply `change` to the build, note it in the image's history as `words`, and save the image.

    The first `named` of the words are part of the command's name, and so without quotes there.
    With `changes_files` it is noted beforehand that the files are about to change.
    """
    settings = settings_of(options)
    name = options.verb.name

    def apply(build: Build) -> None:
        change(build)
        if settings.history and recorded:
            from acbuild.image import quoted

            command = " ".join(("acbuild", name, *words[:named]))
            build.image.record(command + quoted(words[named:]), changes_files=changes_files)
        build.image.save()

    if settings.free:
        from acbuild import freestanding

        freestanding.edit(settings, apply, changes_files=changes_files, say=out.note)
        return 0
    # every word counts, flags too: the same words again are what a killed command may be mended with
    work = Work((*name.split(" "), *options.argv))
    with opened(options, out, work) as build:
        apply(build)
    return 0
