"""Trusting keys: find them, show their fingerprints, ask, keep them.

Used by `rkt trust`, and by a fetch that finds no key for an image's name.
"""

from __future__ import annotations

from linux.named_tuple import NamedTuple
from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appc.http.client import Client
    from appc.keystore import KeyStore
    from appc.openpgp import PublicKey
    from rkt.fetch.messages import Messages
    from rkt.settings import GlobalOptions


class Policy(NamedTuple):
    """When a key is accepted. `ask` puts the question and gives the answer, or raises when nobody is there.

    `skip_review` accepts every key; `from_https` those that came by a connection which proved who the server
    is, `from_anywhere` extends this to all connections.
    """

    ask: Callable[[], bool]
    skip_review: bool = False
    from_https: bool = False
    from_anywhere: bool = False


class Keys(NamedTuple):
    """The keys at one location."""

    location: str
    data: bytes
    keys: Sequence[PublicKey]
    proved: bool  # the server proved who it is


def key_client(settings: GlobalOptions, *, allow_http: bool = False) -> Client:
    """A web client for keys: `pubkey` among the insecure options allows http and unproved servers."""
    from appc.http.certificates import Certificates
    from appc.http.client import Client
    from rkt.config.merged import load

    lax = "pubkey" in settings.insecure
    return Client(
        load(settings.config_dirs()).credentials(),
        certificates=Certificates.of(settings.config_dirs()),
        insecure_http=allow_http or lax,
        insecure_tls=lax or "tls" in settings.insecure,
        agent="rkt",
    )


def discover(client: Client, prefix: str, detail: Callable[[str], None]) -> list[str]:
    """Where the keys for `prefix` are, by ac-discovery-pubkeys. RktError when nowhere."""
    from appc import app_string
    from appc.discovery import walk

    try:
        name, _ = app_string.parse(prefix)
    except ValueError as error:
        raise RktError(f"prefix {prefix!r}: {error}") from None
    found = walk.discover_public_keys(client, name)
    for attempt in found.attempts:
        detail(f"meta tag 'ac-discovery-pubkeys' not found on {attempt.prefix}: {attempt.error}")
    if not found.keys:
        raise RktError(
            f"meta discovery on {prefix} resulted in no keys",
            hint="give the key as a file or an address: `rkt trust --prefix=NAME KEY`",
        )
    return list(found.keys)


def load(client: Client, location: str) -> Keys:
    """The keys at `location`, a file or an address, all of them armored public keys."""
    from appc import openpgp
    from appc.errors import AppcError

    scheme = location.partition("://")[0].lower() if "://" in location else ""
    proved = scheme == "https" and not client.insecure_tls
    try:
        if scheme in {"http", "https"}:
            if scheme == "http" and not client.insecure_http:
                raise RktError(f"{location}: --insecure-allow-http required for http URLs")
            data = client.document(location, limit=openpgp.KEY_LIMIT)
        elif scheme in {"", "file"}:
            data = _read(location.removeprefix("file://"))
        else:
            raise RktError(f"{location}: only local files and http or https URLs supported")
        return Keys(location, data, openpgp.read_keys(data), proved)
    except AppcError as error:
        raise RktError(f"error accessing the key {location}: {error}", hint=error.hint) from error


def _read(path: str) -> bytes:
    import os
    import stat

    from appc.openpgp import KEY_LIMIT

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RktError(f"error accessing the key {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RktError(f"error accessing the key {path}: not a regular file")
        return os.read(fd, KEY_LIMIT + 1)
    finally:
        os.close(fd)


def describe(keys: Keys, prefix: str) -> list[str]:
    """What a person compares before trusting: prefix, location, fingerprints, user IDs."""
    from appc.openpgp import grouped

    lines = [f'prefix: "{prefix}"', f'key: "{keys.location}"']
    for key in keys.keys:
        lines.append(f"gpg key fingerprint is: {grouped(key.fingerprint)}")
        lines += [f"    subkey fingerprint: {grouped(subkey)}" for subkey in key.subkeys]
        lines += [f"\t{user}" for user in key.user_ids]
    return lines


def add(store: KeyStore, keys: Keys, prefix: str, policy: Policy, say: Callable[[str], None]) -> bool:
    """Show the keys, and trust them for `prefix` (empty: for all names) if `policy` says so."""
    for line in describe(keys, prefix):
        say(line)
    unseen = policy.skip_review or (policy.from_https and (keys.proved or policy.from_anywhere))
    if not unseen and not policy.ask():
        say(f'Not trusting "{keys.location}"')
        return False
    how = "without" if unseen else "after"
    say(f'Trusting "{keys.location}" for prefix "{prefix}" {how} fingerprint review.')
    for key in keys.keys:
        alone = keys.data if len(keys.keys) == 1 else None
        path = store.add(key, prefix or None, data=alone)
        say(f'Added key for prefix "{prefix}" at "{path}"' if prefix else f'Added root key at "{path}"')
    return True


def ask(say: Callable[[str], None], *, interactive: bool) -> bool:
    """Put rkt's question on standard error and read the answer. RktError when no terminal is there."""
    import sys

    if not interactive:
        raise RktError(
            "error reviewing key: unable to ask user to review fingerprint due to lack of tty",
            hint="compare the fingerprint, then use --skip-fingerprint-review",
        )
    while True:
        say("Are you sure you want to trust this key (yes/no)?")
        answer = sys.stdin.readline()
        if not answer:
            raise RktError("error reviewing key: end of input instead of an answer")
        if answer.strip() in {"yes", "no"}:
            return answer.strip() == "yes"
        say("Please enter 'yes' or 'no'")


def discover_and_add(settings: GlobalOptions, store: KeyStore, name: str, messages: Messages) -> None:
    """For a fetch: find the keys of an image's name, and trust them if the user allows it or says yes."""
    say = messages.plain
    policy = Policy(
        ask=lambda: ask(say, interactive=messages.is_interactive()),
        from_https=settings.trust_keys_from_https,
        from_anywhere="pubkey" in settings.insecure,
    )
    with key_client(settings) as client:
        for location in discover(client, name, messages.detail):
            add(store, load(client, location), name, policy, say)
