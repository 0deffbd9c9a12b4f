"""The ground: what every room may use."""
