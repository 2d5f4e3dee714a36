"""The verbs `rkt cni …`: the networks of this node, whoever attached something to them."""
