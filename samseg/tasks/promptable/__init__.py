"""The task promptable: SAM, prompted for the objects of an image."""
