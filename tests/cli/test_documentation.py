"""The documentation is true: its sessions run as printed, its links lead somewhere, its flags exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parent.parent.parent
PAGES = [*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").rglob("*.md"))]
WITH_SESSIONS = [page for page in PAGES if "```console" in page.read_text(encoding="utf-8")]

# What pages need that is not ours.
NEEDED = {
    "README.md": ("/usr/bin/podman", "/usr/sbin/runc", "/usr/bin/docker-registry", "/usr/bin/make"),
    "minimal-images.md": ("/usr/bin/gcc", "/usr/bin/make", "/usr/bin/gpgv"),
    "run-docker-images.md": ("/usr/bin/umoci", "/usr/bin/skopeo"),
    "podman-with-our-plugins.md": ("/usr/bin/podman", "/usr/sbin/runc"),
    "gos-plugins.md": ("/usr/lib/cni/portmap",),
    "mixed-node.md": ("/usr/bin/podman", "/usr/sbin/runc", "/usr/lib/cni/portmap"),
}
# What a session finds: an /etc and a /var/lib/rkt of its own. /etc is covered, so nothing there is changed.
SETUP = """\
set -eu
mkdir -p /run/etc/upper /run/etc/work /var/lib/rkt /var/lib/cni
mount -t tmpfs leases /var/lib/cni
mount -t tmpfs shm /dev/shm
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work etc /etc
mount --bind "$1/data" /var/lib/rkt
ip link set lo up
cd "$1/work"
exec 2>&1
set +e
"""

# What a page finds in its world: README.md a podman that works in containers, too.
WORLD = {
    "README.md": """\
