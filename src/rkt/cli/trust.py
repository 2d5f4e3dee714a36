"""rkt trust: trust a key to sign images."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from console.output import Output

EXAMPLES = """\
  rkt trust --prefix=example.com/app ./pubkey.asc
  rkt trust --prefix=example.com
  rkt trust --prefix=example.com --skip-fingerprint-review https://example.com/pubkeys.asc
  rkt trust --root ./pubkey.asc
"""
DESCRIPTION = """\
Adds armored public keys to the local key store. PUBKEY is a file or an address; without one, the keys are
looked for by discovery (ac-discovery-pubkeys) from PREFIX. A key that is trusted for PREFIX verifies images
of that name and of names below it; a root key verifies all. The fingerprint is shown and confirmed at the
terminal before a key is trusted.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pubkey", metavar="PUBKEY", nargs="*", help="a file or an address of armored keys")
    parser.add_argument("--prefix", metavar="PREFIX", default="", help="the image names to limit trust to")
    parser.add_argument("--root", action="store_true", help="trust the key for every image name")
    parser.add_argument(
        "--insecure-allow-http",
        action="store_true",
        help="allow plain http for the discovery and the download of keys",
    )
    parser.add_argument(
        "--skip-fingerprint-review",
        action="store_true",
        help="accept keys without showing the fingerprint for confirmation",
    )


def run(options: argparse.Namespace, out: Output) -> int:
    import sys

    from appc.keystore import KeyStore
    from console import terminal
    from rkt import trust
    from rkt.fetch.messages import Messages

    _check(options)
    settings = options.settings
    messages = Messages(out)
    interactive = terminal.is_terminal(sys.stdin)
    policy = trust.Policy(
        ask=lambda: trust.ask(messages.plain, interactive=interactive),
        skip_review=options.skip_fingerprint_review,
        from_https=settings.trust_keys_from_https,
        from_anywhere="pubkey" in settings.insecure,
    )
    store = KeyStore(settings.system_config, settings.local_config)
    with trust.key_client(settings, allow_http=options.insecure_allow_http) as client:
        locations = options.pubkey or trust.discover(client, options.prefix, messages.detail)
        for location in locations:
            trust.add(store, trust.load(client, location), options.prefix, policy, messages.plain)
    return 0


def _check(options: argparse.Namespace) -> None:
    prefix = options.prefix
    if not prefix and not options.root:
        if options.pubkey:
            raise RktError(
                "--root required for non-prefixed (root) keys",
                hint="or limit the key to names with --prefix=NAME, which is safer",
            )
        raise RktError("at least one key or --prefix required", hint="see `rkt trust --help`")
    if prefix and options.root:
        raise RktError("--root and --prefix usage mutually exclusive")
    if options.root and not options.pubkey:
        raise RktError("a root key cannot be discovered", hint="give it as a file or an address")
    scheme, separator, _ = prefix.partition("://")
    if separator:
        raise RktError(f"--prefix must not contain a URL scheme, omit {scheme}://")
    if prefix:
        from appc.types.names import ACIdentifier

        try:
            ACIdentifier(prefix)
        except ValueError as error:
            raise RktError(f"--prefix: {error}") from None
