"""rkt: a pod runtime with a simple command and no daemon."""
