"""Georeferenced rasters of any size: class maps and polygons in constant memory, resumable, in shards."""

import samseg.data.raster  # noqa: F401 (without rasterio its error names the extra, before any other module needs it)
