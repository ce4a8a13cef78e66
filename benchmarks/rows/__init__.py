"""The rows of ``better.py``: what else might make experts from the small towers better."""
