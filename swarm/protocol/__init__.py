"""What peers say to each other: messages, their bytes, and what is legal when. Pure."""
