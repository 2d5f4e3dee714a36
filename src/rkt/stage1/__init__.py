"""Stage 1: what runs the apps of a prepared pod; flavours behind one ABI."""
