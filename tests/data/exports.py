"""Folders as annotation tools and data sets have them: the files, names and keys of each, on six small images.

Each function writes its export of the scenes of `truth` into a folder, and gives what the classes are called there:
for background, cell and plate.
"""

import json
import unicodedata
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

HEIGHT, WIDTH = 32, 48
STEMS = ("a", "b.v2 (1)", "c [3]", "d", "e", "f")
SPLITS = {"train": STEMS[:3], "val": STEMS[3:5], "test": STEMS[5:]}
NAMES = ("background", "cell", "plate")
VALUES = ("0", "1", "2")


def boxes(stem: str) -> list[tuple[int, int, int, int, int]]:
    """(class, top, left, bottom, right) of an image's objects: a large cell, and on it a smaller plate."""
    shift = STEMS.index(stem)
    return [(1, 3, 2 + shift, 24, 20 + shift), (2, 8, 6, 14, 30)]


def truth(stem: str) -> np.ndarray:
    """0 background, 1 cell, 2 plate (H, W)."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, top, left, bottom, right in boxes(stem):
        label[top:bottom, left:right] = number
    return label


def polygon(box: tuple[int, int, int, int, int]) -> list[list[int]]:
    """A box's corners, and one on its upper side: no tool's polygons are rectangles alone."""
    _, top, left, bottom, right = box
    return [[left, top], [(left + right) // 2, top], [right, top], [right, bottom], [left, bottom]]


def save(path: Path, array: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array, mode).save(path)


def photo(path: Path) -> None:
    """Noise, other for each name."""
    generator = np.random.default_rng(zlib.crc32(str(path).encode()))
    save(path, generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def coco(stems: tuple[str, ...], categories: list[str], file_name=lambda stem: f"{stem}.png") -> str:
    """COCO's JSON; the ``categories`` of ids from 0, of which the last two are cell and plate."""
    first = len(categories) - 2
    images = [
        {"id": number, "license": 1, "file_name": file_name(stem), "height": HEIGHT, "width": WIDTH}
        for number, stem in enumerate(stems)
    ]
    annotations = []
    for number, stem in enumerate(stems):
        for box in boxes(stem):
            kind, top, left, bottom, right = box
            annotations.append(
                {
                    **{"id": len(annotations), "image_id": number, "category_id": first + kind - 1, "iscrowd": 0},
                    **{"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)},
                    "segmentation": [[part for point in polygon(box) for part in point]],
                }
            )
    kinds = [{"id": number, "name": name, "supercategory": "none"} for number, name in enumerate(categories)]
    return json.dumps({"info": {}, "licenses": [], "categories": kinds, "images": images, "annotations": annotations})


def roboflow_coco(root: Path) -> tuple[str, ...]:
    """ "COCO Segmentation": JSON beside the images, valid/, and a root category that has no objects."""
    for split, stems in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        for stem in stems:
            photo(folder / f"{stem}.png")
        write(folder / "_annotations.coco.json", coco(stems, ["cells-and-plates", "cell", "plate"]))
    write(root / "README.roboflow.txt", "microscopy - v1")
    return NAMES


def coco_2017(root: Path) -> tuple[str, ...]:
    for split, stems in list(SPLITS.items())[:2]:
        for stem in stems:
            photo(root / f"{split}2017" / f"{stem}.png")
        write(root / "annotations" / f"instances_{split}2017.json", coco(stems, ["cell", "plate"]))
        write(root / "annotations" / f"captions_{split}2017.json", '{"images": [], "annotations": []}')
    return NAMES


def cvat_coco(root: Path) -> tuple[str, ...]:
    """CVAT's "COCO 1.0" of a task: one JSON, images in a folder of its subset."""
    for stem in STEMS:
        photo(root / "images" / "default" / f"{stem}.png")
    write(root / "annotations" / "instances_default.json", coco(STEMS, ["cell", "plate"]))
    return NAMES


def a_json_a_split(root: Path) -> tuple[str, ...]:
    """All images in one folder, and a JSON file for each split."""
    for split, stems in SPLITS.items():
        for stem in stems:
            photo(root / "images" / f"{stem}.png")
        write(root / "annotations" / f"{split}.json", coco(stems, ["cell", "plate"]))
    return NAMES


def label_studio_coco(root: Path) -> tuple[str, ...]:
    """Label Studio's "COCO", exported on Windows."""
    for stem in STEMS:
        photo(root / "images" / f"1f2e3d4c-{stem}.png")
    write(root / "result.json", coco(STEMS, ["cell", "plate"], lambda stem: rf"images\1f2e3d4c-{stem}.png"))
    return NAMES


def label_studio_coco_of_urls(root: Path) -> tuple[str, ...]:
    """The same of files that were uploaded, by the addresses that the server has for them, beside the originals."""
    for stem in STEMS:
        photo(root / "images" / f"{stem}.png")
    quoted = {"b.v2 (1)": "b.v2%20%281%29", "c [3]": "c%20%5B3%5D"}
    name = lambda stem: f"/data/upload/7/1f2e3d4c-{quoted.get(stem, stem)}.png"  # noqa: E731
    write(root / "result.json", coco(STEMS, ["cell", "plate"], name))
    return NAMES


def brush(mask: np.ndarray) -> list[int]:
    """Label Studio's RLE of a mask, written as its browser does: four channels a pixel, runs and literals."""
    pixels = np.repeat(mask.astype(np.uint8).ravel() * 255, 4)
    bits = f"{len(pixels):032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = [run[at : at + 2**16] for run in np.split(pixels, edges) for at in range(0, len(run), 2**16)]
    for run in runs:
        literal = len(run) <= 8
        kind, size = (0, 3) if len(run) <= 8 else (2, 8) if len(run) <= 256 else (3, 16)
        bits += f"{0 if literal else 1}{kind:02b}{len(run) - 1:0{size}b}"
        bits += "".join(f"{value:08b}" for value in (run if literal else run[:1]))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def label_studio_region(number: int, kind: str, label: str, value: dict) -> dict:
    return {
        **{"id": f"r{number}", "type": kind, "from_name": "label", "to_name": "image", "origin": "manual"},
        **{"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "value": value | {kind: [label]}},
    }


def label_studio_json(root: Path) -> tuple[str, ...]:
    """Its own JSON: cells as brush strokes or polygons, plates as rectangles; of two annotations the ground truth."""
    tasks = []
    for number, stem in enumerate(STEMS):
        photo(root / "images" / f"1f2e3d4c-{stem}.png")
        cell, (_, top, left, bottom, right) = boxes(stem)
        percent = np.array([100 / WIDTH, 100 / HEIGHT])
        if number % 2:
            points = (np.array(polygon(cell)) * percent).tolist()
            first = label_studio_region(1, "polygonlabels", "cell", {"points": points, "closed": True})
        else:
            painted = np.zeros((HEIGHT, WIDTH), bool)
            painted[cell[1] : cell[3], cell[2] : cell[4]] = True
            first = label_studio_region(1, "brushlabels", "cell", {"format": "rle", "rle": brush(painted)})
        place = {"x": left * percent[0], "y": top * percent[1], "rotation": 0}
        place |= {"width": (right - left) * percent[0], "height": (bottom - top) * percent[1]}
        second = label_studio_region(2, "rectanglelabels", "plate", place)
        quality = {"id": "q", "type": "choices", "from_name": "q", "to_name": "image", "value": {"choices": ["good"]}}
        results = [
            {"id": 1, "was_cancelled": False, "ground_truth": True, "result": [first, second, quality]},
            {"id": 2, "was_cancelled": False, "ground_truth": False, "result": [first]},
            {"id": 3, "was_cancelled": True, "ground_truth": False, "result": []},
        ]
        address = f"/data/upload/7/1f2e3d4c-{stem}.png"
        tasks.append({"id": number, "annotations": results, "predictions": [], "data": {"image": address}})
    write(root / "project-7-at-2026-01-02-03-04-1f2e3d4c.json", json.dumps(tasks))
    return NAMES


def label_studio_json_min(root: Path) -> tuple[str, ...]:
    """The same as JSON-MIN, as Label Studio 1.23 makes it: an entry an annotation, regions under their tag's name."""
    kinds = label_studio_json(root)
    file = next(root.glob("*.json"))
    entries = []
    for task in json.loads(file.read_text()):
        for one in (one for one in task["annotations"] if not one["was_cancelled"]):
            sides = {"original_width": WIDTH, "original_height": HEIGHT}
            regions = [region["value"] | sides for region in one["result"] if region["type"] != "choices"]
            when = f"2026-01-0{2 if one['ground_truth'] else 1}T00:00:00Z"
            said = {"q": "good", "annotator": 1, "annotation_id": one["id"], "created_at": when, "updated_at": when}
            entries.append(task["data"] | {"id": task["id"], "label": regions} | said)
    write(file, json.dumps(entries))
    return kinds


def yolo_lines(stem: str) -> str:
    lines = []
    for box in boxes(stem):
        points = (np.array(polygon(box)) / [WIDTH, HEIGHT]).ravel()
        lines.append(" ".join([str(box[0] - 1), *(f"{value:.9g}" for value in points)]))
    return "\n".join(lines)


def yolo_of_roboflow(root: Path) -> tuple[str, ...]:
    for split, stems in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        for stem in stems:
            photo(folder / "images" / f"{stem}.png")
            write(folder / "labels" / f"{stem}.txt", yolo_lines(stem))
    content = {"train": "../train/images", "val": "../valid/images", "nc": 2, "names": ["cell", "plate"]}
    write(root / "data.yaml", yaml.safe_dump(content))
    return NAMES


def yolo_of_ultralytics(root: Path) -> tuple[str, ...]:
    for split, stems in list(SPLITS.items())[:2]:
        for stem in stems:
            photo(root / "images" / split / f"{stem}.png")
            write(root / "labels" / split / f"{stem}.txt", yolo_lines(stem) + "\n")
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "cell", 1: "plate"}}
    write(root / "data.yaml", yaml.safe_dump(content))
    return NAMES


