"""ViT-Ti: the smallest standard vision transformer, with eight patches a side."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.networks._init import centred, draw_weights, square

__all__ = ["ViTTiny"]


class ViTTiny(nn.Module):
    """Patches to tokens, twelve pre-norm transformer blocks of width 192 with three heads, the class token's output.

        z <- z + attention(norm(z));  z <- z + mlp(norm(z))

    Args:
        resolution: pixels a side, a multiple of 8: the patch is resolution / 8, so that 64 patches are seen.
        generator: of the initial weights; seed 0 where it is left out.

    Raises:
        ConfigError: a resolution that 8 does not divide.

    Example:
        >>> ViTTiny(32)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 192])

    Paper: Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021; the tiny size: Touvron et al., Training
    data-efficient image transformers, ICML 2021.
    """

    dim = 192

    def __init__(self, resolution: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if resolution < 8 or resolution % 8:
            raise ConfigError(f"a ViTTiny needs a resolution that is a multiple of 8, got {resolution}")
        self.resolution = resolution
        generator = generator or torch.Generator().manual_seed(0)
        with torch.device("meta"):
            self.patches = nn.Conv2d(3, self.dim, resolution // 8, resolution // 8)
            self.token = nn.Parameter(torch.empty(1, 1, self.dim))
            self.place = nn.Parameter(torch.empty(1, 65, self.dim))
            self.blocks = nn.Sequential(*[_Block(self.dim, heads=3) for _ in range(12)])
            self.norm = nn.LayerNorm(self.dim)
        draw_weights(self, generator)
        for parameter in (self.token, self.place):
            nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04, generator=generator)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 192"]:
        """Features `[B, 192]` of images `[B, 3, resolution, resolution]` in [0, 1]."""
        patches = self.patches(centred(square(images, self.resolution, "this ViTTiny"))).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1) + self.place
        return self.norm(self.blocks(tokens)[:, 0])  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, z: Tensor) -> Tensor:
        batch, tokens, dim = z.shape
        shape = (batch, tokens, 3, self.heads, dim // self.heads)
        query, key, value = self.qkv(self.norm_attention(z)).reshape(shape).permute(2, 0, 3, 1, 4)
        # Written out, as PyTorch's fused attention cannot be differentiated twice.
        weight = (query @ key.transpose(-2, -1) * (dim // self.heads) ** -0.5).softmax(dim=-1)
        seen = (weight @ value).transpose(1, 2).reshape(batch, tokens, dim)
        z = z + self.out(seen)
        return z + self.mlp(self.norm_mlp(z))  # type: ignore[no-any-return]
