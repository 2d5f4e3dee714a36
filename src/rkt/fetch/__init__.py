"""Getting images into the store, under the policy that the user chose; `rkt run` comes by here.

What needs a network, a key or a web client is imported when the store does not have the image.
"""

from __future__ import annotations

from rkt.errors import RktError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from appc.schema.image import Dependency
    from appc.types.image_id import ImageID
    from console.output import Output
    from rkt.fetch.argument import Source
    from rkt.fetch.layered import Layered
    from rkt.fetch.remote import Remote
    from rkt.settings import GlobalOptions
    from rkt.store import Store

NEW, UPDATE, NEVER = "new", "update", "never"
POLICIES = (NEW, UPDATE, NEVER)

# An image may depend on that many others in all; a server could make up new ones for ever.
MOST_DEPENDENCIES = 256


def fetch(
    settings: GlobalOptions,
    store: Store,
    argument: str,
    *,
    pull_policy: str = NEW,
    signature: str | None = None,
    out: Output,
) -> ImageID:
    """The ID of the image that `argument` means, which is in the store afterwards, with all it depends on.

    `pull_policy`: `new` asks the store first, `update` asks the server whether there is a newer one, `never`
    asks the store alone. `signature` is a local file to be used as the signature of this image. Raises
    RktError, AppcError or OSError; nothing unverified is ever in the store.
    """
    from rkt.fetch import argument as arguments

    fetcher = _Fetcher(settings, store, pull_policy, out)
    try:
        image_id = fetcher.one(arguments.parse(argument), signature)
        fetcher.dependencies(image_id)
    finally:
        fetcher.close()
    return image_id


class _Fetcher:
    """One command's work. The part that reaches out is made when it is first needed."""

    def __init__(self, settings: GlobalOptions, store: Store, policy: str, out: Output) -> None:
        from rkt.fetch.messages import Messages

        if policy not in POLICIES:
            raise RktError(f"unknown pull policy {policy!r}", hint=f"choose from {', '.join(POLICIES)}")
        self._settings = settings
        self._store = store
        self._policy = policy
        self._messages = Messages(out)
        self._remote: Remote | None = None

    def close(self) -> None:
        if self._remote is not None:
            self._remote.close()

    def one(self, source: Source, signature: str | None = None, wanted: Dependency | None = None) -> ImageID:
        """One image without its dependencies."""
        from rkt.fetch.argument import DOCKER, DOCKER_ARCHIVE, FILE, HASH, OCI, URL

        match source.kind:
            case kind if kind == HASH:
                return self._store.resolve(source.value)
            case kind if kind == DOCKER:
                return self._by_reference(source, signature)
            case kind if kind in {OCI, DOCKER_ARCHIVE}:
                self._messages.detail(f"using image from {source.text}")
                return self._layered().file(source, signature)
            case kind if kind == FILE:
                self._messages.say(f"using image from file {source.value}")
                return self.remote().file(source.value, signature)
            case kind if kind == URL:
                return self._by_url(source, signature)
            case _:
                return self._by_name(source, signature, wanted)

    def _by_url(self, source: Source, signature: str | None) -> ImageID:
        if self._policy != UPDATE:
            known = self._store.remote(source.value)
            if known is not None:
                self._messages.detail(f"using image from local store for url {source.value}")
                return self._store.resolve(known.image_id)
        if self._policy == NEVER:
            raise self._unable("URL", source)
        self._messages.detail(f'remote fetching from URL "{_without_secrets(source.value)}"')
        return self.remote().url(source.value, signature)

    def _by_reference(self, source: Source, signature: str | None) -> ImageID:
        """An image of a registry. What a digest names is never out of date."""
        from rkt.fetch import reference as references

        wanted = references.parse(source)
        if self._policy != UPDATE or wanted.digest is not None:
            found = references.in_store(self._store, wanted)
            if found is not None:
                self._messages.detail(f"using image from local store for url docker://{wanted}")
                return found
        if self._policy == NEVER:
            raise self._unable("docker URL", source)
        self._messages.detail(f'remote fetching from URL "docker://{wanted}"')
        return self._layered().registry(wanted, signature)

    def _layered(self) -> Layered:
        from rkt.fetch.layered import Layered

        return Layered(self._settings, self._store, self._messages)

    def _by_name(self, source: Source, signature: str | None, wanted: Dependency | None) -> ImageID:
        # A dependency may be for any platform; a name that a user gives is for this one.
        labels = with_platform(source) if wanted is None else dict(source.labels or {})
        if self._policy != UPDATE:
            found = self._in_store(source.value, labels, wanted)
            if found is not None:
                self._messages.detail(f"using image from local store for image name {source.text}")
                return found
        if self._policy == NEVER:
            raise self._unable("image name", source)
        return self.remote().name(source.value, labels, signature, wanted)

    def _in_store(self, name: str, labels: Mapping[str, str], wanted: Dependency | None) -> ImageID | None:
        if wanted is not None and wanted.image_id is not None:
            from rkt.store.blobs import NoSuchImage

            try:
                return self._store.dependency(wanted)
            except NoSuchImage:
                return None
        return self._store.find(name, labels)

    @staticmethod
    def _unable(what: str, source: Source) -> RktError:
        return RktError(
            f'unable to fetch image from {what} "{_without_secrets(source.text)}": '
            "either image was not found in the store or store was disabled and fetching from remote "
            "yielded nothing or it was disabled"
        )

    def remote(self) -> Remote:
        if self._remote is None:
            from rkt.fetch.remote import Remote

            self._remote = Remote(self._settings, self._store, self._messages)
        return self._remote

    def dependencies(self, top: ImageID) -> None:
        """Fetch what `top` depends on, level by level, each image once; a circle is an error."""
        needs: dict[ImageID, list[ImageID]] = {}
        found: dict[str, ImageID] = {}
        queue = [top]
        while queue:
            image_id = queue.pop(0)
            if image_id in needs:
                continue
            needs[image_id] = []
            for dependency in self._store.manifest(image_id).dependencies:
                key = _key(dependency)
                if key not in found:
                    if len(found) >= MOST_DEPENDENCIES:
                        raise RktError(f"image {top[:39]} depends on more than {MOST_DEPENDENCIES} others")
                    found[key] = self.one(_source(dependency), wanted=dependency)
                needs[image_id].append(found[key])
                queue.append(found[key])
        if circle := find_circle(needs, top):
            names = [f"{self._store.manifest(image_id).name} ({image_id[:19]})" for image_id in circle]
            raise RktError("dependency cycle: " + " -> ".join(names))


