"""The plugin `http`: asks a service for each call and keeps nothing itself.

The service knows an attachment by network, node, container and interface, so DEL and GC need no result of an
ADD. An ADD that is repeated carries the same key and gets the same answer.
"""

from __future__ import annotations

from cni.errors import DECODING_FAILURE, CniError
from cni.ipam import allocated, configured, deadline
from cni.ipam.http.settings import Settings
from cni.state import boot_id
from cni.types import version as versions
from cni.types.address import format_ip
from cni.types.result import Result

TYPE_CHECKING = False  # not from typing: a plugin lives too short to import it
if TYPE_CHECKING:
    from cni.ipam.http.client import Service
    from cni.request import Request


def add(request: Request) -> Result:
    """What the service gives, if it may; what it gave and may not is given back."""
    settings = Settings(request.ipam)
    requested = configured.requested_addresses(request, _known(request))
    body = {
        **_identity(request, settings),
        "netns": request.netns or "",
        "requested": [format_ip(each) for each in requested],
        "args": _pairs(request),
        "cni": request.fields.mapping("args").mapping("cni").values,
        "parameters": settings.parameters,
    }

    def talk() -> object:
        from cni.ipam.http.answers import judged, refuse_others
        from cni.ipam.http.client import Service

        service = Service(settings)
        answer = service.ask(
            "POST", f"/networks/{_quoted(request.name)}/leases", body, key=_key(request, settings)
        )
        try:
            result = judged(answer.body, settings.subnets, request.version)
            refuse_others(result, requested)
        except ValueError as bad:
            failure = CniError(DECODING_FAILURE, f"the {settings} gave what is refused", str(bad))
            _give_back(service, request, settings, failure)
            raise failure from None
        return result.to_json(versions.LATEST)

    return Result.from_json(deadline.within(settings.timeout, talk, f"the {settings}"))


def delete(request: Request) -> None:
    settings = Settings(request.ipam)

    def talk() -> object:
        from cni.ipam.http.client import Service

        Service(settings).ask("DELETE", _path(request, settings))  # no such lease is as good
        return None

    deadline.within(settings.timeout, talk, f"the {settings}")


def check(request: Request) -> None:
    """Code 100 when the service has no lease of the attachment, or one that prevResult does not show."""
    settings = Settings(request.ipam)

    def talk() -> object:
        from cni.ipam.http.answers import judged
        from cni.ipam.http.client import NO_LEASE, Service

        answer = Service(settings).ask("GET", _path(request, settings))
        if answer.word == NO_LEASE:
            return []
        return [each.address.address for each in judged(answer.body, settings.subnets, versions.LATEST).ips]

    found = deadline.within(settings.timeout, talk, f"the {settings}")
    allocated.check(request, found if isinstance(found, list) else [])


def collect(request: Request) -> None:
    """Tell the service which attachments of this node live; it frees the others of this node."""
    settings = Settings(request.ipam)
    body = {
        "node": settings.node,
        "bootID": boot_id(),
        "valid": [
            {"containerID": container_id, "ifname": ifname}
            for container_id, ifname in sorted(request.valid_attachments)
        ],
    }

    def talk() -> object:
        from cni.ipam.http.client import Service

        Service(settings).ask("POST", f"/networks/{_quoted(request.name)}/gc", body)
        return None

    deadline.within(settings.timeout, talk, f"the {settings}")


def status(request: Request) -> None:
    """Code 50 when the service is away, or says that it has no address left."""
    settings = Settings(request.ipam)

    def talk() -> object:
        from cni.ipam.http.client import Service

        path = f"/networks/{_quoted(request.name)}/status?node={_quoted(settings.node)}"
        Service(settings).ask("GET", path)
        return None

    try:
        deadline.within(settings.timeout, talk, f"the {settings}")
    except CniError as failed:
        from cni.ipam.http.client import not_available

        raise not_available(failed) from None


def _give_back(service: Service, request: Request, settings: Settings, failure: CniError) -> None:
    try:
        service.ask("DELETE", _path(request, settings))
    except CniError as second:
        failure.details += f"; and giving it back failed: {second}"


def _identity(request: Request, settings: Settings) -> dict[str, object]:
    return {
        "node": settings.node,
        "bootID": boot_id(),
        "containerID": request.container_id,
        "ifname": request.ifname,
    }


def _key(request: Request, settings: Settings) -> str:
    """The same for every attempt of every ADD of an attachment in one boot, and for nothing else."""
    from hashlib import sha256

    parts = (request.name, settings.node, boot_id(), request.container_id, request.ifname)
    return sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _path(request: Request, settings: Settings) -> str:
    whole = (request.name, "leases", settings.node, request.container_id, request.ifname)
    return "/networks/" + "/".join(_quoted(each) for each in whole)


def _quoted(part: str) -> str:
    from urllib.parse import quote

    quoted = quote(part, safe="", errors="surrogateescape")
    return {".": "%2E", "..": "%2E%2E"}.get(quoted, quoted)


def _known(request: Request) -> tuple[str, ...]:
    """Every key of CNI_ARGS is known: the service is told all of them."""
    return ("IP", *(pair.partition("=")[0] for pair in request.args.split(";")))


def _pairs(request: Request) -> dict[str, str]:
    return request.cni_args(_known(request))
