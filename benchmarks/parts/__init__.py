"""The parts of ``speed.py``: each measures one thing and returns lines of the table."""