cat >"$1/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
END
cat >"$1/storage.conf" <<END
[storage]
driver = "vfs"
graphroot = "/run/podman/graph"
runroot = "/run/podman/run"
END
export CONTAINERS_CONF="$1/containers.conf" CONTAINERS_STORAGE_CONF="$1/storage.conf"
""",
}


class Step(NamedTuple):
    command: str
    expected: list[str]


def sessions(page: Path) -> Iterator[Step]:
    """The commands of all ```console blocks of a page, with what they print."""
    for block in re.findall(
        r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        command: list[str] = []
        expected: list[str] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    yield Step("\n".join(command), expected)
                command, expected = [line[2:]], []
            elif (line.startswith("> ") or line == ">") and not expected:
                command.append(line[2:])
            else:
                expected.append(line)
        yield Step("\n".join(command), expected)


def matches(expected: list[str], printed: list[str]) -> bool:
    """`…` in a line is anything, a line `…` any number of lines, and all kinds of blanks are alike."""

    def pattern(line: str) -> str:
        if line == "…":
            return r"(?:[^\n]*\n)*"
        parts = [re.sub(r"(?:\\?\s)+", lambda _: r"[ \t]+", re.escape(part)) for part in line.split("…")]
        return r"[^\n]*".join(parts) + r"[ \t]*\n"

    text = "".join(line + "\n" for line in printed)
    return re.fullmatch("".join(map(pattern, expected)), text) is not None


_PODMAN = [pytest.mark.xdist_group("podman")]


def _uses_podman(page: Path) -> bool:
    return "/usr/bin/podman" in NEEDED.get(page.name, ())


@pytest.mark.needs("namespaces", "overlay", "nftables", "network-links", "gpgv")
@pytest.mark.usefixtures("root", "busybox")
@pytest.mark.parametrize(
    "page",
    [
        # One after the other: podman's own control group is made and removed by each.
        pytest.param(page, marks=_PODMAN if _uses_podman(page) else [], id=page.name)
        for page in WITH_SESSIONS
    ],
)
def test_sessions_run_as_printed(page: Path, tmp_path: Path) -> None:
    for program in NEEDED.get(page.name, ()):
        if not Path(program).exists():
            pytest.skip(f"needs {program} (Debian: podman, runc, containernetworking-plugins)")
    steps = list(sessions(page))
    script = (
        SETUP
        + WORLD.get(page.name, "")
        + "".join(
            f"echo '@@{number}'\n{step.command}\necho \"@@code $?\"\n" for number, step in enumerate(steps)
        )
    )
    script += "find /sys/fs/cgroup -depth -path '*/libpod_parent*' -type d -delete 2>/dev/null\n"  # podman's
    for name in ("data", "work", "gnupg"):
        (tmp_path / name).mkdir(mode=0o700)

    done = subprocess.run(
        [CHECKOUT / "quickstart.d/private-root", "--net", "sh", "-c", script, "sh", tmp_path],
        env={
            "PATH": f"{CHECKOUT}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "GNUPGHOME": str(tmp_path / "gnupg"),
            "LC_ALL": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    subprocess.run(
        ["gpgconf", "--homedir", tmp_path / "gnupg", "--kill", "all"], check=False, capture_output=True
    )

    parts = re.split(r"^@@(\d+)\n", done.stdout, flags=re.MULTILINE)
    printed = {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert len(printed) == len(steps), done.stdout + done.stderr
    for number, step in enumerate(steps):
        text, _, code = printed[number].rpartition("@@code ")
        assert (int(code) != 0) is step.command.endswith("# refused"), f"$ {step.command}\n{printed[number]}"
        if not matches(step.expected, text.splitlines()):
            pytest.fail(
                f"{page.name}: $ {step.command}\nprinted:\n{text}\nexpected:\n" + "\n".join(step.expected)
            )


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def links(page: Path) -> list[tuple[Path, str]]:
    """What a page links to within the checkout: files, and anchors of sections in them ("" for none)."""
    found = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", prose(page))
    return [
        (Path(os.path.normpath(page.parent / target)) if target else page, anchor)
        for target, anchor in found
        if "://" not in target
    ]


def anchors(page: Path) -> set[str]:
    """The names by which the sections of a page can be linked to."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page)
    for target, anchor in links(page):
        assert target.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {target.name}#{anchor}"
    for name in re.findall(r"`((?:docs|src|tests)/[a-z0-9_./-]+\.(?:md|py))`", text):
        assert (CHECKOUT / name).exists(), f"{page.name}: {name}"
    for name, test in re.findall(r"`(tests/[a-z0-9_./-]+\.py)::([a-z0-9_]+)`", text):
        assert f"def {test}(" in (CHECKOUT / name).read_text(encoding="utf-8"), f"{page.name}: {name}::{test}"


def test_the_readme_leads_to_every_page() -> None:
    linked = {target for target, _ in links(CHECKOUT / "README.md")}
    assert not {page for page in PAGES if page.name != "README.md"} - linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_modules_in_the_text_exist(page: Path) -> None:
    """`package.module`, and `package.module.name` or `package.module.name(…)` of a function or class."""
    packages = "|".join(path.name for path in (CHECKOUT / "src").iterdir() if path.is_dir())
    for dotted in re.findall(rf"`((?:{packages})(?:\.\w+)+)[(`]", prose(page)):
        parts = dotted.split(".")
        path = CHECKOUT / "src" / "/".join(parts)
        if path.is_dir() or path.with_suffix(".py").exists():
            continue
        module = path.parent / "__init__.py" if path.parent.is_dir() else path.parent.with_suffix(".py")
        assert module.exists(), f"{page.name}: {dotted}"
        source = module.read_text(encoding="utf-8")
        assert re.search(rf"^(def |class )?{parts[-1]}\b", source, re.MULTILINE), f"{page.name}: {dotted}"


def test_every_rule_of_security_has_its_test() -> None:
    page = CHECKOUT / "docs/reference/security-tests.md"
    rows = dict(re.findall(r"^\| ([PR]\d+) \|.*\| (.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(rows) == {f"P{number}" for number in range(1, 10)} | {f"R{number}" for number in range(1, 29)}
    without = {rule for rule, tests in rows.items() if "`tests/" not in tests}
    assert without == {"P9", "R27"}, "only what this version does not promise may go without a test"
    used = {
        rule
        for path in (CHECKOUT / "src").rglob("*.py")
        for rule in re.findall(r"\bR\d+\b", path.read_text())
    }
    assert used <= set(rows)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_commands_and_flags_in_the_text_exist(page: Path) -> None:
    """Every `rkt VERB … --flag` that a page shows is one that rkt takes."""
    from console.errors import UsageError
    from console.main import verb_parser
    from console.verbs import IncompleteVerb
    from rkt.cli.main import PROGRAM

    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"(?:^(?:    |\$ )|`|/usr/bin/|=)rkt ([a-z-][^`\n]*)", text, re.MULTILINE):
        words = line.replace("\\", "").split("#")[0].split()
        while words and words[0].startswith("--"):
            name = words.pop(0).split("=")[0].removeprefix("--")
            assert name in {flag.name for flag in PROGRAM.flags} | {"version"}, f"{page.name}: --{name}"
        if not words or not re.fullmatch(r"[a-z-]+", words[0]):
            continue
        try:
            verb, used = PROGRAM.find(words)
        except IncompleteVerb:
            continue
        except UsageError as error:
            pytest.fail(f"{page.name}: rkt {line}: {error}")
        known = verb_parser(PROGRAM, verb, verb.load())._option_string_actions
        for word in words[used:]:
            if word in ("--", "|", "&&", ">", ";"):
                break
            if re.match(r"--[a-z]", word):
                flag = re.match(r"--[a-z][a-z0-9-]*", word)
                assert flag
                assert flag[0] in known, f"{page.name}: rkt {line}: {flag[0]}"


def test_sessions_can_tell_right_from_wrong() -> None:
    assert matches(["a … c", "…", "end"], ["a\tb c", "x", "y", "end"])
    assert matches(["…"], [])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a … c"], ["a b d"])
    assert not matches([], ["surprise"])
    assert shutil.which("sh")
