"""Words: position words taken out, captions refined."""
