"""The kernel and the host without policy: all other packages stand on this one."""
