"""What an SmpEncoder owes SMP, for every decoder and every way of running a model."""

import copy
import pickle
import warnings

import pytest
import segmentation_models_pytorch as smp
import torch

import samseg
from samseg.encoders import SmpEncoder
from tests.encoders.conftest import SMALL, SMALL_DINOV2, SMALL_DINOV3, SMALL_HIERA, SMALL_SAM3, SMALL_TINY
from tests.encoders.foreign import FOREIGN
from tests.encoders.reference import randomise

ENCODERS = [SMALL, SMALL_TINY, SMALL_HIERA, SMALL_SAM3, SMALL_DINOV3, FOREIGN]
SLOW = pytest.mark.slow
DECODERS = [name for name in smp.MODEL_ARCHITECTURES_MAPPING if name != "dpt"]
PAIRS = [  # what a decoder is given is the pyramid's, whosever the trunk: two trunks meet every decoder, the others two
    pytest.param(arch, encoder, marks=[] if encoder in (SMALL, SMALL_HIERA) or arch in ("unet", "fpn") else SLOW)
    for arch in DECODERS
    for encoder in ENCODERS
]


def get_encoder(name: str, **arguments) -> SmpEncoder:
    return smp.encoders.get_encoder(name, weights=None, **arguments)


def model_of(arch: str, encoder: str, **arguments) -> torch.nn.Module:
    torch.manual_seed(0)
    return smp.create_model(arch, encoder, encoder_weights=None, **arguments)


def ceil_sizes(height: int, width: int, strides: list[int]) -> list[tuple[int, int]]:
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


@pytest.mark.parametrize("name", ["sam-vit_t", "sam-vit_b", "sam-vit_l", "sam-vit_h"])
def test_registered_with_smps_defaults(name):
    row = smp.encoders.encoders[name]
    assert row["pretrained_settings"]["imagenet"] == row["pretrained_settings"]["sa-1b"]
    assert set(row["pretrained_settings"]["sa-1b"]) == {"repo_id", "revision"}
    with torch.device("meta"):
        model = smp.Unet(encoder_name=name, encoder_weights=None)
    assert model.encoder.output_stride == 32 and len(model.encoder.out_channels) == 6


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(67, 71), (128, 128), (1, 1)])
def test_levels(name, depth, output_stride, size):
    encoder = get_encoder(name, depth=depth, output_stride=output_stride).eval()
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        features = encoder(x)
    assert torch.equal(features[0], x)
    assert [f.shape[1] for f in features] == encoder.out_channels and isinstance(encoder._out_channels, list)
    strides = [min(2**i, output_stride) for i in range(depth + 1)]
    assert [tuple(f.shape[2:]) for f in features] == ceil_sizes(*size, strides)
    assert encoder.output_stride == min(output_stride, 2**depth)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_is_the_users_padding_cut_off(name):
    """Features of an odd image are those of the image padded by hand: nothing shifts."""
    encoder = get_encoder(name).eval()
    x = torch.randn(1, 3, 67, 71)
    multiple = encoder.trunk.multiple
    by_hand = torch.nn.functional.pad(x, (0, -71 % multiple, 0, -67 % multiple))
    with torch.no_grad():
        for found, padded in zip(encoder(x)[1:], encoder(by_hand)[1:]):
            torch.testing.assert_close(found, padded[:, :, : found.shape[2], : found.shape[3]])


@pytest.mark.parametrize("arguments", [dict(depth=0), dict(depth=6), dict(output_stride=4)])
def test_refuses(arguments):
    with pytest.raises(ValueError, match="must be"):
        get_encoder(SMALL, **arguments)
    with pytest.raises(ValueError, match="8 or 16"):
        get_encoder(SMALL).make_dilated(32)


def test_make_dilated_refines_a_built_encoder():
    encoder = get_encoder(SMALL)
    encoder.make_dilated(8)
    assert encoder.output_stride == 8
    assert [f.shape[2] for f in encoder(torch.randn(1, 3, 64, 64))] == [64, 32, 16, 8, 8, 8]


@pytest.mark.parametrize("arch, encoder", PAIRS)
def test_every_decoder_forward_and_backward(arch, encoder):
    model = model_of(arch, encoder, classes=3).train()
    y = model(torch.randn(2, 3, 128, 160))
    assert y.shape == (2, 3, 128, 160)
    y.square().mean().backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []
    idle = [name for name, p in model.encoder.pyramid.named_parameters() if p.grad.abs().sum() == 0]
    assert idle == []


