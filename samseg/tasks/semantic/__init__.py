"""The task of classes, a class a pixel."""
