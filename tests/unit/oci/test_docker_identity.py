"""Users and groups of Docker's configurations: who is in which group, by the image's own files."""

from __future__ import annotations

import pytest

from oci.convert import identity

PASSWD = (
    b"root:x:0:0::/root:/bin/sh\n"
    b"www:x:33:34::/srv:/bin/sh\n"
    b"alias:x:33:40::/:\n"
    b"bad:x\n"
    b"wide:x:4294967295:1::/:\n"
)
GROUP = (
    b"root:x:0:root\n"
    b"adm:x:4:root,www\r\n"
    b"tape:x:26:www,other\n"
    b"again:x:26:www\n"
    b"number:x:27:33\n"
    b"part:x:28:wwww,ww\n"
    b"broken:x:no:www\n"
    b"negative:x:-1:www\n"
    b"wide:x:4294967295:www\n"
    b"short:x:29\n"
)


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("www", (4, 26)),
        ("33", (4, 26)),  # a number that has a name: by its first one
        ("www:", (4, 26)),
        ("www:www", ()),
        ("www:33", ()),
        (":5", ()),
        ("", (0, 4)),
        ("root", (0, 4)),
        ("0", (0, 4)),
        ("1000", ()),
        ("absent", ()),
        ("bad", ()),
        ("wide", ()),
        ("/file", ()),
    ],
)
def test_groups_that_list_the_user(user: str, groups: tuple[int, ...]) -> None:
    assert identity.supplementary_groups(user, PASSWD, GROUP) == groups


def test_files_that_are_not_there() -> None:
    assert identity.supplementary_groups("www", None, GROUP) == ()
    assert identity.supplementary_groups("www", PASSWD, None) == ()
