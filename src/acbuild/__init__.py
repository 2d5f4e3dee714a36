"""acbuild: images from shell or Make; every command edits one build context and ends."""
