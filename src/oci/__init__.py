"""OCI and Docker images: registries, layouts, docker archives, layers, conversion to and from ACI."""
