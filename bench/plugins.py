"""CNI plugins beside Debian's Go plugins: one attachment, and how its cost grows with what a node has.

Plugins run as a runtime runs them: a process each, configuration on standard input. Everything happens in a
network and a mount namespace of its own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import bundle
import plot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GO = "/usr/lib/cni"
OURS = str(bundle.CHECKOUT / "lib/cni")
_NETNS = "/run/netns/bench"
_ADDRESSES = (10, 100, 1_000, 10_000, 30_000)
_MAPPINGS = (0, 100, 1_000, 3_000, 10_000)
# What one ADD beside this many takes the Go plugins is seconds; the figure would say nothing new.
_MOST_RULES_FOR_GO = 3_000
_OTHERS = 512  # where the addresses of other containers begin, behind that of the measured one
_FIRST_PORT_OF_GO, _FIRST_PORT = 2_000, 20_000


class Cost(NamedTuple):
    """Medians of one operation, in milliseconds."""

    wall: float
    cpu: float


def run(directory: Path, rounds: int) -> str:
    """The tables, in Markdown; plots of the two series lie in `directory` (addresses.svg, mappings.svg)."""
    worker = ["unshare", "--net", "--mount", sys.executable, __file__, str(directory), str(rounds)]
    done = subprocess.run(worker, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.rstrip()


class Chain:
    """The plugins of one network, called one after the other as processes from `path`."""

    def __init__(self, path: str, directory: Path, plugins: Sequence[Mapping[str, object]]) -> None:
        self.path = path
        self.name = "go" if path == GO else "ours"
        self._directory = directory
        network = {"cniVersion": "1.0.0", "name": f"bench-{self.name}"}
        self._plugins = [{**network, **plugin} for plugin in plugins]
        self._result: object = None

    def add(self) -> tuple[float, float]:
        """Seconds of wall clock and of CPU of one ADD of all plugins."""
        self._result = None
        return self._call("ADD", self._plugins)

    def delete(self) -> tuple[float, float]:
        return self._call("DEL", self._plugins[::-1])

    def _call(self, command: str, plugins: Sequence[Mapping[str, object]]) -> tuple[float, float]:
        wall = cpu = 0.0
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "bench",
            "CNI_NETNS": _NETNS,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.path,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        for plugin in plugins:
            config = dict(plugin) if self._result is None else {**plugin, "prevResult": self._result}
            answer = self._directory / "answer"
            begun = time.perf_counter()
            status, used = _process(f"{self.path}/{plugin['type']}", environment, json.dumps(config), answer)
            wall += time.perf_counter() - begun
            cpu += used
            text = answer.read_text()
            if status != 0:
                raise RuntimeError(f"{self.name} {plugin['type']} {command}: {text}")
            if command == "ADD":
                self._result = json.loads(text)
        return wall, cpu


def _process(executable: str, environment: Mapping[str, str], stdin: str, stdout: Path) -> tuple[int, float]:
    """Exit status and seconds of CPU, of the process and of all that it waited for."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.dup2(reading, 0)
        out = os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execve(executable, [executable], environment)
    os.close(reading)
    os.write(writing, stdin.encode())
    os.close(writing)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def _compare(chains: Sequence[Chain], rounds: int) -> dict[tuple[str, str], Cost]:
    """Interleaved rounds, after one that does not count."""
    samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for chain in chains:
            for command, call in (("ADD", chain.add), ("DEL", chain.delete)):
                sample = call()
                if number:
                    samples.setdefault((chain.name, command), []).append(sample)
    return {key: _cost(found) for key, found in samples.items()}


def _cost(samples: Sequence[tuple[float, float]]) -> Cost:
    wall, cpu = (statistics.median(column) * 1000 for column in zip(*samples, strict=True))
    return Cost(wall, cpu)


def _bridge(name: str, directory: Path, **options: object) -> dict[str, object]:
    ipam = {"type": "host-local", "subnet": "10.9.0.0/16", "dataDir": str(directory / f"leases-{name}")}
    return {"type": "bridge", "bridge": f"br-{name}", "isGateway": True, "ipam": ipam, **options}


def _portmap(port: int) -> dict[str, object]:
    mapping = {"hostPort": port, "containerPort": 80, "protocol": "tcp"}
    return {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": [mapping]},
    }


def _paths() -> list[str]:
    return [GO, OURS] if os.path.exists(f"{GO}/bridge") else [OURS]


