"""What a model says of each example beside its loss: margins, entropies, predictions, and whether it is right.

Margins are φ = z_y − logsumexp_{c≠y} z_c from the logits, in float32 or wider: computed from a saturated
softmax they would be infinite (Carlini et al. 2022, 2112.03570, section VI.A; see docs/papers.md). Of several labels
φ is the same of all of them together, the log-odds of their joint probability. Where an example has neither, φ = −ℓ:
for a text the mean log-likelihood of a token, which is what attacks on language models rank by. So φ falls wherever ℓ
grows.

Shapes: B examples in a batch, C classes, L labels, D outputs, T tokens, V words or classes of a token.
"""

import torch
from torch import Tensor
from torch.nn import functional

from nablatau import tokens
from nablatau.losses import squared_error
from nablatau.objectives import TOKEN_KINDS, Kind

MIN_K_SHARE = 0.2
"""Share of a text's tokens that Min-K % and Min-K++ % look at: both papers' choice."""
JUDGED_KINDS: frozenset[Kind] = frozenset({"single-label", "multi-label", *TOKEN_KINDS})
"""Kinds of which an answer is right or wrong, as a whole or in parts."""


def signals(kind: Kind, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What evaluation keeps of each example beside its loss.

    Args:
        kind: of the objective.
        outputs: logits_BC, logits_BL, predictions_BD or logits_BTV.
        targets: as the objective gives them.

    Returns:
        By name: margin_B; prediction and target, of shape (B,), (B, L) or (B, D); and for classes entropy_B in nats (of
        several labels: the mean over labels). Of tokens margin_B, entropy_B (the mean over tokens) and right_share_B,
        the share of tokens of which the likeliest word is the true one; of texts extraction_strength_B, and min_k_B and
        min_k_plus_plus_B over a fifth of the tokens (attacks/min_k.py).
    """
    if kind in TOKEN_KINDS:
        return _token_signals(kind, outputs, targets)
    if kind == "regression":
        margin = -squared_error(outputs, targets)
        return {
            "margin": margin,
            "prediction": outputs.reshape(len(outputs), -1).squeeze(1),
            "target": targets.reshape(len(targets), -1).squeeze(1),
        }
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    if kind == "single-label":
        log_probabilities = functional.log_softmax(outputs, dim=1)
        entropy = torch.special.entr(log_probabilities.exp()).sum(dim=1)
        return {
            "margin": margin_of(outputs, targets),
            "entropy": entropy,
            "prediction": outputs.argmax(dim=1),
            "target": targets,
        }
    probabilities = outputs.sigmoid()
    entropies = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
    return {
        "margin": joint_margin(outputs, targets),
        "entropy": entropies.mean(dim=1),
        "prediction": outputs > 0,
        "target": targets > 0.5,
    }


def joint_margin(logits_BL: Tensor, targets_BL: Tensor) -> Tensor:
    """Log-odds of all labels of an example being right together, log(p / (1 − p)) with p = ∏ p_l: margin_B in nats.

    With one label it is the label's own margin. It falls as the loss grows, which a mean of the labels' margins does
    not: among many labels that are absent, the few that are remembered would be lost in it.

    Args:
        logits_BL: one an example and label.
        targets_BL: labels, present above ½.
    """
    signs_BL = torch.where(targets_BL > 0.5, 1.0, -1.0).double()
    surprise_B = functional.softplus(-signs_BL * logits_BL.double()).sum(dim=1)  # −log p; double: 1e-300 is still no 0
    margin_B = -surprise_B - torch.log(-torch.expm1(-surprise_B))
    return margin_B.to(logits_BL.dtype)


def _token_signals(kind: Kind, logits_BTV: Tensor, targets_BT: Tensor) -> dict[str, Tensor]:
    loss_BT, entropy_BT, right_BT, deviation_BT = tokens.of_tokens(tokens.readings, logits_BTV, targets_BT).unbind(2)
    loss_B, entropy_B, right_B = (tokens.mean_over_tokens(each, targets_BT) for each in (loss_BT, entropy_BT, right_BT))
    found = {"margin": -loss_B, "entropy": entropy_B, "right_share": right_B}
    if kind == "causal-lm":
        found["extraction_strength"] = tokens.extraction_strengths(right_BT > 0, targets_BT)
        found["min_k"] = tokens.lowest_means(-loss_BT, targets_BT, MIN_K_SHARE)
        standardised_BT = (entropy_BT - loss_BT) / deviation_BT  # log p less its mean under the model, −entropy
        found["min_k_plus_plus"] = tokens.lowest_means(standardised_BT, targets_BT, MIN_K_SHARE)
    return found


def widened(kind: Kind, outputs: Tensor) -> Tensor:
    """Outputs in float32 or wider, for numbers to be read off them; those of tokens as they are, as too large to copy.

    Args:
        kind: of the objective.
        outputs: of any type.
    """
    return outputs if kind in TOKEN_KINDS else outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def margin_of(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """z_y − logsumexp_{c≠y} z_c of each example: log p_y − log(1 − p_y) without its saturation."""
    others = logits_BC.scatter(1, targets_B[:, None], float("-inf"))
    return logits_BC.gather(1, targets_B[:, None]).squeeze(1) - others.logsumexp(dim=1)


def right_shares(kind: Kind, outputs: Tensor, targets: Tensor) -> Tensor:
    """How far each example's answer is right, 0 … 1.

    Of one class 1 or 0; of several labels the Jaccard index, those that are told and true among those that are either
    (Godbole and Sarawagi 2004's accuracy; 1 where there are none); of tokens the share of which the likeliest is true.

    Args:
        kind: one of `JUDGED_KINDS`.
        outputs: logits_BC, logits_BL or logits_BTV.
        targets: as the objective gives them.
    """
    if kind in TOKEN_KINDS:
        right_BT = tokens.of_tokens(tokens.right_rows, outputs, targets)
        return tokens.mean_over_tokens(right_BT, targets)
    if kind == "single-label":
        return (outputs.argmax(dim=1) == targets).float()
    told_BL, true_BL = outputs > 0, targets > 0.5
    either_B = (told_BL | true_BL).sum(dim=1)
    return torch.where(either_B > 0, (told_BL & true_BL).sum(dim=1) / either_B.clamp(min=1), 1.0)
