"""Runs as repositories of the Hugging Face hub: published with a card, read by their name."""
