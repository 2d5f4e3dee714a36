"""The commands that change what an image says about itself: a table, as they differ in one call each."""

from __future__ import annotations

from acbuild.cli.arguments import Flag, Syntax, label, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from acbuild.cli.arguments import Given
    from acbuild.context import Build
    from acbuild.image import Image
    from console.main import Options
    from console.output import Output


class Edit:
    """One command, in the shape of a verb's module."""

    raw = True

    def __init__(
        self,
        syntax: Syntax,
        change: Callable[[Image, Given], None],
        examples: str,
        description: str = "",
        *,
        named: int = 0,
    ) -> None:
        """The first `named` words say which command it is: the history has them as part of its name."""
        self.syntax = syntax
        self.named = named
        self.change = change
        self.EXAMPLES = "".join(f"  {line}\n" for line in examples.splitlines())
        self.DESCRIPTION = description
        self.__doc__ = syntax.help or syntax.words

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        self.syntax.declare(parser)

    def parse(self, argv: list[str]) -> Given:
        return self.syntax.parse(argv)

    def run(self, options: Options, out: Output) -> int:
        from acbuild.cli import session

        given = self.parse(options.argv)

        def change(build: Build) -> None:
            self.change(build.image, given)
            for path, data in given.read:
                from acbuild.provenance import note_file

                note_file(build, path, data)

        return session.edit(options, out, given.words, change, named=self.named)


def _isolator(image: Image, given: Given) -> None:
    name, source = given.words
    data = _read(source)
    image.add_isolator(name, data)
    given.read.append((source, data))


def _read(source: str) -> bytes:
    """The JSON in a file of the user's, or on standard input for ``-``."""
    if source == "-":
        import sys

        return sys.stdin.buffer.read()
    with open(source, "rb") as file:
        return file.read()


_APP = "Makes the app of the image, with user and group 0, where there is none yet."

