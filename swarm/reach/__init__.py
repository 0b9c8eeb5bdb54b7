"""How peers behind translators are reached, as pure code: messages, bounded registers and who may have what."""
