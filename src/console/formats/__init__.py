"""How values are shown: tables, templates, and numbers for people."""
