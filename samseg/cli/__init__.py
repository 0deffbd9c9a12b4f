"""The commands, and what they share: exit codes and one-line errors."""