def _attachments(directory: Path, rounds: int) -> str:
    """One attachment on an empty node, as processes, and within a process."""
    lines = [
        "### One attachment: ADD and DEL as processes",
        "",
        "| network | plugins | ADD CPU ms | ADD wall ms | DEL CPU ms | DEL wall ms | ADD CPU / Go |",
        "|---|---|---|---|---|---|---|",
    ]
    networks: dict[str, Callable[[str], list[dict[str, object]]]] = {
        "bridge, host-local": lambda name: [_bridge(name, directory)],
        "the same, masquerade": lambda name: [_bridge(name, directory, ipMasq=True)],
        "the same, masquerade, portmap": lambda name: [
            _bridge(name, directory, ipMasq=True),
            _portmap(8080 if name == "go" else 8081),
        ],
    }
    for title, plugins in networks.items():
        chains = [Chain(path, directory, plugins("go" if path == GO else "ours")) for path in _paths()]
        costs = _compare(chains, rounds)
        for chain in chains:
            add, delete = costs[chain.name, "ADD"], costs[chain.name, "DEL"]
            go = costs.get(("go", "ADD"))
            lines.append(
                f"| {title} | {chain.name} | {add.cpu:.1f} | {add.wall:.1f} | {delete.cpu:.1f} "
                f"| {delete.wall:.1f} | {f'{add.cpu / go.cpu:.2f}' if go else '-'} |"
            )
    return "\n".join([*lines, "", _in_process(directory, rounds * 5)])


def _in_process(directory: Path, rounds: int) -> str:
    """The same plain bridge by the library, as rkt calls it: no process is started.

    And what of it is the kernel's: the work of its netlink requests, and the disk's for the lease.
    """
    sys.path.insert(0, str(bundle.CHECKOUT / "src"))
    from cni import plugin
    from linux.netlink.socket import Socket

    spent = {"netlink": 0.0, "fsync": 0.0}

    def timed(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            begun = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[name] += (time.perf_counter() - begun) * 1000

        return call

    Socket.send = timed("netlink", Socket.send)  # type: ignore[assignment,method-assign]
    os.fsync = timed("fsync", os.fsync)  # type: ignore[assignment]
    config = {"cniVersion": "1.0.0", "name": "bench-within", **_bridge("within", directory)}
    variables = {"CNI_CONTAINERID": "bench", "CNI_NETNS": _NETNS, "CNI_IFNAME": "eth0", "CNI_PATH": OURS}
    walls, netlink, fsync = [], [], []
    for number in range(rounds + 1):
        spent.update(netlink=0.0, fsync=0.0)
        begun = time.perf_counter()
        plugin.handle("bridge", {**variables, "CNI_COMMAND": "ADD"}, config)
        if number:
            walls.append((time.perf_counter() - begun) * 1000)
            netlink.append(spent["netlink"])
            fsync.append(spent["fsync"])
        plugin.handle("bridge", {**variables, "CNI_COMMAND": "DEL"}, config)
    return (
        f"ADD on the bridge in-process: median {statistics.median(walls):.2f} ms, least {min(walls):.2f}; "
        f"of it {statistics.median(netlink):.2f} in netlink requests, "
        f"{statistics.median(fsync):.2f} in the fsync of the lease."
    )


def _series(
    title: str, what: str, sizes: Sequence[int], measure: Callable[[int], Mapping[str, Cost | None]]
) -> tuple[str, dict[str, list[tuple[int, float]]]]:
    """A table with a row for each size, and its points for a plot (CPU of the ADD)."""
    names = ["go", "ours"] if len(_paths()) > 1 else ["ours"]
    lines = [
        f"### {title}",
        "",
        f"| {what} | " + " | ".join(f"{name}: CPU ms | {name}: wall ms" for name in names) + " |",
        "|---|" + "---|---|" * len(names),
    ]
    points: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
    for size in sizes:
        costs = measure(size)
        cells = []
        for name in names:
            cost = costs.get(name)
            cells.append("- | -" if cost is None else f"{cost.cpu:.1f} | {cost.wall:.1f}")
            if cost is not None:
                points[name].append((size, cost.cpu))
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines), points


