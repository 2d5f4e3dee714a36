"""The kind `imagePolicy` (`policy.d`): whom to believe about images of layers."""

from __future__ import annotations

from appc.settings.files import ConfigError, read, text, texts
from linux.named_tuple import NamedTuple

#: What may vouch for an image of layers.
SIGNATURE, DIGEST, ANYTHING = "signature", "digest", "anything"
_WORDS = (SIGNATURE, DIGEST, ANYTHING)


class Policy(NamedTuple):
    """What is accepted for the images below a name; `lookaside` is where their signatures are.

    `path` is the file that says so, "" for what holds when none does.
    """

    accept: tuple[str, ...] = (SIGNATURE, DIGEST)
    lookaside: str = ""
    path: str = ""


def read_policies(config: str) -> dict[str, Policy]:
    """`policy.d` of one configuration directory: a policy for each name or beginning of names, given once."""
    found: dict[str, Policy] = {}
    for path, _, content in read(f"{config}/policy.d", ("imagePolicy",)):
        names = texts(path, content, "names")
        if not names:
            raise ConfigError(path, "no names specified")
        if not isinstance(content.get("accept"), list):
            raise ConfigError(path, f"accept is not a list of words: {', '.join(_WORDS)}")
        accept = tuple(texts(path, content, "accept"))
        if unknown := [word for word in accept if word not in _WORDS]:
            raise ConfigError(
                path, f"accept: unknown word {unknown[0]!r}", hint=f"choose from {', '.join(_WORDS)}"
            )
        policy = Policy(accept, _lookaside(path, text(path, content, "lookaside")), path)
        for name in names:
            if name.rstrip("/") in found:
                raise ConfigError(path, f"the policy for {name!r} is already specified")
            found[name.rstrip("/")] = policy
    return found


def _lookaside(path: str, address: str) -> str:
    if address and not address.startswith(("https://", "http://", "file:///")):
        raise ConfigError(path, "lookaside is not an address that begins with https:// or file:///")
    return address.rstrip("/")


def policy_for(policies: dict[str, Policy], name: str) -> Policy:
    """The policy for the image `name` (``docker.io/library/busybox``): of its beginnings the longest."""
    parts = name.split("/")
    for count in range(len(parts), 0, -1):
        found = policies.get("/".join(parts[:count]))
        if found is not None:
            return found
    return Policy()
