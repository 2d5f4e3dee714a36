"""What the plugins have in iptables where a configuration asks for it: the reference's chains and rules.

Names and comments are theirs, so that either implementation finds and removes what the other one made.
"""
