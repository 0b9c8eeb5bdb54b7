"""Fuzzing of everything that reads bytes of others; `make fuzz SECONDS=…` runs it, see `__main__`."""
