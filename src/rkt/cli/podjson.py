"""A pod as JSON: the shape that `list` and `status` share.

The keys `name` (the UUID), `state`, `networks`, `app_names`, `created_at` and `started_at` are those of
rkt's v1 API types; the others are ours. Times are nanoseconds since the epoch, as there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rkt.pods.inspection import PodFacts


def pod_json(pod: PodFacts) -> dict[str, object]:
    value: dict[str, object] = {
        "name": pod.uuid,
        "uuid": pod.uuid,
        "state": pod.state,
        "networks": [
            {"netName": net.name, "ifName": net.ifname, "ip": net.ip4, "ip6": net.ip6} for net in pod.networks
        ],
        "app_names": [app.name for app in pod.apps],
        "apps": [
            {
                "name": app.name,
                "image_id": app.image_id,
                "image_name": app.image_name,
                "image_version": app.image_version,
                "pid": app.pid,
                "exit_code": app.exit_code,
            }
            for app in pod.apps
        ],
        "flavour": pod.flavour,
        "not_enforced": list(pod.not_enforced),
        "out_of_memory": list(pod.out_of_memory),
    }
    if pod.name:
        value["pod_name"] = pod.name
    if pod.pid is not None:
        value["pid"] = pod.pid
    for key, seconds in (
        ("created_at", pod.created),
        ("started_at", pod.started),
        ("finished_at", pod.finished),
    ):
        if seconds is not None:
            value[key] = int(seconds * 1_000_000_000)
    return value
