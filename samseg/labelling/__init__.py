"""Backends that annotation tools ask: a trained run pre-annotates, SAM answers clicks."""
