"""The options that every verb of rkt shares, as one typed value (reference: rkt's global flags)."""

from __future__ import annotations

from linux.named_tuple import NamedTuple
from rkt.errors import RktError

DATA_DIR = "/var/lib/rkt"
LOCAL_CONFIG = "/etc/rkt"
SYSTEM_CONFIG = "/usr/lib/rkt"

# What each word of --insecure-options stands for. `ondisk` is rkt's, accepted and without effect.
_GROUPS = {
    "none": (),
    "all-fetch": ("image", "tls", "http", "pubkey"),
    "all-run": ("capabilities", "paths", "seccomp"),
    "all": ("image", "tls", "http", "pubkey", "capabilities", "paths", "seccomp", "ondisk"),
}
_WORDS = ("http", "image", "tls", "pubkey", "capabilities", "paths", "seccomp", "ondisk")


def parse_insecure(values: list[str]) -> frozenset[str]:
    """The set of switched-off checks that `--insecure-options=LIST`, given any number of times, names."""
    chosen: set[str] = set()
    for value in values:
        for word in value.split(","):
            if word in _GROUPS:
                chosen.update(_GROUPS[word])
            elif word in _WORDS:
                chosen.add(word)
            else:
                raise RktError(
                    f"--insecure-options: unknown option {word!r}",
                    hint="choose from " + ", ".join((*_GROUPS, *_WORDS)),
                )
    return frozenset(chosen)


class GlobalOptions(NamedTuple):
    """Where rkt keeps state and configuration, and which checks the user switched off.

    `data_dir` etc. are strings (`user_config` is empty when there is none); `insecure` is what
    `parse_insecure` gives.
    """

    data_dir: str = DATA_DIR
    local_config: str = LOCAL_CONFIG
    system_config: str = SYSTEM_CONFIG
    user_config: str = ""
    insecure: frozenset[str] = frozenset()
    debug: bool = False
    trust_keys_from_https: bool = False

    def config_dirs(self) -> tuple[str, ...]:
        """Configuration directories, lowest priority first: system, local, user."""
        return tuple(d for d in (self.system_config, self.local_config, self.user_config) if d)
