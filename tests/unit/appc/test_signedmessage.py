"""OpenPGP messages that carry what they sign: taken apart, and nothing else accepted."""

from __future__ import annotations

import bz2
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appc import signedmessage
from appc.openpgp import MalformedError
from appc.signature import SignatureError

if TYPE_CHECKING:
    from conftest import MakeKey, SigningKey

CONTENT = b'{"critical":{}}' * 100


@pytest.fixture(scope="module")
def key(make_signing_key: MakeKey) -> SigningKey:
    return make_signing_key("Signer <signer@example.com>")


def signed(key: SigningKey, tmp_path: Path, *options: str) -> bytes:
    (tmp_path / "content").write_bytes(CONTENT)
    out = tmp_path / "signed"
    key.gpg("--yes", *options, "--output", str(out), "--sign", str(tmp_path / "content"))
    return out.read_bytes()


@pytest.mark.parametrize(
    "options",
    [(), ("--armor",), ("--compress-algo=none",), ("--compress-algo=zlib",), ("--compress-algo=zip",)],
    ids=["default", "armor", "none", "zlib", "zip"],
)
def test_what_gpg_signs_is_taken_apart(key: SigningKey, tmp_path: Path, options: tuple[str, ...]) -> None:
    made, content = signedmessage.read(signed(key, tmp_path, *options))
    assert content == CONTENT
    assert made.fingerprint == key.fingerprint


def test_a_message_from_a_pipe_has_lengths_in_parts(key: SigningKey) -> None:
    command = ["gpg", "--homedir", str(key.home), "--batch", "--compress-algo=none", "--sign"]
    try:
        done = subprocess.run(command, input=CONTENT * 20, capture_output=True, check=True)
    finally:
        key.gpg("--version")  # ends the agent
    assert signedmessage.read(done.stdout)[1] == CONTENT * 20


def test_what_is_no_signed_message_is_refused(key: SigningKey, tmp_path: Path) -> None:
    plain = signed(key, tmp_path, "--compress-algo=none")
    detached = key.sign(tmp_path / "content").read_bytes()
    text = signed(key, tmp_path, "--compress-algo=none", "--textmode")
    refused = {
        "empty": b"",
        "text": b"hello",
        "detached": detached,
        "cut": plain[:-5],
        "twice": plain + plain,
        "with something behind": plain + b"\xcb\x06b\0\0\0\0\0",
        "without signature": plain[: len(plain) // 2],
        "text mode": text,
        "key": key.public.read_bytes(),
        "unknown compression": b"\xa3\x07" + plain,
        "bzip2": b"\xa3\x03" + bz2.compress(plain),
        "bomb": b"\xa3\x02" + zlib.compress(bytes(50 << 20)),
        "nested": b"\xa3\x02" + zlib.compress(b"\xa3\x02" + zlib.compress(plain)),
        "long": bytes(2 << 20),
    }
    for what, data in refused.items():
        with pytest.raises((MalformedError, SignatureError)):
            pytest.fail(f"{what}: {signedmessage.read(data)}")
    assert signedmessage.read(b"\xa3\x02" + zlib.compress(plain))[1] == CONTENT
