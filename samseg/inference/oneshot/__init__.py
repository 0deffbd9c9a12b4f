"""Objects found from one example."""
