"""The verbs of `rkt image`: what is in the store, and getting it out of there."""
