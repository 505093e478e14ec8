"""A user's own network and data: forget 3 % of the training records by their ids."""

import torch
from fashion_model import holdout_set, model, test_set, train_set

import nablatau

forget_ids = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(1))[:180].tolist()
request = nablatau.TrainingData(train_set, holdout_set, on_overlap="drop").forget_ids(forget_ids)
objective = nablatau.Objective.classification()
result = nablatau.forget(model, request, objective)
evaluation = nablatau.evaluate(model, result, request, objective, test_set=test_set)
print(evaluation.answer, evaluation.table(), sep="\n\n")
print("Saved:", result.save("nablatau-fashion", evaluation))
