"""What to say to users who type a flag that rkt does not have: one known from elsewhere, or misspelt."""

from __future__ import annotations

from appc.jsonfield import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Flags of docker run and podman run, and what rkt has instead.
_ELSEWHERE = {
    "-p": "forward a port with `--port=NAME:HOSTPORT`, where NAME is a port of the image",
    "--publish": "forward a port with `--port=NAME:HOSTPORT`, where NAME is a port of the image",
    "--expose": "forward a port with `--port=NAME:HOSTPORT`, where NAME is a port of the image",
    "-i": "connect the terminal with `--interactive`",
    "-t": "connect the terminal with `--interactive`",
    "--tty": "connect the terminal with `--interactive`",
    "-d": "run in the background with `--detach`",
    "-v": "declare `--volume=NAME,kind=host,source=PATH`, and `--mount=volume=NAME,target=PATH`",
    "--rm": "nothing is needed: `rkt gc` removes pods that have ended, `rkt rm` does it at once",
    "-e": "set a variable with `--environment=NAME=VALUE` behind the image, or `--set-env` for all apps",
    "--env": "set a variable with `--environment=NAME=VALUE` behind the image, or `--set-env` for all apps",
    "--env-file": "read variables with `--set-env-file=FILE`",
    "-w": "choose the directory with `--working-dir=PATH` behind the image",
    "--workdir": "choose the directory with `--working-dir=PATH` behind the image",
    "-u": "choose the user with `--user=USER` behind the image",
    "-h": "the host name is set with `--hostname=NAME`",
    "--entrypoint": "choose the program with `--exec=PROGRAM` behind the image",
    "--network": "choose networks with `--net=NAME`",
    "--add-host": "add a line to /etc/hosts with `--hosts-entry=IP=NAME`",
    "--dns-option": "set a resolver option with `--dns-opt=OPTION`",
    "--read-only": "make the root read-only with `--readonly-rootfs` behind the image",
    "--cap-add": "name the capabilities to keep with `--caps-retain=CAP,…` behind the image",
    "--cap-drop": "name the capabilities to drop with `--caps-remove=CAP,…` behind the image",
    "--security-opt": "filter system calls with `--seccomp=mode=…` behind the image",
    "--privileged": "switch protections off one by one with `--insecure-options=capabilities,paths,seccomp`",
    "-m": "limit memory with `--memory=SIZE` behind the image",
    "--cpus": "limit CPU time with `--cpu=CORES` behind the image",
    "-c": "weigh CPU time with `--cpu-shares=SHARES` behind the image",
    "--pull": "choose when to fetch with `--pull-policy=new|update|never`",
    "--label": "label the app with `--user-label=NAME=VALUE` behind the image",
    "-l": "label the app with `--user-label=NAME=VALUE` behind the image",
    "--group-add": "add groups with `--supplementary-gids=GID,…` behind the image",
    "--cidfile": "save the pod's UUID with `--uuid-file-save=FILE`",
    "--tmpfs": "declare `--volume=NAME,kind=empty`, and `--mount=volume=NAME,target=PATH`",
    "--userns": "give the pod its own user namespace with `--private-users`",
    "--init": "nothing is needed: the first process of every pod reaps",
    "--restart": "let the host's init run it, such as a unit with Restart=always, or use `rkt restart POD`",
}

# They are taken out before a verb sees its words, but for those behind the arguments of an app.
_GLOBAL = (
    "dir",
    "local-config",
    "system-config",
    "user-config",
    "insecure-options",
    "trust-keys-from-https",
    "debug",
)


def for_unknown(word: str, known: Iterable[str]) -> str | None:
    """A hint for the unknown flag `word` (with its dashes, perhaps with a value); None if there is none."""
    flag = word.partition("=")[0]
    if flag in _ELSEWHERE:
        return _ELSEWHERE[flag]
    if flag.removeprefix("--") in _GLOBAL:
        return "flags that every command has stand before the first `--`"
    if not flag.startswith("--"):
        letters = [_ELSEWHERE.get(f"-{letter}", "") for letter in flag[1:]]
        if all(letters):  # -it, -dit
            return "; ".join(dict.fromkeys(letters))
        flag = "-" + flag
    from difflib import get_close_matches

    near = get_close_matches(flag, [f"--{name}" for name in known], n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None


def for_value(name: str, text: str, problem: str) -> str | None:
    """A hint for the value `text` that the flag `name` cannot have for `problem`; None if there is none."""
    if "bytes too low" in problem and text.endswith("m"):
        return f"m stands for thousandths: {quoted(text)} may have been meant as {quoted(text.upper())}"
    source, colon, target = text.partition(":")
    if name == "volume" and colon and source.startswith("/"):
        target = target.partition(":")[0]
        return f"say `--volume=NAME,kind=host,source={source} --mount=volume=NAME,target={target}`"
    if name == "port" and not text.strip("0123456789"):
        return f"first the app's port, then the host's: `--port={text}:{text}`"
    return None
