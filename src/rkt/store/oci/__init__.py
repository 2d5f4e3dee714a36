"""Images of layers in the store: kept as they came, each layer once, unpacked once to be laid under overlays.

To the rest of the store such an image is a small document (`records`) in the place of an archive: its ID is
the hash of that. Behind it are blobs by digest (`content`), unpacked layers by diff ID (`layers`), and trees
that say which layers lie over each other (`trees`). An archive is made of it when one is asked for.
"""
