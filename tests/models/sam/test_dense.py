"""The architecture "sam": segment-anything's mask decoder without prompts, a token for each class."""

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

import samseg
from samseg.common.errors import ConfigError, WeightsError
from samseg.encoders.registry import ROWS
from samseg.models.cached import TapModel
from samseg.models.sam.files import empty_sam
from samseg.models.trainable import count_parameters, learns_statistics, parameter_groups
from tests.encoders.conftest import SMALL, SMALL_HIERA, SMALL_TINY


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def dense(encoder: str = SMALL, classes: int = 3, weights=None, **decoder) -> torch.nn.Module:
    torch.manual_seed(0)
    return samseg.create_model("sam", encoder, weights, classes=classes, **decoder).eval()


@pytest.fixture
def whole(tmp_path):
    """A checkpoint of the small SAM, random, in segment-anything's layout: (file, model)."""

    def make(hq: bool = False):
        torch.manual_seed(1)
        sam = empty_sam(SMALL, image_size=128, hq=hq)
        state = {
            key.replace("image_encoder.trunk.", "image_encoder."): value for key, value in sam.state_dict().items()
        }
        torch.save(state, tmp_path / "sam.pth")
        return tmp_path / "sam.pth", sam

    return make


def test_the_masks_are_segment_anythings_for_the_same_tokens():
    """Three mask tokens and the IoU token of segment-anything's decoder, made classes, draw its three masks."""
    torch.manual_seed(0)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    theirs = MaskDecoder(transformer_dim=256, transformer=transformer, num_multimask_outputs=2).eval()
    prompts = PromptEncoder(
        embed_dim=256, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=16
    ).eval()
    ours = dense(classes=4)
    decoder, tokens = ours.decoder, ours.decoder.class_tokens
    decoder.transformer.load_state_dict(theirs.transformer.state_dict())
    decoder.output_upscaling.load_state_dict(theirs.output_upscaling.state_dict())
    decoder.no_mask_embed.load_state_dict(prompts.no_mask_embed.state_dict())
    decoder.pe_layer.load_state_dict(prompts.pe_layer.state_dict())
    with torch.no_grad():
        tokens.tokens.copy_(torch.cat([theirs.iou_token.weight, theirs.mask_tokens.weight]))
        for i, layer in enumerate(tokens.layers):
            for number, mlp in enumerate(theirs.output_hypernetworks_mlps):
                layer.weight[number + 1] = mlp.layers[i].weight
                layer.bias[number + 1] = mlp.layers[i].bias
        embedding = ours.encoder.image_embedding(image(1, 3, 128, 128))
        sparse, no_mask = prompts(None, None, None)
        expected, _ = theirs.predict_masks(embedding, prompts.get_dense_pe(), sparse, no_mask)
        expected = torch.nn.functional.interpolate(expected, size=(128, 128), mode="bilinear", align_corners=False)
        torch.testing.assert_close(ours(image(1, 3, 128, 128))[:, 1:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", [SMALL, SMALL_TINY])
@pytest.mark.parametrize("high_resolution", [False, True])
def test_any_size_and_every_parameter_learns(encoder, high_resolution):
    model = dense(encoder, high_resolution=high_resolution).train()
    for height, width in ((64, 64), (63, 65), (1, 17), (80, 48)):
        assert model(image(2, 3, height, width)).shape == (2, 3, height, width)
    model(image(2, 3, 64, 64)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())  # plain DDP stops on one without


def test_a_padded_image_answers_as_the_image_alone():
    """Positions are those of the square that the image lies in."""
    model, wide = dense(), image(1, 3, 64, 128)
    square = torch.nn.functional.pad(wide, (0, 0, 0, 64))
    positions = samseg.models.sam.dense.grid_positions
    part = positions(model.decoder.pe_layer, torch.zeros(1, 256, 4, 8))
    assert torch.equal(part, positions(model.decoder.pe_layer, torch.zeros(1, 256, 8, 8))[:, :, :4])
    assert model(square)[:, :, :64].shape == model(wide).shape


def test_sams_weights_are_taken_and_classes_differ(whole):
    file, sam = whole()
    model = dense(weights=file)
    torch.testing.assert_close(model.encoder.trunk.state_dict(), sam.image_encoder.trunk.state_dict())
    taken = model.decoder.state_dict()
    for name in ("transformer.layers.1.norm4.bias", "output_upscaling.3.weight"):
        assert torch.equal(taken[name], sam.mask_decoder.state_dict()[name])
    for name in ("no_mask_embed.weight", "pe_layer.positional_encoding_gaussian_matrix"):
        assert torch.equal(taken[name], sam.prompt_encoder.state_dict()[name])
    tokens, theirs = taken["class_tokens.tokens"], sam.mask_decoder.mask_tokens.weight[0]
    assert torch.nn.functional.cosine_similarity(tokens, theirs[None]).min() > 0.98
    assert not torch.equal(tokens[0], tokens[1])


def test_sam_hqs_weights_fill_the_high_resolution(whole):
    file, sam = whole(hq=True)
    taken = dense(weights=file, high_resolution=True).decoder.state_dict()
    for part in ("compress_vit_feat", "embedding_encoder", "embedding_maskfeature"):
        for name, value in getattr(sam.mask_decoder, part).state_dict().items():
            assert torch.equal(taken[f"detail.{part}.{name}"], value)


def test_an_encoder_alone_leaves_the_decoder_random_and_says_so(whole, tmp_path):
    file, sam = whole()
    torch.save({f"image_encoder.{k}": v for k, v in sam.image_encoder.trunk.state_dict().items()}, tmp_path / "e.pth")
    with pytest.warns(UserWarning, match="mask decoder starts at random"):
        model = dense(weights=tmp_path / "e.pth")
    torch.testing.assert_close(model.encoder.trunk.state_dict(), sam.image_encoder.trunk.state_dict())
    state = torch.load(file)
    del state["mask_decoder.iou_token.weight"], state["mask_decoder.mask_tokens.weight"]
    torch.save(state | {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, file)
    with pytest.raises(WeightsError, match="mask_decoder lacks mask_tokens.weight"):
        dense(weights=file)


def test_four_bands_take_their_share_of_the_rgb_filters(whole):
    file, sam = whole()
    model = samseg.create_model("sam", SMALL, file, in_channels=4, classes=2)
    theirs = sam.image_encoder.trunk.patch_embed.proj.weight
    torch.testing.assert_close(model.encoder.trunk.patch_embed.proj.weight[:, 3], theirs[:, 0] * 3 / 4)
    assert model(image(1, 4, 64, 64)).shape == (1, 2, 64, 64)


def test_frozen_adapted_and_on_stored_taps():
    model = dense(high_resolution=True)
    samseg.freeze_encoder(model)
    assert count_parameters(model).endswith("(decoder); frozen: encoder")
    pixels = image(2, 3, 128, 128)
    with torch.no_grad():
        expected = model(pixels)
        taps = [tap.permute(0, 2, 3, 1) for tap in model.encoder.taps(pixels)]
        assert [tap.shape[3] for tap in taps] == [ROWS[SMALL].arguments["width"], 256]  # no more than it looks at
        torch.testing.assert_close(TapModel(model, 128)(taps), expected)
        samseg.add_adapter(model, "lora", rank=2)
        torch.testing.assert_close(model(pixels), expected)
    assert "lora" in count_parameters(model)


def test_batch_normalisation_of_a_frozen_encoder_learns_nothing():
    assert not learns_statistics(dense().train())  # a ViT has none
    model = samseg.create_model("sam", "sam-vit_t", None, classes=2).train()
    assert learns_statistics(model)
    samseg.freeze_encoder(model)
    assert not learns_statistics(model.train())


def test_biases_of_the_classes_do_not_decay():
    model = dense()
    groups = parameter_groups(model, lr=1.0, encoder_lr=0.1, pyramid_lr=0.5, weight_decay=0.01)
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert decay[id(model.decoder.class_tokens.layers[0].bias)] == 0
    assert decay[id(model.decoder.class_tokens.layers[0].weight)] == 0.01


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("sam", "resnet18", None), "model.arch=sam is SAM's mask decoder and needs SAM's encoder, not resnet18"),
        (("samm", SMALL, None), "unknown architecture 'samm'; did you mean 'sam'"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, said):
    with pytest.raises(ConfigError, match=said) as error:
        samseg.create_model(*arguments)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="unknown argument 'high_resolutio'.*did you mean 'high_resolution'"):
        samseg.create_model("sam", SMALL, None, high_resolutio=True)


def test_on_sam2_it_draws_what_sam2_does_without_a_prompt(tmp_path):
    """Neck and decoder have their finer features in two layers, which are one here, and two embeddings are one."""
    torch.manual_seed(0)
    sam = empty_sam(SMALL_HIERA, image_size=128)
    torch.nn.init.normal_(sam.prompt_encoder.no_mem_embed)
    sam.save(tmp_path / "sam2.pt")
    model = dense(SMALL_HIERA, weights=tmp_path / "sam2.pt")
    sam.class_tokens = model.decoder.class_tokens
    x = image(2, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(model(x), sam(x), rtol=1e-4, atol=1e-4)
        assert model(image(1, 3, 67, 71)).shape == (1, 3, 67, 71)
    with pytest.raises(ConfigError, match="has finer features anyway"):
        dense(SMALL_HIERA, high_resolution=True)
