"""MobileSAM's encoder against MobileSAM's own code, on shared random weights."""

import copy
import pickle

import pytest
import torch
from segmentation_models_pytorch.encoders._utils import patch_first_conv
from torch import Tensor, nn

from samseg.encoders.tinyvit import TinyViT

# A small network of the same build; the reference recognises the merge that keeps the stride by its 320 channels.
SMALL = dict(embed_dims=(16, 32, 48, 320), depths=(1, 1, 1, 1), num_heads=(1, 2, 3, 10), window_sizes=(7, 7, 14, 7))


@pytest.fixture(scope="module")
def mobile_sam():
    pytest.importorskip("mobile_sam.modeling")
    from mobile_sam.build_sam import build_sam_vit_t
    from mobile_sam.modeling import TinyViT as Reference

    return build_sam_vit_t, Reference


@pytest.fixture
def small() -> TinyViT:
    torch.manual_seed(0)
    return randomised(TinyViT(**SMALL)).eval()


@pytest.fixture
def image() -> Tensor:
    """Every stage of it needs padded windows, on both sides or one."""
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def randomised(model: nn.Module) -> nn.Module:
    """Give every tensor a weight that shows in the output; at the start norms are trivial and attention adds next to
    nothing, so that any mistake in it would pass."""
    generator = torch.Generator().manual_seed(7)
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "bias", "attention_biases")):
            value.normal_(0, 0.5, generator=generator)
        elif value.ndim == 2:
            value.normal_(0, value.shape[1] ** -0.5, generator=generator)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.5, generator=generator)
    return model


def pair(reference: nn.Module, **arguments) -> tuple[nn.Module, TinyViT]:
    """The reference with random weights, and ours with the same."""
    reference = randomised(reference).eval()
    ours = TinyViT(**arguments).eval()
    state = {key: value for key, value in reference.state_dict().items() if key not in TinyViT.unused_tensors}
    ours.load_state_dict(state, strict=True)
    return reference, ours


