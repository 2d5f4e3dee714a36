"""A stage 1 that the user names: find its image, verify it like any other, have it in the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rkt.errors import RktError

if TYPE_CHECKING:
    from console.output import Output
    from rkt.appargs.options import Stage1Choice
    from rkt.settings import GlobalOptions
    from rkt.store import Store

# Images in this directory were put there by the host's administrator or packages: trusted as they are.
IMAGES_DIR = "/usr/lib/rkt/stage1-images"


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
