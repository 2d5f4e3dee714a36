"""Mounts: the kernel's calls, what is mounted, overlays, ID-mapped mounts."""
