"""The native stage 1 on the real kernel: pods of busybox apps, run, watched and collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import MakePod


def test_an_app_runs_and_its_code_is_the_pods(make_pod: MakePod) -> None:
    pod = make_pod(["sh", "-c", "echo hello; exit 7"])
    done = pod.run()
    assert done.stderr == ""
    assert done.lines == ["hello"]
    assert done.code == 7
    assert pod.status() == "7"
