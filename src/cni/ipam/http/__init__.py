"""http: addresses from a provider's own service, by a small JSON protocol (docs/reference/http-ipam.md)."""
