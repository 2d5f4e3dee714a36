"""Credentials for downloads: those that rkt is configured with (``auth.d``, kind ``auth``).

What is read here are secrets. No error message holds any of it.
"""

from __future__ import annotations

import os

from acbuild.errors import AcbuildError
from appc import jsonfield
from appc.http.auth import AwsV4, Basic, Bearer, Credentials
from appc.jsonfield import Fields, listed, nonempty, obj, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from appc.http.auth import Credential

_LARGEST = 1 << 20


def load(directories: Iterable[str]) -> Credentials:
    """The credentials of all configuration directories, later ones over earlier ones.

    Files that may not be read are left out: a user without root builds without them.
    """
    found: dict[str, Credential] = {}
    for directory in directories:
        try:
            names = sorted(os.listdir(f"{directory}/auth.d"))
        except (FileNotFoundError, PermissionError):
            continue
        for name in names:
            if name.endswith(".json"):
                found |= _file(f"{directory}/auth.d/{name}")
    return Credentials(found)


def _file(path: str) -> dict[str, Credential]:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST)
    except PermissionError:
        return {}
    try:
        fields = Fields(jsonfield.parse(data))
        kind = fields.optional("rktKind", string, "")
        if kind != "auth":
            return {}
        domains = fields.required("domains", listed(nonempty))
        of_type = fields.required("type", nonempty)
        given = fields.required("credentials", obj)
        fields.finish()
        credential = _credential(of_type, Fields(given))
    except ValueError as error:
        raise AcbuildError(f"{path}: {'; '.join(jsonfield.reasons(error))}") from None
    return dict.fromkeys(domains, credential)


def _credential(of_type: str, given: Fields) -> Credential:
    if of_type == "basic":
        user, password = given.required("user", nonempty), given.required("password", nonempty)
        given.finish()
        return Basic(user, password)
    if of_type == "oauth":
        token = given.required("token", nonempty)
        given.finish()
        return Bearer(token)
    if of_type == "aws":
        key, secret = given.required("accessKeyID", nonempty), given.required("secretAccessKey", nonempty)
        region = given.optional("awsRegion", string, "")
        given.finish()
        return AwsV4(key, secret, region)
    raise ValueError("type: is none of basic, oauth and aws")
