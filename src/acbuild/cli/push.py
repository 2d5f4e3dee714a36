"""acbuild push: send the image to a registry, or to a server of ACIs."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax
from acbuild.errors import AcbuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from acbuild.context import Build
    from acbuild.settings import Settings
    from console.main import Options
    from console.output import Output

EXAMPLES = """\
  acbuild push docker://registry.example.com/team/app:1.0
  acbuild --from=app.tar push docker://localhost:5000/app
  acbuild push --sign example.com/app -- --local-user release@example.com
  acbuild --from=app.aci push example.com/app:1.0
"""
DESCRIPTION = """\
Sends the image that `write` would write, or with --from the one in a file, and prints what it can be fetched
by: its digest or its ID. What a registry has already is not sent; an image of mode appc gets there as one of
a single layer. An ACI goes to a server, such as acserver, to which the name leads by discovery; it is signed
with --sign, or as FILE.asc beside the image of --from says.

Credentials are those of auth.d, then, for registries, those of `docker login` and `podman login`;
certificates are those of certs.d; each is for its own host. Nobody sees half an image: what breaks off is
tried again, and published when it is complete.
"""
raw = True
_SYNTAX = Syntax(
    "DESTINATION [-- GPG-ARGUMENT…]",
    1,
    1,
    (
        Flag("insecure", "", "send over plain http too"),
        Flag("sign", "", "sign the ACI with gpg"),
        Flag("unsigned", "", "send an ACI that has no signature"),
    ),
    "docker://NAME[:TAG], or for an ACI its NAME, or an address https://…/startupload",
    passes_on=True,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    _SYNTAX.declare(parser)


parse = _SYNTAX.parse


def run(options: Options, out: Output) -> int:
    from acbuild import freestanding, push
    from acbuild.cli import session

    given = parse(options.argv)
    where, settings = given.words[0], session.settings_of(options)
    signing = given.on("sign") or given.on("unsigned")
    signature = push.Signature(given.gpg(), given.on("unsigned"))
    if given.on("sign") and given.on("unsigned"):
        raise AcbuildError("--sign and --unsigned exclude each other")
    if signing and where.startswith(push.DOCKER):
        raise AcbuildError("--sign and --unsigned are for ACIs", hint="a registry keeps no signature of them")

    def send(settings: Settings, build: Build | None) -> None:
        with out.progress(f"pushing {where}") as progress:

            def advance(count: int, total: int) -> None:
                progress.total = total
                progress.advance(count)

            telling = push.Telling(out.warn, out.debug, advance)
            if where.startswith(push.DOCKER):
                name: str = push.to_registry(
                    settings, build, where, insecure=given.on("insecure"), telling=telling
                )
            else:
                name = str(
                    push.to_server(
                        settings, build, where, signature, insecure=given.on("insecure"), telling=telling
                    )
                )
        out.line(name)

    if settings.free:
        freestanding.check_reading(settings)
        send(settings, None)
    else:
        with session.opened(options, out) as build:
            send(settings, build)
    return 0
