"""saywhere: say what you see, get where it is."""

__version__ = "0.1.0"
