"""What all command lines of the platform share: verbs, output, progress, hints."""
