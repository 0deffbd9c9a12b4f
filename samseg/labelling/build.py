"""The backend of a run and a SAM, and the steps for people."""

from pathlib import Path

from samseg.common.errors import InputError
from samseg.common.files import file_digest
from samseg.data.raster import as_picture
from samseg.inference.objects.files import ObjectFinder
from samseg.inference.objects.label_studio import interface_xml
from samseg.inference.predictor import Predictor, find_device
from samseg.labelling.backend import Backend, Clicked
from samseg.runs.folder import WEIGHTS
from samseg.runs.hub.pull import local_run
from samseg.runs.sam import sam_named, tuned_sam

STEPS = """\
samseg answers Label Studio here.

1. Start Label Studio so that it asks addresses of this machine and its network, which it does not by itself:
   ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false label-studio start
2. Give samseg a personal access token (Account & Settings) in LABEL_STUDIO_API_KEY, or the images' folder with --root.
3. In the project, Settings > Labeling Interface > Code: the interface below, or one of your own with <BrushLabels> or
   <PolygonLabels> {labels}.
4. Settings > Model > Connect Model: this address as the backend URL{interactive}. With samseg's
   --token: Basic authentication, any user, the token as password.
{use}
"""
PREDICT = """\
Settings > Annotation: prelabel tasks with the model, and each is predicted when it is opened. For many at once: Data
   Manager, select them, Actions > Retrieve Predictions."""
CLICK = """\
Open a task and switch on Auto-Annotation under the image. Choose the label of the tool that you want, then the tool
   with the magic wand, and click on an object or draw a box around it; Alt with a click says what does not belong to
   it. The tick under the image accepts the answer."""


def backend(
    run: str | None,
    sam: str | None,
    device: str | None = None,
    way: str | None = None,
    root: Path | None = None,
    server: str | None = None,
    key: str | None = None,
) -> Backend:
    """What the options of samseg label-studio ask for; InputError for what cannot be loaded."""
    if run is None and sam is None:
        raise InputError(
            "name a run, which pre-annotates, or a SAM for clicks, as in samseg label-studio --sam sam-vit_b"
        )
    if root is not None and not root.is_dir():
        raise InputError(f"no such folder: --root {root}")
    if server is not None and not server.startswith(("http://", "https://")):
        raise InputError(f"--server must be an address such as http://localhost:8080, got {server}")
    built = Backend(Path(sam or "").name, root=root, server=server, key=key or "")
    if run is not None:
        path = local_run(run)
        predictor = Predictor.from_run(path, device)
        built.finder = ObjectFinder(predictor, way)
        digest = file_digest(path if path.is_file() else path / WEIGHTS)
        built.version = f"{path.resolve().name} {digest[:8]}"
        tuned = tuned_sam(predictor.model, predictor.config)
        if tuned is not None:
            built.clicked = Clicked(tuned.to(predictor.device), predictor.preprocessing.picture)
    if sam is not None:
        built.clicked = Clicked(sam_named(sam, "--sam").to(find_device(device)), as_picture)
    return built


def steps(backend: Backend) -> str:
    """What a person does to use a backend, with a labelling interface for it."""
    names, background = ["background", "object"], 0
    if backend.finder is not None:
        names, background = backend.finder.names, backend.finder.background
    clicks = backend.clicked is not None
    labels = "and labels called as the run's classes" if backend.finder else "for the masks"
    uses = [*([PREDICT] if backend.finder else []), *([CLICK] if clicks else [])]
    text = STEPS.format(
        labels=labels,
        interactive=', "Interactive preannotations" on' if clicks else "",
        use="\n".join(f"{number}. {use}" for number, use in enumerate(uses, start=5)),
    )
    return f"{text}\n{interface_xml(names, background, smart=clicks, messages=True)}"