def yolo_of_label_studio(root: Path) -> tuple[str, ...]:
    for stem in STEMS:
        photo(root / "images" / f"{stem}.png")
        write(root / "labels" / f"{stem}.txt", yolo_lines(stem))
    write(root / "classes.txt", "cell\nplate\n")
    write(root / "notes.json", '{"categories": [{"id": 0, "name": "cell"}, {"id": 1, "name": "plate"}], "info": {}}')
    return NAMES


COLOURS = np.uint8([[0, 0, 0], [250, 50, 83], [61, 61, 245]])


def cvat_masks(root: Path) -> tuple[str, ...]:
    """CVAT's "Segmentation mask 1.1": masks in the colours of labelmap.txt."""
    for stem in STEMS:
        label = truth(stem)
        photo(root / "JPEGImages" / f"{stem}.png")
        save(root / "SegmentationClass" / f"{stem}.png", COLOURS[label])
        save(root / "SegmentationObject" / f"{stem}.png", np.uint8([[0, 0, 0], [128, 0, 0], [0, 128, 0]])[label])
    write(root / "ImageSets" / "Segmentation" / "default.txt", "\n".join(STEMS) + "\n")
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(NAMES, COLOURS.tolist(), strict=True)]
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n")
    return NAMES


def datumaro_masks(root: Path) -> tuple[str, ...]:
    """Datumaro's "voc_segmentation": a labelmap.txt without colours, which are then Pascal VOC's, and 255 as one."""
    cvat_masks(root)
    colours = np.zeros((256, 3), np.uint8)
    colours[1], colours[2], colours[255] = (128, 0, 0), (0, 128, 0), (224, 224, 192)
    for stem in STEMS:
        save(root / "SegmentationClass" / f"{stem}.png", colours[truth(stem)])
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:::\ncell:::\nplate:::\n")
    return NAMES


