"""rkt fetch by name and address: discovery, deferral, resumption, caches, dependencies."""

from __future__ import annotations

import concurrent.futures
import json
import os
from typing import TYPE_CHECKING

import pytest

from fixtures.publisher import MACHINE

if TYPE_CHECKING:
    from conftest import Rkt, SigningKey
    from fixtures.publisher import Publisher

UNSIGNED = "--insecure-options=image"


@pytest.fixture
def trusting(rkt: Rkt, signing_key: SigningKey) -> Rkt:
    """An rkt that trusts the key for localhost."""
    keys = rkt.directory / "etc/trustedkeys/prefix.d/localhost"
    keys.mkdir(parents=True)
    (keys / signing_key.fingerprint.lower()).write_bytes(signing_key.public.read_bytes())
    return rkt


def stored(rkt: Rkt) -> list[str]:
    listed = json.loads(rkt("image", "list", "--format=json").stdout)
    return [image["name"].partition(":")[0] for image in listed]


def leftovers(rkt: Rkt) -> list[str]:
    directory = rkt.directory / "data/cas/tmp"
    return sorted(os.listdir(directory)) if directory.exists() else []


def test_a_signed_image_is_found_verified_and_stored(
    publisher: Publisher, trusting: Rkt, signing_key: SigningKey
) -> None:
    publisher.publish(publisher.aci(labels={"version": "1.0"}), version="1.0", key=signing_key)
    done = trusting("fetch", "localhost/app:1.0")
    assert done.stdout.startswith("sha512-")
    assert len(done.stdout.strip()) == len("sha512-") + 32
    assert "signature verified:\n  Test <test@example.com>" in done.stderr
    assert stored(trusting) == ["localhost/app"]
    assert leftovers(trusting) == []


def test_full_gives_64_digits(publisher: Publisher, rkt: Rkt) -> None:
    done = rkt(UNSIGNED, "fetch", "--full", publisher.aci())
    assert len(done.stdout.strip()) == len("sha512-") + 64


def test_debug_tells_each_step_in_rkts_words(
    publisher: Publisher, trusting: Rkt, signing_key: SigningKey
) -> None:
    url = publisher.publish(publisher.aci(), key=signing_key)
    told = trusting("--debug", "fetch", "localhost/app").stderr
    for line in (
        "image: searching for app image localhost/app",
        "image: meta tag 'ac-discovery' not found on localhost/app: expected a 200 OK got 404",
        f'image: remote fetching from URL "{url}"',
        'image: keys already exist for prefix "localhost/app", not fetching again',
        f"image: downloading signature from {url}.asc",
        f"image: fetching image from {url}",
    ):
        assert line in told
    told = trusting("--debug", "fetch", "--pull-policy=new", "localhost/app").stderr
    assert "image: using image from local store for image name localhost/app" in told


def test_no_endpoint_is_an_error_that_says_what_was_tried(publisher: Publisher, rkt: Rkt) -> None:
    publisher.server.page("/", "<html>")
    done = rkt(UNSIGNED, "fetch", "localhost/app", code=254)
    assert 'discovery failed for "localhost/app": no endpoints discovered' in done.stderr
    assert "localhost/app: expected a 200 OK got 404" in done.stderr


def test_never_asks_the_store_alone(publisher: Publisher, rkt: Rkt) -> None:
    url = publisher.publish(publisher.aci())
    for image, what in (("localhost/app", "image name"), (url, "URL")):
        done = rkt(UNSIGNED, "fetch", "--pull-policy=never", image, code=254)
        assert f'unable to fetch image from {what} "{image}"' in done.stderr
    assert publisher.server.requests == []
    rkt(UNSIGNED, "fetch", url)
    rkt("fetch", "--pull-policy=never", url)
    rkt("fetch", "--pull-policy=never", "localhost/app")
    rkt("fetch", "--store-only", "localhost/app")


def test_new_asks_no_server_for_what_is_stored(publisher: Publisher, rkt: Rkt) -> None:
    url = publisher.publish(publisher.aci())
    rkt(UNSIGNED, "fetch", url)
    publisher.server.requests.clear()
    assert "using image from local store for url" in rkt("--debug", "fetch", "--pull-policy=new", url).stderr
    rkt("fetch", "--pull-policy=new", "localhost/app")
    assert publisher.server.requests == []


def test_update_asks_with_the_etag_and_gets_a_newer_image(publisher: Publisher, rkt: Rkt) -> None:
    publisher.publish(publisher.aci(), etag='"old"')
    first = rkt(UNSIGNED, "fetch", "localhost/app").stdout
    assert rkt(UNSIGNED, "fetch", "localhost/app").stdout == first
    assert publisher.server.requests[-1].headers["if-none-match"] == '"old"'
    publisher.publish(publisher.aci(content=b"newer\n"), etag='"new"')
    second = rkt(UNSIGNED, "fetch", "localhost/app").stdout
    assert second != first
    assert rkt("fetch", "--pull-policy=new", "localhost/app").stdout == second


