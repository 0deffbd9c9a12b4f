"""The promptable model of a run's configuration."""

from pathlib import Path

from samseg.common.errors import ConfigError, WeightsError, did_you_mean
from samseg.encoders.fetch import fetch, is_published
from samseg.models.build import Built, check_adapter, freeze_and_adapt
from samseg.models.config import ModelConfig
from samseg.models.sam.class_tokens import ClassTokens
from samseg.models.sam.decoder_lora import adapt_attention
from samseg.models.sam.dense import need_sams
from samseg.models.sam.files import empty_sam, load_sam, sam_state
from samseg.models.sam.prompts import PromptConfig
from samseg.models.sam.rounds import Criterion, Rounds
from samseg.models.sam.transform import ImageTransform

HIGH_RESOLUTION = "high_resolution"


def build_promptable(
    config: ModelConfig,
    prompts: PromptConfig,
    criterion: Criterion,
    *,
    image_transform: ImageTransform,
    classes: int,
    in_channels: int = 3,
    pretrained: bool = True,
) -> Built:
    """The SAM of a run's encoder, or SAM-HQ for ``config.decoder``'s high_resolution.

    Args:
        config: the section `model`.
        prompts: the section `prompts`; with `none` above 0 there are class tokens.
        criterion: see `Rounds`.
        image_transform: how the images of the run become squares.
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
    sam = empty_sam(config.encoder, image_transform.size, hq, in_channels).train()
    sam.image_transform = image_transform
    sam.rounds = Rounds(prompts, criterion)
    if prompts.absent > 0 and not sam.scores_objects:
        raise ConfigError(
            f"prompts.absent={prompts.absent} teaches a score of whether there is an object, which {config.encoder}'s "
            "SAM has none of: set prompts.absent=0, or take SAM 2's encoder"
        )
    sam.freeze_for_training()
    if prompts.none > 0:
        sam.class_tokens = ClassTokens(classes)
    if state is not None:
        load_sam(sam, state)
        if sam.class_tokens is not None:
            sam.class_tokens.start_from(state.mask_decoder)
    if config.adapter is not None and config.adapter.get("decoder"):
        adapt_attention(sam.mask_decoder, config.adapter["rank"], config.adapter["alpha"])
    return freeze_and_adapt(sam, config, weights)
