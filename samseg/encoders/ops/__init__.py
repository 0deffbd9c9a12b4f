"""The operators that the networks are made of, which know no processor.

`reference.py` says what each computes, in plain PyTorch, and `dispatch.py` who computes it.
"""

from samseg.encoders.ops.dispatch import (
    attention,
    cut_windows,
    embed_patches,
    gelu,
    image_layout,
    is_traced,
    join_windows,
    linear,
    lookup,
    map_layout,
    missing_operators,
    mlp,
    plain_attention,
    tokens_at_a_time,
)

__all__ = [
    "attention",
    "cut_windows",
    "embed_patches",
    "gelu",
    "image_layout",
    "is_traced",
    "join_windows",
    "linear",
    "lookup",
    "map_layout",
    "missing_operators",
    "mlp",
    "plain_attention",
    "tokens_at_a_time",
]
