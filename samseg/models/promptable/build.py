"""The promptable model of a run's configuration."""

from pathlib import Path

from segmentation_models_pytorch.encoders._utils import patch_first_conv

from samseg.common.errors import ConfigError, WeightsError, did_you_mean
from samseg.encoders.encoder import TrunkEncoder
from samseg.encoders.fetch import fetch, is_published
from samseg.encoders.weights import trunk_state
from samseg.models.build import Built, check_adapter, freeze_and_adapt
from samseg.models.class_tokens import ClassTokens
from samseg.models.config import ModelConfig
from samseg.models.promptable.config import PromptConfig
from samseg.models.promptable.decoder_lora import adapt_attention
from samseg.models.promptable.model import Criterion, PromptableModel
from samseg.models.sam import prompt_and_mask_decoder, sam_state
from samseg.models.sam_dense import early_tap, need_sams

HIGH_RESOLUTION = "high_resolution"


def build_promptable(
    config: ModelConfig,
    prompts: PromptConfig,
    criterion: Criterion,
    *,
    image_size: int,
    classes: int,
    in_channels: int = 3,
    pretrained: bool = True,
) -> Built:
    """SAM, or SAM-HQ for ``config.decoder``'s high_resolution, of a run's configuration.

    Args:
        config: the section `model`.
        prompts: the section `prompts`; with `none` above 0 there are class tokens.
        criterion: see `PromptableModel`.
        image_size: side of the square images, in pixels.
        classes: of the class tokens.
        in_channels: bands of the images.
        pretrained: False leaves all weights random, as a whole checkpoint follows.

    Raises:
        ConfigError: an argument that there is not, an encoder that is not SAM's or takes no adapter.
        WeightsError: the weights cannot be had, do not fit, or hold no mask decoder; or SAM-HQ's are asked for and
            these are not.
    """
    need_sams(config.encoder)
    check_adapter(config)
    for name in config.decoder:
        if name != HIGH_RESOLUTION:
            raise ConfigError(
                f"model.decoder: a promptable SAM has no argument {name}{did_you_mean(name, [HIGH_RESOLUTION])}; it "
                f"takes {HIGH_RESOLUTION}"
            )
    hq = bool(config.decoder.get(HIGH_RESOLUTION, False))
    weights = config.weights if pretrained else None
    state = None
    if weights is not None:  # before a large network is built for nothing
        published = is_published(weights)
        file = fetch(config.encoder, whole=True, weights=weights) if published else Path(weights)
        state = sam_state(file, config.encoder)
        if hq and not state.is_hq:
            raise WeightsError(
                f"{weights}: model.decoder.{HIGH_RESOLUTION}=true is for weights of SAM-HQ, but these are plain SAM's: "
                "they hold no hf_token"
            )
    encoder = TrunkEncoder(config.encoder)
    encoder.keep_taps((early_tap(encoder.tap_strides), -1) if hq else (-1,))
    if in_channels != 3:
        patch_first_conv(encoder, new_in_channels=in_channels, pretrained=False)
    early = encoder.tap_channels[0] if hq else None
    prompt_encoder, mask_decoder = prompt_and_mask_decoder(image_size, early_channels=early)
    class_tokens = ClassTokens(classes) if prompts.none > 0 else None
    model = PromptableModel(encoder, prompt_encoder, mask_decoder, prompts, criterion, class_tokens)
    if state is not None:
        encoder.trunk.load_state_dict(trunk_state(state.trunk, encoder.variant, encoder.trunk))
        prompt_encoder.load_state_dict(state.prompt_encoder)
        mask_decoder.load_state_dict({name: state.mask_decoder[name] for name in mask_decoder.state_dict()})
        if class_tokens is not None:
            class_tokens.start_from(state.mask_decoder)
    if config.adapter is not None and config.adapter.get("decoder"):
        adapt_attention(mask_decoder, config.adapter["rank"], config.adapter["alpha"])
    return freeze_and_adapt(model, config, weights)
