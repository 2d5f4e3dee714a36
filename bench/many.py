"""Two hundred pods: time to start each, memory beside the apps, `list`, removal."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import bundle


def run(directory: Path, count: int = 200) -> str:
    """The figures, in Markdown."""
    root = bundle.rootfs(directory)
    image = bundle.aci(directory, root, ["/bin/sleep", "1000"])
    rkt = bundle.data_dir(directory, image)
    times = []
    uuids = []
    for _ in range(count):
        start = time.perf_counter()
        done = subprocess.run(
            [*rkt, "run", "--detach", "example.com/bench"], check=True, capture_output=True, text=True
        )
        times.append(time.perf_counter() - start)
        uuids.append(done.stdout.strip())
    mounts = sum(1 for line in Path("/proc/self/mountinfo").read_text().splitlines() if "cni-" in line)
    memory = _pss(directory / "data", uuids)
    start = time.perf_counter()
    listed = subprocess.run([*rkt, "list", "--no-legend"], check=True, capture_output=True, text=True)
    listing = time.perf_counter() - start
    addresses = {word for word in listed.stdout.split() if "ip4=" in word}
    start = time.perf_counter()
    subprocess.run([*rkt, "stop", *uuids], check=True, capture_output=True)
    subprocess.run([*rkt, "rm", *uuids], check=True, capture_output=True)
    removal = time.perf_counter() - start
    return "\n".join(
        (
            f"### {count} pods on the default network",
            "",
            "| what | figure |",
            "|---|---|",
            f"| start, mean of the first ten | {sum(times[:10]) / 10 * 1000:.0f} ms |",
            f"| start, mean of the last ten | {sum(times[-10:]) / 10 * 1000:.0f} ms |",
            f"| different addresses | {len(addresses)} |",
            f"| PSS of rkt's processes, a pod | {memory / count / 1024:.1f} MB |",
            f"| mounts visible on the host, a pod | {mounts / count:.1f} |",
            f"| `rkt list` | {listing * 1000:.0f} ms |",
            f"| `rkt stop` and `rkt rm` of all | {removal:.1f} s |",
        )
    )


def _pss(data: Path, uuids: list[str]) -> int:
    """KiB of the supervisors and first processes of the pods."""
    total = 0
    for uuid in uuids:
        for name in ("pid", "ppid"):
            pid = (data / f"pods/run/{uuid}/{name}").read_text().strip()
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total
