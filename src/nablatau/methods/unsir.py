"""UNSIR: noise that maximises the error of a class, an impair pass on noise and kept records, and a repair pass.

Source: Tarun, Chundawat, Mandal, Kankanhalli, "Fast Yet Effective Machine Unlearning", arXiv 2111.08947, and the
authors' notebook. For each class c to be forgotten inputs N are learned against the original model θ₀,

    min_N  −mean ℓ(f_θ₀(N), c) + λ · mean ‖N‖²

then the model is trained for one pass on a part of the retain set mixed with N under the label c (impair), whose
gradients overwrite what the model knows of c, and for one pass on that part alone (repair).

Settings: λ, the number of noise inputs, their steps and rate, one impair pass and the part's size are the notebook's.
The noise's share is the notebook's for one class of ten: 20 copies of 256 noise inputs beside 9,000 kept records. Rates
of Adam, batch size and repair passes are ours: the notebook's (0.02 and 0.01, 256, 1) destroy networks with BatchNorm
where a pass over the kept records is a few steps (docs/papers.md).

Where we differ from the notebook, and why:
- it labels the noise of every class as class 0, which is right for that class alone; ours bears its own class;
- noise is learned in eval mode, against the original as it stands. There the model is in train mode, so that the noise
  moves BatchNorm statistics before anything is impaired;
- it mixes noise and records in one shuffled pass, ours puts the same share of noise into every batch;
- noise grows with the part of the retain set instead of being 5,120 inputs a class for every data set: on small ones
  there would be almost nothing but noise;
- the part of the retain set is drawn at random, not the first 1,000 of each kept class.

Shapes: B records in a batch, M noise inputs a class, K classes to be forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nablatau.batches import split_target
from nablatau.errors import SettingsError
from nablatau.history import Step
from nablatau.loading import Loader, RecordBatch
from nablatau.methods.base import Job, Method, Need, Tunable
from nablatau.methods.steps import passes, take_steps
from nablatau.modes import in_mode
from nablatau.objectives import Objective
from nablatau.recipes import check_counts, check_mode, check_positive
from nablatau.runtime import gather_over_processes, random_generator
from nablatau.training import batch_mean, trainable_parameters, whole_mean


@dataclass(frozen=True, kw_only=True)
class Unsir(Method):
    """Impair a class with noise that maximises its error, then repair the others.

    Attributes:
        noise_count: M, noise inputs learned for each class.
        noise_steps: of Adam on them.
        noise_learning_rate: of Adam on them.
        noise_penalty: λ, weight of their squared norm.
        noise_share: noise inputs of each class beside one kept record in an impair step.
        retain_samples: kept records to impair and repair with, at most.
        impair_epochs: passes over them with noise.
        impair_learning_rate: of Adam in these.
        repair_epochs: passes over them without.
        repair_learning_rate: of Adam in these.
        batch_size: kept records in a step.
        mode: of the model in both parts.
    """

    name: ClassVar[str] = "unsir"
    source: ClassVar[str] = "Tarun et al. 2021, arXiv 2111.08947"
    needs: ClassVar[frozenset[Need]] = frozenset({"classes", "class request"})
    tunable: ClassVar[dict[str, Tunable]] = {
        "noise_penalty": Tunable(low=0.01, high=1.0),
        "noise_share": Tunable(low=0.1, high=2.0),
        "impair_learning_rate": Tunable(low=1e-4, high=0.03),
        "repair_epochs": Tunable(low=1, high=8),
        "repair_learning_rate": Tunable(low=1e-4, high=0.03),
    }

    noise_count: int = 256
    noise_steps: int = 40
    noise_learning_rate: float = 0.1
    noise_penalty: float = 0.1
    noise_share: float = 0.57
    retain_samples: int = 8000
    impair_epochs: int = 1
    impair_learning_rate: float = 0.005
    repair_epochs: int = 2
    repair_learning_rate: float = 0.002
    batch_size: int = 64
    mode: Literal["train", "eval"] = "train"

    def __post_init__(self) -> None:
        check_counts(
            noise_count=self.noise_count,
            noise_steps=self.noise_steps,
            retain_samples=self.retain_samples,
            impair_epochs=self.impair_epochs,
            repair_epochs=self.repair_epochs,
            batch_size=self.batch_size,
        )
        check_positive(
            noise_learning_rate=self.noise_learning_rate,
            noise_penalty=self.noise_penalty,
            noise_share=self.noise_share,
            impair_learning_rate=self.impair_learning_rate,
            repair_learning_rate=self.repair_learning_rate,
        )
        check_mode(self.mode)

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        classes = forgotten_classes(job)
        noise = self._noise(model, job, classes)
        labels = classes.repeat_interleave(self.noise_count)
        generator = random_generator(job.seed, "noise inputs")
        chosen = torch.empty(0, dtype=torch.int64)

        def with_noise(steps: Iterator[Step]) -> Iterator[Step]:  # drawn once a step, in however many pieces it goes
            nonlocal chosen
            for step in steps:
                count = max(1, round(self.noise_share * len(classes) * step.batches["retain"].whole_size))
                chosen = torch.randint(len(noise), (count,), generator=generator).to(job.device)
                yield step

        def impair_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            return mixed_loss(job.objective, model, step.batches["retain"], noise[chosen], labels[chosen])

        def repair_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
            loss = batch_mean(job.objective, model, step.batches["retain"])
            return {"loss": loss, "retain_loss": loss}

        loader = self._retain_loader(job)
        impairing = with_noise(passes("retain", loader, self.impair_epochs, self.impair_learning_rate))
        repairing = passes("retain", loader, self.repair_epochs, self.repair_learning_rate)
        for steps, step_loss, epochs, description in (
            (impairing, impair_loss, self.impair_epochs, "impairing"),
            (repairing, repair_loss, self.repair_epochs, "repairing"),
        ):
            take_steps(
                model,
                job,
                steps,
                step_loss,
                torch.optim.Adam(trainable_parameters(model)),
                total=epochs * len(loader),
                mode=self.mode,
                description=description,
                additive=True,
            )
        return model

    def _noise(self, model: nn.Module, job: Job, classes: Tensor) -> Tensor:
        """(K · M, …) inputs that maximise the error of each class in turn."""
        example = float_inputs(next(iter(job.loader(job.request.forget_set, self.batch_size))))[0]
        learned = []
        for label in classes.tolist():
            drawn = torch.randn(
                self.noise_count, *example.shape, generator=random_generator(job.seed, f"noise of class {label}")
            )
            noise = drawn.to(example).requires_grad_()
            labels = torch.full((self.noise_count,), label, device=job.device)
            optimizer = torch.optim.Adam([noise], lr=self.noise_learning_rate)
            with in_mode(model, "eval"):
                for _ in range(self.noise_steps):
                    with job.runtime.autocast(job.device):
                        loss = noise_loss(job.objective, model, noise, labels, self.noise_penalty)
                    (noise.grad,) = torch.autograd.grad(loss, [noise])
                    optimizer.step()
            learned.append(noise.detach())
        job.history.trained_samples += len(classes) * self.noise_count * self.noise_steps
        return torch.cat(learned)

    def _retain_loader(self, job: Job) -> Loader:
        """Shuffled passes over the part of the retain set that the model is impaired and repaired with."""
        retain_set = job.request.retain_set
        order = torch.randperm(len(retain_set), generator=random_generator(job.seed, "retain sample"))
        part = retain_set.subset(order[: self.retain_samples].sort().values.numpy())
        return job.loader(part, self.batch_size, "retain batches", mode=self.mode)


def noise_loss(objective: Objective, model: nn.Module, noise: Tensor, labels_M: Tensor, penalty: float) -> Tensor:
    """−mean ℓ(f(N), c) + λ · mean ‖N‖², a scalar.

    Args:
        objective: of single-label classes.
        model: the original.
        noise: (M, …) inputs.
        labels_M: the class c, M times.
        penalty: λ.
    """
    losses_M = objective.loss_of_outputs(objective.outputs(model, (noise, labels_M)), labels_M)
    return penalty * noise.square().flatten(1).sum(dim=1).mean() - losses_M.mean()


def mixed_loss(
    objective: Objective, model: nn.Module, batch: RecordBatch, noise: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """The mean loss over kept records and noise together, in one forward pass, so that BatchNorm sees the mixture.

    Args:
        objective: of single-label classes.
        model: to ask.
        batch: of kept records.
        noise: inputs to go with it, the same in every process.
        labels: of the noise.
    """
    inputs, targets = torch.cat([float_inputs(batch), noise]), torch.cat([objective.targets(batch.data), labels])
    losses = objective.loss_of_outputs(objective.outputs(model, (inputs, targets)), targets)
    losses_B, losses_M = torch.split(losses, [batch.size, len(noise)])  # cheaper in reverse than slices
    retain_loss, noise_mean = whole_mean(losses_B, batch), losses_M.mean()
    loss = (batch.whole_size * retain_loss + len(noise) * noise_mean) / (batch.whole_size + len(noise))
    return {"loss": loss, "retain_loss": retain_loss}


def float_inputs(batch: RecordBatch) -> Tensor:
    """The inputs of a batch, where they are one tensor of real numbers.

    Raises:
        SettingsError: they are not, so that noise cannot take their place.
    """
    inputs, _ = split_target(batch.data)
    first = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else None
    if isinstance(first, Tensor) and first.is_floating_point():
        return first
    raise SettingsError(
        "unsir learns noise in the place of inputs, so an example must be (inputs, label) with one tensor of real "
        "numbers as inputs. Bring the data set to that form, or use another method."
    )


def forgotten_classes(job: Job) -> Tensor:
    """(K,) the numbers of the classes in the forget set, as the model counts them."""
    loader = job.loader(job.request.forget_set, job.runtime.evaluation_batch_size)
    own = {number for batch in loader for number in job.objective.targets(batch.data).tolist()}
    return torch.tensor(sorted(set().union(*gather_over_processes(own))), device=job.device)
