"""What an image was made of, and the statement that says so (in-toto v1, SLSA provenance v1).

Each command notes its inputs, with their digests, as lines of JSON in the context; `statement` makes one
document of them when the image is written.
"""

from __future__ import annotations

import os

from appc.jsonfield import encode, obj, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from acbuild.context import Build
    from acbuild.tree.copying import Copied

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
#: What the parameters mean: the commands of acbuild, in their order.
BUILD_TYPE = "https://github.com/containers/build/acbuild/commands/v1"
BUILDER = "acbuild"


def note(build: Build, uri: str, digest: Mapping[str, str], **more: str) -> None:
    """Note one input: where it is from, and its digest by algorithm; `more` goes into its annotations."""
    value: dict[str, object] = {"uri": uri, "digest": dict(digest)}
    if more:
        value["annotations"] = more
    build.note_input(encode(value))


def note_copied(build: Build, copied: Sequence[Copied]) -> None:
    """Note what was copied, under the path that was typed: where a host has it is nobody's business."""
    for one in copied:
        note(build, f"file:{one.source}", {one.algorithm: one.digest}, target=f"/{one.target}")


def note_file(build: Build, path: str, content: bytes) -> None:
    """Note a file that was read as a whole."""
    import hashlib

    note(build, f"file:{path}", {"sha256": hashlib.sha256(content).hexdigest()})


def inputs(build: Build) -> list[dict[str, object]]:
    """What was noted, in the order of the commands."""
    from acbuild.context import INPUTS

    try:
        with open(f"{build.path}/{INPUTS}", "rb") as file:
            return [obj(parse(line)) for line in file.read().splitlines()]
    except FileNotFoundError:
        return []


def statement(build: Build, subject: str, image_id: str, digests: Mapping[str, str], version: str) -> bytes:
    """The statement about the image that was written as `subject`; the same build gives the same bytes.

    `digests` are those of the file; the image ID is an annotation of it, being that of the plain archive.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    parameters: dict[str, object] = {"commands": build.image.history(), "buildMode": build.mode}
    if epoch:
        parameters["sourceDateEpoch"] = epoch
    value = {
        "_type": STATEMENT,
        "subject": [
            {
                "name": os.path.basename(subject),
                "digest": dict(digests),
                "annotations": {"imageID": image_id},
            }
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": inputs(build),
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"acbuild": version}}},
        },
    }
    return encode(value) + b"\n"
