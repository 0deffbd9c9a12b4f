"""From a trunk's maps to the feature maps that SMP's decoders want: strides 2, 4, 8, 16 and 32.

All that was not pretrained lives here, is born random and is always trained.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from samseg.encoders import ops
from samseg.encoders.norm import LayerNorm2d
from samseg.encoders.ops.layout import channels_first

LEVEL_CHANNELS = [32, 64, 128, 256, 256]  # at strides 2, 4, 8, 16, 32
HIDDEN = 256  # channels of a coarse tap before it is spread over a finer grid


class Projection(nn.Conv2d):
    """A 1x1 convolution without bias of maps whose memory is channels last, as a trunk's are, computed as a product.

    Memory layout is half of the pyramid's cost on a CPU. So products, which are best on channels-last memory, take the
    place of 1x1 convolutions, and the decoder's convolutions are given the layout of `ops.map_layout`.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return channels_first(F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1)))


class Spread(nn.Conv2d):
    """A projection to `channels` on a grid `spread` times finer: a 1x1 convolution to channels * spread**2, then
    `nn.PixelShuffle`. The rows of the matrix are put in the order of the pixels, so that whole pixels are moved and the
    memory stays channels last.
    """

    def __init__(self, in_channels: int, channels: int, spread: int):
        super().__init__(in_channels, channels * spread**2, kernel_size=1, bias=False)
        self.spread = spread
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h * spread, w * spread)."""
        B, h, w, s, C = x.shape[0], x.shape[2], x.shape[3], self.spread, self.channels
        by_pixel = self.weight.reshape(C, s * s, self.in_channels).transpose(0, 1).flatten(0, 1)
        x = F.linear(x.permute(0, 2, 3, 1), by_pixel).reshape(B, h, w, s, s, C)
        return channels_first(x.transpose(2, 3).reshape(B, h * s, w * s, C))


class Merge(nn.Conv2d):
    """Joins each 2 x 2 pixels into one, as ConvNeXt's downsampling does: a 2x2 convolution with stride 2, computed as a
    product. With `step` 1 the map keeps its grid, and each pixel stands for all four of its own.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, kernel_size=2, stride=2, bias=False)
        self.step = 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / step), ceil(W / step)), zeros beyond an odd edge."""
        x = x.permute(0, 2, 3, 1)
        if self.step == 1:
            return channels_first(F.linear(x, self.weight.sum((2, 3))))
        if x.shape[1] % 2 + x.shape[2] % 2 > 0:
            x = F.pad(x, [0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2])
        B, H, W, C = x.shape
        x = x.reshape(B, H // 2, 2, W // 2, 2, C).transpose(2, 3).flatten(3)
        return channels_first(F.linear(x, self.weight.permute(0, 2, 3, 1).flatten(1)))


class Level(nn.Module):
    """One feature map: its own tap's detail, the trunk's last map as context and the next finer level, added and
    normalised.

    - detail: a tap coarser than the level is projected first, then its channels are spread over the finer grid (depth
      to space), so that each token says what lies where inside its patch; a finer one is projected and averaged;
    - context: projected, then resampled (the two commute, and this order is the cheap one);
    - finer: its pixels merged. Through it the deepest level depends on every parameter of the pyramid, and all of
      them get a gradient in the decoders that look at the deepest level alone.
    """

    def __init__(self, tap_channels: int, spread: int, context: int, finer_channels: int, channels: int):
        super().__init__()
        if spread <= 1:
            self.detail = Projection(tap_channels, channels)
        else:
            self.detail = nn.Sequential(
                Projection(tap_channels, HIDDEN), LayerNorm2d(HIDDEN), nn.GELU(), Spread(HIDDEN, channels, spread)
            )
        self.context = Projection(context, channels)
        self.finer = Merge(finer_channels, channels) if finer_channels > 0 else nn.Identity()
        self.norm = LayerNorm2d(channels)

    def forward(self, tap: Tensor, context: Tensor, finer: Tensor | None, size: list[int]) -> Tensor:
        x = _resize(self.detail(tap), size) + _resize(self.context(context), size)
        if finer is not None:
            x = x + self.finer(F.gelu(finer))
        return self.norm(x)


class Pyramid(nn.Module):
    """Feature maps at strides 2 to 2**depth from a trunk's maps.

    Args:
        channels, strides: of the trunk's maps, the last of which is the context.
        depth: number of levels, 1 to 5.
        output_stride: 8, 16 or 32; levels that would be coarser stay at this stride.
    """

    def __init__(self, channels: list[int], strides: list[int], depth: int, output_stride: int):
        super().__init__()
        self.context_stride = strides[-1]
        self.taps = details_of_levels(strides)[:depth]
        self.levels = nn.ModuleList()
        for i, tap in enumerate(self.taps):
            finer_channels = LEVEL_CHANNELS[i - 1] if i > 0 else 0
            spread = strides[tap] // 2 ** (i + 1)
            self.levels.append(Level(channels[tap], spread, channels[-1], finer_channels, LEVEL_CHANNELS[i]))
        if depth == 5:
            self.deepest = nn.Sequential(
                nn.GELU(), Merge(LEVEL_CHANNELS[3], LEVEL_CHANNELS[4]), LayerNorm2d(LEVEL_CHANNELS[4])
            )
        else:
            self.deepest = None
        self.set_output_stride(output_stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Keep every level at this stride or finer. Parameters stay as they are: only steps between levels change."""
        self.strides = [min(2 ** (i + 1), output_stride) for i in range(len(self.levels))]
        for i, level in enumerate(self.levels[1:], 1):
            level.finer.step = self.strides[i] // self.strides[i - 1]
        if self.deepest is not None:
            self.deepest[1].step = output_stride // self.strides[-1]

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        """The taps -> maps (B, C_i, H / stride_i, W / stride_i), finest first; H and W as the trunk was given them."""
        maps: list[Tensor] = []
        context, finer = taps[-1], None
        for level, tap, stride in zip(self.levels, self.taps, self.strides):
            size = [-(-side * self.context_stride // stride) for side in context.shape[2:]]
            finer = level(taps[tap], context, finer, size)
            maps.append(finer)
        if self.deepest is not None:
            maps.append(self.deepest(maps[-1]))
        return [ops.map_layout(x) for x in maps]


def details_of_levels(strides: list[int]) -> list[int]:
    """Which of the maps but the last, by index, is the detail of each level at strides 2, 4, 8 and 16.

    One of the level's own stride, or else of the next coarser one, or of the coarsest there is. Levels that share a
    stride share its maps in order: the finer level has the earlier one. So the four maps of a plain ViT at stride 16
    are a level's each, and maps at 4, 8 and 16 serve levels 2 and 4, 8, and 16.
    """
    details = strides[:-1]
    wanted = [min((s for s in details if s >= level), default=max(details)) for level in (2, 4, 8, 16)]
    found = []
    for i, stride in enumerate(wanted):
        maps = [index for index, s in enumerate(details) if s == stride]
        rank, sharing = i - wanted.index(stride), wanted.count(stride)
        found.append(maps[max(0, rank + len(maps) - sharing)])
    return found


def _resize(x: Tensor, size: list[int]) -> Tensor:
    if x.shape[2] == size[0] and x.shape[3] == size[1]:
        return x
    if x.shape[2] % size[0] + x.shape[3] % size[1] == 0:  # whole pixels become one
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
