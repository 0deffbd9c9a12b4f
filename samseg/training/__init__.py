"""Training a run: the loop, its processes, its failures and its report."""
