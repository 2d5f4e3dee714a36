"""What acserver answers: pages, files, and the steps of a push. One request in, one answer out.

GET  /                     the page with the discovery tags
GET  /find?name=…          where an image is, as a redirect
GET  /NAME/FILE.aci        published files, and the pages of names
POST /…/startupload        addresses for one push
PUT  /manifest/TOKEN, /signature/TOKEN, /aci/TOKEN, then POST /complete/TOKEN
HEAD /aci/TOKEN            how much of the image has come (Upload-Offset), to go on there
"""

from __future__ import annotations

import errno
import os
import re
import stat
from urllib.parse import unquote

from appc import jsonfield
from appc.aci.limits import DEFAULT
from appc.errors import AppcError
from appc.openpgp import SIGNATURE_LIMIT
from appc.server import pushed, uploads
from appc.server.wire import BadRequest
from appc.site import pages
from appc.site.pages import Tag
from linux.named_tuple import NamedTuple
from linux.paths import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from appc.server.config import Config
    from appc.server.uploads import Uploads
    from appc.server.wire import Request
    from appc.site.tree import Site

PUSH_VERSION = "0.0.1"
_MESSAGE_LIMIT = 64 * 1024
_HTML, _JSON, _TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"
_TYPES = {".html": _HTML, ".asc": "application/pgp-signature", ".gpg": "application/pgp-keys"}
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class Answer(NamedTuple):
    """Status, headers, and a body: `content`, or the bytes `part` of the open `file`."""

    status: int
    headers: dict[str, str]
    content: bytes = b""
    file: BinaryIO | None = None
    part: range | None = None


def said(status: int, text: str = "", headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, {"Content-Type": _TEXT, **(headers or {})}, f"{text}\n".encode() if text else b"")


def _json(value: object, status: int = 200) -> Answer:
    return Answer(
        status, {"Content-Type": _JSON, "Cache-Control": "no-store"}, jsonfield.encode(value) + b"\n"
    )


