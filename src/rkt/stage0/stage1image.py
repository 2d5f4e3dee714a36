"""A stage 1 that the user names: find its image, verify it like any other, have it in the store."""

from __future__ import annotations

import os

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from console.output import Output
    from rkt.appargs.options import Stage1Choice
    from rkt.settings import GlobalOptions
    from rkt.store import Store

# Images in this directory were put there by the host's administrator or packages: trusted as they are.
IMAGES_DIR = "/usr/lib/rkt/stage1-images"


def configured(directories: Sequence[str], store: Store) -> Stage1Choice | None:
    """The default stage1 that the configuration names: its image if the store has it, else its location."""
    from rkt.appargs.options import Stage1Choice
    from rkt.config.merged import load_stage1
    from rkt.stage1 import flavours

    wanted = load_stage1(directories)
    by_name = Stage1Choice(by="name", value=f"{wanted.name}:{wanted.version}") if wanted.name else None
    if by_name is not None and (
        flavours.bundled_name("name", by_name.value) or store.find(wanted.name, {"version": wanted.version})
    ):
        return by_name
    if wanted.location:
        path = wanted.location.removeprefix("file://")
        return Stage1Choice(by="path" if path.startswith("/") else "url", value=path)
    return by_name


def fetch_stage1(settings: GlobalOptions, store: Store, choice: Stage1Choice, out: Output) -> str:
    """The ID of the stage 1 image that `choice` means.

    Raises RktError when there is none; the usual errors of a fetch when its signature is not trusted.
    """
    from rkt.fetch import fetch

    if choice.by == "hash":
        return store.resolve(choice.value)
    argument = choice.value
    trusted = settings
    if choice.by == "from-dir":
        argument = os.path.join(IMAGES_DIR, choice.value)
        if os.path.dirname(os.path.abspath(argument)) != IMAGES_DIR:
            raise RktError(f"--stage1-from-dir: {choice.value!r} is not the name of a file in {IMAGES_DIR}")
        trusted = settings._replace(insecure=settings.insecure | {"image"})
    elif choice.by == "path":
        argument = os.path.abspath(choice.value)
    return fetch(trusted, store, argument, pull_policy="new", signature=None, out=out)
