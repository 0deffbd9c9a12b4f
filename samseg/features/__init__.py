"""The cache of a frozen encoder's features."""
