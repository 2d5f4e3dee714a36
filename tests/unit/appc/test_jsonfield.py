"""Strict JSON (R25, S20): what is refused, with which words, and what comes out again."""

from __future__ import annotations

import json
import time

import pytest

from appc import jsonfield
from appc.jsonfield import Fields, Problems


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "line 1 column 1: a JSON value is missing"),
        (b" \n ", "a JSON value is missing"),
        (b"{", "line 1 column 2"),
        (b'{"a":\n  tru}', "line 2 column 3: a JSON value is missing"),
        (b"[1,]", "a JSON value is missing"),
        (b'{"a":1,}', "line 1 column 8"),
        (b"1 2", "line 1 column 3: data behind the end of the JSON value"),
        (b"{}\n{}", "line 2 column 1: data behind the end"),
        (b"{}\0", "data behind the end"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "byte 0 is not UTF-8"),
        (b'"\xed\xa0\x80"', "is not UTF-8"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udfff": 1}', "half of a surrogate pair"),
        (b'"a\\u0000b"', "holds a NUL"),
        (b'{"\\u0000": 1}', "holds a NUL"),
        (b'"\x01"', "invalid control character"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "is too large"),
        (b"1" * 21, "a number of 21 digits is too large"),
        (b"-" + b"9" * 5000, "is too large"),
        (b'{"a":1,"b":2,"a":1}', 'member "a" occurs twice'),
        (b"'a'", "a JSON value is missing"),
        (b"01", "data behind the end"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 levels deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested more than 64 levels deep"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        jsonfield.parse(data)
    assert message in str(caught.value)


def test_cve_2019_11253_a_bomb_of_brackets_is_refused_at_once() -> None:
    start = time.process_time()
    for bomb in (b"[" * 1_000_000, b'{"a":' * 200_000, b"[" * 1_000_000 + b"]" * 1_000_000):
        with pytest.raises(ValueError, match=r"nested|missing"):
            jsonfield.parse(bomb)
    assert time.process_time() - start < 2


def test_cve_2020_10735_a_number_of_a_million_digits_is_refused_at_once() -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match="too large"):
        jsonfield.parse(b"9" * 1_000_000)
    assert time.process_time() - start < 1


def test_the_limit_is_known_before_the_text_is_read() -> None:
    with pytest.raises(ValueError, match="11 bytes of JSON are more than the limit of 10"):
        jsonfield.parse(b'"123456789"', limit=10)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 64 + b"]" * 64,
        b' {"a": [1, -0, 1.5, 1e3, true, null, "\\u00e9\\ud83d\\ude00\\n", "\xc3\xa9"]} \r\n',
        b"18446744073709551615",
        b'"\\\\u0000"',
    ],
)
def test_what_is_sound_is_read_as_json_does(data: bytes) -> None:
    assert jsonfield.parse(data) == json.loads(data)


@pytest.mark.parametrize("value", [{"b": 1, "a": [1.5, True, None, 'é"\\\n\x7f\u2028']}, [], "", {}])
def test_encoding_is_compact_utf8_in_the_given_order(value: object) -> None:
    expected = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert jsonfield.encode(value) == expected
    assert jsonfield.encode(value, indent=4) == json.dumps(value, ensure_ascii=False, indent=4).encode()


def test_what_json_has_no_word_for_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        jsonfield.encode(float("nan"))
    with pytest.raises(TypeError, match="a set has no JSON form"):
        jsonfield.encode(set())


def test_fields_collect_every_problem_with_its_path() -> None:
    fields = Fields({"Name": 1, "list": ["a", 2, ["b"]], "map": {"x": 1, "y": "z"}, "none": None})
    fields.required("name", jsonfield.string)
    fields.required("absent", jsonfield.string)
    fields.required("none", jsonfield.string)
    fields.optional("list", jsonfield.listed(jsonfield.string), ())
    fields.optional("map", jsonfield.string_map, {})
    fields.optional("none", jsonfield.string, "default")
    with pytest.raises(Problems) as caught:
        fields.finish()
    assert caught.value.lines() == (
        "name: 1 is not a string",
        "absent: is required",
        "none: is required",
        "list[1]: 2 is not a string",
        "list[2]: a list is not a string",
        'map."x": 1 is not a string',
    )


def test_members_match_without_case_but_not_twice() -> None:
    fields = Fields({"ExEc": "x"})
    assert fields.required("exec", jsonfield.string) == "x"
    with pytest.raises(Problems, match="exec: occurs twice in one object, spelt differently"):
        Fields({"Exec": 1, "exec": 1}).finish()


def test_booleans_are_no_numbers_and_numbers_no_booleans() -> None:
    for value in (True, 1.0, "1", None):
        with pytest.raises(ValueError, match="is not a whole number"):
            jsonfield.integer(value)
    for value in (0, 1, "true", None):
        with pytest.raises(ValueError, match="is not true or false"):
            jsonfield.boolean(value)


def test_a_hostile_list_does_not_make_a_huge_message() -> None:
    with pytest.raises(Problems) as caught:
        jsonfield.listed(jsonfield.string)([0] * 1_000_000)
    assert len(caught.value.problems) == jsonfield.MAX_PROBLEMS


def test_errors_show_hostile_text_on_one_line() -> None:
    assert jsonfield.quoted('a"\n\x1b[2J\u202e' + "b" * 100) == '"a\\"\\n\\x1b[2J\\u202e' + "b" * 52 + '…"'


def test_malformed_text_is_an_error_also_where_the_json_package_was_never_loaded() -> None:
    """The C scanner finds its error class in json.decoder; if that is missing, it fails without an error."""
    import subprocess
    import sys
    from pathlib import Path

    import appc.jsonfield

    source = str(Path(appc.jsonfield.__file__).parents[1])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from appc import jsonfield\n"
        "assert 'json.decoder' not in sys.modules\n"
        "try: jsonfield.parse(b'{')\n"
        "except ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("line 1 column 2: ")
