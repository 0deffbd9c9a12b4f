"""SAM under training with prompts: the prompts that are simulated, and the model that learns from them."""
