"""A page to try trained runs and SAM on, in the browser of this machine."""
