"""The messages between peers, their encoding, and the rules for when each is legal. Pure."""
