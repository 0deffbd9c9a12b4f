"""The promptable model: what its rounds are made of, and what learns."""

import pytest
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor

import samseg
from samseg.common.errors import InputError
from samseg.models.sam import rounds
from samseg.models.sam.decoder_lora import adapt_attention, merge_attention
from samseg.models.trainable import count_parameters
from tests.encoders.conftest import SMALL, SMALL_HIERA, SMALL_SAM3
from tests.models.sam.conftest import SIZE, small


def learnt(model, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(3)
    outputs = model(batch)
    (outputs.get("loss", outputs.get("logits")).sum() + outputs["nothing"]).backward()
    return outputs, {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("most, count", [(3, 0 + 1 + 3), (None, 0 + 1 + 5)])
def test_no_object_is_dropped_to_the_smallest_count_and_none_is_invented(batch, most, count, monkeypatch):
    model, prompted = small(objects=most, rounds=0, box=1.0), []
    decode = model.decode

    def spy(features, points, boxes, masks, multimask):
        prompted.append(len(boxes))
        return decode(features, points, boxes, masks, multimask)

    monkeypatch.setattr(model, "decode", spy)
    learnt(model, batch)
    assert sum(prompted) == count


@pytest.mark.parametrize("variant", [SMALL, SMALL_HIERA])
def test_gradients_are_those_of_one_graph_of_all_rounds(variant, batch, monkeypatch):
    model = small(variant=variant)
    outputs, grads = learnt(model, batch)
    monkeypatch.setattr(rounds, "summed", lambda losses, inputs, parameters=(): sum(losses(*inputs)))
    expected, theirs = learnt(model, batch)
    torch.testing.assert_close(outputs["loss"], expected["loss"])
    for name, grad in theirs.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-3, atol=1e-5, msg=name)


def test_in_float16_no_gradient_vanishes(batch):
    """The loss is scaled behind the forward pass, in which gradients are taken."""
    model = small(rounds=0, box=1.0, box_jitter=0.0)
    samseg.freeze_encoder(model)
    criterion = model.rounds.criterion
    model.rounds.criterion = lambda *given: 1e-6 * criterion(*given)  # a pixel's share is that small in a large image
    _, expected = learnt(model, batch)
    with torch.autocast("cpu", dtype=torch.float16):
        _, grads = learnt(model, batch)
    ours, theirs = (torch.cat([one.flatten() for one in these.values()]) for these in (grads, expected))
    assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_rounds_are_those_of_sam_itself(batch, monkeypatch):
    """Half of the steps begin with a box, the others with a point and three masks; half of the rounds see a mask."""
    model, calls = small(rounds=4, objects=2), []
    decode = model.decode

    def spy(features, points, boxes, masks, multimask):
        calls.append((0 if points is None else points[0].shape[1], boxes is not None, masks is not None, multimask))
        return decode(features, points, boxes, masks, multimask)

    monkeypatch.setattr(model, "decode", spy)
    firsts, with_mask = [], []
    for seed in range(24):
        torch.manual_seed(seed)
        calls.clear()
        with torch.no_grad():
            model({key: value[1:2] for key, value in batch.items()})
        first, *others = calls
        assert first in [(0, True, False, False), (1, False, False, True)]
        assert [call[0] for call in others] == [first[0] + 2 * round_ for round_ in range(1, 5)]
        assert all(call[1] == first[1] and not call[3] for call in others)
        firsts.append(first[1])
        with_mask += [call[2] for call in others]
    assert 6 <= sum(firsts) <= 18 and 0.35 < sum(with_mask) / len(with_mask) < 0.65


@pytest.mark.parametrize("variant, size", [(SMALL, SIZE), (SMALL_HIERA, SIZE), (SMALL_SAM3, 56)])
def test_every_trained_parameter_has_a_gradient_in_every_kind_of_step(variant, size, batch):
    """Plain DDP stops on one without."""
    batch = {key: value[..., :size, :size] for key, value in batch.items()}
    empty = {key: value[:1] for key, value in batch.items()}  # no object at all
    for none, box in ((0.0, 0.0), (0.0, 1.0), (0.999, 0.5)):
        model = small(classes=2, variant=variant, size=size, none=none, box=box)
        for some in (batch, empty):
            _, grads = learnt(model, some)
            assert [name for name, grad in grads.items() if grad is None] == []


def test_the_prompt_encoder_is_frozen_and_the_frozen_encoder_too():
    model = small(classes=2)
    samseg.freeze_encoder(model)
    assert count_parameters(model).endswith("(mask decoder, class tokens); frozen: encoder, prompt encoder")


def test_of_sam2_the_objects_score_stays():
    """True objects alone would teach it that there always is one."""
    model = small(variant=SMALL_HIERA)
    frozen = {name.split(".")[0] for name, p in model.mask_decoder.named_parameters() if not p.requires_grad}
    assert frozen == {"obj_score_token", "pred_obj_score_head"}
    assert all(p.requires_grad for p in model.encoder.trunk.neck.parameters())  # until the encoder is frozen


def column_of_objects() -> torch.Tensor:
    """(1, S, S): four on the left, and room on the right."""
    objects = torch.zeros(1, SIZE, SIZE, dtype=torch.long)
    for number, top in enumerate((2, 18, 34, 50), start=1):
        objects[0, top : top + 12, 4:16] = number
    return objects


@pytest.mark.parametrize("box", [0.0, 1.0])
def test_where_nothing_is_the_objects_score_alone_counts(box, batch, monkeypatch):
    model = small(variant=SMALL_HIERA, absent=0.5, rounds=1, box=box, objects=None)
    objects, decode, asked = column_of_objects(), model.decode, []

    def spy(features, points=None, boxes=None, *others):
        answers = decode(features, points, boxes, *others)
        right = boxes[:, 2] > 20 if boxes is not None else points[0][:, 0, 0] > 20
        asked.append((right, answers.object_scores.detach()))
        return answers

    monkeypatch.setattr(model, "decode", spy)
    model.rounds.criterion = lambda logits, truth, valid, ious: 0 * logits.sum((1, 2, 3))
    torch.manual_seed(0)
    outputs = model({"image": batch["image"][:1], "objects": objects, "valid": objects >= 0})
    (absent, where_nothing_is), *there = asked
    assert absent.all() and len(there) == 2 and len(absent) + len(there[0][0]) == 4
    expected = F.softplus(where_nothing_is).sum() + sum(F.softplus(-scores).sum() / 2 for _, scores in there)
    assert not any(right.any() for right, _ in there)
    torch.testing.assert_close(outputs["loss"].sum().detach(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("box", [0.0, 1.0])
def test_prompts_for_what_is_not_there_teach_the_objects_score(box, batch):
    model, objects = small(variant=SMALL_HIERA, absent=0.5, rounds=0, box=box, objects=None), column_of_objects()
    samseg.freeze_encoder(model)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    inputs = {"image": batch["image"][:1], "objects": objects, "valid": objects >= 0}
    torch.manual_seed(0)
    for _ in range(100):
        optimiser.zero_grad()
        outputs = model(inputs)
        (outputs["loss"].sum() + outputs["nothing"]).backward()
        optimiser.step()
    middles = torch.tensor([[[10.0, 24.0]], [[50.0, 24.0]]])
    prompts = (
        (None, torch.cat([middles - 6, middles + 6], dim=-1)[:, 0]) if box else ((middles, torch.ones(2, 1)), None)
    )
    with torch.no_grad():
        there, nothing = model.eval().decode(model.embed(inputs["image"]), *prompts).object_scores
    assert there > 1 and nothing < -1


def test_of_sam_hq_its_own_part_learns_alone():
    model = small(hq=True)
    trained = {name.split(".")[1] for name, p in model.mask_decoder.named_parameters(prefix="d") if p.requires_grad}
    assert trained == {"hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature"}


def test_a_few_objects_at_a_time_learn_what_all_at_once_do(batch, monkeypatch):
    """With one round and a box without jitter nothing is drawn for an object but its place in the order."""
    model = small(objects=None, rounds=0, box=1.0, box_jitter=0.0)
    together = learnt(model, batch)
    monkeypatch.setattr("samseg.models.sam.contract.TOKENS_AT_ONCE", 2 * (SIZE // 16) ** 2)
    assert model.objects_at_once == 2
    apart = learnt(model, batch)
    torch.testing.assert_close(apart[0]["loss"], together[0]["loss"], rtol=1e-4, atol=1e-5)
    for name, grad in together[1].items():
        torch.testing.assert_close(apart[1][name], grad, rtol=1e-3, atol=1e-4)


def test_stored_taps_are_as_good_as_images(batch):
    model = small()
    samseg.freeze_encoder(model)
    expected = learnt(model, batch)
    with torch.no_grad():
        taps = [tap.permute(0, 2, 3, 1) for tap in model.encoder.taps(batch["image"])]
    stored = learnt(model, {"taps": taps} | {key: batch[key] for key in ("objects", "valid")})
    torch.testing.assert_close(stored[0]["loss"], expected[0]["loss"], rtol=1e-4, atol=1e-5)


def test_class_tokens_leave_sams_answers_alone_to_the_bit(batch):
    plain, beside = small(), small(classes=4)
    features = plain.embed(batch["image"][:1])
    boxes = torch.tensor([[5.0, 6.0, 30.0, 40.0]])
    ours, theirs = beside.decode(features, boxes=boxes), plain.decode(features, boxes=boxes)
    assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.ious, theirs.ious)


def test_without_prompts_images_become_classes_or_an_error(batch):
    model = small(classes=4).eval()
    with torch.no_grad():
        assert model(batch["image"]).shape == (3, 4, SIZE, SIZE)
        torch.manual_seed(0)
        assert model(batch)["loss"] > 0
    with pytest.raises(InputError, match="prompts.none above 0"):
        small()(batch["image"])


def test_it_is_a_sam_for_segment_anythings_predictor(batch):
    model = small().eval()
    predictor = SamPredictor(model)
    predictor.set_torch_image(batch["image"][:1], (SIZE, SIZE))
    _, ious, low = predictor.predict(box=torch.tensor([5, 6, 30, 40]).numpy(), multimask_output=False)
    with torch.no_grad():
        features = model.embed(model.preprocess(batch["image"][:1]))
        logits, predicted, _ = model.decode(features, boxes=torch.tensor([[5.0, 6.0, 30.0, 40.0]]))
    torch.testing.assert_close(torch.from_numpy(low), logits[0], rtol=1e-4, atol=1e-4)
    assert ious[0] == pytest.approx(predicted.item(), abs=1e-4)


def test_lora_in_the_attention_learns_alone_and_merges(batch):
    model, plain = small(rounds=0, box=1.0), small(rounds=0, box=1.0)
    adapt_attention(model.mask_decoder, rank=2, alpha=None)
    trained = [name for name, p in model.mask_decoder.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 7 and all("parametrizations" in name for name in trained)  # A and B of q and v
    embedding, boxes = plain.embed(batch["image"][:1]), torch.tensor([[5.0, 6.0, 30.0, 40.0]])
    before = plain.decode(embedding, boxes=boxes)[0]
    assert torch.equal(model.decode(embedding, boxes=boxes)[0], before)
    with torch.no_grad():
        for name, parameter in model.mask_decoder.named_parameters():
            if name.endswith(".b"):
                parameter.normal_(std=0.1)
    moved = model.decode(embedding, boxes=boxes)[0]
    assert not torch.allclose(moved, before, atol=1e-3)
    merge_attention(model.mask_decoder)
    state = model.mask_decoder.state_dict()
    assert state.keys() == plain.mask_decoder.state_dict().keys()
    plain.mask_decoder.load_state_dict(state)
    torch.testing.assert_close(plain.decode(embedding, boxes=boxes)[0], moved, rtol=1e-4, atol=1e-4)
