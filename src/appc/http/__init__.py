"""A web client that trusts no server: deadlines, limits, and credentials that stay where they belong.

`client.Client` does one GET under the rules, `download.Download` a long one that can be resumed, `auth` holds
the credentials. Nothing here decides what to fetch.
"""
