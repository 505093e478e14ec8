"""The loops a user would write for the methods that train, the yardstick of method_overhead.py: more than one loss.

Those that descend one loss stand in hand_written_descents.py.

Each function does what happens once (teacher, labels, masks, adversarial neighbours, mostly by the method's own
functions, so that both start alike), and returns the loop, which takes all steps and gives their losses. The loops draw
batches in the method's order, from the same seeds, and end with the same weights, which method_overhead.py checks.

Shapes: B examples in a batch.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from nablatau.methods import bad_teacher
from nablatau.methods.base import Job
from nablatau.runtime import random_generator

Loop = Callable[[], list[float]]
Order = Callable[[int, int], tuple[Tensor, ...]]
"""From the number of records and of examples in a batch to the positions in each batch of a pass."""


@dataclass
class Case:
    """What a loop is given: the model at its first step, the original, the settings, and the records as tensors."""

    model: nn.Module
    original: nn.Module
    method: Any
    job: Job
    forget: tuple[Tensor, Tensor]
    retain: tuple[Tensor, Tensor]
    unseen: tuple[Tensor, Tensor]
    losses: list[float] = field(default_factory=list)

    def order(self, stream: str) -> Order:
        """Shuffled positions in batches, pass after pass."""
        generator = random_generator(self.job.seed, stream)
        return lambda size, batch_size: torch.randperm(size, generator=generator).split(batch_size)

    def sgd(self, settings: Any = None) -> torch.optim.Optimizer:
        settings = settings or self.method
        momentum, decay = getattr(settings, "momentum", 0.0), getattr(settings, "weight_decay", 0.0)
        return torch.optim.SGD(moving(self.model), lr=settings.learning_rate, momentum=momentum, weight_decay=decay)

    def take(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.losses.append(loss.item())


def moving(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def decayed(first: float, last: float, epoch: int, epochs: int) -> float:
    return first + (last - first) * epoch / epochs


def forever(order: Order, size: int, batch_size: int) -> Iterator[Tensor]:
    while True:
        yield from order(size, batch_size)


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    teacher_log, student_log = log_softmax(teacher / temperature, dim=1), log_softmax(student / temperature, dim=1)
    return temperature**2 * kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


# ---------------------------------------------------------------------- ascent, and descent beside it


def nabla_tau(case: Case) -> Loop:
    settings, model, (x_f, y_f), (x_r, y_r) = case.method, case.model, case.forget, case.retain
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
    forget_order, retain_order = case.order("forget batches"), case.order("retain batches")
    size = settings.batch_size
    forget_batches, retain_batches = -(-len(x_f) // size), -(-len(x_r) // size)
    epochs = max(1, int(retain_batches / (2 * forget_batches) * settings.budget))
    alpha_0 = min(1.0, 5 / 3 * len(x_f) / (len(x_f) + len(x_r)))

    def loop() -> list[float]:
        tau, retain = 0.0, forever(retain_order, len(x_r), size)
        model.eval()
        for epoch in range(epochs):
            if epoch % settings.tau_every == 0:
                with torch.no_grad():
                    tau = cross_entropy(model(case.unseen[0]), case.unseen[1]).item()
            if epoch % max(1, retain_batches // forget_batches) == 0:
                retain = forever(retain_order, len(x_r), size)
            alpha = alpha_0 * (1 - epoch / epochs)
            set_rate(optimizer, decayed(settings.learning_rate, settings.final_learning_rate, epoch, epochs))
            for rows in forget_order(len(x_f), size):
                forget_loss = cross_entropy(model(x_f[rows]), y_f[rows])
                kept = next(retain)
                retain_loss = cross_entropy(model(x_r[kept]), y_r[kept])
                case.take(optimizer, alpha * torch.relu(tau - forget_loss) ** 2 + (1 - alpha) * retain_loss)
        return case.losses

    return loop


def finetune(case: Case) -> Loop:
    settings, model, (x, y) = case.method, case.model, case.retain
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=settings.weight_decay)
    order, size = case.order("retain batches"), settings.batch_size
    forget_batches, retain_batches = -(-len(case.forget[0]) // size), -(-len(x) // size)
    epochs = max(1, int(retain_batches / (2 * forget_batches) * settings.budget))

    def loop() -> list[float]:
        retain = forever(order, len(x), size)
        model.eval()
        for epoch in range(epochs):
            if epoch % max(1, retain_batches // forget_batches) == 0:
                retain = forever(order, len(x), size)
            set_rate(optimizer, decayed(settings.learning_rate, settings.final_learning_rate, epoch, epochs))
            for _ in range(forget_batches):
                rows = next(retain)
                case.take(optimizer, cross_entropy(model(x[rows]), y[rows]))
        return case.losses

    return loop


def neg_grad(case: Case) -> Loop:
    settings, model, (x, y) = case.method, case.model, case.forget
    optimizer, order = case.sgd(), case.order("forget batches")

    def loop() -> list[float]:
        model.eval()
        for _ in range(settings.epochs):
            for rows in order(len(x), settings.batch_size):
                loss = cross_entropy(model(x[rows]), y[rows])
                if case.losses and loss.item() >= settings.loss_bound:
                    return case.losses
                case.take(optimizer, -loss)
        return case.losses

    return loop


def neg_grad_plus(case: Case) -> Loop:
    settings, model, (x_f, y_f), (x_r, y_r) = case.method, case.model, case.forget, case.retain
    optimizer, forget_order, retain_order = case.sgd(), case.order("forget batches"), case.order("retain batches")

    def loop() -> list[float]:
        forget = forever(forget_order, len(x_f), settings.forget_batch_size)
        model.eval()
        for _ in range(settings.epochs):
            for rows in retain_order(len(x_r), settings.retain_batch_size):
                retain_loss = cross_entropy(model(x_r[rows]), y_r[rows])
                away = next(forget)
                forget_loss = cross_entropy(model(x_f[away]), y_f[away])
                case.take(optimizer, settings.beta * retain_loss - (1 - settings.beta) * forget_loss)
        return case.losses

    return loop


# ---------------------------------------------------------------------- a frozen teacher beside the model


def scrub(case: Case, after_epoch: Callable[[], None] = lambda: None) -> Loop:
    settings, model, (x_f, _), (x_r, y_r) = case.method, case.model, case.forget, case.retain
    optimizer, forget_order, retain_order = case.sgd(), case.order("forget batches"), case.order("retain batches")
    teacher = frozen(model)

    def loop() -> list[float]:
        model.eval()
        for epoch in range(settings.epochs):
            if epoch < settings.max_epochs:
                for rows in forget_order(len(x_f), settings.forget_batch_size):
                    x = x_f[rows]
                    student = model(x)
                    with torch.no_grad():
                        original = teacher(x)
                    case.take(optimizer, -divergence(original, student, settings.temperature))
            else:
                set_rate(optimizer, settings.final_learning_rate)
            for rows in retain_order(len(x_r), settings.retain_batch_size):
                x = x_r[rows]
                student = model(x)
                with torch.no_grad():
                    original = teacher(x)
                near = divergence(original, student, settings.temperature)
                case.take(optimizer, settings.alpha * near + settings.gamma * cross_entropy(student, y_r[rows]))
            after_epoch()
        return case.losses

    return loop


def scrub_r(case: Case) -> Loop:
    """The loop keeps what rewinding needs; which epoch it goes back to is decided after it."""
    model, (x, y) = case.model, case.forget
    checkpoints: list[dict[str, Tensor]] = []
    errors: list[float] = []

    def after_epoch() -> None:
        checkpoints.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        with torch.no_grad():
            errors.append((model(x).argmax(dim=1) != y).float().mean().item())

    return scrub(case, after_epoch)


def bad_teaching(case: Case) -> Loop:
    settings, model, request = case.method, case.model, case.job.request
    competent, incompetent = frozen(model), bad_teacher.untrained(case.original, case.job)
    x = bad_teacher.mixed(request, settings.retain_share, case.job.seed)
    inputs = request.forget_set.dataset.tensors[0][torch.from_numpy(x.positions)]  # type: ignore[attr-defined]
    forgotten = torch.arange(len(inputs)) < len(request.forget_set)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    order = case.order("mixed batches")

    def loop() -> list[float]:
        model.eval()
        for _ in range(settings.epochs):
            for rows in order(len(inputs), settings.batch_size):
                x = inputs[rows]
                student = model(x)
                with torch.no_grad():
                    teacher = torch.where(forgotten[rows][:, None], incompetent(x), competent(x))
                case.take(optimizer, divergence(teacher, student, settings.temperature))
        return case.losses

    return loop


LOOPS: dict[str, Callable[[Case], Loop]] = {
    "nabla_tau_paper": nabla_tau,
    "finetune": finetune,
    "neg_grad": neg_grad,
    "neg_grad_plus": neg_grad_plus,
    "scrub": scrub,
    "scrub_r": scrub_r,
    "bad_teacher": bad_teaching,
}
"""By method."""
