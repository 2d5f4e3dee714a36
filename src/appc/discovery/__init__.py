"""Where the image of a name is to be found: meta discovery (spec/discovery.md).

`page` reads the meta tags of a page, `templates` turns them into addresses, `walk` asks servers, from the
name itself up to its host.
"""
