"""Published images: a directory that any web server can serve, with the pages that discovery asks for.

`release` says what an image is called in it, `tree` puts images there, `pages` writes the pages.
"""
