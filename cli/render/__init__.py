"""How a transfer looks: a bar on a terminal, plain lines elsewhere, JSON lines for programs."""
