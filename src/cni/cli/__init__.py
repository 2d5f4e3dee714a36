"""The command `cnitool`."""
