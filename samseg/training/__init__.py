"""Training a run: the loop, its losses and metrics, its state and pictures."""
