import numpy as np
import pytest

from benchmarks import sam
from samseg.common.errors import InputError
from tests.encoders.conftest import SMALL_HIERA


@pytest.mark.slow
def test_predictors_are_compared_with_the_same_weights(monkeypatch):
    monkeypatch.setattr(sam, "BOXES", 2)
    found = sam.compare(SMALL_HIERA, "float32", ["segment-anything", "transformers"], repeats=1)
    assert found["segment-anything"] == f"it has no {SMALL_HIERA}"
    for name in ("samseg", "transformers"):
        assert list(found[name]) == ["set_image", "a point", "a box", "2 boxes"] and min(found[name].values()) > 0
    lines = list(sam.as_lines(found))
    assert (
        lines[1].startswith("samseg") and lines[2].endswith(f"left out: it has no {SMALL_HIERA}") and " x " in lines[3]
    )


def test_other_answers_are_not_timed(monkeypatch):
    class Another(sam._Transformers):
        def predict(self, **prompt):
            masks, ious, low = super().predict(**prompt)
            return masks, ious, np.zeros_like(low)

    monkeypatch.setitem(sam.PEERS, "transformers", Another)
    with pytest.raises(InputError, match="logits of transformers differ by 1.0e"):
        sam.compare(SMALL_HIERA, "float32", ["transformers"], repeats=1)