class Answers:
    """The answers of one server. `log` gets a line about what became of a push."""

    def __init__(self, config: Config, site: Site, open_uploads: Uploads, log: Callable[[str], None]) -> None:
        self._config = config
        self._site = site
        self._uploads = open_uploads
        self._log = log

    def answer(self, request: Request) -> Answer:
        """The answer; BadRequest for a request that cannot be answered otherwise."""
        try:
            return self._answer(request)
        except uploads.Busy as error:
            return said(503, str(error), {"Retry-After": "5"})
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return said(507, "the disk is full")
            raise

    def _answer(self, request: Request) -> Answer:
        first, _, rest = request.path[1:].partition("/")
        if request.path.endswith("/startupload"):
            return self._pushing(request, "POST", self._start)
        if first in {"manifest", "signature", "aci"} and request.method == "PUT":
            return self._pushing(request, "PUT", lambda asked: self._put(asked, first, rest))
        if first == "aci" and request.method == "HEAD" and re.fullmatch("[0-9a-f]{64}", rest):
            return self._pushing(request, "HEAD", lambda _asked: self._offset(rest))
        if first == "complete" and request.method == "POST":
            return self._pushing(request, "POST", lambda asked: self._complete(asked, rest))
        if request.method not in {"GET", "HEAD"}:
            return said(404)
        if request.path == "/":
            return self._front(request)
        if request.path == "/find":
            return self._find(request)
        return self._file(request)

    # Looking

    def _origin(self, request: Request) -> str:
        """Where we are, as clients see it: as configured, else as the (checked) Host header says."""
        host = self._config.server_name or request.host
        if not host:
            raise BadRequest(400, "there is no host")
        return f"{self._config.scheme}://{host}"

    def _front(self, request: Request) -> Answer:
        origin = self._origin(request)
        host = origin.partition("://")[2]
        prefix = host if host.startswith("[") else host.partition(":")[0]
        variables = "name={name}&version={version}&os={os}&arch={arch}&ext={ext}"
        tags = [
            Tag("ac-discovery", prefix, f"{origin}/find?{variables}"),
            Tag("ac-discovery-pubkeys", prefix, f"{origin}/{pages.KEYS}"),
            Tag(
                "ac-push-discovery",
                prefix,
                f"{origin}/{{name}}-{{version}}-{{os}}-{{arch}}.{{ext}}/startupload",
            ),
        ]
        return Answer(200, {"Content-Type": _HTML}, pages.root_page(tags, self._site.names(), host))

    def _find(self, request: Request) -> Answer:
        """302 to the file; 404 when there is none, so that the client need not go and see."""
        asked = query(request.query)
        ext = asked.get("ext", "")
        found = self._site.find(
            asked.get("name", ""), asked.get("version", ""), asked.get("os", ""), asked.get("arch", "")
        )
        if found is None or ext not in {"aci", "aci.asc"}:
            return said(404, "no such image")
        if ext == "aci.asc" and not self._site.is_signed(found):
            return said(404, "the image is not signed")
        location = f"{self._origin(request)}/{found.path.removesuffix('aci')}{ext}"
        return said(302, headers={"Location": location, "Cache-Control": "no-cache"})

    def _file(self, request: Request) -> Answer:
        path = unquote(request.path)
        parts = path.strip("/").split("/")
        if "\0" in path or any(part.startswith(".") or not part for part in parts):
            return said(404, "no such file")
        opened = self._open("/".join(parts)) or self._open("/".join((*parts, "index.html")))
        if opened is None:
            return said(404, "no such file")
        return _served(opened, request, os.path.splitext(parts[-1])[1])

    def _open(self, path: str) -> BinaryIO | None:
        """The regular file, wherever links inside the root lead."""
        try:
            with Root.open(self._site.root) as root:
                fd = root.open_file(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return open(fd, "rb")

    # Pushing

    def _pushing(self, request: Request, method: str, step: Callable[[Request], Answer]) -> Answer:
        """A step of a push, for whom it is allowed."""
        if request.method != method:
            return said(404)
        if self._config.username:
            given = request.headers.get("authorization")
            if given is None:
                challenge = {"WWW-Authenticate": 'Basic realm="acserver", charset="UTF-8"'}
                return said(401, "No authorization provided", challenge)
            if not _is_right(given, self._config.username, self._config.password):
                return said(403, "Incorrect username/password basic auth provided")
        return step(request)

    def _start(self, request: Request) -> Answer:
        request.body.read(_MESSAGE_LIMIT)
        origin = self._origin(request)
        token = self._uploads.start()
        return _json({
            "aci_push_version": PUSH_VERSION,
            "multipart": False,
            "upload_manifest_url": f"{origin}/manifest/{token}",
            "upload_signature_url": f"{origin}/signature/{token}",
            "upload_aci_url": f"{origin}/aci/{token}",
            "completed_url": f"{origin}/complete/{token}",
            "resumable": True,
        })

    def _put(self, request: Request, part: str, token: str) -> Answer:
        with self._uploads.open(token) or _no_upload() as upload:
            if part == "aci":
                return self._put_image(request, upload)
            limit = DEFAULT.manifest if part == "manifest" else SIGNATURE_LIMIT
            upload.put(part, request.body.read(limit))
            return said(200)

    def _put_image(self, request: Request, upload: uploads.Upload) -> Answer:
        offset, total = 0, request.body.length
        if (given := request.headers.get("content-range")) is not None:
            found = _CONTENT_RANGE.fullmatch(given)
            if found is None:
                return said(400, "malformed content-range")
            offset, last, total = (int(number) for number in found.groups())
            if not offset <= last < total or request.body.length not in {None, last + 1 - offset}:
                return said(400, "content-range and content-length do not fit")
        limit = self._config.max_size
        if total is not None and total > limit:
            return said(413, f"an image may have {limit} bytes")
        try:
            upload.receive(request.body.chunks(limit - offset), offset, total, request.body.length)
        except uploads.OutOfStep as error:
            return said(409, str(error), {"Upload-Offset": str(error.offset)})
        except uploads.Full as error:
            return said(507, str(error))
        return said(200, headers={"Upload-Offset": str(upload.offset())})

    def _offset(self, token: str) -> Answer:
        with self._uploads.open(token) or _no_upload() as upload:
            return said(200, headers={"Upload-Offset": str(upload.offset()), "Cache-Control": "no-store"})

    def _complete(self, request: Request, token: str) -> Answer:
        with self._uploads.open(token) or _no_upload() as upload:
            try:
                message = jsonfield.obj(jsonfield.parse(request.body.read(_MESSAGE_LIMIT)))
                success = jsonfield.optional(message, "success", jsonfield.boolean, default=False)
                reason = jsonfield.optional(message, "reason", jsonfield.string, default="")
            except ValueError:
                return said(400, "malformed message")
            if not success:
                return self._failed(upload, reason, "client reported failure")
            try:
                new, changed = pushed.publish(self._config, self._site, upload)
            except (AppcError, ValueError) as error:
                return self._failed(upload, reason, str(error) or type(error).__name__)
            self._log(f"{new.path}: " + ("published" if changed else "was published already"))
            upload.remove()
            return _json({"success": True})

    def _failed(self, upload: uploads.Upload, reason: str, why: str) -> Answer:
        self._log(f"push refused: {why}")
        upload.remove()
        told = {"success": False, "reason": reason, "server_reason": why[:4096]}
        return _json({name: value for name, value in told.items() if value != ""})


def _no_upload() -> uploads.Upload:
    raise BadRequest(404, "no such upload")


def query(text: str) -> dict[str, str]:
    """The values of a query; the first of a name counts. `+` is itself: templates are filled in literally."""
    found: dict[str, str] = {}
    for pair in text.split("&")[:64]:
        name, _, value = pair.partition("=")
        found.setdefault(unquote(name), unquote(value))
    return found


def _is_right(header: str, username: str, password: str) -> bool:
    import base64
    import hmac

    scheme, _, encoded = header.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(given, f"{username}:{password}".encode()) and scheme.lower() == "basic"


def _served(file: BinaryIO, request: Request, ending: str) -> Answer:
    """A file under the conditions of the request (RFC 9110, sections 13 and 14): one range at most."""
    from email.utils import formatdate

    status = os.fstat(file.fileno())
    etag = f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'
    headers = {
        "Content-Type": _TYPES.get(ending, _HTML if not ending else "application/octet-stream"),
        "ETag": etag,
        "Last-Modified": formatdate(status.st_mtime, usegmt=True),
        "Accept-Ranges": "bytes",
    }
    wanted = request.headers.get("if-none-match", "")
    if wanted and (wanted.strip() == "*" or etag in [each.strip() for each in wanted.split(",")]):
        return Answer(304, headers, file=file)
    part = range(status.st_size)
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    condition = request.headers.get("if-range")
    if found is not None and condition in {None, etag, headers["Last-Modified"]}:
        start = int(found[1])
        stop = min(int(found[2]) + 1 if found[2] else status.st_size, status.st_size)
        if start >= status.st_size or stop <= start:
            return Answer(416, {"Content-Range": f"bytes */{status.st_size}"}, file=file)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{status.st_size}"
        return Answer(206, headers, file=file, part=range(start, stop))
    return Answer(200, headers, file=file, part=part)
