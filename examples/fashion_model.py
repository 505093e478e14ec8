"""What a user has before nablatau comes in: a network, data sets, a training loop.

Reads fashion_mnist.npz from the folder NABLATAU_DATA (or downloads it); trains for about half a minute on two cores.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nablatau.tasks.sources import images


class Network(nn.Module):
    """Three convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.GELU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.GroupNorm(4, 48), nn.GELU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1), nn.GELU(),
        )  # fmt: skip
        self.head = nn.Linear(64 * 4 * 4, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pixels).flatten(1))


def part(name: str, first: int, last: int) -> TensorDataset:
    """Records first … last−1 of the training or test part, pixels between 0 and 1."""
    arrays = images("fashion_mnist")
    pixels = torch.from_numpy(arrays[f"x_{name}"][first:last]).permute(0, 3, 1, 2).float() / 255
    return TensorDataset(pixels, torch.from_numpy(arrays[f"y_{name}"][first:last]))


torch.manual_seed(0)
train_set, holdout_set, test_set = part("train", 0, 6000), part("test", 0, 2000), part("test", 2000, 10000)
model = Network()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for _ in range(25):
    for pixels, labels in DataLoader(train_set, batch_size=128, shuffle=True):
        loss = nn.functional.cross_entropy(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
