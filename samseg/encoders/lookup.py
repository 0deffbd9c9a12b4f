"""Rows of a learned table at a tensor of indices, such as relative positions."""

import torch.nn.functional as F
from torch import Tensor


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """table[index] for a table (n, C), of shape (*index.shape, C), with a gradient of the same bits each time.

    On CPUs the gradient of plain indexing adds up a row's parts in the order in which several threads come to them,
    that of an embedding in the order of the indices.
    """
    return F.embedding(index, table)
