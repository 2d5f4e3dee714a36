"""The two kinds of manifests, and a tolerant reader for broken ones."""
