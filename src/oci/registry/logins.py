"""Who the user is at a registry: what `docker login` and `podman login` have left, and credential helpers.

What is read here are secrets. No error holds any of it but names of files, registries and helpers.
"""

from __future__ import annotations

import os

from appc import jsonfield
from appc.jsonfield import Fields, obj, string, string_map
from linux.named_tuple import NamedTuple
from oci.errors import OciError
from oci.types.reference import HUB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LIMIT = 1 << 20
#: Bytes that a helper may answer; seconds that it may take (it may ask for a passphrase).
_ANSWER, _PATIENCE = 64 << 10, 60.0
#: The user name that stands for an identity token, in files and in helpers' answers.
_TOKEN_USER = "<token>"  # noqa: S105  no secret
#: Docker's name for its own registry in these files, from the times of the first protocol.
_HUB_KEY = "https://index.docker.io/v1/"


class Login(NamedTuple):
    """A user and password, or an identity token, which the registry's token server takes for them."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def secrets(self) -> list[str]:
        """What no message may hold."""
        return [text for text in (self.password, self.identity_token) if text]


class Logins:
    """What the caller gives by registry (rkt's dockerAuth), then what files say. Files are read when needed.

    `environ` names the files and is what helpers get, as they are the user's own programs.
    """

    def __init__(
        self,
        given: Mapping[str, Login] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        files: bool = True,
    ) -> None:
        self._given = {_place(name): login for name, login in (given or {}).items()}
        self._environ = os.environ if environ is None else environ
        self._files: list[_File] | None = None if files else []

    def find(self, registry: str, repository: str = "") -> Login | None:
        """The login for a repository of `registry` (``docker.io`` for Docker Hub), of several the closest."""
        parts = repository.split("/") if repository else []
        names = ["/".join([registry, *parts[:count]]) for count in range(len(parts), -1, -1)]
        for name in names:
            if name in self._given:
                return self._given[name]
        if self._files is None:
            self._files = [file for path in paths(self._environ) if (file := _read(path)) is not None]
        for file in self._files:
            found = file.login(names, self._environ)
            if found is not None:
                return found
        return None


def paths(environ: Mapping[str, str]) -> list[str]:
    """Where files may be, the first wins: podman's, then docker's."""
    found = [environ["REGISTRY_AUTH_FILE"]] if environ.get("REGISTRY_AUTH_FILE") else []
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        found.append(f"{runtime}/containers/auth.json")
    home = environ.get("HOME", "")
    if home:
        found.append(f"{home}/.config/containers/auth.json")
    if directory := environ.get("DOCKER_CONFIG") or (home and f"{home}/.docker"):
        found.append(f"{directory}/config.json")
    if home:
        found.append(f"{home}/.dockercfg")
    return found


class _File(NamedTuple):
    """One file: logins and helpers by registry, and the helper for all others."""

    path: str
    auths: Mapping[str, object]
    helpers: Mapping[str, str]
    store: str

    def login(self, names: list[str], environ: Mapping[str, str]) -> Login | None:
        """The login for the first of `names`, the last of which is the bare registry."""
        registry = names[-1]
        for name in names:
            if name in self.auths and (found := self._written(name)) is not None:
                return found
        helper = next((self.helpers[name] for name in names if name in self.helpers), self.store)
        if not helper:
            return None
        return ask_helper(helper, _HUB_KEY if registry == HUB else registry, environ)

    def _written(self, name: str) -> Login | None:
        """What `auths` says; an empty object is a sign that a helper knows."""
        try:
            fields = Fields(self.auths[name])
            token = fields.optional("identitytoken", string, "")
            user, password = fields.optional("username", string, ""), fields.optional("password", string, "")
            encoded = fields.optional("auth", string, "")
            fields.finish()
            if encoded:
                user, password = _decoded(encoded)
        except ValueError:
            raise OciError(f"{self.path}: the entry for {name} is malformed") from None
        if token or user == _TOKEN_USER:
            return Login(identity_token=token or password)
        return Login(user, password) if user or password else None


def _decoded(text: str) -> tuple[str, str]:
    import base64

    user, colon, password = base64.b64decode(text, validate=True).decode("utf-8").partition(":")
    if not colon:
        raise ValueError
    return user, password.rstrip("\0")


def _read(path: str) -> _File | None:
    """The file; None where there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return None  # somebody else's, as under sudo with HOME kept
    try:
        fields = Fields(jsonfield.parse(data or b"{}", limit=_LIMIT))
        bare = path.endswith(".dockercfg")  # which has nothing but `auths`
        auths = obj(jsonfield.parse(data or b"{}")) if bare else fields.optional("auths", obj, {})
        helpers = fields.optional("credHelpers", string_map, {})
        store = fields.optional("credsStore", string, "")
        fields.finish()
    except ValueError:
        raise OciError(f"{path}: is no file of credentials that docker or podman would write") from None
    return _File(
        path,
        {_place(name): value for name, value in auths.items()},
        {_place(name): helper for name, helper in helpers.items()},
        store,
    )


def _place(key: str) -> str:
    """A key of these files as registry and, in podman's, part of the repository."""
    if key == _HUB_KEY:
        return HUB
    place = key.partition("://")[2] or key
    place = place.rstrip("/")
    for ending in ("/v1", "/v2"):
        place = place.removesuffix(ending)
    return HUB if place in {"index.docker.io", "registry-1.docker.io"} else place


def ask_helper(name: str, registry: str, environ: Mapping[str, str]) -> Login | None:
    """What ``docker-credential-NAME get`` says; None when it knows nothing.

    It gets the registry on its standard input; what it answers is bounded in size and time.
    """
    if not name or name.strip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"):
        raise OciError(f"{jsonfield.quoted(name)} is no name of a credential helper")
    program = f"docker-credential-{name}"
    code, answer = _run(program, registry, environ)
    if code:
        text = answer.decode("utf-8", "replace")
        if "not found" in text or "no credentials" in text:
            return None
        raise OciError(f"{program}: failed with status {code}", hint=f"try `echo {registry} | {program} get`")
    try:
        fields = Fields(jsonfield.parse(answer, limit=_ANSWER))
        user, secret = fields.required("Username", string), fields.required("Secret", string)
        fields.finish()
    except ValueError:
        raise OciError(f"{program}: gave an answer that is not what such helpers say") from None
    return Login(identity_token=secret) if user == _TOKEN_USER else Login(user, secret)


def _run(program: str, registry: str, environ: Mapping[str, str]) -> tuple[int, bytes]:
    """Run the helper; its status and what it printed."""
    import subprocess

    try:
        child = subprocess.Popen(
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
            bufsize=0,
        )
    except FileNotFoundError:
        raise OciError(
            f"{program}: is not installed", hint="the configuration of docker names it as credential helper"
        ) from None
    with child:
        try:
            answer = _converse(child, registry.encode(), program)
            return child.wait(_PATIENCE), answer
        except subprocess.TimeoutExpired:
            raise OciError(f"{program}: does not end") from None
        finally:
            if child.poll() is None:
                import signal

                os.killpg(child.pid, signal.SIGKILL)


def _converse(child: object, question: bytes, program: str) -> bytes:
    """Send the question and read the answer, neither for longer than allowed."""
    import select
    import time

    stdin, stdout = child.stdin, child.stdout  # type: ignore[attr-defined]
    try:
        stdin.write(question)
        stdin.close()
    except BrokenPipeError:
        pass  # it answers without having been asked
    answer = b""
    end = time.monotonic() + _PATIENCE
    poll = select.poll()
    poll.register(stdout.fileno(), select.POLLIN)
    while True:
        left = end - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise OciError(f"{program}: gave no answer within {_PATIENCE:g} s")
        data = os.read(stdout.fileno(), 4096)
        if not data:
            return answer
        answer += data
        if len(answer) > _ANSWER:
            raise OciError(f"{program}: answers with more than {_ANSWER} bytes")
