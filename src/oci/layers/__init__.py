"""Layers: changes to a root filesystem as archives, with names that say what is gone (image-spec, layer.md).

`tree` decides what a stack of layers comes to, without writing anything; `flatten` makes one directory or
one archive of them, `stack` one directory for each, to be laid over each other as an overlay; `write` makes a
layer of a directory or an image; `plain` takes the compression off.
"""
