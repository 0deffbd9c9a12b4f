"""Find in images what one example shows, with SAM and without training (PerSAM)."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from samseg.cli.options import add_device

EPILOG = """\
examples:
  samseg oneshot cat.jpg cat_mask.png photos/ --out cats              with SAM's published weights (sam-vit_b)
  samseg oneshot cat.jpg cat_mask.png photos/ --weights sam_vit_h.pth --fine-tune
  samseg oneshot a.jpg a_mask.png photos/ --pair b.jpg b_mask.png     two examples: their targets are averaged
  samseg oneshot cell.png cells.png slides/ --objects 20

A mask is black where nothing is to be found; it has one other value, or one for each of several classes. One in colours
is taken as black or not. Per image: STEM.png (classes as the mask has them, palette PNG) and STEM_overlay.jpg.
Exit code: 0 all done, 1 some images could not be read and were skipped, 2 bad arguments.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("image", metavar="REFERENCE_IMAGE", type=Path, help="an image that shows what to find")
    parser.add_argument("mask", metavar="REFERENCE_MASK", type=Path, help="where it is in that image: PNG or TIFF")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", type=Path, help="images or folders of images")
    parser.add_argument("--pair", metavar=("IMAGE", "MASK"), nargs=2, type=Path, action="append", default=[],
                        help="a further example; may be given more than once")  # fmt: skip
    parser.add_argument("--weights", metavar="FILE", default="pretrained",
                        help="a whole SAM's checkpoint, or a run folder of task=promptable; default: the published "
                        "weights of --encoder")  # fmt: skip
    parser.add_argument("--encoder", metavar="NAME", help="which of SAM's; default: the file's own, or sam-vit_b")
    parser.add_argument("--fine-tune", action="store_true",
                        help="learn how to mix SAM's three masks from the examples, in seconds (PerSAM-F)")  # fmt: skip
    parser.add_argument("--objects", metavar="N", type=int, default=1, help="the most to find per class and image; 1")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("oneshot"), help="where to write; ./oneshot")
    add_device(parser)


def run(args: Namespace) -> int:
    from samseg.common.machine import keep_freed_memory
    from samseg.encoders.fetch import is_published
    from samseg.inference.each import check_names
    from samseg.inference.inputs import images_of
    from samseg.inference.oneshot.files import find_in_images, read_reference
    from samseg.inference.oneshot.oneshot import OneShot
    from samseg.inference.predictor import find_device
    from samseg.runs.sam import load_sam

    images = images_of(args.inputs)
    check_names(images, args.out)
    references = [read_reference(*pair) for pair in [(args.image, args.mask), *args.pair]]
    keep_freed_memory()
    device = find_device(args.device)
    encoder = args.encoder or ("sam-vit_b" if is_published(args.weights) else None)
    sam = load_sam(args.weights, encoder).to(device)
    oneshot = OneShot(sam, references, fine_tune=args.fine_tune, objects=args.objects)
    return 1 if find_in_images(oneshot, images, args.out) else 0
