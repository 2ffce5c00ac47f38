"""The small convolutional network of the course sheet on few photographs (its section 1.2)."""

from itertools import pairwise

from torch import Tensor, nn

from fewlabels.errors import UserError


def keras_start(network: nn.Module) -> nn.Module:
    """Weights as Keras starts them: Glorot's uniform distribution, biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return network


class SheetCNN(nn.Module):
    """3 x 3 convolutions with pooling, a hidden layer of 100 units, a linear layer.

    With 224 pixels, 32 and 64 filters and four classes it has the sheet's 20,090,296 parameters.
    Pooling and ReLU are exchanged, which gives the same result (the largest of the positive parts
    is the positive part of the largest) with a quarter of the work for the ReLU.

    Args:
        size: pixels a side, divisible by two for every convolution.
        outputs: classes.
        filters: of every convolution in turn.
        dropout: share of the hidden layer's inputs that is dropped while it learns.
    """

    def __init__(
        self,
        size: int,
        outputs: int,
        filters: tuple[int, ...] = (32, 64),
        hidden: int = 100,
        dropout: float = 0.0,
    ):
        super().__init__()
        side = size // 2 ** len(filters)
        if not filters or side * 2 ** len(filters) != size:
            raise UserError(
                f"size is {size} and filters {list(filters)}; allowed: a size divisible by two "
                "once for every convolution"
            )
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise((3, *filters)):
            # Windows as TensorFlow's padding "same" lays them: the last one hangs over the edge.
            pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), pool, nn.ReLU()]
        self.backbone = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            *([nn.Dropout(dropout)] if dropout else []),
            nn.Linear(filters[-1] * side * side, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )
        keras_start(self)

    def forward(self, images: Tensor) -> Tensor:
        """Float [N, 3, size, size] to logits [N, outputs]."""
        return self.head(self.backbone(images))
