"""Objects of photos: found, scored and written."""
