"""Start a prepared pod in the foreground or detached: what `run`, `run-prepared` and `restart` share."""

from __future__ import annotations

from linux import files
from rkt.pods import phases, removal
from rkt.stage0 import assemble, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from console.output import Output
    from rkt.appargs import PodOptions
    from rkt.pods.pod import Pod
    from rkt.settings import GlobalOptions


def launch(settings: GlobalOptions, pod: Pod, options: PodOptions, out: Output) -> int:
    """Run the pod, whose lock the caller holds; the exit code for the command.

    A pod that could not even be handed to its stage 1 is removed; one that the stage 1 failed to start is
    left as exited, so that its logs can be read.
    """
    try:
        invocation = assemble.invocation(settings, options, pod)
    except BaseException:
        if pod.phase == phases.PREPARE:
            removal.discard(pod, settings.data_dir, settings.local_config)
        raise
    if options.mds_register:
        from rkt.metadata.client import new_token

        invocation = invocation._replace(mds_token=new_token())
    if not options.detach:
        return run.run(pod, invocation)
    run.run_detached(pod, invocation)
    # Exit status 0 promises that the pod is known after a power cut, if only as one that has ended.
    files.sync_filesystem(pod.fd)
    out.line(pod.uuid)
    return 0
