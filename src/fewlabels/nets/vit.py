"""Vision transformers as backbones: one that can leave out patches, one that reads in order."""

import torch
from lightly.models import utils
from lightly.models.modules import MaskedCausalVisionTransformer, MaskedVisionTransformerTIMM
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F


class PatchTransformer(nn.Module):
    """What the transformers here share: timm's network as ``vit``, and its measures.

    Args:
        size: side of the images it takes, in pixels.
        patch: side of a patch.
        width: length of a token.
        depth: number of blocks.
        heads: attention heads per block.
        channels: of the images.
        outputs: of timm's last layer; 0: there is none.
    """

    def __init__(
        self,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        channels: int = 3,
        outputs: int = 0,
    ):
        super().__init__()
        self.vit = self._made(
            img_size=size,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            in_chans=channels,
            num_classes=outputs,
        )
        self.size, self.patch, self.channels = size, patch, channels
        self.features = width
        self.patches = (size // patch) ** 2

    def _made(self, **shape: int) -> nn.Module:
        raise NotImplementedError


class MaskedViT(PatchTransformer):
    """A transformer with a class token that can be given a part of an image's patches."""

    def _made(self, **shape: int) -> nn.Module:
        return MaskedVisionTransformerTIMM(vit=VisionTransformer(**shape))

    def encode(self, images: Tensor, kept: Tensor) -> Tensor:
        """Tokens [N, kept, width] of the class token (position 0) and the patches ``kept``."""
        return self.vit.encode(images=images, idx_keep=kept)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, C, size, size] to the class token [N, width]."""
        vit = self.vit.vit
        *blocks, last = vit.blocks
        tokens = vit.norm_pre(self.vit.preprocess(images))
        for block in blocks:
            tokens = block(tokens)
        return vit.norm(first_token(last, tokens))


def first_token(block: Block, tokens: Tensor) -> Tensor:
    """``block(tokens)[:, 0]``: from tokens [N, L, width] to [N, width].

    Of the other tokens, which nothing reads after the last block, only keys and values are needed:
    a sixth of the block's products.
    """
    attention, width = block.attn, tokens.shape[2]
    inner = block.norm1(tokens)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    query = F.linear(inner[:, :1], weight[:width], bias[:width])
    query = query.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
    both = F.linear(inner, weight[width:], bias[width:])
    key, value = both.unflatten(2, (2, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    token = tokens[:, 0] + attention.proj(seen)[:, 0]
    return token + block.mlp(block.norm2(token))


class CausalViT(PatchTransformer):
    """A transformer whose patches attend to earlier ones only, but for a prefix that sees itself.

    Positions have fixed sine-cosine codes and there is no class token, as in Lightly's AIM. Of
    its ``outputs``, ImageNet's 1,000, only :class:`RandomReadout` makes use.
    """

    def __init__(self, *shape: int, outputs: int = 1000, **more: int):
        super().__init__(*shape, outputs=outputs, **more)

    def _made(self, **shape: int) -> nn.Module:
        vit = MaskedCausalVisionTransformer(
            **shape, qk_norm=False, class_token=False, no_embed_class=True, global_pool=""
        )
        utils.initialize_2d_sine_cosine_positional_embedding(
            pos_embedding=vit.pos_embed, has_class_token=False
        )
        return vit

    def tokens(self, images: Tensor, beyond: Tensor | None = None) -> Tensor:
        """Tokens [N, L, width]; ``beyond`` (bool [N, L]) is True behind each image's prefix.

        Without it every patch sees every other one.
        """
        return self.vit.forward_features(images, mask=beyond)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, C, size, size] to the mean token [N, width]."""
        return self.tokens(images).mean(dim=1)


class RandomReadout(nn.Module):
    """The source's features of AIM: all positions, through random weights.

    Every token passes the transformer's unused ImageNet layer (1,000 outputs, never trained before
    the classifier), and the outputs of all positions together, 49,000 numbers at 28 pixels with
    patches of 4, a frozen random layer to 512.
    """

    features = 512

    def __init__(self, backbone: CausalViT):
        super().__init__()
        self.backbone, self.size = backbone, backbone.size
        outputs = backbone.vit.head.out_features
        self.projection = nn.Linear(backbone.patches * outputs, self.features)
        self.projection.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, C, size, size] to features [N, 512]."""
        outputs = self.backbone.vit.head(self.backbone.tokens(images))
        return self.projection(torch.flatten(outputs, start_dim=1))


class EveryPosition(nn.Module):
    """The tokens of all positions, one after the other: what :class:`LargeHead` takes."""

    def __init__(self, backbone: CausalViT):
        super().__init__()
        self.backbone, self.size = backbone, backbone.size
        self.features = backbone.patches * backbone.features

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, C, size, size] to tokens [N, L * width]."""
        return self.backbone.tokens(images).flatten(start_dim=1)


class LargeHead(nn.Module):
    """The source's first classifier on AIM: the outputs of all positions straight into a head.

    They are those of a frozen layer with random weights, as in :class:`RandomReadout`, where timm's
    initial ones are meant, and 49,000 in all. The head is as wide as the 11.5 million parameters
    that are printed for it allow.

    Args:
        positions, width: of the tokens.
        classes: that the head tells apart.
        standardised: with every output standardised over the batch.
        outputs: of the frozen layer, per position.
        hidden: width of the head.
    """

    def __init__(
        self,
        positions: int,
        width: int,
        classes: int,
        standardised: bool = False,
        outputs: int = 1000,
        hidden: int = 235,
    ):
        super().__init__()
        self.positions = positions
        self.outputs = nn.Linear(width, outputs).requires_grad_(False)
        nn.init.trunc_normal_(self.outputs.weight, std=0.02)
        nn.init.zeros_(self.outputs.bias)
        every = positions * outputs
        self.scale = nn.BatchNorm1d(every, affine=False) if standardised else nn.Identity()
        self.head = nn.Sequential(nn.Linear(every, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [N, L * width] to [N, classes]."""
        outputs = self.outputs(tokens.unflatten(1, (self.positions, -1)))
        return self.head(self.scale(outputs.flatten(start_dim=1)))
