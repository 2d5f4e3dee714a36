"""Pods named on a command line: by UUID, prefix, name, or a file that holds the UUID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rkt.errors import RktError

if TYPE_CHECKING:
    import argparse

    from rkt.pods.pod import Pod


class UnreadableUuidFile(RktError):
    """The file of `--uuid-file` cannot be read; rkt exits with 1 then, not 254."""

    exit_code = 1


def add_uuid_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--uuid-file", metavar="FILE", help="read the pod's UUID from FILE")


def wanted(options: argparse.Namespace) -> list[str]:
    """The words that name pods: those given, or the content of `--uuid-file`; RktError if neither or both."""
    given = list(options.uuid) if isinstance(options.uuid, list) else [options.uuid] if options.uuid else []
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


def open_pod(options: argparse.Namespace, word: str) -> Pod:
    from rkt.pods.directory import PodDirectory

    return PodDirectory(options.settings.data_dir).get(word)
