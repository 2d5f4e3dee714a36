"""From OCI and Docker images to ACIs and back: `to_manifest` and `to_config` for what they say about the app,
`to_aci` and `to_image` for whole images, `identity` for users and groups.
"""
