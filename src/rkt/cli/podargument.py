"""Pods named on a command line: by UUID, prefix, name, or a file that holds the UUID."""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from console.output import Output
    from rkt.pods.pod import Pod


class UnreadableUuidFile(RktError):
    """The file of `--uuid-file` cannot be read; rkt exits with 1 then, not 254."""

    exit_code = 1


def add_uuid_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uuid-file", metavar="FILE", help="read the pod's UUID from FILE")


def wanted(options: argparse.Namespace) -> list[str]:
    """The words that name pods: those given, or the content of `--uuid-file`; RktError if neither or both."""
    given = options.uuid if isinstance(options.uuid, list) else [options.uuid]
    given = [word for word in given if word is not None]
    path = getattr(options, "uuid_file", None)
    if path:
        if given:
            raise RktError("--uuid-file and a UUID cannot be used together")
        return [read_uuid_file(path)]
    if not given:
        raise RktError("a pod must be named", hint="give a UUID, a unique beginning of one, or a pod's name")
    return given


def read_uuid_file(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read(64).strip()
    except (OSError, ValueError) as error:
        raise UnreadableUuidFile(f"unable to resolve UUID from file {path}") from error


def add_uuids(parser: argparse.ArgumentParser) -> None:
    """Any number of pods, or one from a file: what `stop`, `rm` and `restart` take."""
    parser.add_argument("uuid", metavar="UUID", nargs="*", help="a pod: UUID, its beginning, or name")
    add_uuid_file(parser)


def for_each(
    options: argparse.Namespace, out: Output, action: Callable[[argparse.Namespace, str], str], form: str
) -> int:
    """Do `action` to every pod that is named and print its UUID in `form`; one failure does not end it.

    The exit code is 254 if any failed.
    """
    failed = False
    for word in wanted(options):
        try:
            uuid = action(options, word)
        except (RktError, OSError) as error:
            out.error(error)
            failed = True
        else:
            out.line(form.format(uuid))
    return 254 if failed else 0


def open_pod(options: argparse.Namespace, word: str) -> Pod:
    from rkt.pods.directory import PodDirectory

    return PodDirectory(options.settings.data_dir).get(word)
