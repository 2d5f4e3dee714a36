"""Address management: the plugins that say which address an interface gets."""
