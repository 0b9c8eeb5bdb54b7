"""How peers behind translators are reached, as pure code: messages, and bounded registers of peers."""
