"""What every test has: namespaces of its own, the check that it left nothing, and shared fixtures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent / "plugins"))

import isolation
import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from linux.probes import Finding

pytest_plugins = (
    "fixtures.acbuild",
    "fixtures.acserver",
    "fixtures.databases",
    "fixtures.httpsserver",
    "fixtures.images",
    "fixtures.layouts",
    "fixtures.probe",
    "fixtures.publisher",
    "fixtures.registries",
    "fixtures.systemdguest",
    "fixtures.usermodelinux",
)

CHECKOUT = Path(__file__).parent.parent
# Folders whose tests change networks, so that nft is asked too.
_DEEP = ("kernel", "cli", "reference", "faults")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    isolation.enter(config)
    config.stash[_SHARED] = leaks.shared_state()


_SHARED = pytest.StashKey[frozenset[str]]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The end of the session, in the controller or the only process: nothing may be left on the machine."""
    if hasattr(session.config, "workerinput"):
        return
    left = sorted(leaks.shared_state() - session.config.stash[_SHARED])
    if left:
        seen = _first_seen()
        lines = [f"{line} (first seen after {seen.get(line, 'no test')})" for line in left]
        print("\nthe session of tests left behind:", *lines, sep="\n  ", file=sys.stderr)
    stuck = isolation.leave()
    if stuck:
        print("\nthe tests' temporary directory:", *stuck[:20], sep="\n  ", file=sys.stderr)
    if left or stuck:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a mount, a link, a table, a process or a file behind."""
    parts = Path(str(request.node.path)).parts
    deep = any(folder in parts for folder in _DEEP)
    before = leaks.take(deep=deep)
    shared = leaks.shared_state() if deep else frozenset()
    yield
    left = leaks.difference(before, deep=deep)
    if left:
        leaks.end(leaks.processes() - before.processes)
    if deep:
        new = leaks.shared_state() - shared
        left += sorted(line for line in new if os.environ["TMPDIR"] in line)
        _note_seen(new, request.node.nodeid)
    assert not left, "left behind: " + "; ".join(left)


def _note_seen(lines: frozenset[str], test: str) -> None:
    """Remember what all workers share and was new after a test: it may be another worker's, or left."""
    if lines:
        with open(Path(os.environ["TMPDIR"]) / "seen", "a", encoding="utf-8") as journal:
            journal.writelines(f"{line}\t{test}\n" for line in sorted(lines))


def _first_seen() -> dict[str, str]:
    top = Path(os.environ["TMPDIR"])
    found: dict[str, str] = {}
    for journal in [top / "seen", *top.glob("rkt-tests-*/seen")]:
        if journal.exists():
            for entry in journal.read_text(encoding="utf-8").splitlines():
                line, _, test = entry.partition("\t")
                found.setdefault(line, test)
    return found


@pytest.fixture(autouse=True)
def _needed_features(request: pytest.FixtureRequest) -> None:
    """`@pytest.mark.needs("overlay", …)`: skip where a probe of `rkt doctor` does not say ok."""
    for marker in request.node.iter_markers("needs"):
        for name in marker.args:
            finding = _probe(name)
            if finding.status != "ok":
                pytest.skip(f"{name}: {finding.text}")


@cache
def _probe(name: str) -> Finding:
    from linux import probes

    return probes.one(name, os.environ["TMPDIR"])


@pytest.fixture
def root() -> None:
    """The test needs root; elsewhere it is skipped."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture
def netns(root: None) -> Iterator[Path]:
    """A network namespace of the test's own: gone with the test, even if pytest is killed."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec cat"],  # cat ends when its stdin closes
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        if not holder.stdout.readline():
            pytest.skip("unshare --net is refused here")
        yield Path(f"/proc/{holder.pid}/ns/net")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def open_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout that every user can reach: this one, or a copy of what runs if it lies in a closed place."""
    if all(directory.stat().st_mode & 0o005 == 0o005 for directory in (CHECKOUT, *CHECKOUT.parents)):
        return CHECKOUT
    copy = tmp_path_factory.mktemp("checkout")
    for directory in (copy, *copy.parents[:2]):
        directory.chmod(0o755)
    for name in ("bin", "src"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="session")
def busybox() -> Path:
    """Debian's statically linked busybox."""
    found = Path("/bin/busybox")
    if not found.exists() or b"statically" not in _kind(found):
        pytest.skip("needs a static /bin/busybox (Debian: busybox-static)")
    return found


def _kind(path: Path) -> bytes:
    """`statically` if the ELF file has no interpreter."""
    return b"dynamically" if b"/lib64/ld-linux" in path.read_bytes()[:4096] else b"statically"


