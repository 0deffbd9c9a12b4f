"""A trained run on a split of its data."""