def with_platform(source: Source) -> dict[str, str]:
    """The labels of a name, with this host's os and arch where none are given."""
    from appc.types import platforms

    labels = dict(source.labels or {})
    host_os, host_arch = platforms.of_host()
    labels.setdefault("arch", host_arch)
    labels.setdefault("os", host_os)
    try:
        platforms.check(labels["os"], labels["arch"])
    except ValueError as error:
        raise RktError(f'invalid Appc distribution "{source.text}": {error}') from None
    return labels


def find_circle(needs: Mapping[ImageID, list[ImageID]], top: ImageID) -> list[ImageID]:
    """A circle that can be reached from `top`, as the images along it, the first one again at the end."""
    done: set[ImageID] = set()
    path = [top]
    pending = [list(needs.get(top, ()))]
    while path:
        if not pending[-1]:
            done.add(path.pop())
            pending.pop()
            continue
        image_id = pending[-1].pop()
        if image_id in path:
            return [*path[path.index(image_id) :], image_id]
        if image_id not in done:
            path.append(image_id)
            pending.append(list(needs.get(image_id, ())))
    return []


def _source(dependency: Dependency) -> Source:
    from appc import app_string
    from rkt.fetch.argument import NAME, Source

    labels = dependency.labels.as_dict()
    text = app_string.build(dependency.image_name, labels)
    return Source(NAME, text, str(dependency.image_name), labels)


def _key(dependency: Dependency) -> str:
    from appc import app_string

    text = app_string.build(dependency.image_name, dependency.labels.as_dict())
    return f"{text} {dependency.image_id or ''}"


def _without_secrets(address: str) -> str:
    """The address as it may be shown: without a user name and password."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path