@pytest.fixture
def busybox_rootfs(busybox: Path, tmp_path: Path) -> Path:
    """A root file system with busybox, its applets as links, and the few files that programs expect."""
    rootfs = tmp_path / "rootfs"
    for directory in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "var"):
        (rootfs / directory).mkdir(parents=True)
    shutil.copy2(busybox, rootfs / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "tmp").chmod(0o1777)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    return rootfs


class Rkt(NamedTuple):
    """The command `bin/rkt` with directories of the test's own."""

    directory: Path

    def argv(self, *words: str | Path) -> list[str]:
        options = [f"--{name}={self.directory / path}" for name, path in _RKT_DIRECTORIES.items()]
        return [str(CHECKOUT / "bin/rkt"), *options, *map(str, words)]

    def __call__(
        self,
        *words: str | Path,
        code: int | None = 0,
        stdin: bytes | None = None,
        environment: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and give its output as text; a code other than `code` fails the test."""
        done = subprocess.run(
            self.argv(*words),
            input=None if stdin is None else stdin.decode(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env=None if environment is None else {**os.environ, **environment},
            timeout=timeout,
            check=False,
        )
        if code is not None and done.returncode != code:
            raise AssertionError(
                f"rkt {' '.join(map(str, words))}: exit code {done.returncode}, not {code}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done


_RKT_DIRECTORIES = {
    "dir": "data",
    "local-config": "etc",
    "system-config": "usr",
    "user-config": "user",
}


@pytest.fixture
def rkt(tmp_path: Path) -> Iterator[Rkt]:
    """The command rkt on a data directory of the test's own, which is collected at the end."""
    directory = tmp_path / "rkt"
    for path in _RKT_DIRECTORIES.values():
        (directory / path).mkdir(parents=True)
    command = Rkt(directory)
    yield command
    if (directory / "data/pods").exists():
        _end_pods(command)


def _end_pods(command: Rkt) -> None:
    """Stop what a failed test left running and collect it, through rkt itself."""
    listed = command("list", "--full", "--no-legend", "--format={uuid} {state}", code=None).stdout
    running = [line.split()[0] for line in listed.splitlines() if line.endswith(" running")]
    if running:
        command("stop", "--force", *sorted(set(running)), code=None)
    command("gc", "--grace-period=0s", "--expire-prepared=0s", code=None)


class SigningKey(NamedTuple):
    """A throw-away OpenPGP key: `home` is gpg's directory, `public` the armoured public key."""

    home: Path
    fingerprint: str
    public: Path

    def sign(self, path: Path, *options: str) -> Path:
        """Make the armoured detached signature `path`.asc."""
        signature = path.with_name(path.name + ".asc")
        self.gpg("--armor", "--yes", *options, "--output", str(signature), "--detach-sign", str(path))
        return signature

    def gpg(self, *words: str) -> str:
        """Run gpg; the agent that it leaves running and the agent's sockets are taken away again."""
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--no-tty", *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        finally:
            for option in ("--kill all", "--remove-socketdir"):
                end = ["gpgconf", "--homedir", str(self.home), *option.split()]
                subprocess.run(end, check=False, capture_output=True)


@pytest.fixture(scope="session")
def make_signing_key(tmp_path_factory: pytest.TempPathFactory) -> MakeKey:
    """A function that makes a SigningKey for a user ID."""
    if shutil.which("gpg") is None:
        pytest.skip("needs gpg")

    def make(user: str, kind: str = "ed25519") -> SigningKey:
        home = tmp_path_factory.mktemp("gnupg")
        home.chmod(0o700)
        bare = SigningKey(home, "", home / "public.asc")
        bare.gpg("--passphrase", "", "--quick-generate-key", user, kind, "sign", "never")
        listed = bare.gpg("--with-colons", "--list-keys")
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        bare.public.write_text(bare.gpg("--armor", "--export", fingerprint))
        return bare._replace(fingerprint=fingerprint)

    return make


@pytest.fixture(scope="session")
def signing_key(make_signing_key: MakeKey) -> SigningKey:
    """One throw-away key for tests that need no more."""
    return make_signing_key("Test <test@example.com>")


if TYPE_CHECKING:
    from typing import Protocol

    class MakeKey(Protocol):
        def __call__(self, user: str, kind: str = ...) -> SigningKey: ...


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the skips by reason, after pytest's own list of them."""
    reasons: dict[str, int] = {}
    skipped: Sequence[pytest.TestReport] = terminalreporter.stats.get("skipped", ())
    for report in skipped:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] = reasons.get(text.removeprefix("Skipped: "), 0) + 1
    if reasons:
        terminalreporter.section(f"{sum(reasons.values())} tests skipped, by reason")
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{count:5}  {reason}")
