"""Check every file of a data set before the first step: what it holds, and all that is wrong with it."""
