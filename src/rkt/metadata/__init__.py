"""The appc metadata service: what pods may ask about themselves, and how they prove who they are.

`answers` knows the specification (spec/ace.md, "App Container Metadata Service"), `registry` who is
registered, `wire` HTTP, `service` the sockets. `client` is what runs pods: it registers them. The service can
be stopped and started at any time: what it knows lies in files under /run, which a reboot clears.
"""

RUN_DIRECTORY = "/run/rkt"
SOCKET = f"{RUN_DIRECTORY}/metadata-svc.sock"
PORT = 18112