def test_a_fresh_answer_is_not_asked_for_again(publisher: Publisher, rkt: Rkt) -> None:
    url = publisher.publish(publisher.aci(), cache_control="max-age=600")
    rkt(UNSIGNED, "fetch", url)
    publisher.server.requests.clear()
    told = rkt("--debug", UNSIGNED, "fetch", url).stderr
    assert f"image: image for {url} isn't expired, not fetching." in told
    assert publisher.server.requests == []


@pytest.mark.parametrize("control", ["no-store", "no-cache", "max-age=600, no-store", "max-age=0"])
def test_an_answer_that_may_not_be_kept_is_asked_for_again(
    publisher: Publisher, rkt: Rkt, control: str
) -> None:
    url = publisher.publish(publisher.aci(), cache_control=control)
    rkt(UNSIGNED, "fetch", url)
    publisher.server.requests.clear()
    rkt(UNSIGNED, "fetch", url)
    assert len(publisher.server.requests) == 1


def test_an_unverified_copy_is_no_shortcut_for_a_verified_fetch(publisher: Publisher, trusting: Rkt) -> None:
    url = publisher.publish(publisher.aci(), cache_control="max-age=600")
    trusting(UNSIGNED, "fetch", url)
    done = trusting("fetch", url, code=254)
    assert "error downloading the signature file" in done.stderr


def test_a_deferred_signature_comes_after_the_image(
    publisher: Publisher, trusting: Rkt, signing_key: SigningKey
) -> None:
    image = publisher.aci()
    publisher.publish(image)
    signature = signing_key.sign(image).read_bytes()
    path = f"/localhost/app-latest-linux-{MACHINE}.aci.asc"
    answers = [b"HTTP/1.1 202 X\r\nContent-Length: 0\r\n\r\n"]

    def handler(_request: object, send: object) -> None:
        full = b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % len(signature) + signature
        send(answers.pop() if answers else full)  # type: ignore[operator]

    publisher.server.pages[path] = handler  # type: ignore[assignment]
    done = trusting("fetch", "localhost/app")
    assert "server requested deferring the signature download" in done.stderr
    assert "signature verified:" in done.stderr
    assert publisher.server.paths()[-3:] == [path, path.removesuffix(".asc"), path]


def test_a_signature_that_never_comes_is_an_error(publisher: Publisher, trusting: Rkt) -> None:
    publisher.publish(publisher.aci())
    publisher.server.page(f"/localhost/app-latest-linux-{MACHINE}.aci.asc", status=202)
    done = trusting("fetch", "localhost/app", code=254)
    assert "server asked to defer the download again" in done.stderr
    assert stored(trusting) == []
    assert leftovers(trusting) == []


def test_a_cut_download_is_resumed_by_the_next_command(publisher: Publisher, rkt: Rkt) -> None:
    image = publisher.aci(content=os.urandom(400_000))
    url = publisher.publish(image, etag='"one"', cut_after=200_000)
    done = rkt(UNSIGNED, "fetch", url, code=254)
    assert "connection broke after" in done.stderr
    assert len(leftovers(rkt)) == 2
    rkt(UNSIGNED, "fetch", url)
    assert publisher.server.requests[-1].headers["range"].startswith("bytes=")
    assert leftovers(rkt) == []
    assert stored(rkt) == ["localhost/app"]


def test_a_partial_download_of_another_version_is_thrown_away(publisher: Publisher, rkt: Rkt) -> None:
    url = publisher.publish(publisher.aci(content=os.urandom(400_000)), etag='"one"', cut_after=200_000)
    rkt(UNSIGNED, "fetch", url, code=254)
    publisher.publish(publisher.aci(content=os.urandom(400_000)), etag='"two"')
    done = rkt(UNSIGNED, "fetch", url)
    assert "cannot use cached partial download, resource updated." in done.stderr


def test_the_manifest_must_be_of_the_name_and_labels_asked_for(
    publisher: Publisher, trusting: Rkt, signing_key: SigningKey
) -> None:
    publisher.publish(publisher.aci("localhost/other"), key=signing_key)
    done = trusting("fetch", "localhost/app", code=254)
    assert '"localhost/app" expected but "localhost/other" found' in done.stderr
    publisher.publish(publisher.aci(labels={"version": "2.0"}), version="1.0", key=signing_key)
    done = trusting("fetch", "localhost/app:1.0", code=254)
    assert (
        'requested value for label "version": "1.0" differs from fetched aci label value: "2.0"'
        in done.stderr
    )
    publisher.publish(publisher.aci(), version="3.0", key=signing_key)
    done = trusting("fetch", "localhost/app:3.0", code=254)
    assert 'requested label "version" not provided by the image manifest' in done.stderr
    assert stored(trusting) == []
    assert leftovers(trusting) == []


