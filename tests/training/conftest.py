"""Fixtures of tests that train."""

import pytest


@pytest.fixture
def small_pictures(monkeypatch):
    """Runs draw as all do, and smaller: a third of a tiny run's time would go into pictures."""
    monkeypatch.setattr("samseg.tasks.pictures.WIDTH", 42)
