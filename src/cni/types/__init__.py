"""The data of CNI: versions, addresses, names, results."""
