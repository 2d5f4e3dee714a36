"""Registries (distribution-spec 1.1): images come from there and go there, checked on every byte.

`pull.pull` and `push.push` do all; `settings` says which hosts are mirrors or speak plain http, `logins` who
the user is there (docker's and podman's configuration files and credential helpers). A credential is sent to
the host that it is for, and to the token server that this very host names over https; to nobody else.
"""
