"""The ladder: what each part of the method is worth, measured on the same queries.

``plan`` says what is trained and asked, ``run`` does it and keeps every result, ``compare`` turns
ranks into differences with intervals, ``tables`` and ``plot`` show them.
"""

from __future__ import annotations

from saywhere.ablation.config import AblationConfig, load_ablation
from saywhere.ablation.run import run_ablation
from saywhere.ablation.tables import Ablation, ablation_markdown

__all__ = ["Ablation", "AblationConfig", "ablation_markdown", "load_ablation", "run_ablation"]
