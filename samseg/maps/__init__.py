"""Georeferenced rasters of any size: class maps and polygons in constant memory, resumable, in shards."""

# Without rasterio its error names the extra, before any other module needs it.
import samseg.data.formats.georaster  # noqa: F401
