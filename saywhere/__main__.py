"""``python -m saywhere``: for launchers that start a module, as ``torchrun -m`` does."""

from __future__ import annotations

from saywhere.cli import main

if __name__ == "__main__":
    main()
