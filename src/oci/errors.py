"""The errors of the OCI library."""

from __future__ import annotations


class OciError(Exception):
    """A failure that the user can read. `hint` says what to do; exit codes are the command's affair."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidImage(OciError, ValueError):
    """A manifest, configuration, layout or archive that breaks its specification, or a limit of ours."""


class NoSuchImage(OciError):
    """A registry, layout or archive that does not hold what was asked for."""


class DigestMismatch(InvalidImage):
    """Content that is not what its digest, or its size, promised."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what}: is {found}, not {expected}")
        self.expected, self.found = expected, found


class RegistryError(OciError):
    """A registry that answered, but not with what was wanted; `status` is HTTP's, 0 where it has none."""

    def __init__(self, message: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Unauthorized(RegistryError):
    """The registry wants other credentials than it was given, or any at all."""
