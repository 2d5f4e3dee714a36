"""The published tree: images appear whole, with their signatures, or not at all, whatever dies meanwhile.

Below the root, for the image ``example.com/app`` in version 1.0::

    app/index.html                                     the page that discovery asks for
    pubkeys.gpg                                        the keys that sign the images
    example.com/app/app-1.0-linux-amd64.aci            -> .releases/1.0-linux-amd64/image.aci
    example.com/app/app-1.0-linux-amd64.aci.asc        -> .releases/1.0-linux-amd64/image.aci.asc
    example.com/app/app-latest-linux-amd64.aci         -> .releases/latest-linux-amd64/image.aci
    example.com/app/.releases/1.0-linux-amd64          -> 1.0-linux-amd64@RANDOM
    example.com/app/.releases/latest-linux-amd64       -> 1.0-linux-amd64

A release is a directory that never changes. One rename of one link shows it, image and signature at once, in
place of another one too. Everything is on the disk before it is shown (D1, D3). Plain files that acserver of
old or a person has put there are served and listed as well.
"""

from __future__ import annotations

import filecmp
import os
import stat

from appc import openpgp
from appc.errors import AppcError
from appc.site import pages, release
from appc.site.release import LATEST, Release
from linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from appc.openpgp import PublicKey

IMAGE, SIGNATURE = "image.aci", "image.aci.asc"
_RELEASES = ".releases"
_SETTINGS = ".site.json"
_DIRECTORY_MODE = 0o755  # whatever the umask: a web server reads it
_DEPTH = 64  # parts of a name; what lies deeper in the tree was not put there by us


class AlreadyPublished(AppcError):
    """There is another image of this name, version and platform, and it is not to be replaced."""


