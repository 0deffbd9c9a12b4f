"""Polygons of class maps: traced, written, compared with objects."""
