"""Programs with everything that they need to run: found without ever running them."""
