"""The command `actool`."""
