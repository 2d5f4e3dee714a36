"""The errors of acbuild and what it exits with for them."""

from __future__ import annotations


class AcbuildError(Exception):
    """A failure that the user can read. `hint` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NoBuild(AcbuildError):
    """A command that needs a build where none is in progress."""

    def __init__(self, work_path: str) -> None:
        where = "here" if work_path == "." else f"in {work_path}"
        super().__init__(f"no build in progress {where}", hint="start one with `acbuild begin`")


class NotFound(AcbuildError):
    """An element to be removed that the image does not have."""

    exit_code = 2

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"{what}: element to be removed does not exist in this image", hint=hint)


class Unsupported(AcbuildError):
    """Something that an image of the build's mode has no place for."""

    def __init__(self, what: str, mode: str = "oci", *, hint: str | None = None) -> None:
        super().__init__(f"{what} are not supported in builds of mode {mode}", hint=hint)
