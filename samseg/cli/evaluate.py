"""Print a run's figures on a split, and write them to RUN/metrics_SPLIT.json and its report."""

from argparse import ArgumentParser, Namespace

from samseg.cli.options import add_objects, add_precision, add_run, add_tta

EPILOG = """\
examples:
  samseg evaluate                     the newest run under runs/, on its test images
  samseg evaluate runs/buildings val
  samseg evaluate --tta               averaged over flips and turns
  samseg evaluate hub:user/buildings --data my/data      a published run on data of one's own
  samseg evaluate runs/cells --objects                   objects, too, where labels tell them apart

Objects are scored by precision, recall and F1 at an IoU of 0.5. The ways to find them: components (connected areas of a
class), prompts (SAM's masks for points in the middle of these, which parts objects that touch), amg (SAM's automatic
mask generator). Those of maps are always scored, as components.
"""


def add_arguments(parser: ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("split", nargs="?", default="test", help="a folder of data.root; default: test")
    parser.add_argument("--data", metavar="DIR", help="other data, laid out as the run's: in place of its data.root")
    add_tta(parser)
    add_objects(parser, "score the objects of photos (instances/, COCO, labelme), too")
    add_precision(parser)


def run(args: Namespace) -> None:
    from samseg.common.machine import keep_freed_memory
    from samseg.evaluation.evaluate_run import evaluate_run
    from samseg.runs.folder import newest_run
    from samseg.runs.hub.pull import local_run, outputs_folder

    keep_freed_memory()
    run = args.run or newest_run()
    how = dict(tta=args.tta, root=args.data, precision=args.precision, objects=args.objects)
    found = evaluate_run(local_run(run), args.split, **how)
    print(f"{run} on {args.split}:\n{found.table}")
    *files, report = found.write(outputs_folder(run))
    print(f"written to {', '.join(map(str, files))}; report: {report}")
