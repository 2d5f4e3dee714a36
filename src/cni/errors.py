"""The one error of CNI: a code, a message and details, as a plugin prints it and a runtime reads it."""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
PLUGIN_NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 999


class CniError(Exception):
    """A failure of a CNI operation.

    `code` is one of the numbers of the specification's section "Error" (100 and above are free for
    plugins, 0 is unknown, 999 what other implementations use for everything that has no code).
    `msg` says what is wrong in one line, `details` adds what a person needs to find it.
    """

    exit_code = 1

    def __init__(self, code: int, msg: str, details: str = "", *, hint: str | None = None) -> None:
        super().__init__(code, msg, details)
        self.code = code
        self.msg = msg
        self.details = details
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg

    def to_json(self, version: str) -> dict[str, object]:
        """The object a plugin prints on stdout; `version` is the configuration's cniVersion."""
        error: dict[str, object] = {"cniVersion": version, "code": self.code, "msg": self.msg}
        if self.details:
            error["details"] = self.details
        return error

    @classmethod
    def from_json(cls, value: object) -> CniError | None:
        """The error in a plugin's answer, or None when it is no such object.

        Tolerant: a plugin that is failing may well print half of what it should.
        """
        if not isinstance(value, dict) or not ("code" in value or "msg" in value):
            return None
        code, msg, details = value.get("code"), value.get("msg"), value.get("details")
        return cls(
            code if isinstance(code, int) and not isinstance(code, bool) else 0,
            msg if isinstance(msg, str) else "",
            details if isinstance(details, str) else "",
        )