class Site:
    """The tree at `root`, an existing directory that nobody else may write to.

    `base` is the address at which the root is served, without a slash at its end; without one no pages are
    written.
    """

    def __init__(self, root: str, base: str = "") -> None:
        self.root = root
        self.base = base

    # Publishing

    def draft(self) -> files.temporary_directory:
        """``with site.draft() as directory``: a place for IMAGE and SIGNATURE, to be given to `publish`."""
        return files.temporary_directory(self.root, "draft")

    def publish(self, new: Release, draft: files.temporary_directory, *, replace: bool = True) -> bool:
        """Show the image in `draft` as the release `new`, durably; whether that changed anything.

        The draft holds IMAGE and, for a signed image, SIGNATURE. AlreadyPublished unless `replace` when there
        is another image.
        """
        lock = files.lock_directory(self.root, exclusive=True)
        try:
            files.collect_temporary(self.root)
            return self._publish(new, draft, replace=replace)
        finally:
            os.close(lock)

    def _publish(self, new: Release, draft: files.temporary_directory, *, replace: bool) -> bool:
        directory = f"{self.root}/{new.name}"
        releases = f"{directory}/{_RELEASES}"
        self._make_directories(f"{new.name}/{_RELEASES}")
        self._sweep(new.name)
        shown = f"{directory}/{new.file}"
        changed = not _same(draft.path, shown)
        if changed:
            if not replace and os.path.exists(shown) and not _equal(f"{draft.path}/{IMAGE}", shown):
                raise AlreadyPublished(
                    f"{new.name}: version {new.version} for {new.os}/{new.arch} is published already",
                    hint="give the image another version",
                )
            whole = f"{new.key}@{os.urandom(8).hex()}"
            _make_durable(draft.path)
            os.rename(draft.path, f"{releases}/{whole}")
            draft.keep()
            files.sync_directory(releases)
            _point(releases, new.key, whole)
            self._show(new)
        self._point_latest(new)
        self._sweep(new.name)
        self._write_pages()
        return changed

    def _show(self, new: Release) -> None:
        """Give the files of the release their names, the image last: it is never there without the other."""
        directory = f"{self.root}/{new.name}"
        for name, target in ((f"{new.file}.asc", SIGNATURE), (new.file, IMAGE)):
            _point(directory, name, f"{_RELEASES}/{new.key}/{target}")

    def _point_latest(self, new: Release) -> None:
        """Let `latest` be the highest version for the platform, unless an image calls itself so."""
        latest = new._replace(version=LATEST)
        releases = f"{self.root}/{new.name}/{_RELEASES}"
        if "@" in _target(releases, latest.key):
            return
        versions = [each.version for each in self._kept(new.name) if each[2:] == new[2:]]
        if not versions:
            return
        newest = new._replace(version=release.newest(versions))
        _point(releases, latest.key, newest.key)
        self._show(latest)

    def _kept(self, name: str) -> list[Release]:
        """The releases in directories of their own; not `latest` where that is another one's second name."""
        directory = f"{self.root}/{name}"
        app = name.rpartition("/")[2]
        found = []
        for link in _listed(f"{directory}/{_RELEASES}"):
            if "@" in link or "@" not in _target(f"{directory}/{_RELEASES}", link):
                continue
            each = release.from_file(name, f"{app}-{link}.aci")
            if each is not None:
                found.append(each)
        return found

    def _sweep(self, name: str) -> None:
        """Remove what an earlier publication has left: releases that no link shows, half-made links.

        A release whose file names are gone was taken away by the operator, or is one that never got them.
        """
        directory = f"{self.root}/{name}"
        releases = f"{directory}/{_RELEASES}"
        for place in (directory, releases):
            for each in _listed(place):
                if each.startswith(".tmp-"):
                    files.remove_tree(f"{place}/{each}")
        for kept in self._kept(name):
            if not os.path.lexists(f"{directory}/{kept.file}"):
                os.unlink(f"{releases}/{kept.key}")
        shown = {_target(releases, link) for link in _listed(releases) if "@" not in link}
        for each in _listed(releases):
            if "@" in each and each not in shown:
                files.remove_tree(f"{releases}/{each}")

    # Looking

    def names(self) -> list[str]:
        """The names of all images, sorted."""
        return sorted(self._names("", _DEPTH))

    def _names(self, below: str, depth: int) -> Iterator[str]:
        directories, has_images = [], False
        try:
            with os.scandir(f"{self.root}/{below}") as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.name)
                    elif not has_images and below:
                        has_images = release.from_file(below, entry.name) is not None
        except FileNotFoundError:
            return
        if has_images:
            yield below
        for name in directories if depth else ():
            path = f"{below}/{name}" if below else name
            if not release.unfit_name(path):
                yield from self._names(path, depth - 1)

    def releases(self, name: str) -> list[Release]:
        """What is published of the image `name`, the highest version first; an alias `latest` is left out."""
        directory = f"{self.root}/{name}"
        found = [each for file in _listed(directory) if (each := release.from_file(name, file)) is not None]
        found = [
            each for each in found if not self._is_alias(each) and os.path.exists(f"{self.root}/{each.path}")
        ]
        from functools import cmp_to_key

        by_version = cmp_to_key(release.compare_versions)
        return sorted(sorted(found), key=lambda each: by_version(each.version), reverse=True)

    def _is_alias(self, each: Release) -> bool:
        if each.version != LATEST:
            return False
        target = _target(f"{self.root}/{each.name}/{_RELEASES}", each.key)
        return bool(target) and "@" not in target

    def find(self, name: str, version: str, os_name: str, arch: str) -> Release | None:
        """The release that is meant; for `latest`, or none, the one that calls itself so or the highest."""
        if release.unfit_name(name):
            return None
        wanted = version or LATEST
        found = [each for each in self.releases(name) if each[2:] == (os_name, arch)]
        exact = [each for each in found if each.version == wanted]
        if exact or wanted != LATEST:
            return exact[0] if exact else None
        return found[0] if found else None

    def is_signed(self, each: Release) -> bool:
        return os.path.exists(f"{self.root}/{each.path}.asc")

    # Keys and pages

    def keys(self) -> list[PublicKey]:
        """The keys of the site; none when there is no file of keys. AppcError for a file that is none."""
        path = f"{self.root}/{pages.KEYS}"
        try:
            with open(path, "rb") as file:
                data = file.read(openpgp.KEY_LIMIT + 1)
        except FileNotFoundError:
            return []
        try:
            return openpgp.read_keys(data, armored_only=False)
        except openpgp.MalformedError as error:
            raise AppcError(f"{path}: {error}", hint=error.hint) from None

    def add_keys(self, keys: list[PublicKey]) -> None:
        """Publish `keys` besides, or in newer editions of, those that are there."""
        lock = files.lock_directory(self.root, exclusive=True)
        try:
            known = {key.fingerprint: key for key in self.keys()}
            wanted = known | {key.fingerprint: key for key in keys}
            if wanted == known:
                return
            data = b"".join(key.data for key in wanted.values())
            armored = openpgp.armored_key(openpgp.PublicKey("", (), (), data))
            files.write_atomically(f"{self.root}/{pages.KEYS}", armored)
        finally:
            os.close(lock)

    def refresh(self) -> None:
        """Write all pages anew, where they are not what they should be."""
        lock = files.lock_directory(self.root, exclusive=True)
        try:
            files.collect_temporary(self.root)
            self._write_pages()
        finally:
            os.close(lock)

    def page_of(self, name: str) -> str | None:
        """Where the page of `name` is, relative to the root: empty for the root's own, None for nowhere.

        Discovery asks the host of the name. On the host of `base` only what is below the address is ours; of
        other hosts the root is taken to be theirs too.
        """
        host, path = self._place()
        name_host, _, rest = name.partition("/")
        if name_host != host or not path:
            return rest
        if rest == path:
            return ""
        return rest[len(path) + 1 :] if rest.startswith(f"{path}/") else None

    def _place(self) -> tuple[str, str]:
        """Host, without a port as in names, and path of `base`."""
        from appc.http import url

        parsed = url.parse(self.base)
        return parsed.host, parsed.path.strip("/")

    def _write_pages(self) -> None:
        if not self.base:
            return
        has_keys = os.path.exists(f"{self.root}/{pages.KEYS}")
        names = self.names()
        by_page: dict[str, list[str]] = {}
        for name in names:
            page = self.page_of(name)
            if page is not None:
                by_page.setdefault(page, []).append(name)
        top = by_page.pop("", [])
        for page, shown in by_page.items():
            tags = [tag for name in shown for tag in pages.tags(name, self.base, keys=has_keys)]
            releases = [each for name in shown for each in self.releases(name)]
            self._make_directories(page)
            self._write(f"{page}/index.html", pages.image_page(tags, releases, self.base, name=shown[0]))
        own = "/".join(filter(None, self._place()))
        tags = [tag for name in top for tag in pages.tags(name, self.base, keys=False)]
        for prefix in sorted({own, *(name.partition("/")[0] for name in names)}):
            tags += pages.key_tags(prefix, self.base, keys=has_keys)
        self._write("index.html", pages.root_page(tags, names, own))

    def _write(self, path: str, data: bytes) -> None:
        target = f"{self.root}/{path}"
        try:
            with open(target, "rb") as file:
                if file.read() == data:
                    return
        except FileNotFoundError:
            pass
        files.write_atomically(target, data)

    def _make_directories(self, path: str) -> None:
        current = self.root
        for part in path.split("/"):
            above, current = current, f"{current}/{part}"
            try:
                os.mkdir(current)
            except FileExistsError:
                continue
            os.chmod(current, _DIRECTORY_MODE)
            files.sync_directory(above)