def pascal_voc_in_colours(root: Path) -> tuple[str, ...]:
    """The same without labelmap.txt."""
    datumaro_masks(root)
    (root / "labelmap.txt").unlink()
    return "#000000", "#800000", "#008000"


VOID = np.zeros((HEIGHT, WIDTH), bool)  # where Pascal VOC's masks are 255
VOID[-1] = True


def palette_png(path: Path, values: np.ndarray) -> None:
    image = Image.fromarray(values, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def pascal_voc(root: Path) -> tuple[str, ...]:
    """Palette PNG, in which 255 is no class, and images that have no mask."""
    for split, stems in list(SPLITS.items())[:2]:
        for stem in stems:
            photo(root / "JPEGImages" / f"{stem}.jpg")
            palette_png(root / "SegmentationClass" / f"{stem}.png", np.where(VOID, 255, truth(stem)).astype(np.uint8))
            palette_png(root / "SegmentationObject" / f"{stem}.png", truth(stem))
        write(root / "ImageSets" / "Segmentation" / f"{split}.txt", "\n".join(stems) + "\n")
    photo(root / "JPEGImages" / "detected.jpg")
    write(root / "ImageSets" / "Segmentation" / "trainval.txt", "\n".join(STEMS[:5]) + "\n")
    return VALUES


def cityscapes(root: Path) -> tuple[str, ...]:
    for split, stems in SPLITS.items():
        for city in ("bonn", "ulm"):
            for stem in stems:
                photo(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
                save(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", truth(stem))
                save(root / "gtFine" / split / city / f"{stem}_gtFine_color.png", COLOURS[truth(stem)])
                save(root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png", truth(stem).astype(np.uint16))
                write(root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json", '{"objects": []}')
    return VALUES


def suffixes_in_one_folder(root: Path) -> tuple[str, ...]:
    for stem in STEMS:
        photo(root / f"{stem}_leftImg8bit.png")
        save(root / f"{stem}_gtFine_labelIds.png", truth(stem))
    return VALUES


def cellpose(root: Path) -> tuple[str, ...]:
    """Numbers of objects beside the images, and what cellpose's training leaves there."""
    for split, stems in (("train", STEMS[:4]), ("test", STEMS[4:])):
        for stem in stems:
            photo(root / split / f"{stem}.tif")
            save(root / split / f"{stem}_masks.png", truth(stem).astype(np.uint16))
            photo(root / split / f"{stem}_flows.tif")
    return "background", "object", "object"


def roboflow_masks(root: Path) -> tuple[str, ...]:
    """ "Semantic Segmentation Masks": _mask.png beside the images, and a table of values."""
    for split, stems in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        for stem in stems:
            photo(folder / f"{stem}.jpg")
            save(folder / f"{stem}_mask.png", truth(stem))
        write(folder / "_classes.csv", "Pixel Value, Class\n0, background\n1, cell\n2, plate\n")
    return NAMES


def pairs(root: Path, ending: str) -> tuple[str, ...]:
    for split, stems in SPLITS.items():
        for stem in stems:
            photo(root / split / "images" / f"{stem}.PNG")
            save(root / split / "masks" / f"{stem}{ending}", truth(stem))
    return VALUES


# The last are values, though they are called as cellpose calls numbers of objects.
PAIRS = [partial(pairs, ending=ending) for ending in (".bmp", ".gif", ".npy", "_mask.png", "_masks.png")]


def jpg_and_png_of_one_name(root: Path) -> tuple[str, ...]:
    for stem in STEMS:
        photo(root / f"{stem}.jpg")
        save(root / f"{stem}.png", truth(stem))
    return VALUES


def one_folder_of_pairs(root: Path) -> tuple[str, ...]:
    """macOS's names beside composed ones, without splits."""
    for stem in STEMS:
        photo(root / "images" / unicodedata.normalize("NFD", f"é{stem}.JPG"))
        save(root / "masks" / unicodedata.normalize("NFC", f"é{stem}.png"), truth(stem))
    return VALUES


def labelme(root: Path) -> tuple[str, ...]:
    """Images and JSON files in one folder."""
    for stem in STEMS:
        photo(root / f"{stem}.png")
        shapes = [
            # labelme draws the pixels of the outline, too
            {"label": NAMES[box[0]], "shape_type": "rectangle", "points": [[box[2], box[1]], [box[4] - 1, box[3] - 1]]}
            for box in boxes(stem)
        ]
        content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.png", "imageData": None}
        write(root / f"{stem}.json", json.dumps(content | {"imageHeight": HEIGHT, "imageWidth": WIDTH}))
    return NAMES


EXPORTS = [
    *(roboflow_coco, coco_2017, cvat_coco, a_json_a_split, label_studio_coco, label_studio_coco_of_urls),
    *(label_studio_json, label_studio_json_min, yolo_of_roboflow, yolo_of_ultralytics, yolo_of_label_studio),
    *(cvat_masks, datumaro_masks),
    *(pascal_voc, pascal_voc_in_colours),
    *(cityscapes, suffixes_in_one_folder, cellpose, roboflow_masks, *PAIRS),
    *(jpg_and_png_of_one_name, one_folder_of_pairs, labelme),
]
