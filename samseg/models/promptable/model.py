"""SAM as it is trained with prompts: the image is embedded once, then objects are prompted for in rounds."""

from collections.abc import Callable

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from samseg.common.errors import InputError
from samseg.encoders.encoder import TrunkEncoder
from samseg.models.class_tokens import ClassTokens, class_logits, enlarged, product
from samseg.models.promptable.config import PromptConfig
from samseg.models.promptable.decoder_lora import merge_attention
from samseg.models.promptable.simulate import (
    POSITIVE,
    boxes_of,
    corrections,
    drawn_objects,
    enlarged_to,
    jittered,
    random_pixels,
)
from samseg.models.sam import EMBEDDING, ImageEncoder, prompt_and_mask_decoder
from samseg.models.sam_dense import grid_positions
from samseg.models.sam_hq import MaskDecoderHQ

TOKENS_AT_ONCE = 2**15  # of images, over the objects that are decoded together: what bounds the memory
Criterion = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class PromptableModel(nn.Module):
    """SAM's encoder, prompt encoder and mask decoder, and if it is to answer without prompts, a token for each class.

    Called with images (B, 3, H, W) it gives the classes' logits (B, C, H, W). Called with a training batch's inputs it
    prompts for the objects in them, and gives the loss of each.

    Args:
        encoder: its taps are those that the decoder looks at, the image embedding last.
        prompt_encoder, mask_decoder: SAM's, or SAM-HQ's.
        prompts: what is simulated.
        criterion: the loss of answers: logits (K, M, S, S), truth (K, S, S) bool, valid (S, S) bool, predicted IoUs
            (K, M) -> (K,).
        class_tokens: of the classes, or None.

    Attributes:
        takes_taps: its forward takes stored taps in place of images.
    """

    takes_taps = True

    def __init__(
        self,
        encoder: TrunkEncoder,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        prompts: PromptConfig,
        criterion: Criterion,
        class_tokens: ClassTokens | None = None,
    ):
        super().__init__()
        self.encoder, self.prompt_encoder, self.mask_decoder = encoder, prompt_encoder, mask_decoder
        self.class_tokens = class_tokens
        self.prompts, self.criterion = prompts, criterion
        self.prompt_encoder.requires_grad_(False)
        if isinstance(mask_decoder, MaskDecoderHQ):  # as SAM-HQ is trained: its own token alone, SAM's tensors stay
            mask_decoder.hq_token_only = True
            plain = set(prompt_and_mask_decoder()[1].state_dict())
            for name, parameter in mask_decoder.named_parameters():
                parameter.requires_grad_(name not in plain)

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.prompt_encoder.input_image_size[0]

    @property
    def objects_at_once(self) -> int:
        height, width = self.prompt_encoder.image_embedding_size
        return max(1, TOKENS_AT_ONCE // (height * width))

    def forward(self, inputs: Tensor | dict) -> Tensor | dict[str, Tensor]:
        """Images (B, 3, H, W) -> the classes' logits (B, C, H, W); InputError without class tokens.

        Or, in training, ``{"image": (B, 3, S, S) or "taps": stored ones, "objects": (B, S, S) int, "valid": (B, S, S)
        bool}``, object numbers and 0 for none -> ``{"loss": (N,), an entry an object, or "logits": (B, C, S, S) in a
        step without prompts, and "nothing": 0}``. The latter depends on every parameter, for in a step some have no
        part, which several processes would stop on.
        """
        if isinstance(inputs, Tensor):
            return self.without_prompts(self.embed(inputs), inputs.shape[2:])
        embeddings = self.embed(inputs["taps"] if "taps" in inputs else inputs["image"])
        nothing = 0 * embeddings.sum()
        for part in filter(None, (self.mask_decoder, self.class_tokens)):
            nothing = nothing + 0 * sum(parameter.sum() for parameter in part.parameters() if parameter.requires_grad)
        if self.class_tokens is not None and torch.rand(()) < self.prompts.none:
            return {"logits": self.without_prompts(embeddings, inputs["objects"].shape[1:]), "nothing": nothing}
        box_first = bool(torch.rand(()) < self.prompts.box)
        losses = [
            self._prompted(embedding[None], objects, valid, box_first)
            for embedding, objects, valid in zip(embeddings, inputs["objects"], inputs["valid"], strict=True)
        ]
        return {"loss": torch.cat(losses), "nothing": nothing}

    def embed(self, image: Tensor | list[Tensor]) -> Tensor:
        """Images (B, 3, H, W), or stored taps (B, h, w, C), -> what the mask decoder looks at (B, 256, h, w).

        For SAM-HQ's decoder the early features' channels stand behind.
        """
        taps = self.encoder.taps(image) if isinstance(image, Tensor) else [t.float().permute(0, 3, 1, 2) for t in image]
        return torch.cat([taps[-1], *taps[:-1]], dim=1)

    def decode(
        self,
        embedding: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        three: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Answers for K prompts about one image, as SAM gives them.

        Args:
            embedding: of the image, (1, 256, h, w).
            points, labels: (K, P, 2) and (K, P), in pixels of the network's input.
            boxes: (K, 4).
            masks: logits of earlier answers (K, 1, 4h, 4w).
            three: three answers, for a prompt that may mean several things; SAM-HQ gives one all the same.

        Returns:
            Logits (K, M, 4h, 4w) float32 and predicted IoUs (K, M).
        """
        with torch.autocast(embedding.device.type, enabled=False):  # which would round positions
            sparse, dense = self.prompt_encoder(None if points is None else (points, labels), boxes, masks)
            positions = self.prompt_encoder.get_dense_pe()
        logits, ious = self.mask_decoder(embedding, positions, sparse, dense, multimask_output=three)
        return logits.float(), ious.float()

    def without_prompts(self, embeddings: Tensor, shape: tuple[int, int]) -> Tensor:
        """Embeddings (B, 256, h, w) -> the classes' logits (B, C, H, W) for images of ``shape`` (H, W)."""
        if self.class_tokens is None:
            raise InputError(
                "this model answers to prompts alone; one trained with prompts.none above 0 predicts classes, too"
            )
        source = embeddings[:, :EMBEDDING] + self.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        filters, fine = class_logits(
            self.class_tokens,
            self.mask_decoder.transformer,
            self.mask_decoder.output_upscaling,
            source,
            grid_positions(self.prompt_encoder.pe_layer, source),
        )
        return enlarged(product(filters, fine), shape)

    def unfreeze_encoder(self) -> None:
        """As SMP's models have it."""
        self.encoder.requires_grad_(True)

    def sam(self) -> Sam:
        """segment-anything's model of these very parts, with everything that runs on it.

        LoRA in the mask decoder is merged for good; in the encoder it stays as it is.
        """
        merge_attention(self.mask_decoder)
        image_encoder = ImageEncoder(self.encoder.variant, self.image_size, early=len(self.encoder.kept) > 1)
        image_encoder.trunk = self.encoder.trunk
        return Sam(image_encoder, self.prompt_encoder, self.mask_decoder).train(self.training)

    def _prompted(self, embedding: Tensor, objects: Tensor, valid: Tensor, box_first: bool) -> Tensor:
        """The loss of each object drawn from one image's map, (N,), a few objects at a time."""
        numbers = drawn_objects(objects, self.prompts.min_pixels, self.prompts.objects)
        some = numbers.split(self.objects_at_once)
        return torch.cat([self._rounds(embedding, objects, valid, part, box_first) for part in some])

    def _rounds(self, embedding: Tensor, objects: Tensor, valid: Tensor, numbers: Tensor, box_first: bool) -> Tensor:
        """The loss of K objects, (K,), over the first prompt and all corrections."""
        if not len(numbers):
            return embedding.new_zeros(0)
        truth = objects == numbers[:, None, None]
        points, labels, boxes, masks, answer = None, None, None, None, None
        if box_first:
            boxes = jittered(boxes_of(truth), self.prompts.box_jitter, *objects.shape)
        else:
            points = random_pixels(truth)[0][:, None]
            labels = torch.full(points.shape[:2], POSITIVE, device=points.device, dtype=torch.int)
        losses = []
        for number in range(1 + self.prompts.rounds):
            if number > 0:
                mask = enlarged_to(answer, self.image_size)[:, 0] > 0
                more, kinds = corrections(truth, mask, valid, self.prompts.ring)
                points = more if points is None else torch.cat([points, more], dim=1)
                labels = kinds if labels is None else torch.cat([labels, kinds], dim=1)
                masks = answer if torch.rand(()) < self.prompts.mask else None
            loss, answer = checkpoint(
                self._answer, embedding, objects, valid, numbers, points, labels, boxes, masks,
                number == 0 and not box_first, use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
            losses.append(loss)
        return torch.stack(losses).mean(0)

    def _answer(self, embedding, objects, valid, numbers, points, labels, boxes, masks, three) -> tuple[Tensor, Tensor]:
        """The loss (K,) of one round, and the answer that SAM itself thinks best (K, 1, 4h, 4w), without its graph.

        Computed again in the backward pass, truth and all, so that a round leaves no activations behind.
        """
        logits, ious = self.decode(embedding, points, labels, boxes, masks, three)
        truth = objects == numbers[:, None, None]
        loss = self.criterion(enlarged_to(logits, self.image_size), truth, valid, ious)
        best = ious.argmax(1)
        return loss, logits.detach()[torch.arange(len(best), device=best.device), best][:, None]
