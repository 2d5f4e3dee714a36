"""How registries are reached: mirrors, plain http, hosts that are not to be asked.

One rule a registry, from files of the kind ``registries`` (``registries.d``) or made by the caller:

    {"rktKind": "registries", "rktVersion": "v1", "registries": ["docker.io"],
     "mirrors": ["https://mirror.example.com/hub"], "plainHttp": false, "blocked": false}
"""

from __future__ import annotations

from appc.http import url as urls
from appc.jsonfield import Fields, boolean, listed, nonempty, quoted
from linux.named_tuple import NamedTuple
from oci.errors import OciError
from oci.types.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "registries"


class Endpoint(NamedTuple):
    """Where to ask: `base` is an address without a slash at its end, `repository` the name there."""

    base: str
    repository: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what credentials are bound to."""
        return urls.parse(self.base).origin

    @property
    def host(self) -> str:
        """Host, and the port if it is not the scheme's own."""
        return urls.parse(self.base).authority


class Rule(NamedTuple):
    """What is configured for one registry. `mirrors` are asked first, in order, for pulls only."""

    mirrors: tuple[str, ...] = ()
    plain_http: bool = False
    blocked: bool = False


class Settings(NamedTuple):
    """Rules by registry, as `Reference.registry` writes it. The two switches are --insecure-options.

    `certificates` are directories as `appc.http.certificates` reads them, the strongest first.
    """

    rules: Mapping[str, Rule] = {}
    plain_http: bool = False
    insecure_tls: bool = False
    certificates: tuple[str, ...] = ()

    def endpoints(self, reference: Reference, *, mirrors: bool = True) -> tuple[Endpoint, ...]:
        """Where to look for `reference`, the best first. OciError for a registry that is blocked."""
        rule = self.rules.get(reference.registry, Rule())
        if rule.blocked:
            raise OciError(f"{reference.registry}: is blocked by the configuration of registries")
        found = []
        if mirrors:
            for mirror in rule.mirrors:
                url = urls.parse(mirror)
                prefix = url.path.strip("/")
                repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
                found.append(Endpoint(f"{url.scheme}://{url.authority}", repository))
        home = self.home(reference)
        found.append(home)
        if self.plain_http and not rule.plain_http:
            found.append(home._replace(base=home.base.replace("https://", "http://", 1)))
        return tuple(found)

    def home(self, reference: Reference) -> Endpoint:
        """The registry itself, as it is reached at first."""
        scheme = "http" if self.rules.get(reference.registry, Rule()).plain_http else "https"
        return Endpoint(f"{scheme}://{reference.host}", reference.repository)


def rules_of(content: Mapping[str, object]) -> dict[str, Rule]:
    """The rules of one file's JSON object. ValueError lists what is wrong with it."""
    fields = Fields(dict(content))
    names = fields.required("registries", listed(_registry))
    rule = Rule(
        fields.optional("mirrors", listed(_mirror), ()),
        fields.optional("plainHttp", boolean, default=False),
        fields.optional("blocked", boolean, default=False),
    )
    if fields.sound and not names:
        fields.problem("registries", "no registries specified")
    fields.finish()
    return dict.fromkeys(names, rule)


def _registry(value: object) -> str:
    """As it stands in a name: a host with an optional port."""
    text = nonempty(value)
    found = Reference.parse(f"{text}/a/b")
    if found.repository != "a/b":
        raise ValueError(f"{quoted(text)} is no registry: a host with an optional port")
    return found.registry


def _mirror(value: object) -> str:
    text = nonempty(value)
    try:
        url = urls.parse(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)} {error}") from None
    if url.userinfo or "?" in url.target:
        raise ValueError(f"{quoted(text)} is more than an address: credentials have files of their own")
    return text