TABLE = {
    "set-name": Edit(
        Syntax("NAME", 1, 1, help="an AC identifier, such as example.com/app"),
        lambda image, given: image.set_name(given.words[0]),
        "acbuild set-name example.com/app",
    ),
    "set-exec": Edit(
        Syntax("-- CMD [ARG…]", 1, -1, help="the program and its arguments"),
        lambda image, given: image.set_exec(given.words),
        "acbuild set-exec -- /usr/sbin/nginx -g 'daemon off;'",
        _APP + " In mode oci CMD becomes the entry point, and the arguments what replaces them at run time.",
    ),
    "set-user": Edit(
        Syntax("USER", 1, 1, help="a name, a number, or the path of a file in the image whose owner it is"),
        lambda image, given: image.set_user(given.words[0]),
        "acbuild set-user www-data",
        _APP,
    ),
    "set-group": Edit(
        Syntax("GROUP", 1, 1, help="a name, a number, or the path of a file in the image"),
        lambda image, given: image.set_group(given.words[0]),
        "acbuild set-group www-data",
        _APP,
    ),
    "set-supp-groups": Edit(
        Syntax("GID…", 1, -1, help="numbers of groups"),
        lambda image, given: image.set_supplementary_groups(given.words),
        "acbuild set-supp-groups 20 27",
        _APP,
    ),
    "set-working-directory": Edit(
        Syntax("DIRECTORY", 1, 1, help="an absolute path in the image"),
        lambda image, given: image.set_working_directory(given.words[0]),
        "acbuild set-working-directory /srv\nacbuild set-wd /srv",
        _APP,
    ),
    "set-event-handler": Edit(
        Syntax("EVENT [--] CMD [ARG…]", 2, -1, help="pre-start or post-stop, and what to run then"),
        lambda image, given: image.set_event_handler(given.words[0], given.words[1:]),
        "acbuild set-event-handler pre-start -- /bin/prepare --all",
        _APP,
        named=1,
    ),
    "set-tag": Edit(
        Syntax("TAG", 1, 1, help="the version: the label `version`, or in mode oci the name in the layout"),
        lambda image, given: image.set_tag(given.words[0]),
        "acbuild set-tag 1.4.0",
    ),
    "annotation add": Edit(
        Syntax("NAME VALUE", 2, 2, help="an annotation, in place of one of that name"),
        lambda image, given: image.add_annotation(*given.words),
        "acbuild annotation add homepage https://example.com/",
    ),
    "annotation remove": Edit(
        Syntax("NAME", 1, 1, help="the name of the annotation"),
        lambda image, given: image.remove_annotation(given.words[0]),
        "acbuild annotation remove homepage",
    ),
    "environment add": Edit(
        Syntax("NAME VALUE", 2, 2, help="a variable, in place of one of that name"),
        lambda image, given: image.add_environment(*given.words),
        "acbuild environment add LANG C.UTF-8",
        _APP,
    ),
    "environment remove": Edit(
        Syntax("NAME", 1, 1, help="the name of the variable"),
        lambda image, given: image.remove_environment(given.words[0]),
        "acbuild environment remove LANG",
    ),
    "label add": Edit(
        Syntax("NAME VALUE", 2, 2, help="a label, in place of one of that name"),
        lambda image, given: image.add_label(*given.words),
        "acbuild label add version 1.4.0",
    ),
    "label remove": Edit(
        Syntax("NAME", 1, 1, help="the name of the label"),
        lambda image, given: image.remove_label(given.words[0]),
        "acbuild label remove arch",
    ),
    "mount add": Edit(
        Syntax(
            "NAME PATH",
            2,
            2,
            (Flag("read-only", "", "the app only reads there"),),
            "a mount point, in place of those with that name or that path",
        ),
        lambda image, given: image.add_mount(*given.words, read_only=given.on("read-only")),
        "acbuild mount add html /srv/html --read-only",
        _APP,
    ),
    "mount remove": Edit(
        Syntax("NAME|PATH", 1, 1, help="the name or the path of the mount point"),
        lambda image, given: image.remove_mount(given.words[0]),
        "acbuild mount remove html",
    ),
    "port add": Edit(
        Syntax(
            "NAME PROTOCOL PORT",
            3,
            3,
            (
                Flag("count", "N", "how many ports, from PORT on (default: 1)", check=whole),
                Flag("socket-activated", "", "the app takes the socket that it is handed"),
            ),
            "a port that the app serves, in place of one of that name",
        ),
        lambda image, given: image.add_port(
            *given.words, count=whole(given.text("count", "1")), activated=given.on("socket-activated")
        ),
        "acbuild port add http tcp 80\nacbuild port add media udp 20000 --count=100",
        _APP,
    ),
    "port remove": Edit(
        Syntax("NAME|PORT", 1, 1, help="the name or the number of the port"),
        lambda image, given: image.remove_port(given.words[0]),
        "acbuild port remove http",
    ),
    "isolator add": Edit(
        Syntax("NAME FILE", 2, 2, help="an isolator, and a file with its value in JSON (- for stdin)"),
        _isolator,
        "acbuild isolator add resource/memory memory.json\n"
        'echo \'{"set": ["@appc.io/all"]}\' | acbuild isolator add os/linux/seccomp-retain-set -',
        _APP,
    ),
    "isolator remove": Edit(
        Syntax("NAME", 1, 1, help="the name of the isolator"),
        lambda image, given: image.remove_isolator(given.words[0]),
        "acbuild isolator remove resource/memory",
    ),
    "dependency add": Edit(
        Syntax(
            "IMAGE",
            1,
            1,
            (
                Flag("image-id", "ID", "the image must have this ID"),
                Flag(
                    "label",
                    "NAME=VALUE",
                    "a label that it must have; may be repeated",
                    repeatable=True,
                    check=label,
                ),
                Flag("size", "BYTES", "the size of its archive", check=whole),
            ),
            "NAME[:VERSION][,LABEL=VALUE…], in place of a dependency of that name",
        ),
        lambda image, given: image.add_dependency(
            given.words[0], given.all("label"), given.text("image-id"), whole(given.text("size", "0"))
        ),
        "acbuild dependency add example.com/base:1.0,os=linux\n"
        "acbuild dep add example.com/tools --label arch=amd64",
        "Dependencies come below the files of the image, the first one lowest.",
    ),
    "dependency remove": Edit(
        Syntax("NAME", 1, 1, help="the name of the image"),
        lambda image, given: image.remove_dependency(given.words[0]),
        "acbuild dependency remove example.com/base",
    ),
    "whitelist add": Edit(
        Syntax("PATH…", 1, -1, help="absolute paths in the image"),
        lambda image, given: image.add_whitelist(given.words),
        "acbuild whitelist add /usr/bin/tool /lib/x86_64-linux-gnu/libc.so.6",
        "As soon as one path is listed, those and the directories above them are all that there is when the "
        "image is run: what it has of its dependencies too. A directory does not bring its content.",
    ),
    "whitelist remove": Edit(
        Syntax("PATH…", 1, -1, help="paths that are listed"),
        lambda image, given: image.remove_whitelist(given.words),
        "acbuild whitelist remove /usr/bin/tool",
        "Without any path the list is gone, and all files are there again.",
    ),
}
