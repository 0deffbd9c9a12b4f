"""The parts of a map: how they are divided, computed and kept."""