@pytest.mark.parametrize("arch", ["deeplabv3", "deeplabv3plus", "pan"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_output_strides_are_answered(arch, output_stride):
    if (arch, output_stride) == ("pan", 8):
        pytest.skip("PAN takes 16 and 32 only")
    model = model_of(arch, SMALL, encoder_output_stride=output_stride).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 128, 128)).shape == (1, 1, 128, 128)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_unet_takes_any_size(encoder):
    model = model_of("unet", encoder).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 67, 71)).shape == (1, 1, 67, 71)


def test_other_decoders_are_held_to_multiples_of_32_by_smp():
    """As README.md says: a check of SMP's that no encoder can change."""
    for name in (SMALL, "resnet18"):
        model = smp.FPN(name, encoder_weights=None).eval()
        with torch.no_grad(), pytest.raises(RuntimeError, match="Wrong input shape"):
            model(torch.randn(1, 3, 67, 71))


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_channels_keep_the_rgb_filters(channels, tmp_path):
    rgb = get_encoder(SMALL).eval()
    torch.save(rgb.trunk.state_dict(), tmp_path / "sam.pth")
    other = get_encoder(SMALL, in_channels=channels).eval()
    samseg.load_sam_weights(other, tmp_path / "sam.pth")
    assert other.out_channels[0] == channels
    grey = torch.randn(1, 1, 64, 64)
    # An image that is the same in all channels looks the same to the filters, however many channels there are; with
    # one channel, SMP sums the filters, which is the grey image given three times.
    with torch.no_grad():
        expected = rgb.trunk.patch_embed(grey.expand(-1, 3, -1, -1))
        found = other.trunk.patch_embed(grey.expand(-1, channels, -1, -1))
    if channels % 3 == 0 or channels == 1:
        torch.testing.assert_close(found, expected)
    # and it's what SMP does to an encoder that had the weights before
    patched = get_encoder(SMALL)
    patched.load_state_dict(rgb.trunk.state_dict())
    patched.set_in_channels(channels, pretrained=True)
    torch.testing.assert_close(other.trunk.patch_embed.proj.weight, patched.trunk.patch_embed.proj.weight)


