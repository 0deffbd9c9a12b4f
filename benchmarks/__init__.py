"""The measurements that the README quotes, each to be repeated with `samseg benchmark NAME`.

One more is a file with a docstring, ``add_arguments(parser)`` and ``run(args)``, and a row.
"""

from benchmarks import cache, encoder, faults, gpu, maps, predict, pretrain, promptable, routes, sam, table, train

BENCHMARKS = {
    "table": table,
    "encoder": encoder,
    "routes": routes,
    "cache": cache,
    "predict": predict,
    "train": train,
    "sam": sam,
    "promptable": promptable,
    "pretrain": pretrain,
    "maps": maps,
    "faults": faults,
    "gpu": gpu,
}
