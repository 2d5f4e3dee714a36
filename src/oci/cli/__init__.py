"""The command line of `docker2aci`."""
