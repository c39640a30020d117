"""The commands: one file = one command; its dataclass's fields are its options, its docstring is its help."""
