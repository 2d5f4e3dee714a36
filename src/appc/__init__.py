"""The App Container specification as a library: manifests, archives, discovery, signatures."""
