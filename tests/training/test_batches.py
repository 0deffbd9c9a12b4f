import pytest

from samseg.common.errors import ConfigError
from samseg.training.batches import EpochBatches, epoch_seed


def batches(epoch=1, **arguments):
    sampler = EpochBatches(**{"images": 10, "batch_size": 2, "seed": 0} | arguments)
    sampler.set_epoch(epoch)
    result = list(sampler)
    assert len(result) == len(sampler)
    return result


def flat(batches):
    return [index for batch in batches for index in batch]


@pytest.mark.parametrize(("images", "batch_size"), [(10, 2), (11, 3), (4, 8), (5, 1), (1, 1)])
def test_every_image_comes_once_an_epoch(images, batch_size):
    assert sorted(flat(batches(images=images, batch_size=batch_size))) == list(range(images))


def test_order_is_a_function_of_seed_and_epoch():
    assert batches(epoch=3) == batches(epoch=3)
    assert batches(epoch=3) != batches(epoch=4)
    assert batches(epoch=3) != batches(epoch=3, seed=1)


def test_a_last_batch_of_one_is_left_out_but_never_the_same_image():
    left_out = {(set(range(7)) - set(flat(batches(images=7, epoch=epoch)))).pop() for epoch in range(1, 30)}
    assert len(left_out) > 3
    assert all(len(batch) == 2 for batch in batches(images=7))


def test_the_only_batch_stays_even_if_it_is_one_image():
    assert batches(images=1, batch_size=2) == [[0]]


@pytest.mark.parametrize("images", [12, 13, 15, 17, 18, 19])
def test_processes_share_the_batches_of_one_process(images):
    shares = [batches(images=images, batch_size=2, rank=rank, processes=3) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1  # or DDP would wait for ever
    together = [sorted(flat(step)) for step in zip(*shares)]
    alone = [sorted(batch) for batch in batches(images=images, batch_size=6)]
    assert together == alone[: len(together)]
    assert sum(map(len, alone[len(together) :])) < 6
    assert sum(map(len, together)) == EpochBatches(images, 2, 0, 0, 3).used()


def test_more_processes_than_images_is_an_error():
    with pytest.raises(ConfigError, match="3 training images .* 4 processes"):
        EpochBatches(3, 2, 0, 0, 4)


def test_processes_draw_from_different_seeds():
    assert len({epoch_seed(seed, epoch, rank) for seed in (0, 1) for epoch in (1, 2) for rank in (0, 1)}) == 8


@pytest.mark.parametrize("images", [12, 13, 15, 1])
def test_an_epoch_goes_on_behind_the_images_seen(images):
    whole = batches(images=images)
    for done in range(len(whole) + 1):
        sampler = EpochBatches(images, batch_size=2, seed=0)
        sampler.set_epoch(1, done=len(flat(whole[:done])))
        assert list(sampler) == whole[done:]


def test_it_goes_on_with_other_processes():
    seen = flat(step for rank in (0, 1) for step in batches(images=12, rank=rank, processes=2)[:2])
    sampler = EpochBatches(12, batch_size=2, seed=0)
    sampler.set_epoch(1, done=len(seen))
    assert sorted(seen + flat(sampler)) == list(range(12))
