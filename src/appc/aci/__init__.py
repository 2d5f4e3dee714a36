"""App container images as archives: reading, checking, writing, taking apart."""
