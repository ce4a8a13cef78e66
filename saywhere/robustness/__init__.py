"""How much of a system's recall is left when images or words are not clean.

``images`` and ``texts`` corrupt, ``run`` asks and keeps every result, ``report`` tables and draws
what was retained.
"""

from __future__ import annotations

from saywhere.robustness.report import robustness_markdown
from saywhere.robustness.run import Plan, Robustness, run_robustness

__all__ = ["Plan", "Robustness", "robustness_markdown", "run_robustness"]
