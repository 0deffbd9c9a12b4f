"""A network and an image of any size: tiles, rows of logits, colours."""
