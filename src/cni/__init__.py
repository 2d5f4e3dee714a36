"""The Container Network Interface: library, runtime and plugins."""
