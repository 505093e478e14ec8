"""Networks of the tasks. Residual network: He et al. 2016, 1512.03385, as torchvision lays it out.

Differs from torchvision in `width`, and in the `cifar_stem` (3×3, stride 1, no pooling), which keeps small images
from shrinking to 1×1 and lets a narrow network learn them on a CPU. With `width=64, cifar_stem=False` the layers,
their names and their initialisation are those of torchvision's resnet18. Weights lie in channels-last order, in which
convolutions take 0.7 of the time on a CPU, and whatever comes out of them lies so too.

The encoder of texts has the layers of torch's `nn.TransformerEncoderLayer`, Vaswani et al. 2017, 1706.03762, normalised
before each part (Xiong et al. 2020, 2002.04745).

Shapes: B examples, C channels, H height, W width, T tokens, D width of a token's vector, L outputs.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with ReLU; flattens its input."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


def small_convolutional(channels: int, classes: int) -> nn.Sequential:
    """Two convolutions with BatchNorm and pooling and one hidden layer, for 28×28 images."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut (He et al. 2016, figure 5, left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(images_BCHW)))
        return functional.relu(self.bn2(self.conv2(out)) + self.downsample(images_BCHW))


class ResNet18(nn.Module):
    """Residual network of 18 layers.

    Args:
        classes: number of outputs.
        width: channels of the first stage; doubled in each of the three that follow. The published one has 64.
        cifar_stem: begin with a 3×3 convolution and no pooling instead of 7×7, stride 2, and pooling.
    """

    def __init__(self, classes: int, *, width: int = 64, cifar_stem: bool = False) -> None:
        super().__init__()
        kernel, stride, padding = (3, 1, 1) if cifar_stem else (7, 2, 3)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool: nn.Module = nn.Identity() if cifar_stem else nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for stage in range(4):
            first = BasicBlock(widths[stage], widths[stage + 1], 1 if stage == 0 else 2)
            second = BasicBlock(widths[stage + 1], widths[stage + 1], 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, second))
        self.fc = nn.Linear(8 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        out = self.maxpool(functional.relu(self.bn1(self.conv1(images_BCHW))))
        for stage in range(4):
            out = getattr(self, f"layer{stage + 1}")(out)
        logits_BC: Tensor = self.fc(out.mean(dim=(2, 3)))
        return logits_BC


class TextEncoder(nn.Module):
    """Two transformer layers over the words of a text, the mean of which is classified; token 0 is filling.

    Without dropout: it is to learn its texts by heart.

    Args:
        vocabulary: number of tokens.
        length: most tokens of a text.
        outputs: number of logits.
        width: of a token's vector.
    """

    def __init__(self, vocabulary: int, length: int, outputs: int, *, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        for table in (self.words, self.places):
            nn.init.normal_(
                table.weight, std=0.02
            )  # at torch's own 1 the words' vectors hardly move in a short training
        layer = partial(nn.TransformerEncoderLayer, width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([layer(), layer()])
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, outputs)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        filling_BT = tokens_BT == 0
        out_BTD = self.words(tokens_BT) + self.places.weight[: tokens_BT.shape[1]]
        hidden_BT = filling_BT & ~filling_BT.all(dim=1, keepdim=True)  # a row of filling alone sees itself: no 0 / 0
        for layer in self.layers:
            out_BTD = layer(out_BTD, src_key_padding_mask=hidden_BT)
        kept_BT1 = (~filling_BT).unsqueeze(2).to(out_BTD.dtype)
        mean_BD = (self.norm(out_BTD) * kept_BT1).sum(dim=1) / kept_BT1.sum(dim=1).clamp(min=1)
        logits_BL: Tensor = self.fc(mean_BD)
        return logits_BL
