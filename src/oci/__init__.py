"""OCI and Docker images: registries, layouts, docker archives, layers, conversion to and from ACI.

What callers need, in the order in which they need it:

* `types.reference.Reference.parse("docker://quay.io/a/b:1@sha256:…")` names an image, and
  `types.platform.Platform` (`of_host()`, `parse("linux/arm/v7")`) says for which machine.
  `types.config.ImageConfig` and its `Process` are what the image says about itself: `entrypoint` and `cmd`
  apart, `command` both, `user`, `env`, `volumes`.
* `blobs.BlobDirectory(path)` is a store of content by digest; a store of one's own needs the three methods of
  `blobs.WritableBlobs` (`has`, `open`, `receive`).
* An `image.Image` is `blobs`, `manifest`, `config` and `layers`, wherever it came from:
  `registry.pull.pull(reference, blobs, platform, settings=…, logins=…, progress=…).image`,
  `with source.opened(path, reference_or_None, platform) as found: found.image` for files of any kind,
  `layout.read_directory(path).image(tag, platform)`, `image.load(blobs, descriptor, platform, what)` for what
  was pulled before. `image.copy_to(blobs)` takes it elsewhere.
* `with image.open_layer(layer) as file` gives a layer's verified, compressed bytes.
  `layers.flatten.to_directory` makes one root filesystem of `layers.flatten.Source(file, layer.diff_id)`;
  `layers.stack.unpack` one directory of one layer, `layers.stack.mark` its whiteouts, and
  `layers.stack.stackable(unpacked)` tells whether an overlay of these shows the same (else flatten).
* `convert.to_manifest.manifest` makes appc's manifest of a configuration, `convert.to_aci.squashed` a whole
  ACI; `convert.to_image.from_aci`, `.from_tree` and `image.assemble` make images, of layers that
  `layers.write` made of a directory (`changes=True`: the upper directory of an overlay).
* Out again: `registry.push.push(reference, image, …)`, `layout.LayoutDirectory(path).add(image, tag)`,
  `layout.write_archive`, `docker_archive.write`.

`registry.settings.Settings` has mirrors and plain-http registries (`rules_of` reads files of registries.d),
`registry.logins.Logins` who the user is; both are optional. Failures are `errors.OciError` (with `hint`), the
`appc.errors.AppcError` of a broken layer (InvalidArchive) or of the network (HttpError), and OSError.

Pulling and pushing use threads, which have ended when the call returns; unpacking forks, and so wants a
process without threads. Nothing here is imported by a pod that starts.
"""
