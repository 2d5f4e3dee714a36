"""The command line of acbuild."""
