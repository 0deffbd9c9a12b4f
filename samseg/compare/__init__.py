"""Which backbone for my data: encoders and methods as runs under one budget, and one page about them."""
