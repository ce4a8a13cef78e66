"""Malformed input from seeds: the same seed gives the same files, so a failure can be had again."""
