"""What the plugins that make interfaces share: names, the veth pair, the container's side, CHECK."""
