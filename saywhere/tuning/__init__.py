"""Towers that are trained along: what feeds them, and how their gradients come together."""
