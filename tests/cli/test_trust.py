"""rkt trust: prefixes and roots, the question at the terminal, keys by discovery; and the chain of trust."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fixtures.openpgp import Owner, armor

if TYPE_CHECKING:
    from conftest import MakeKey, Rkt
    from fixtures.httpsserver import Server
    from fixtures.publisher import Publisher

SKIP = "--skip-fingerprint-review"


def converse(argv: list[str], answers: list[tuple[str, str]], timeout: float = 20) -> tuple[int, str]:
    """Run a command at a terminal; each (text to wait for, what is typed then). Exit code and output."""
    controller, terminal = pty.openpty()
    output = ""
    try:
        with subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            terminal = -1
            deadline = time.monotonic() + timeout
            pending = list(answers)
            position = 0
            while time.monotonic() < deadline:
                if select.select([controller], [], [], 0.1)[0]:
                    try:
                        data = os.read(controller, 4096)
                    except OSError:
                        break
                    output += data.decode()
                if pending and (found := output.find(pending[0][0], position)) >= 0:
                    position = found + len(pending[0][0])
                    os.write(controller, pending.pop(0)[1].encode())
                if not select.select([controller], [], [], 0)[0] and process.poll() is not None:
                    break
            process.kill()
        return process.returncode, output
    finally:
        os.close(controller)
        if terminal >= 0:
            os.close(terminal)


def key_file(rkt: Rkt, owner: Owner, name: str = "key.asc") -> str:
    path = rkt.directory / name
    path.write_bytes(owner.armored())
    return str(path)


def test_the_question_is_asked_until_it_is_answered(rkt: Rkt) -> None:
    owner = Owner()
    argv = rkt.argv("trust", "--prefix=example.com/app", key_file(rkt, owner))
    code, output = converse(argv, [("(yes/no)?", "perhaps\n"), ("(yes/no)?", "yes\n")])
    assert code == 0, output
    path = rkt.directory / "etc/trustedkeys/prefix.d/example.com/app" / owner.fingerprint.lower()
    assert 'prefix: "example.com/app"' in output
    assert "gpg key fingerprint is: " in output
    assert "\tOwner <owner@example.com>" in output
    assert "Please enter 'yes' or 'no'" in output
    assert f'Added key for prefix "example.com/app" at "{path}"' in output
    assert path.read_bytes() == owner.armored()


def test_no_means_no(rkt: Rkt) -> None:
    argv = rkt.argv("trust", "--root", key_file(rkt, Owner()))
    code, output = converse(argv, [("(yes/no)?", "no\n")])
    assert code == 0
    assert "Not trusting" in output
    assert not (rkt.directory / "etc/trustedkeys").exists()


def test_off_a_terminal_nothing_is_trusted_unseen(rkt: Rkt) -> None:
    owner = Owner()
    done = rkt("trust", "--root", key_file(rkt, owner), code=254, stdin=b"yes\n")
    assert "due to lack of tty" in done.stderr
    assert SKIP in done.stderr
    done = rkt("trust", "--root", SKIP, key_file(rkt, owner))
    path = rkt.directory / "etc/trustedkeys/root.d" / owner.fingerprint.lower()
    assert f'Added root key at "{path}"' in done.stderr
    assert "without fingerprint review" in done.stderr


def test_every_key_of_a_file_is_added(rkt: Rkt) -> None:
    owners = [Owner(), Owner()]
    path = rkt.directory / "keys.asc"
    path.write_bytes(armor(b"".join(owner.public() for owner in owners), "PUBLIC KEY BLOCK"))
    rkt("trust", "--prefix=example.com", SKIP, path)
    found = os.listdir(rkt.directory / "etc/trustedkeys/prefix.d/example.com")
    assert sorted(found) == sorted(owner.fingerprint.lower() for owner in owners)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "at least one key or --prefix required"),
        (["KEY"], "--root required for non-prefixed (root) keys"),
        (["--root", "--prefix=a.com", "KEY"], "mutually exclusive"),
        (["--root"], "cannot be discovered"),
        (["--prefix=https://a.com", "KEY"], "--prefix must not contain a URL scheme, omit https://"),
        (["--prefix=../../etc", "KEY"], "--prefix"),
        (["--prefix=A.com", "KEY"], "--prefix"),
        (["--prefix=a.com", SKIP, "/nonexistent"], "No such file"),
        (["--prefix=a.com", SKIP, "/dev/null"], "not a regular file"),
        (["--prefix=a.com", SKIP, "ftp://a.com/k"], "only local files and http or https URLs supported"),
        (["--prefix=a.com", SKIP, "http://localhost/k"], "--insecure-allow-http required"),
        (["--prefix=a.com", SKIP, "BINARY"], "not armored"),
        (["--prefix=a.com", SKIP, "RUBBISH"], "not an armored public key"),
    ],
)
def test_what_is_refused(rkt: Rkt, words: list[str], problem: str) -> None:
    owner = Owner()
    (rkt.directory / "binary").write_bytes(owner.public())
    (rkt.directory / "rubbish").write_text("hello")
    files = {
        "KEY": key_file(rkt, owner),
        "BINARY": str(rkt.directory / "binary"),
        "RUBBISH": str(rkt.directory / "rubbish"),
    }
    done = rkt("trust", *[files.get(word, word) for word in words], code=254)
    assert problem in done.stderr
    assert not (rkt.directory / "etc/trustedkeys").exists()


def test_keys_are_discovered_from_the_prefix(publisher: Publisher, rkt: Rkt) -> None:
    owner = Owner()
    publisher.server.page("/keys.asc", owner.armored())
    publisher.announce(key_url="https://localhost/keys.asc")
    done = rkt("--debug", "trust", "--prefix=localhost/app", SKIP)
    assert "meta tag 'ac-discovery-pubkeys' not found on localhost/app" in done.stderr
    assert 'key: "https://localhost/keys.asc"' in done.stderr
    assert (rkt.directory / "etc/trustedkeys/prefix.d/localhost/app" / owner.fingerprint.lower()).exists()


def test_keys_over_http_need_the_flag(publisher: Publisher, http_server: Server, rkt: Rkt) -> None:
    http_server.page("/k", Owner().armored())
    rkt("trust", "--root", SKIP, http_server.url("/k"), code=254)
    rkt("trust", "--root", SKIP, "--insecure-allow-http", http_server.url("/k"))


def test_keys_from_https_are_accepted_only_from_proved_servers(
    publisher: Publisher, http_server: Server, rkt: Rkt, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.server.page("/keys.asc", Owner().armored())
    http_server.page("/k", Owner().armored())
    flag, url = "--trust-keys-from-https", "https://localhost/keys.asc"
    rkt(flag, "trust", "--prefix=localhost", url)
    rkt("trust", "--prefix=localhost", url, code=254)
    rkt(flag, "trust", "--prefix=localhost", "--insecure-allow-http", http_server.url("/k"), code=254)
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    rkt(flag, "trust", "--prefix=localhost", url, code=254)
    rkt(flag, "--insecure-options=tls", "trust", "--prefix=localhost", url, code=254)
    rkt(flag, "--insecure-options=pubkey", "trust", "--prefix=localhost", url)


def test_a_fetch_finds_keys_and_trusts_them_if_told_to(publisher: Publisher, rkt: Rkt) -> None:
    owner, image = Owner(), publisher.aci()
    publisher.server.page("/keys.asc", owner.armored())
    publisher.announce(key_url="https://localhost/keys.asc")
    publisher.publish(image, signature=armor(owner.key.signature(image.read_bytes())))
    done = rkt("fetch", "localhost/app", code=254)
    assert "gpg key fingerprint is:" in done.stderr
    assert "due to lack of tty" in done.stderr
    assert "signature made by unknown entity" in done.stderr
    done = rkt("--trust-keys-from-https", "fetch", "localhost/app")
    assert 'Added key for prefix "localhost/app"' in done.stderr
    assert "signature verified:" in done.stderr


def test_the_chain_of_trust(publisher: Publisher, rkt: Rkt, make_signing_key: MakeKey) -> None:
    first, second = make_signing_key("First <1@example.com>"), make_signing_key("Second <2@example.com>")
    image, other = publisher.aci("rkt-prefix.com/my-app"), publisher.aci("rkt-alternative.com/my-app")
    unknown = "openpgp: signature made by unknown entity"
    assert "error opening signature file" in rkt("fetch", image, code=254).stderr
    first.sign(image).rename(image.with_suffix(".aci.asc"))
    first.sign(other).rename(other.with_suffix(".aci.asc"))
    assert unknown in rkt("fetch", image, code=254).stderr
    rkt("trust", "--prefix=wrong-prefix.com/my-app", SKIP, first.public)
    assert unknown in rkt("fetch", image, code=254).stderr
    rkt("trust", "--prefix=rkt-prefix.com/my-app", SKIP, second.public)
    assert unknown in rkt("fetch", image, code=254).stderr
    rkt("trust", "--prefix=rkt-prefix.com/my-app", SKIP, first.public)
    rkt("fetch", image)
    assert unknown in rkt("fetch", other, code=254).stderr
    rkt("trust", "--root", SKIP, first.public)
    rkt("fetch", image)
    rkt("fetch", other)