@pytest.mark.parametrize("encoder", [SMALL_SAM3, SMALL_DINOV3])  # the others on the way to ONNX, below
def test_export(encoder):
    model = model_of("unet", encoder).eval()
    x = torch.randn(2, 3, 67, 71)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: batch}})
    other = torch.randn(3, 3, 67, 71)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(other), model(other), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "encoder", [e if e in (SMALL, SMALL_HIERA, FOREIGN) else pytest.param(e, marks=SLOW) for e in ENCODERS]
)
def test_compile_fullgraph(encoder):
    torch.compiler.reset()  # it compiles the code that all encoders share a limited number of times
    model = model_of("fpn", encoder).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x = torch.randn(1, 3, 128, 96)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "encoder, images",
    [
        pytest.param(SMALL, 1, marks=SLOW),  # tests/runs/test_export.py exports one in each suite
        (SMALL_TINY, 1),
        (SMALL_HIERA, 2),
        pytest.param(SMALL_SAM3, 2, marks=SLOW),
        pytest.param(SMALL_DINOV3, 2, marks=SLOW),
        pytest.param(SMALL_DINOV2, 2, marks=SLOW),
        pytest.param(FOREIGN, 2, marks=SLOW),
    ],
)  # of the example
@pytest.mark.filterwarnings("ignore")
def test_onnx_takes_any_batch(encoder, images, tmp_path):
    """At a size that needs padding; tests/runs/test_export.py exports one that does not."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = model_of("unet", encoder).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    example = (torch.randn(images, 3, 67, 71),)
    torch.onnx.export(model, example, tmp_path / "model.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3):
        x = torch.randn(count, 3, 67, 71)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_half_precision_and_autocast(encoder, grad, dtype):
    model = get_encoder(encoder).eval()
    x = torch.randn(1, 3, 67, 80)
    with torch.set_grad_enabled(grad):
        expected = model(x)[-1]
        with torch.autocast("cpu", dtype=dtype):
            autocast = model(x)[-1]
        half = copy.deepcopy(model).to(dtype)(x.to(dtype))
    assert all(feature.dtype == dtype for feature in half)
    for found in (autocast, half[-1]):
        assert (found.float() - expected).norm() / expected.norm() < 0.1


@pytest.mark.parametrize("encoder", ENCODERS)
def test_copy_pickle_and_no_memory_of_a_call(encoder):
    model = get_encoder(encoder).eval()
    x = torch.randn(1, 3, 64, 80)
    with torch.no_grad():
        first = model(x)
        model(torch.randn(1, 3, 128, 128))
        for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            for found, expected in zip(twin(x), first):
                assert torch.equal(found, expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_save_pretrained_round_trip(encoder, tmp_path):
    model = samseg.create_model("fpn", encoder, encoder_weights=None, classes=4, encoder_depth=4).eval()
    model.save_pretrained(tmp_path)
    again = smp.from_pretrained(tmp_path).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_image_embedding_is_sams():
    encoder = get_encoder("sam-vit_t").eval()
    with torch.no_grad():
        assert encoder.image_embedding(torch.randn(1, 3, 100, 64)).shape == (1, 256, 7, 4)


def test_pyramid_keeps_its_values_when_sams_weights_are_loaded():
    encoder = get_encoder(SMALL)
    other = get_encoder(SMALL)
    randomise(other)
    pyramid = copy.deepcopy(encoder.pyramid.state_dict())
    encoder.load_state_dict(other.trunk.state_dict())
    assert all(torch.equal(value, pyramid[name]) for name, value in encoder.pyramid.state_dict().items())
    assert all(torch.equal(value, other.trunk.state_dict()[name]) for name, value in encoder.trunk.state_dict().items())


def test_smps_freeze_warns_in_training_and_names_ours():
    model = model_of("unet", SMALL)
    model.freeze_encoder()
    model.train()
    with pytest.warns(UserWarning, match="samseg.freeze_encoder") as caught:
        model(torch.randn(1, 3, 64, 64))
        model(torch.randn(1, 3, 64, 64))
    assert len([w for w in caught if "samseg.freeze_encoder" in str(w.message)]) == 1
    samseg.freeze_encoder(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            model(torch.randn(1, 3, 64, 64))


def test_preprocessing_answers_offline():
    for weights in ("sa-1b", "imagenet"):
        for name in ("sam-vit_b", "sam-vit_t"):
            parameters = smp.encoders.get_preprocessing_params(name, weights)
            assert [round(255 * value, 3) for value in parameters["mean"]] == [123.675, 116.28, 103.53]
            assert [round(255 * value, 3) for value in parameters["std"]] == [58.395, 57.12, 57.375]
    white = smp.encoders.get_preprocessing_fn("sam-vit_b", "sa-1b")(255 * torch.ones(2, 2, 3).numpy())
    assert abs(white[0, 0, 0] - (255 - 123.675) / 58.395) < 1e-6
    with pytest.raises(ValueError, match="sa-1b"):
        smp.encoders.get_preprocessing_params("sam-vit_b", "swsl")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_frozen_trunk_keeps_no_graph(encoder):
    """In training, too; where a gradient is asked for, through the image or a part of the trunk, it comes."""
    model = model_of("fpn", encoder).train()
    seen = []
    model.encoder.trunk.register_forward_hook(lambda module, args, taps: seen.append(torch.is_grad_enabled()))
    x = torch.randn(1, 3, 64, 64)
    samseg.freeze_encoder(model)
    model(x).sum().backward()
    assert not any(tap.requires_grad for tap in model.encoder.taps(x))
    assert seen == [False, False]
    assert all(parameter.grad is not None for parameter in model.encoder.pyramid.parameters())
    x.requires_grad_()
    model(x).sum().backward()
    assert seen[-1] and x.grad.abs().sum() > 0
    first = next(model.encoder.trunk.parameters()).requires_grad_()
    model(x.detach()).sum().backward()
    assert seen[-1] and first.grad.abs().sum() > 0


def test_a_frozen_trunk_compiles_and_exports():
    model = get_encoder(SMALL, depth=2).eval()
    model.trunk.requires_grad_(False)
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    program = torch.export.export(model, (x,))
    for other in (compiled, program.module()):
        torch.testing.assert_close(other(x), expected, rtol=1e-3, atol=1e-4)
    switches = [node for node in program.graph.nodes if "set_grad_enabled" in str(node.target)]
    assert switches == []
