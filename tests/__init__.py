"""The tests. Asserts of their support are rewritten too, so that they hold under ``python -O``."""

import sys

if "pytest" in sys.modules:
    import pytest

    pytest.register_assert_rewrite(
        *(f"tests.{name}" for name in ("faults", "fuzz", "interop", "siege", "simulation", "support"))
    )
