"""One module per verb of the rkt command."""
