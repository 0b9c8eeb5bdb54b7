"""Swarms of up to a thousand real brains in virtual time; see docs/strategy.md."""