@torch.no_grad()
def reference_taps(reference: nn.Module, x: Tensor) -> list[Tensor]:
    """The reference's intermediate maps and embedding, at the size of `x` instead of the one it was built for."""
    height, width = x.shape[2:]
    strides = (4, 8, 16, 16)
    for layer, stride in zip(reference.layers, strides, strict=True):
        for module in layer.modules():
            if hasattr(module, "input_resolution"):
                module.input_resolution = (height // stride, width // stride)
    caught: list[Tensor] = []
    tapped = [reference.patch_embed.seq[1], *(layer.blocks[-1] for layer in reference.layers[:3])]
    hooks = [module.register_forward_hook(lambda _, __, output: caught.append(output)) for module in tapped]
    if (height, width) == (1024, 1024):
        embedding = reference(x)
    else:  # its forward, which insists on 64 x 64 tokens
        x = reference.patch_embed(x)
        for layer in reference.layers:
            x = layer(x)
        embedding = reference.neck(x.transpose(1, 2).unflatten(2, (height // 16, width // 16)))
    for hook in hooks:
        hook.remove()
    grids = [(height // stride, width // stride) for stride in (8, 16)]
    tokens = [t.transpose(1, 2).unflatten(2, grid) for t, grid in zip(caught[2:], grids, strict=True)]
    return [*caught[:2], *tokens, embedding]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape, f"tap {i}"
        error = (a.float() - b.float()).norm() / b.float().norm()
        assert error < tolerance, f"tap {i}: relative error {error:.1e}"


def test_equals_mobilesam_at_1024(mobile_sam):
    build_sam_vit_t, _ = mobile_sam
    reference, ours = pair(build_sam_vit_t().image_encoder)
    x = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        taps = ours(x)
    assert_same(taps, reference_taps(reference, x))


# 16: one token a stage; 64 x 96: less than a window, then not square; 112: stage 1 fills its windows, stage 2 half of
# one; 224: stage 2 is exactly one window, for which the reference has a path of its own.
@pytest.mark.parametrize("size", [(16, 16), (64, 96), (96, 64), (112, 240), (224, 224), (256, 160)])
def test_equals_mobilesam_at_other_sizes(mobile_sam, size):
    _, reference_class = mobile_sam
    reference, ours = pair(reference_class(img_size=256, drop_path_rate=0.0, **SMALL), **SMALL)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        taps = ours(x)
    assert_same(taps, reference_taps(reference, x))
    assert [tap.shape[1] for tap in taps] == ours.channels
    assert [(size[0] // tap.shape[2], size[1] // tap.shape[3]) for tap in taps] == [(s, s) for s in ours.strides]


def test_training_mode_equals_mobilesam(mobile_sam):
    """Batch statistics are used, and the running ones move, as in the reference."""
    _, reference_class = mobile_sam
    reference, ours = pair(reference_class(img_size=256, drop_path_rate=0.0, **SMALL), **SMALL)
    reference.train(), ours.train()
    x = torch.randn(2, 3, 64, 96)
    assert_same(ours(x), reference_taps(reference, x))
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[key], msg=key)


def test_mobilesam_checkpoint_has_our_tensors_and_the_unused_ones(mobile_sam):
    build_sam_vit_t, _ = mobile_sam
    prefix = "image_encoder."
    published = {k.removeprefix(prefix): v for k, v in build_sam_vit_t().state_dict().items() if k.startswith(prefix)}
    ours = TinyViT().state_dict()
    assert set(published) - set(ours) == set(TinyViT.unused_tensors)
    assert {key: value.shape for key, value in ours.items()} == {key: published[key].shape for key in ours}


def test_starts_from_the_same_distributions_as_mobilesam(mobile_sam):
    build_sam_vit_t, _ = mobile_sam
    theirs = build_sam_vit_t().image_encoder.state_dict()
    for key, value in TinyViT().state_dict().items():
        expected = theirs[key].float()
        if expected.numel() > 1 and expected.std() > 0:
            torch.testing.assert_close(value.std(), expected.std(), rtol=0.25, atol=0, msg=key)
        else:
            assert torch.equal(value.float(), expected), key


def test_eval_keeps_running_statistics_and_nothing_of_a_call(small, image):
    before = copy.deepcopy(small.state_dict())
    attributes = {name: set(vars(module)) | set(module._buffers) for name, module in small.named_modules()}
    sum(tap.sum() for tap in small(image)).backward()
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())
    assert attributes == {name: set(vars(module)) | set(module._buffers) for name, module in small.named_modules()}
    # Weights changed after a call count at once; the reference would answer with the biases it cached.
    with torch.no_grad():
        first = small(image)[-1]
        small.layers[3].blocks[0].attn.attention_biases.neg_()
        changed = small(image)[-1]
        fresh = TinyViT(**SMALL).eval()
        fresh.load_state_dict(small.state_dict())
        assert not torch.allclose(changed, first, atol=1e-2)
        torch.testing.assert_close(changed, fresh(image)[-1])


def test_every_parameter_gets_a_gradient(small, image):
    small.train()
    sum((tap * torch.randn_like(tap)).sum() for tap in small(image)).backward()
    assert [name for name, p in small.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_gradient_checkpointing_changes_memory_only(small, image):
    def step(checkpointing: bool) -> tuple[TinyViT, int]:
        model, kept = copy.deepcopy(small).train(), 0
        model.gradient_checkpointing = checkpointing

        def count(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = sum(tap.square().mean() for tap in model(image))
        loss.backward()
        return model, kept

    (plain, plain_bytes), (saving, saving_bytes) = step(False), step(True)
    assert saving_bytes < plain_bytes / 2
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    for (name, value), other in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, msg=name)  # BatchNorm has counted the batch once
    assert {m.momentum for m in saving.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_first_convolution_is_the_rgb_one(image):
    """SMP's set_in_channels patches the first convolution it meets."""
    model = TinyViT(**SMALL)
    patch_first_conv(model, new_in_channels=5, default_in_channels=3, pretrained=True)
    assert model.patch_embed.seq[0].c.in_channels == 5
    assert model(torch.cat([image, image[:, :2]], dim=1))[-1].shape == (2, 256, 4, 6)


@torch.no_grad()
def test_copies_and_pickles(small, image):
    expected = small(image)
    assert_same(copy.deepcopy(small)(image), expected, 1e-6)
    assert_same(pickle.loads(pickle.dumps(small))(image), expected, 1e-6)


@torch.no_grad()
def test_export_with_any_batch(small, image):
    exported = torch.export.export(small, (image,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    three = torch.randn(3, 3, 64, 96)
    assert_same(exported(three), small(three), 1e-6)


def test_compiles_as_one_graph(small, image):
    small.train().gradient_checkpointing = True
    compiled = torch.compile(small, fullgraph=True, backend="eager")
    assert_same([tap.detach() for tap in compiled(image)], [tap.detach() for tap in small(image)])


@torch.no_grad()
@pytest.mark.slow  # test_encoder.py exports it with what follows it
def test_onnx(small, image, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.onnx.export(small, (image,), tmp_path / "tinyvit.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "tinyvit.onnx")
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert_same([torch.from_numpy(tap) for tap in found], small(image))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_and_autocast(small, image, dtype):
    expected = small(image)
    tolerance = 0.01 if dtype == torch.float16 else 0.05
    with torch.autocast("cpu", dtype=dtype):
        assert_same(small(image), expected, tolerance)
    found = copy.deepcopy(small).to(dtype)(image.to(dtype))
    assert {tap.dtype for tap in found} == {dtype}
    assert_same(found, expected, tolerance)


def test_trains_under_autocast(small, image):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum(tap.square().mean() for tap in small.train()(image))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_channels_lie_last(small, image, grad):
    """In the layout that images have, bfloat16 takes twice as long on a CPU."""
    with torch.set_grad_enabled(grad):
        taps = small(image)
    assert all(tap.is_contiguous(memory_format=torch.channels_last) for tap in taps)
