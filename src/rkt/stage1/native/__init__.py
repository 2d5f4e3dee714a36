"""The native stage 1: namespaces made directly, a parent that supervises, a child that is the pod's PID 1."""
