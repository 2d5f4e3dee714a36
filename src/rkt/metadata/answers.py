"""What the service answers to a pod and to whoever registers pods: the specification, without any socket."""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import parse_qs, unquote

from appc import jsonfield
from appc.types.uuid import UUID
from rkt.metadata.registry import Registration, Registry
from rkt.metadata.wire import JSON, TEXT, Reply, form, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from appc.types.annotations import Annotations
    from rkt.metadata.wire import Request

_BASE = "acMetadata/v1/"
_NOT_FOUND = refusal(404, "not found")


def public(registry: Registry, request: Request, peer: str, *, local: bool) -> Reply:
    """Answer a request of a pod: GET and POST below `/TOKEN/acMetadata/v1/`."""
    token, _, rest = request.path[1:].partition("/")
    found = registry.find(token, peer, local=local)
    if found is None:
        return refusal(401, "pod not found")
    if not rest.startswith(_BASE):
        return _NOT_FOUND
    what = rest[len(_BASE) :]
    if what.startswith("pod/hmac/"):
        if request.method != "POST":
            return refusal(405, "use POST")
        return _hmac(registry.key, found, what.removeprefix("pod/hmac/"), form(request.body))
    if request.method != "GET":
        return refusal(405, "use GET")
    if what.startswith("pod/"):
        return _pod(found, what.removeprefix("pod/"))
    app, slash, about = what.removeprefix("apps/").partition("/")
    if what.startswith("apps/") and slash and app in found.images:
        return _app(found, app, about)
    return _NOT_FOUND


def _pod(pod: Registration, what: str) -> Reply:
    if what == "manifest":
        return Reply(200, JSON, pod.pod_manifest)
    if what == "uuid":
        return Reply(200, TEXT, pod.uuid.encode())
    if what == "annotations":
        # As it stands in the manifest: absent is null there and here, which is not the same as an empty list.
        members = jsonfield.Fields(jsonfield.parse(pod.pod_manifest))
        listed = members.optional("annotations", lambda value: value, None)
        return Reply(200, JSON, jsonfield.encode(listed))
    if what.startswith("annotations/"):
        return _annotation(dict(_pairs(pod.manifest().annotations)), what.removeprefix("annotations/"))
    return _NOT_FOUND


def _app(pod: Registration, app: str, what: str) -> Reply:
    if what == "image/manifest":
        return Reply(200, JSON, pod.images[app])
    if what == "image/id":
        for known in pod.manifest().apps:
            if known.name == app:
                return Reply(200, TEXT, known.image.id.encode())
        return _NOT_FOUND
    if what == "annotations":
        merged = [{"name": name, "value": value} for name, value in app_annotations(pod, app).items()]
        return Reply(200, JSON, jsonfield.encode(merged))
    if what.startswith("annotations/"):
        return _annotation(app_annotations(pod, app), what.removeprefix("annotations/"))
    return _NOT_FOUND


def app_annotations(pod: Registration, app: str) -> dict[str, str]:
    """The image's annotations in their order, values overridden by the pod's, the pod's new ones behind."""
    found = pod.image(app).annotations
    for known in pod.manifest().apps:
        if known.name == app:
            found = found.overridden(known.annotations)
    return dict(_pairs(found))


def _pairs(annotations: Annotations) -> list[tuple[str, str]]:
    return [(str(annotation.name), annotation.value) for annotation in annotations]


def _annotation(annotations: dict[str, str], name: str) -> Reply:
    value = annotations.get(unquote(name))
    if value is None:
        return _NOT_FOUND
    return Reply(200, TEXT if value.isascii() else "text/plain; charset=utf-8", value.encode())


def _hmac(key: bytes, pod: Registration, what: str, fields: dict[str, bytes]) -> Reply:
    content = fields.get("content", b"")
    if what not in {"sign", "verify"}:
        return _NOT_FOUND
    if not content:
        return refusal(400, "content form value not found")
    if what == "sign":
        return Reply(200, TEXT, base64.b64encode(_signed(key, pod.uuid, content)))
    try:
        uuid = UUID(fields.get("uuid", b"").decode())
        signature = base64.b64decode(fields.get("signature", b""), validate=True)
    except (ValueError, binascii.Error):
        return refusal(400, "uuid or signature field missing or malformed")
    good = hmac.compare_digest(signature, _signed(key, uuid, content))
    return Reply(200, TEXT) if good else Reply(403, TEXT)


def _signed(key: bytes, uuid: UUID, content: bytes) -> bytes:
    """HMAC-SHA512 over the 16 bytes of the UUID and the content, as in rkt."""
    return hmac.digest(key, bytes.fromhex(uuid.replace("-", "")) + content, "sha512")


def registration(registry: Registry, request: Request, port: int) -> Reply:
    """Answer a request on the registration socket: rkt's PUT and DELETE below `/pods/`.

    A registration may also state `netinfo` (the path of the pod's net-info.json) or `local`, and is answered
    with the port at which pods are heard.
    """
    parts = request.path.split("/")
    if len(parts) not in {3, 4} or parts[1] != "pods":
        return _NOT_FOUND
    try:
        uuid = UUID.from_json(parts[2])
        if request.method == "DELETE" and len(parts) == 3:
            registry.remove(uuid)
        elif request.method == "PUT" and len(parts) == 3:
            registry.add(_registration(uuid, request))
        elif request.method == "PUT":
            registry.add_image(uuid, parts[3], request.body)
        else:
            return refusal(405, "use PUT or DELETE")
    except KeyError:
        return refusal(404, "pod with given UUID not found")
    except ValueError as error:
        return refusal(400, str(error)[:1000])
    except OSError as error:
        return refusal(500, f"cannot keep the registration: {error.strerror}")
    return Reply(200, JSON, jsonfield.encode({"port": port}))


def _registration(uuid: UUID, request: Request) -> Registration:
    query = parse_qs(request.query, max_num_fields=8)
    tokens = query.get("token", [])
    if len(tokens) != 1:
        raise ValueError("token missing")
    net_info = query.get("netinfo", [""])[0]
    if net_info and not net_info.startswith("/"):
        raise ValueError("netinfo is not an absolute path")
    local = query.get("local", [""])[0] == "1"
    return Registration(uuid, tokens[0], request.body, {}, net_info, local)
