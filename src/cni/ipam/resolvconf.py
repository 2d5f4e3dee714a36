"""resolv.conf(5): reading what is in one, writing what belongs into one."""

from __future__ import annotations

from cni.types.result import DNS


def parse(text: str) -> DNS:
    """The nameservers, domain, search list and options; of `domain` and `search` the last line counts."""
    nameservers: list[str] = []
    options: list[str] = []
    search: list[str] = []
    domain = ""
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line.lstrip().startswith(("#", ";")):
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] == "domain":
            domain = words[1]
        elif words[0] == "search":
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return DNS(nameservers=nameservers, domain=domain, search=search, options=options)
