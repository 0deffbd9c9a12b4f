"""A run's configuration: its sections put together, read from YAML and checked."""
