"""Stage 0: prepare a pod and hand it to a stage 1."""
