"""The documents of images: references, digests, descriptors, manifests, indexes, configurations.

Strict where a mistake is an attack (digests, sizes, what kind of document it is), tolerant of members that
are not known. All values are immutable; ValueError, or its kind InvalidImage, tells what is wrong.
"""
