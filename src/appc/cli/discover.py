"""actool discover: find out where images can be downloaded."""

from __future__ import annotations

from appc.errors import AppcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from appc.discovery.walk import Attempt, Endpoints, PublicKeys
    from appc.http.client import Client
    from console.output import Output

EXAMPLES = """\
  actool discover example.com/app
  actool discover example.com/app:1.0,os=linux,arch=amd64
  actool discover --json example.com/app | jq -r '.PublicKeys[]'
"""
DESCRIPTION = """\
Prints where each image, its signature and the public keys for it are, and which pages were asked in vain.
Labels os and arch are those of this host unless given. Exits 1 if an image or its keys cannot be found.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("apps", metavar="APP", nargs="*", help="NAME[:VERSION][,LABEL=VALUE]…")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per image and nothing else"
    )
    parser.add_argument("--port", metavar="PORT", type=int, default=0, help="ask this port of the host")
    parser.add_argument(
        "--insecure", action="store_true", help="take any certificate, and http where https fails"
    )


def run(options: argparse.Namespace, out: Output) -> int:
    from appc import app_string
    from appc.http.client import Client

    if not options.apps:
        raise AppcError("Must provide at least one app", hint="actool discover example.com/app")
    if not 0 <= options.port <= 65535:
        raise AppcError(f"--port: {options.port} is no port")
    code = 0
    with Client(insecure_http=options.insecure, insecure_tls=options.insecure) as client:
        for text in options.apps:
            try:
                name, labels = app_string.parse(text)
            except ValueError as error:
                out.error(AppcError(f"{text}: {error}"))
                code = 1
                continue
            if not _discover(client, name, _with_defaults(labels), options, out):
                code = 1
    return code


def _with_defaults(labels: Mapping[str, str]) -> dict[str, str]:
    from appc.types import platforms

    host_os, host_arch = platforms.of_host()
    return {"os": host_os, "arch": host_arch, **labels}


def _discover(
    client: Client, name: str, labels: Mapping[str, str], options: argparse.Namespace, out: Output
) -> bool:
    """Discover one image and print; whether image and keys were found."""
    from appc.discovery import walk

    found = walk.discover_endpoints(client, name, labels, port=options.port)
    keys = walk.discover_public_keys(client, name, port=options.port)
    if options.json:
        _tell_attempts(found.attempts, keys.attempts, out.note)
        _print_json(found, keys, out)
    else:
        _tell_attempts(found.attempts, keys.attempts, out.line)
        for endpoint in found.endpoints:
            out.line(f"ACI: {endpoint.aci}, ASC: {endpoint.asc}")
        if keys.keys:
            out.line("PublicKeys: " + ",".join(keys.keys))
    if not found.endpoints:
        out.note(f"error fetching {name}: no endpoint discovered")
    if not keys.keys:
        out.note(f"error fetching public keys for {name}: none discovered")
    return bool(found.endpoints and keys.keys)


def _tell_attempts(
    endpoints: tuple[Attempt, ...], keys: tuple[Attempt, ...], tell: Callable[[str], None]
) -> None:
    for attempt in endpoints:
        tell(f"discover endpoints walk: prefix: {attempt.prefix} error: {attempt.error}")
    for attempt in keys:
        tell(f"discover public keys walk: prefix: {attempt.prefix} error: {attempt.error}")


def _print_json(found: Endpoints, keys: PublicKeys, out: Output) -> None:
    """As Go's encoder writes it, which escapes what HTML would take for markup."""
    import json

    value = {
        "ACIEndpoints": [{"ACI": endpoint.aci, "ASC": endpoint.asc} for endpoint in found.endpoints],
        "PublicKeys": list(keys.keys),
    }
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "&<>":
        text = text.replace(character, f"\\u{ord(character):04x}")
    out.line(text)
