"""What the plugins have in nftables: tables of their own, with maps whose elements are attachments.

The number of rules does not depend on the number of containers; a packet costs one look-up.
"""
