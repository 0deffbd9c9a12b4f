"""Rasters whose numbers stand for colours or count from white, translated by GDAL as photos are read."""

from typing import Any
from xml.etree import ElementTree

import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster


def in_colours(source: Any) -> Any:
    """A raster as photos are read: colours for a palette's numbers, 8 bits of grey, black at 0; others as they are.

    GDAL translates while it reads, so windows, masks, resampling and the place on Earth are those of any raster.
    """
    if source.count != 1 or source.dtypes[0] != "uint8":
        return source
    structure = source.tags(ns="IMAGE_STRUCTURE") | source.tags(1, ns="IMAGE_STRUCTURE")
    bits = int(structure.get("NBITS", 8))
    step = 255 // (2**bits - 1)
    if structure.get("MINISWHITE") == "YES":
        bands = [("Gray", {"ScaleOffset": 255, "ScaleRatio": -step})]
    elif source.colorinterp[0] == ColorInterp.palette:
        names = ("Red", "Green", "Blue")
        bands = [(name, {"ColorTableComponent": number}) for number, name in enumerate(names, start=1)]
        if bits == 1 and all(len(set(colour[:3])) == 1 for colour in source.colormap(1).values()):
            bands = [("Gray", {"ColorTableComponent": 1})]
    elif bits < 8:
        bands = [("Gray", {"ScaleOffset": 0, "ScaleRatio": step})]
    else:
        return source
    with MemoryFile(ext=".vrt") as memory:
        copy_raster(source, memory.name, driver="VRT")
        tree = ElementTree.fromstring(memory.read())
    plain = tree.find("VRTRasterBand")
    tree.remove(plain)
    place = plain.find("*/SourceFilename")
    for number, (name, translation) in enumerate(bands, start=1):
        band = ElementTree.SubElement(tree, "VRTRasterBand", dataType="Byte", band=str(number))
        ElementTree.SubElement(band, "ColorInterp").text = name
        translated = ElementTree.SubElement(band, "ComplexSource")
        translated.append(place)
        ElementTree.SubElement(translated, "SourceBand").text = "1"
        for key, value in translation.items():
            ElementTree.SubElement(translated, key).text = str(value)
    if tree.find("MaskBand") is None and source.mask_flag_enums[0] != [MaskFlags.all_valid]:
        mask = ElementTree.SubElement(ElementTree.SubElement(tree, "MaskBand"), "VRTRasterBand", dataType="Byte")
        shown = ElementTree.SubElement(mask, "SimpleSource")
        shown.append(place)
        ElementTree.SubElement(shown, "SourceBand").text = "mask,1"
    seen = rasterio.open(ElementTree.tostring(tree, encoding="unicode"))
    source.close()
    return seen