def remembered_base(root: str) -> str:
    """The address that `remember_base` has noted for the tree; empty when none is."""
    from appc import jsonfield

    path = f"{root}/{_SETTINGS}"
    try:
        with open(path, "rb") as file:
            content = jsonfield.obj(jsonfield.parse(file.read(1 << 16)))
        return jsonfield.required(content, "baseURL", jsonfield.string)
    except FileNotFoundError:
        return ""
    except ValueError as error:
        raise AppcError(f"{path}: {'; '.join(jsonfield.reasons(error))}") from None


def remember_base(root: str, base: str) -> None:
    from appc import jsonfield

    if remembered_base(root) != base:
        files.write_atomically(f"{root}/{_SETTINGS}", jsonfield.encode({"baseURL": base}) + b"\n")


def checked_base(text: str) -> str:
    """An address that can stand in front of paths, without a slash at its end. ValueError for another."""
    from appc.http import url

    parsed = url.parse(text)
    if parsed.userinfo or "?" in text or "#" in text or "{" in text or "}" in text:
        raise ValueError("has to be an address without user name, query and braces")
    return str(parsed).rstrip("/")


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _target(directory: str, name: str) -> str:
    """What the link says; empty when there is none."""
    try:
        return os.readlink(f"{directory}/{name}")
    except OSError:
        return ""


def _point(directory: str, name: str, target: str) -> None:
    """Let the link `name` in `directory` say `target`, at once and durably."""
    if _target(directory, name) == target:
        return
    temporary = f"{directory}/.tmp-{os.getpid()}-{os.urandom(4).hex()}"
    os.symlink(target, temporary)
    os.rename(temporary, f"{directory}/{name}")
    files.sync_directory(directory)


def _same(draft: str, shown: str) -> bool:
    """Whether image and signature of the draft are what is shown."""
    return _equal(f"{draft}/{IMAGE}", shown) and _equal(f"{draft}/{SIGNATURE}", f"{shown}.asc")


def _equal(first: str, second: str) -> bool:
    exist = os.path.exists(first), os.path.exists(second)
    if not all(exist):
        return not any(exist)
    return filecmp.cmp(first, second, shallow=False)


def _make_durable(directory: str) -> None:
    """The files of a release on the disk, readable for a web server and for nobody to write."""
    for name in os.listdir(directory):
        if name not in {IMAGE, SIGNATURE}:
            raise ValueError(f"{name} is no part of a release")
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError(f"{name} is not a file")
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        finally:
            os.close(fd)
    os.chmod(directory, _DIRECTORY_MODE)
    files.sync_directory(directory)