def test_dependencies_come_level_by_level_and_each_once(publisher: Publisher, rkt: Rkt) -> None:
    """A needs B, C, D; C and D need B and E; B is stored already."""

    def needs(*names: str) -> list[dict[str, object]]:
        return [{"imageName": f"localhost/{name}"} for name in names]

    rkt(UNSIGNED, "fetch", publisher.aci("localhost/b"))
    for name, below in (("a", "bcd"), ("c", "be"), ("d", "be"), ("e", "")):
        image = publisher.aci(f"localhost/{name}", dependencies=needs(*below))
        publisher.publish(image, f"localhost/{name}")
    told = rkt("--debug", UNSIGNED, "fetch", "--pull-policy=new", "localhost/a").stderr
    lines = [
        line.rpartition("localhost/")[2][0]
        for line in told.splitlines()
        if "fetching image from" in line or "using image from local store" in line
    ]
    assert lines == ["a", "b", "c", "d", "e"]
    assert sorted(stored(rkt)) == [f"localhost/{name}" for name in "abcde"]


def test_a_dependency_cycle_ends_with_an_error(publisher: Publisher, rkt: Rkt) -> None:
    for name, below in (("a", "b"), ("b", "a")):
        image = publisher.aci(f"localhost/{name}", dependencies=[{"imageName": f"localhost/{below}"}])
        publisher.publish(image, f"localhost/{name}")
    done = rkt(UNSIGNED, "fetch", "localhost/a", code=254)
    assert "dependency cycle: localhost/a" in done.stderr


def test_dependencies_without_end_are_cut_off(
    publisher: Publisher, rkt: Rkt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        image = publisher.aci(
            f"localhost/n{number}", dependencies=[{"imageName": f"localhost/n{number + 1}"}]
        )
        publisher.publish(image, f"localhost/n{number}")
    done = rkt(UNSIGNED, "fetch", "localhost/n0", code=254)
    assert "error downloading ACI" in done.stderr  # n4 does not exist


def test_a_dependency_must_have_the_id_and_size_that_are_stated(publisher: Publisher, rkt: Rkt) -> None:
    below = publisher.aci("localhost/below", content=os.urandom(50_000))
    publisher.publish(below, "localhost/below")
    wrong = "sha512-" + "0" * 128
    for number, extra, problem in (
        (1, {"imageID": wrong}, "has the ID"),
        (2, {"size": 1000}, "the limit is 1000"),
    ):
        image = publisher.aci(
            f"localhost/top{number}", dependencies=[{"imageName": "localhost/below", **extra}]
        )
        done = rkt(UNSIGNED, "fetch", image, code=254)
        assert problem in done.stderr
    assert "localhost/below" not in stored(rkt)


def test_dependencies_are_verified_too(publisher: Publisher, trusting: Rkt, signing_key: SigningKey) -> None:
    publisher.publish(publisher.aci("localhost/below"), "localhost/below")
    image = publisher.aci(dependencies=[{"imageName": "localhost/below"}])
    signing_key.sign(image)
    done = trusting("fetch", image, code=254)
    assert "error downloading the signature file" in done.stderr
    assert "localhost/below" not in stored(trusting)


def test_ten_at_once_make_one_image(publisher: Publisher, rkt: Rkt) -> None:
    publisher.publish(publisher.aci(content=os.urandom(300_000)))
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        outputs = list(pool.map(lambda _: rkt(UNSIGNED, "fetch", "localhost/app").stdout, range(10)))
    assert len(set(outputs)) == 1
    assert stored(rkt) == ["localhost/app"]
    assert leftovers(rkt) == []


def test_bad_command_lines(publisher: Publisher, rkt: Rkt) -> None:
    for words, problem in (
        ([], "must provide at least one image"),
        (["--signature=x", "a.aci"], "must follow the image"),
        (["a.aci", "--signature=x", "--signature=y"], "given twice"),
        (["a.aci", "--signature"], "a value is missing"),
        (["--pull-policy=always", "localhost/app"], "unknown pull policy"),
        (["--bogus", "localhost/app"], "unknown flag"),
        (["docker://busybox"], "nobody vouches for the image"),
        (["sha512-00"], "no image sha512-00"),
        (["/nonexistent.aci"], "error opening ACI file: /nonexistent.aci: No such file"),
        (["/tmp"], "hint: an image layout becomes an image"),
        (["https://localhost/x"], "must end in .aci"),
    ):
        assert problem in rkt("fetch", *words, code=254).stderr


def test_only_regular_files_are_opened(publisher: Publisher, rkt: Rkt) -> None:
    fifo = rkt.directory / "fifo.aci"
    os.mkfifo(fifo)
    for words in (
        [UNSIGNED, "fetch", fifo],
        [UNSIGNED, "fetch", "/dev/zero"],
        ["fetch", fifo, "--signature=" + str(fifo)],
    ):
        assert "not a regular file" in rkt(*words, code=254, timeout=10).stderr
