"""A run is a folder on disk: its file names, its lock, its state, its weights."""
