"""How fast pictures come, beside how fast a network takes them."""
