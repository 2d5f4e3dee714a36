"""What every command of acbuild shares: its global flags as one typed value."""

from __future__ import annotations

from linux.named_tuple import NamedTuple


class Settings(NamedTuple):
    """`source` and `target` are the images of the context-free mode, "" without it.

    `modify_mode` is the mode that ``--modify-appc`` or ``--modify-oci`` asks for, "" without one: then
    `source` and `target` are the same file. `store` is rkt's data directory ("": the usual one), the others
    its directories of configuration: trusted keys and credentials are there.
    """

    work_path: str = "."
    history: bool = True
    source: str = ""
    target: str = ""
    modify_mode: str = ""
    store: str = ""
    system_config: str = "/usr/lib/rkt"
    local_config: str = "/etc/rkt"

    @property
    def config_dirs(self) -> tuple[str, str]:
        """rkt's directories of configuration, the weakest first."""
        return self.system_config, self.local_config

    @property
    def free(self) -> bool:
        """Whether the command works on files of its own instead of a build in progress."""
        return bool(self.source or self.target)
