"""Adapters of low rank, for methods that do arithmetic on weights: what their parameters say of the weights below them.

An adapter (LoRA, Hu et al. 2021, arXiv 2106.09685) adds s · B A to a frozen weight W₀. Its parameters are A and B, and
sums of these are not sums of weights: to take B₁ A₁ away, −A₁ and −B₁ give B₁ A₁ again. Known by the names that peft
gives them; nothing of it is imported.
"""

import re

import torch
from torch import nn

FACTORS = {
    "lora_A": "lora_B",
    "lora_B": "lora_A",
    "lora_embedding_A": "lora_embedding_B",
    "lora_embedding_B": "lora_embedding_A",
}
"""Name of each factor, and of the one it is multiplied with."""
FACTOR = re.compile(rf"(?<=\.)({'|'.join(FACTORS)})(?=\.[^.]+(\.weight)?$)")
OWN = re.compile(r"(?<=\.)modules_to_save\.|\.bias$")
"""What else may be trained and is a weight by itself: heads that go with an adapter, and biases, B's among them."""


def is_adapted(model: nn.Module) -> bool:
    """Whether the model is one with an adapter: it can be switched off."""
    return hasattr(model, "disable_adapter")


def partner_of(name: str) -> str | None:
    """The parameter with which one is multiplied to give a change of a weight; None where it is no such factor.

    Args:
        name: of a parameter, such as "layers.0.q_proj.lora_A.default.weight".
    """
    return FACTOR.sub(lambda found: FACTORS[found[0]], name) if FACTOR.search(name) else None


def fresh_factors(model: nn.Module) -> set[str] | None:
    """Names of the trainable factors that are not 0, each with a partner that is: of adapters that add nothing yet.

    Args:
        model: with an adapter.

    Returns:
        None where an adapter adds something, or is of another form than a product of two factors.
    """
    trainable = {name: each for name, each in model.named_parameters() if each.requires_grad}
    kept = set()
    for name, parameter in trainable.items():
        partner = partner_of(name)
        if partner is None:
            if not OWN.search(name):
                return None
        elif bool(torch.count_nonzero(parameter.detach())):
            if partner not in trainable or bool(torch.count_nonzero(trainable[partner].detach())):
                return None
            kept.add(name)
    return kept
