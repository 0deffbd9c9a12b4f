"""Generated aerial scenes, for a first run without a download."""
