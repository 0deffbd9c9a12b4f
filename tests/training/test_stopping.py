import os
import signal

import pytest

from samseg.training.stopping import sigterm_noted


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_sigterm_is_noted_and_handed_on_in_the_block_alone():
    handed_on, before = [], signal.getsignal(signal.SIGTERM)
    with sigterm_noted(lambda: handed_on.append("on")) as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() and handed_on == ["on"]
    assert signal.getsignal(signal.SIGTERM) is before
