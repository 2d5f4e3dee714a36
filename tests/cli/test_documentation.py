"""The documentation is true: its sessions run as printed, its links lead somewhere, its flags exist."""

from __future__ import annotations

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

# What a page finds in its world: README.md a registry, and a podman that works in containers, too.
WORLD = {
    "README.md": """\
cat >"$1/registry.yml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $1/registry}}
http: {addr: "127.0.0.1:5000"}
END
docker-registry serve "$1/registry.yml" >"$1/registry.log" 2>&1 &
registry=$!
trap 'kill $registry' EXIT
for _ in $(seq 200); do busybox nc 127.0.0.1 5000 </dev/null 2>/dev/null && break; sleep 0.1; done
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
    script = SETUP + WORLD.get(page.name, "") + "".join(
        f"echo '@@{number}'\n{step.command}\necho \"@@code $?\"\n" for number, step in enumerate(steps)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for name in re.findall(r"`((?:docs|src|tests)/[a-z0-9_./-]+\.(?:md|py))`", text):
        assert (CHECKOUT / name).exists(), f"{page.name}: {name}"
    for name, test in re.findall(r"`(tests/[a-z0-9_./-]+\.py)::([a-z0-9_]+)`", text):
        assert f"def {test}(" in (CHECKOUT / name).read_text(encoding="utf-8"), f"{page.name}: {name}::{test}"


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