def _by_addresses(directory: Path, rounds: int) -> str:
    """ADD of host-local alone with so many addresses given out to others."""

    def measure(size: int) -> dict[str, Cost | None]:
        found: dict[str, Cost | None] = {}
        for path in _paths():
            name = "go" if path == GO else "ours"
            leases = directory / f"full-{name}-{size}"
            network = leases / f"bench-{name}"
            network.mkdir(parents=True)
            for number in range(size):
                high, low = divmod(number + 2, 256)
                (network / f"10.9.{high}.{low}").write_text(f"other-{number}\r\neth0")
            high, low = divmod(size + 1, 256)
            (network / "last_reserved_ip.0").write_text(f"10.9.{high}.{low}")
            ipam = {"type": "host-local", "subnet": "10.9.0.0/16", "dataDir": str(leases)}
            chain = Chain(path, directory, [{"type": "host-local", "ipam": ipam}])
            found[name] = _compare([chain], rounds)[name, "ADD"]
        return found

    text, points = _series("host-local ADD by addresses in use", "addresses", _ADDRESSES, measure)
    plot.lines(directory / "addresses.svg", "host-local: CPU of an ADD", "addresses in use", "ms", points)
    return text


def _by_mappings(directory: Path, rounds: int) -> str:
    """ADD of portmap alone beside so many port mappings of others."""
    here = 0

    def measure(size: int) -> dict[str, Cost | None]:
        nonlocal here
        found: dict[str, Cost | None] = {}
        previous = {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "sandbox": _NETNS}],
            "ips": [{"interface": 0, "address": "10.9.0.2/16"}],
        }
        for path in _paths():
            name = "go" if path == GO else "ours"
            if name == "go" and size > _MOST_RULES_FOR_GO:
                found[name] = None
                continue
            _fill(name, 0 if name == "go" else here, size)
            chain = Chain(path, directory, [{**_portmap(60_000), "prevResult": previous}])
            found[name] = _compare([chain], max(3, rounds // 2))[name, "ADD"]
            if name == "go":  # ours looks through these for a port in use: a mixed node is another matter
                for command in ("-F", "-X"):
                    subprocess.run(["iptables", "-t", "nat", command], check=True)
        here = size
        return found

    text, points = _series("portmap ADD by mappings of others", "mappings", _MAPPINGS, measure)
    plot.lines(directory / "mappings.svg", "portmap: CPU of an ADD", "mappings of others", "ms", points)
    return text


def _fill(name: str, begin: int, end: int) -> None:
    """Have the mappings `begin` to `end` of other containers, as each implementation lays them down."""
    if end <= begin:
        return
    if name == "go":
        text = "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n"
        text += "".join(f":CNI-DN-{number:021x} - [0:0]\n" for number in range(begin, end))
        for number in range(begin, end):
            chain, port = f"CNI-DN-{number:021x}", _FIRST_PORT_OF_GO + number
            high, low = divmod(number + _OTHERS, 256)
            match = f'-m comment --comment "dnat name: other id: {number}"'
            text += f"-A CNI-HOSTPORT-DNAT -p tcp {match} -m multiport --dports {port} -j {chain}\n"
            text += f"-A {chain} -p tcp -m tcp --dport {port} -j DNAT --to-destination 10.9.{high}.{low}:80\n"
        command = ["iptables-restore", "--noflush", "--wait"]
        subprocess.run(command, input=text + "COMMIT\n", text=True, check=True)
        return
    sys.path.insert(0, str(bundle.CHECKOUT / "src"))
    from cni import plugin

    # One container with many ports, which is faster to make; in the maps it is the same.
    ports = [
        {"hostPort": _FIRST_PORT + number, "containerPort": number + 1, "protocol": "tcp"}
        for number in range(begin, end)
    ]
    high, low = divmod(begin + _OTHERS, 256)
    config = {
        "cniVersion": "1.0.0",
        "name": "bench-ours",
        "type": "portmap",
        "runtimeConfig": {"portMappings": ports},
        "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": f"10.9.{high}.{low}/16"}]},
    }
    variables = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": f"other-{begin}", "CNI_NETNS": _NETNS}
    plugin.handle("portmap", {**variables, "CNI_IFNAME": "eth0", "CNI_PATH": OURS}, config)


def _main(directory: Path, rounds: int) -> None:
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "bench", "/run"],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "netns", "add", os.path.basename(_NETNS)],
    ):
        subprocess.run(command, check=True)
    for part in (_attachments, _by_addresses, _by_mappings):
        sys.stdout.write(part(directory, rounds) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
