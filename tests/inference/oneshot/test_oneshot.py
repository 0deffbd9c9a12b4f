"""PerSAM and PerSAM-F against the published algorithm: formulas written out, and transformers' guided mask decoder."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor

import samseg
from samseg.common.errors import InputError
from samseg.inference.oneshot import persam
from samseg.inference.oneshot.oneshot import FoundObject
from samseg.models.sam.files import empty_sam
from samseg.models.sam.names import transformers_name
from tests.encoders.conftest import SMALL
from tests.models.sam.reference import picture, randomised


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    return randomised(empty_sam(SMALL, 128))


def square_mask(shape, top=20, left=30, side=40, label=1) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = label
    return mask


@pytest.mark.filterwarnings("ignore")
def test_guided_decoder_is_transformers(sam):
    """transformers' decoder takes both guides; what it does otherwise than the paper is put in from outside."""
    modeling = pytest.importorskip("transformers.models.sam.modeling_sam")
    from transformers import SamMaskDecoderConfig

    def attend_twice(module, query, key, value, attention_mask, scaling, **_):
        weights = (query @ key.transpose(2, 3) * scaling).softmax(-1)
        if attention_mask is not None:
            weights = (weights + attention_mask).softmax(-1)
        return (weights @ value).transpose(1, 2), weights

    modeling.ALL_ATTENTION_FUNCTIONS.register("persam", attend_twice)
    config = SamMaskDecoderConfig()
    config._attn_implementation = "persam"
    theirs = modeling.SamMaskDecoder(config).eval()
    names = {name: f"mask_decoder.{name}" for name in sam.mask_decoder.state_dict()}
    state = sam.mask_decoder.state_dict()
    theirs.load_state_dict(
        {transformers_name(full).removeprefix("mask_decoder."): state[name] for name, full in names.items()}
    )
    embedding, positions, dense = (torch.randn(1, 256, 8, 8) for _ in range(3))
    points, attention, target = torch.randn(1, 3, 256), torch.rand(8, 8), torch.randn(256)

    def with_target(module, args, kwargs):
        return args, kwargs | {"query": kwargs["query"] + target}

    theirs.transformer.final_attn_token_to_image.register_forward_pre_hook(with_target, with_kwargs=True)
    with torch.no_grad():
        plain, _ = sam.mask_decoder(embedding, positions, points, dense, True)
        with persam.guided(sam.mask_decoder, attention, target):
            masks, ious = sam.mask_decoder(embedding, positions, points, dense, True)
        after, _ = sam.mask_decoder(embedding, positions, points, dense, True)
        expected = theirs(
            image_embeddings=embedding,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=points[:, None],
            dense_prompt_embeddings=dense,
            multimask_output=True,
            attention_similarity=attention.flatten()[None, None, None],
            target_embedding=target[None, None, None],
        )
    torch.testing.assert_close(masks, expected[0][:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(ious, expected[1][:, 0], atol=1e-4, rtol=0)
    assert (masks - plain).abs().max() > 0.01 and torch.equal(plain, after)


@pytest.mark.parametrize("shape", [(128, 128), (90, 120), (120, 64)])
def test_target_and_similarity_by_loops(sam, shape):
    predictor = SamPredictor(sam)
    predictor.set_image(picture(*shape))
    mask = torch.as_tensor(square_mask(shape) > 0)
    covered = persam.coverage(mask, sam.image_transform)
    embedding = predictor.features[0]
    inside, scale = [], 128 / max(shape)
    for row in range(8):
        for column in range(8):
            ys = (np.arange(16 * row, 16 * row + 16) + 0.5) / scale
            xs = (np.arange(16 * column, 16 * column + 16) + 0.5) / scale
            hits = np.mean([20 <= y < 60 and 30 <= x < min(70, shape[1]) for y in ys for x in xs])
            assert covered[row, column].item() == pytest.approx(hits, abs=0.1)
            if covered[row, column] > 0.5:
                inside.append(embedding[:, row, column].numpy())
    target = persam.target_of(embedding, covered, fine_tune=False)
    np.testing.assert_allclose(target, np.mean(inside, axis=0), atol=1e-5)
    peak = persam.target_of(embedding, covered, fine_tune=True)
    np.testing.assert_allclose(peak, (np.mean(inside, axis=0) + np.max(inside, axis=0)) / 2, atol=1e-5)

    cosine = np.zeros((8, 8), np.float32)
    for row in range(8):
        for column in range(8):
            cell = embedding[:, row, column].numpy()
            cosine[row, column] = cell @ target.numpy() / np.linalg.norm(cell) / np.linalg.norm(target)
    quarter = F.interpolate(torch.as_tensor(cosine)[None, None], size=(32, 32), mode="bilinear")
    full = F.interpolate(quarter, size=(128, 128), mode="bilinear")
    height, width = predictor.input_size
    expected = F.interpolate(full[..., :height, :width], size=shape, mode="bilinear")[0, 0]
    found = persam.similarity_map(embedding, target, sam.image_transform, shape)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    attention = persam.attention_map(found, sam.image_transform)
    assert attention.shape == (8, 8)
    z = ((found - found.mean()) / found.std())[None, None]
    rows, columns = -(-height // 16), -(-width // 16)
    expected = torch.sigmoid(F.interpolate(z, size=(rows, columns), mode="bilinear"))[0, 0]
    torch.testing.assert_close(attention[:rows, :columns], expected)
    assert attention[rows:].sum() == 0 and attention[:, columns:].sum() == 0


def published_persam(sam, reference, mask, image) -> tuple[np.ndarray, float]:
    """The steps of the paper's script, one after the other."""
    predictor = SamPredictor(sam)
    predictor.set_image(reference)
    inside = persam.coverage(torch.as_tensor(mask > 0), sam.image_transform) > 0.5
    target = predictor.features[0][:, inside].mean(1)
    predictor.set_image(image)
    similarity = persam.similarity_map(predictor.features[0], target, sam.image_transform, image.shape[:2])
    flat = similarity.flatten()
    most, least = int(flat.topk(1)[1]), int(flat.topk(1, largest=False)[1])
    width = image.shape[1]
    prompts = dict(
        point_coords=np.array([[most % width, most // width], [least % width, least // width]]),
        point_labels=np.array([1, 0]),
    )
    with persam.guided(sam.mask_decoder, persam.attention_map(similarity, sam.image_transform), target):
        _, _, logits = predictor.predict(**prompts, multimask_output=False)
    masks, scores, logits = predictor.predict(**prompts, mask_input=logits, multimask_output=True)
    best = np.argmax(scores)
    y, x = np.nonzero(masks[best])
    box = np.array([x.min(), y.min(), x.max(), y.max()])
    masks, scores, logits = predictor.predict(
        **prompts, box=box[None], mask_input=logits[best : best + 1], multimask_output=True
    )
    return masks[np.argmax(scores)], scores.max()


@torch.no_grad()
def test_persam_step_by_step(sam):
    reference, image = picture(90, 120), picture(128, 100)[:, ::-1].copy()
    mask = square_mask((90, 120))
    (found,) = samseg.OneShot(sam, [(reference, mask)]).find(image)
    expected, score = published_persam(sam, reference, mask, image)
    assert np.array_equal(found.mask, expected) and 0 < expected.mean() < 1
    assert found.score == pytest.approx(float(score)) and found.label == 1


def published_weights(logits, truth, steps) -> torch.Tensor:
    """The paper's training loop and losses, over logits (3, N) that do not change."""
    two = torch.nn.Parameter(torch.ones(2, 1) / 3)
    optimizer = torch.optim.AdamW([two], lr=1e-3, eps=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        weights = torch.cat((1 - two.sum(0).unsqueeze(0), two), dim=0)
        mixed = (logits * weights).sum(0)
        p = mixed.sigmoid()
        dice = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
        right = p * truth + (1 - p) * (1 - truth)
        focal = -(0.25 * truth + 0.75 * (1 - truth)) * (1 - right) ** 2 * right.log()
        loss = dice + focal.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return torch.cat((1 - two.sum(0).unsqueeze(0), two)).detach()[:, 0]


def test_persam_f_weights_are_the_published_loops():
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(200, generator=generator) < 0.3).float()
    logits = torch.randn(3, 200, generator=generator)
    logits[1] += 3 * (2 * truth - 1)  # the second mask is the good one
    found = persam.mask_weights([(logits, truth)], steps=150)
    torch.testing.assert_close(found, published_weights(logits, truth, 150), atol=1e-5, rtol=0)
    assert found.argmax() == 1 and found.sum().item() == pytest.approx(1)


def test_persam_f_runs_with_its_weights(sam):
    image, mask = picture(), square_mask((90, 120))
    oneshot = samseg.OneShot(sam, [(image, mask)], fine_tune=True)
    target = oneshot.targets[1]
    assert target.weights.shape == (3,) and not torch.allclose(target.weights, torch.full((3,), 1 / 3), atol=1e-3)
    (found,) = oneshot.find(image)
    # by hand
    predictor = oneshot.predictor
    prompts = dict(point_coords=np.array([found.point]), point_labels=np.array([1]), multimask_output=True)
    weights = target.weights.numpy()[:, None, None]
    at_size, _, low = predictor.predict(**prompts, return_logits=True)
    mask, logits = (weights * at_size).sum(0) > 0, (weights * low).sum(0)[None]
    for _ in range(2):
        y, x = np.nonzero(mask)
        box = np.array([x.min(), y.min(), x.max(), y.max()])
        masks, scores, low = predictor.predict(**prompts, box=box, mask_input=logits)
        best = scores.argmax()
        mask, logits = masks[best], low[best : best + 1]
    assert np.array_equal(found.mask, mask) and found.score == pytest.approx(float(scores.max()))


def test_several_objects(sam):
    image, mask = picture(), square_mask((90, 120))
    found = samseg.OneShot(sam, [(image, mask)], objects=4, least=0.0).find(image)
    assert len(found) > 1
    total = np.zeros((90, 120), int)
    for number, one in enumerate(found):
        total += one.mask
        x, y = one.point
        assert not any(earlier.mask[y, x] for earlier in found[:number])
        assert all(one.similarity <= earlier.similarity for earlier in found[:number])
    assert total.max() == 1
    assert len(samseg.OneShot(sam, [(image, mask)], objects=4, least=1.0).find(image)) == 1


def test_several_classes_and_several_examples(sam):
    one, other = picture(), picture(128, 100)
    two_classes = square_mask((90, 120), label=7) + square_mask((90, 120), 60, 80, 25, label=2)
    again = square_mask((128, 100), label=7)
    oneshot = samseg.OneShot(sam, [(one, two_classes), (other, again)])
    assert sorted(oneshot.targets) == [2, 7]
    first = samseg.OneShot(sam, [(one, two_classes)]).targets
    second = samseg.OneShot(sam, [(other, again)]).targets
    torch.testing.assert_close(oneshot.targets[7].features, (first[7].features + second[7].features) / 2)
    torch.testing.assert_close(oneshot.targets[2].features, first[2].features)
    found = oneshot.find(one)
    classes = oneshot(one)
    assert [each.label for each in found] == [2, 7] and classes.dtype == np.uint8
    for y, x in np.ndindex(classes.shape):  # a pixel is the highest scoring mask's
        over = [each for each in found if each.mask[y, x]]
        assert classes[y, x] == (max(over, key=lambda each: each.score).label if over else 0)


def test_a_pixel_goes_to_the_highest_score(sam):
    oneshot = samseg.OneShot(sam, [(picture(), square_mask((90, 120)))])
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :3], right[:, 1:] = True, True
    found = [FoundObject(1, left, 0.9, 1.0, (0, 0)), FoundObject(3, right, 0.4, 1.0, (3, 0))]
    assert oneshot.classes(found, (2, 4)).tolist() == [[1, 1, 1, 3]] * 2


def test_an_object_smaller_than_a_cell(sam):
    predictor = SamPredictor(sam)
    predictor.set_image(picture(128, 128))
    covered = persam.coverage(torch.as_tensor(square_mask((128, 128), 33, 65, 3) > 0), sam.image_transform)
    assert torch.equal(persam.target_of(predictor.features[0], covered, False), predictor.features[0][:, 2, 4])


@pytest.mark.parametrize(
    "mask, message", [(np.zeros((90, 120), np.uint8), "mask is empty"), (square_mask((80, 120)), "same size")]
)
def test_references_that_cannot_be_used(sam, mask, message):
    with pytest.raises(InputError, match=f"reference 2: .*{message}"):
        samseg.OneShot(sam, [(picture(), square_mask((90, 120))), (picture(), mask)])


def test_empty_answers_are_no_crash(sam):
    """The published code stops on a mask without a pixel."""
    silent = randomised(empty_sam(SMALL, 128))
    with torch.no_grad():
        for mlp in silent.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.zero_()
            mlp.layers[-1].bias.zero_()
    oneshot = samseg.OneShot(silent, [(picture(), square_mask((90, 120)))], objects=3)
    assert oneshot.find(picture()) == [] and not oneshot(picture()).any()


def test_sam_hq_finds_too():
    torch.manual_seed(0)
    hq = randomised(empty_sam(SMALL, 128, hq=True))
    pair = (picture(), square_mask((90, 120)))
    assert len(samseg.OneShot(hq, [pair]).find(picture())) == 1
    with pytest.raises(InputError, match="SAM-HQ answers with one"):
        samseg.OneShot(hq, [pair], fine_tune=True)
