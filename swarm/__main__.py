"""``python -m swarm``, and the entry point of the ``swarm`` command.

The commands are in the top-level package ``cli``, a common name. It is loaded from beside this package, so
that another ``cli`` that comes first on the search path is never taken for it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main() -> None:
    """Run ``swarm`` with the arguments of this process, and exit with the documented code."""
    folder = Path(__file__).resolve().parents[1] / "cli"
    spec = importlib.util.spec_from_file_location(
        "cli", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"the commands of swarm are missing: {folder}")
    package = importlib.util.module_from_spec(spec)
    sys.modules["cli"] = package
    spec.loader.exec_module(package)
    package.main()


if __name__ == "__main__":
    main()
