"""Who is asked for which piece, who is served, whom to dial: pure policies, see docs/strategy.md."""
