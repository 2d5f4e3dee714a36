"""Configuration that several programs read: the files of rkt's configuration directories, and credentials."""
