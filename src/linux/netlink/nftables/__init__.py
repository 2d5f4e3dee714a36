"""nftables over nfnetlink: rules, maps and elements, changed in transactions that happen or do not."""
