"""rkt image publish: real web servers serve what it writes, rkt trusts, finds and verifies there."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures.publisher import MACHINE, small_aci

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Rkt, SigningKey
    from fixtures.httpsserver import Authority

BASE = "https://localhost"
PLACE = f"localhost/app/app-1.0-linux-{MACHINE}.aci"
pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    # Below /tmp of the tests' own, which a web server without rights reads.
    directory = tmp_path / "www"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def image(tmp_path: Path, signing_key: SigningKey) -> Path:
    path = small_aci(tmp_path / "app.aci", labels={"version": "1.0"})
    signing_key.sign(path)
    return path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def python_server(site: Path, trusted: Authority) -> Iterator[None]:
    """The standard library's web server, as `python3 -m http.server` is, on port 443 with TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 443), partial(_Quiet, directory=str(site)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted.certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nginx(site: Path, trusted: Authority, tmp_path: Path) -> Iterator[None]:
    """Debian's nginx with nothing but a root."""
    program = shutil.which("nginx", path="/usr/sbin:/var/tmp/rkt-platform-nginx/usr/sbin")
    if program is None:
        pytest.skip("needs nginx (Debian: nginx)")
    work = tmp_path / "nginx"
    work.mkdir()
    paths = "".join(
        f"  {kind}_temp_path {work}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = work / "nginx.conf"
    config.write_text(
        f"daemon off; user root; pid {work}/pid; error_log {work}/error.log; worker_processes 1;\n"
        f"events {{}}\nhttp {{\n  access_log off;\n{paths}"
        "  server {\n    listen 127.0.0.1:443 ssl;\n"
        f"    ssl_certificate {trusted.certificate}; ssl_certificate_key {trusted.certificate};\n"
        f"    root {site};\n  }}\n}}\n"
    )
    with subprocess.Popen([program, "-e", f"{work}/error.log", "-c", config]) as process:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", 443)).close()
                break
            except ConnectionRefusedError:
                os.sched_yield()
        assert process.poll() is None, (work / "error.log").read_text()
        yield
        process.terminate()


@pytest.mark.parametrize("server", ["python_server", "nginx"])
def test_what_is_published_is_trusted_discovered_verified_by_name(
    request: pytest.FixtureRequest, server: str, rkt: Rkt, site: Path, image: Path, signing_key: SigningKey
) -> None:
    request.getfixturevalue(server)
    done = rkt("image", "publish", f"--base-url={BASE}", f"--pubkeys={signing_key.public}", site, image)
    assert done.stdout == f"{BASE}/{PLACE}\n"

    rkt("trust", "--prefix=localhost/app", "--skip-fingerprint-review")
    first = rkt("fetch", "--no-store", "localhost/app").stdout
    assert first.startswith("sha512-")
    assert rkt("fetch", "--no-store", "localhost/app:1.0").stdout == first
    assert "404" in rkt("fetch", "--no-store", "localhost/app:2.0", code=254).stderr

    # A higher version is the latest from now on, under the names that were there.
    newer = small_aci(image.with_name("newer.aci"), labels={"version": "1.1"}, content=bytes(range(256)))
    # Of another size: what a web server calls a file's version may be its size and the second it was made in.
    assert newer.stat().st_size != image.stat().st_size
    signing_key.sign(newer)
    rkt("image", "publish", site, newer)
    assert rkt("fetch", "--no-store", "localhost/app").stdout != first


def test_an_image_of_the_store_is_signed_and_published(
    rkt: Rkt, site: Path, image: Path, signing_key: SigningKey, python_server: None
) -> None:
    image_id = rkt("fetch", "--insecure-options=image", image).stdout
    home = {"GNUPGHOME": str(signing_key.home)}
    words = ("image", "publish", f"--base-url={BASE}", f"--key={signing_key.fingerprint}", site)
    try:
        rkt(*words, "localhost/app", environment=home)
        before = (site / f"{PLACE}.asc").read_bytes()
        rkt(*words, "localhost/app:1.0", environment=home)
    finally:
        signing_key.gpg("--list-keys")  # ends the agent
    assert (site / f"{PLACE}.asc").read_bytes() == before
    assert (site / PLACE).read_bytes()[:2] == b"\x1f\x8b"
    rkt("trust", "--prefix=localhost/app", "--skip-fingerprint-review")
    assert rkt("fetch", "--no-store", "localhost/app").stdout == image_id


def test_without_a_signature_without_an_address_or_with_a_wrong_one_nothing_is_published(
    rkt: Rkt, site: Path, image: Path, signing_key: SigningKey
) -> None:
    assert "--base-url" in rkt("image", "publish", site, image, code=254).stderr
    assert "--base-url has" in rkt("image", "publish", "--base-url=ftp://x", site, code=254).stderr
    words = ("image", "publish", f"--base-url={BASE}", site)
    assert "--pubkeys" in rkt(*words, image, code=254).stderr
    signature = image.with_name("app.aci.asc")
    other = small_aci(image.with_name("other.aci"), labels={"version": "1.0"}, content=b"other\n")
    signature.rename(other.with_name("other.aci.asc"))
    told = rkt(*words, f"--pubkeys={signing_key.public}", other, code=254).stderr
    assert "signature" in told
    assert "--unsigned" in rkt(*words, image, code=254).stderr
    assert not (site / PLACE).exists()
    rkt(*words, "--unsigned", image)
    assert (site / PLACE).exists()


def test_another_image_takes_the_place_only_when_it_may(rkt: Rkt, site: Path, image: Path) -> None:
    image.with_name("app.aci.asc").unlink()
    other = small_aci(image.with_name("other.aci"), labels={"version": "1.0"}, content=b"other\n")
    words = ("image", "publish", f"--base-url={BASE}", "--unsigned", site)
    rkt(*words, image)
    assert "published already" in rkt(*words, "--no-replace", other, code=254).stderr
    assert (site / PLACE).read_bytes() == image.read_bytes()
    rkt(*words, other)
    assert (site / PLACE).read_bytes() == other.read_bytes()


def test_pages_follow_a_new_address_and_what_was_removed(rkt: Rkt, site: Path, image: Path) -> None:
    image.with_name("app.aci.asc").unlink()
    rkt("image", "publish", f"--base-url={BASE}", "--unsigned", site, image)
    rkt("image", "publish", "--base-url=https://localhost:8443/", site)
    page = (site / "app/index.html").read_text()
    assert 'content="localhost/app https://localhost:8443/{name}/app-{version}-{os}-{arch}.{ext}"' in page
    done = rkt("image", "publish", "--base-url=https://localhost/images", "--unsigned", site, image)
    assert "cannot be discovered here" in done.stderr


def test_images_that_have_no_place_are_refused(rkt: Rkt, site: Path, tmp_path: Path) -> None:
    words = ("image", "publish", f"--base-url={BASE}", "--unsigned", site)
    for number, labels in enumerate(({}, {"version": "a/b"}, {"version": "../x"})):
        path = small_aci(tmp_path / f"{number}.aci", labels=labels)
        assert "version" in rkt(*words, path, code=254).stderr
    broken = tmp_path / "broken.aci"
    broken.write_bytes(b"x" * 2000)
    assert str(rkt(*words, broken, code=254).stderr).count("\n") <= 2
    assert "not in the store" in rkt(*words, "docker://busybox", code=254).stderr
    assert sorted(path.name for path in site.iterdir()) == [".site.json"]


def test_many_at_once_publish_into_one_tree(rkt: Rkt, site: Path, tmp_path: Path) -> None:
    images = [small_aci(tmp_path / f"{n}.aci", labels={"version": f"1.{n}"}) for n in range(6)]
    running = [
        subprocess.Popen(
            rkt.argv("image", "publish", f"--base-url={BASE}", "--unsigned", site, image),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for image in images
    ]
    for process in running:
        assert (process.communicate(timeout=100)[1], process.returncode) == (b"", 0)
    published = {path.name for path in (site / "localhost/app").glob("*.aci")}
    assert published == {f"app-{v}-linux-{MACHINE}.aci" for v in (*(f"1.{n}" for n in range(6)), "latest")}
    latest = site / f"localhost/app/app-latest-linux-{MACHINE}.aci"
    assert latest.read_bytes() == images[5].read_bytes()
    assert (site / "app/index.html").read_text().count("<li>") == 6
