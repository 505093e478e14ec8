"""breast_cancer, adult, diabetes, california_housing: tables, for classification and for regression.

Sources: UCI breast cancer Wisconsin and the diabetes data of Efron et al. 2004, both inside scikit-learn; UCI Adult
(CC BY 4.0) and the California housing census data of 1990 from the data folder. Equal rows of different people are
common in tables such as Adult, so holdout rows that equal a training row are left out rather than refused.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset

from nablatau.objectives import Objective
from nablatau.projects import Project
from nablatau.recipes import Recipe
from nablatau.tasks.models import perceptron
from nablatau.tasks.sources import table
from nablatau.tasks.splits import shuffled_parts, standardised


def breast_cancer() -> Project:
    """Tumours, 30 measurements, two classes: 300 to train on, 135 held out, 134 to test; a two-layer perceptron."""
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer()
    return _classification(source.data, source.target, [300, 135, 134], epochs=60)


def adult() -> Project:
    """Incomes, census columns, two classes: 8,000 to train on, 4,000 held out, 6,000 to test; groups are countries."""
    rows = table("adult")
    numeric = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
    categories = ("workclass", "marital-status", "occupation", "relationship", "race", "sex")
    features = np.array([[float(row[name]) for name in numeric] for row in rows])
    indicators = [_indicators([row[name] for row in rows]) for name in categories]
    labels = np.array([">50K" in row["income"] for row in rows], dtype=np.int64)
    countries = [row["native-country"] for row in rows]
    return _classification(np.hstack([features, *indicators]), labels, [8000, 4000, 6000], epochs=40, groups=countries)


def diabetes() -> Project:
    """Disease progression, ten measurements, regression: 240 to train on, 101 held out, 101 to test; a perceptron."""
    from sklearn.datasets import load_diabetes

    source = load_diabetes()
    return _regression(source.data, source.target, [240, 101, 101], epochs=200)


def california_housing() -> Project:
    """House prices by district, regression: 6,000 to train on, 4,000 held out, 4,000 to test; groups are map cells."""
    rows = table("california_housing")
    numeric = [name for name in rows[0] if name not in ("median_house_value", "ocean_proximity")]
    features = np.array([[float(row[name] or "nan") for name in numeric] for row in rows])
    features = np.where(np.isnan(features), np.nanmedian(features, axis=0), features)
    prices = np.array([float(row["median_house_value"]) for row in rows])
    cells = [f"{float(row['latitude']):.0f} N {-float(row['longitude']):.0f} W" for row in rows]
    everything = np.hstack([features, _indicators([row["ocean_proximity"] for row in rows])])
    return _regression(everything, prices, [6000, 4000, 4000], epochs=40, groups=cells)


def _classification(
    features: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    sizes: list[int],
    *,
    epochs: int,
    groups: list[str] | None = None,
) -> Project:
    targets = torch.from_numpy(labels.astype(np.int64))
    recipe = Recipe(
        epochs=epochs,
        learning_rate=0.1,
        batch_size=64,
        build=partial(perceptron, features.shape[1], 128, int(labels.max()) + 1),
    )
    return _project(features, targets, sizes, Objective.classification(), recipe, groups)


def _regression(
    features: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    sizes: list[int],
    *,
    epochs: int,
    groups: list[str] | None = None,
) -> Project:
    """Targets are in standard deviations of the training targets, so errors are too."""
    train = shuffled_parts(len(values), sizes)[0]
    scaled = (values - values[train].mean()) / values[train].std()
    targets = torch.from_numpy(scaled.astype(np.float32))
    recipe = Recipe(
        epochs=epochs,
        learning_rate=1e-3,
        batch_size=64,
        optimizer="adamw",
        build=partial(perceptron, features.shape[1], 128, 1),
    )
    return _project(features, targets, sizes, Objective.regression(), recipe, groups)


def _project(
    features: npt.NDArray[np.float64],
    targets: torch.Tensor,
    sizes: list[int],
    objective: Objective,
    recipe: Recipe,
    groups: list[str] | None,
) -> Project:
    parts = shuffled_parts(len(features), sizes)
    scaled = standardised(features, parts[0], *parts[1:])
    train, holdout, test = (TensorDataset(rows, targets[part]) for rows, part in zip(scaled, parts, strict=True))
    assert recipe.build is not None
    return Project(
        model=recipe.build(),
        train_set=train,
        holdout_set=holdout,
        test_set=test,
        objective=objective,
        groups=[groups[int(position)] for position in parts[0]] if groups else None,
        recipe=recipe,
        on_overlap="drop",
    )


def _indicators(values: list[str]) -> npt.NDArray[np.float64]:
    """(N, C) zeros and ones: a column for each value that occurs."""
    names, codes = np.unique(values, return_inverse=True)
    return np.eye(len(names))[codes]
