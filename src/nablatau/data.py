"""Requests: which records must go, which may stay, and what unseen records look like.

`TrainingData` is what the model was trained on, beside records it never saw; each of its `forget_…` calls
makes a `Request`, which is all that a method is given. Checks happen here, before any work:
ids, empty sets, holdout records that were trained on, and copies of forget records that would stay behind.

The holdout set is cut in two halves at random (the split is recorded): methods see one half, evaluation the
other, because what a method was steered by cannot prove that it worked.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nablatau.errors import OverlapError, RequestError, shortened
from nablatau.fingerprints import Readable, record_digests
from nablatau.records import Positions, Records, as_labels, as_list, label_names, read_labels, with_labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A partition of the training set into forget and retain set, and records that were never trained on.

    Attributes:
        forget_set: the records that must go.
        retain_set: the records that may stay.
        holdout_set: the half of the holdout set that methods may look at.
        evaluation_set: the other half, for evaluation alone; None in the request that a method is given.
        goal: what is removed: single "records", a whole "class", or a whole "group".
        description: how the request was made, for the record: JSON-able values, no ids.
        duplicate_ids: ids of retain records whose inputs equal those of a forget record. While they
            stay, the model goes on learning what it should forget.
        classes: for a class request, the classes that go.
        comparable: positions in the evaluation set of the records to compare forgotten ones with: all, or for a
            class request those of its classes; None where their classes are not known.
        holdout_gone: positions in the holdout set of records of the classes that go; None where they are not known.
    """

    forget_set: Records
    retain_set: Records
    holdout_set: Records
    evaluation_set: Records | None
    goal: Literal["records", "class", "group"]
    description: dict[str, Any]
    duplicate_ids: Sequence[Hashable] = ()
    classes: Sequence[Hashable] = ()
    comparable: Positions | None = None
    holdout_gone: Positions | None = None

    @cached_property
    def holdout_kept(self) -> Positions:
        """Positions in the holdout set of records that a model without the forget set should still know: all, or for
        a class request those of other classes; none where their classes are not known."""
        if not self.classes:
            return np.arange(len(self.holdout_set))
        if self.holdout_gone is None:
            return np.arange(0)
        return np.setdiff1d(np.arange(len(self.holdout_set)), self.holdout_gone)

    @property
    def training_size(self) -> int:
        """Number of training records: forget and retain set together."""
        return len(self.forget_set) + len(self.retain_set)

    def for_methods(self) -> "Request":
        """The same request without the half of the holdout set that is kept for evaluation."""
        return replace(self, evaluation_set=None)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What the model was trained on, and a holdout set from the same source that it was not trained on.

    Args:
        train_set: map-style data set of N examples, without random transforms.
        holdout_set: map-style data set of records never trained on, at least 2. Half of it shows methods what
            "unseen" looks like, half is kept for evaluation.
        ids: N unique ids; positions 0 … N−1 unless given.
        labels: N class labels, for `forget_class`; read from the data set unless given.
        holdout_labels: class labels of the holdout set; read from it unless `labels` are given.
        groups: N group names, for `forget_group` (for instance the person a record belongs to).
        check_content: look for copies by content hash, which reads every record once.
        on_overlap: what to do where the holdout set holds training records: "error", or "drop" them from it.
        holdout_split_seed: seed of the split of the holdout set into halves.

    Raises:
        RequestError: a length that does not fit, ids that repeat, or a holdout set that cannot serve.
        OverlapError: holdout records that equal training records, with their positions.
    """

    train_set: Readable
    holdout_set: Readable | None = None
    ids: Sequence[Hashable] | None = None
    labels: Sequence[Any] | None = field(default=None, kw_only=True)
    holdout_labels: Sequence[Any] | None = field(default=None, kw_only=True)
    groups: Sequence[Hashable] | None = field(default=None, kw_only=True)
    check_content: bool = field(default=True, kw_only=True)
    on_overlap: Literal["error", "drop"] = field(default="error", kw_only=True)
    holdout_split_seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        _check_map_style("train_set", self.train_set)
        if self.holdout_set is None:
            raise RequestError(
                "holdout_set is missing. It shows what records look like that the model never saw: the method "
                "stops there, and the evaluation compares with it. A part of the training set cannot serve: the "
                "model has fitted it, so its losses are those of remembered records. Pass records from the same "
                "source that were kept out of training (a validation set), 30 at the least."
            )
        _check_map_style("holdout_set", self.holdout_set)
        size = len(self.train_set)
        for name in ("ids", "groups"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_list(getattr(self, name)))
        columns = (("ids", size), ("labels", size), ("groups", size), ("holdout_labels", len(self.holdout_set)))
        for name, needed in columns:
            column = getattr(self, name)
            if column is not None and len(column) != needed:
                raise RequestError(
                    f"{name} has {len(column)} entries for {needed} records, so they cannot belong together. Pass one "
                    f"entry of {name} a record, in the order of the data set."
                )
        if self.on_overlap not in ("error", "drop"):
            raise RequestError(f"on_overlap must be 'error' or 'drop', not {self.on_overlap!r}.")
        if len(self._position_of) != size:
            seen: set[Hashable] = set()
            repeated = [i for i in self._ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
            raise RequestError(
                f"ids repeat: {shortened(repeated)}. A request by id would be ambiguous. Give every record an "
                "id of its own; records of one person go into groups=…, for forget_group()."
            )
        if len(self._unseen_positions) < 2:
            raise RequestError(
                f"{len(self._unseen_positions)} usable holdout records: one half goes to the method and one to the "
                "evaluation, so at least 2 are needed, and 30 for any statement. Pass more unseen records."
            )

    # ------------------------------------------------------------------ requests

    def forget_ids(self, ids: Iterable[Hashable], *, forget_duplicates: bool = False) -> Request:
        """A request to forget the records with these ids.

        Args:
            ids: ids of the records that must go, each once.
            forget_duplicates: also forget retain records whose inputs equal those of a forget record.

        Raises:
            RequestError: ids that are unknown or repeated, or a forget or retain set that would be empty.
        """
        return self._request(self._positions_of_ids(as_list(ids)), "records", {"by": "ids"}, forget_duplicates)

    def forget_fraction(self, fraction: float, *, seed: int = 0, forget_duplicates: bool = False) -> Request:
        """A request to forget a random part of the training set.

        Args:
            fraction: share of the training records, above 0 and below 1; at least one record is drawn.
            seed: of the draw; the same seed draws the same records.
            forget_duplicates: as in `forget_ids`.

        Raises:
            RequestError: a fraction outside 0 … 1.
        """
        if not 0 < fraction < 1:
            raise RequestError(f"fraction must lie above 0 and below 1 (0.03 is 3 %), not {fraction!r}.")
        check_seed(seed)
        size = len(self.train_set)
        count = max(1, round(fraction * size))
        drawn = np.sort(np.random.default_rng(seed).choice(size, size=count, replace=False))
        how = {"by": "fraction", "fraction": fraction, "seed": seed}
        return self._request(drawn, "records", how, forget_duplicates)

    def forget_class(self, *classes: Hashable, forget_duplicates: bool = False) -> Request:
        """A request to forget every record of one or more classes.

        Args:
            classes: labels as they stand in the data set; of a multi-label set, numbers of labels.
            forget_duplicates: as in `forget_ids`.

        Raises:
            RequestError: a class that no training record has, or no class at all.
        """
        labels = self.class_labels
        known = label_names(labels)
        _check_known("class", classes, known)
        chosen = with_labels(labels, classes)
        how = {"by": "class", "classes": [str(each) for each in classes]}
        return self._request(np.flatnonzero(chosen), "class", how, forget_duplicates, classes=classes)

    def forget_group(self, *groups: Hashable, forget_duplicates: bool = False) -> Request:
        """A request to forget every record of one or more groups, for instance of one person.

        Args:
            groups: values of the column `groups`.
            forget_duplicates: as in `forget_ids`.

        Raises:
            RequestError: no group column, or a group that no training record has.
        """
        if self.groups is None:
            raise RequestError(
                "There is no group column, so it is unknown which records belong together. "
                "Pass TrainingData(..., groups=[one group name a record])."
            )
        _check_known("group", groups, sorted(set(self.groups), key=str))
        wanted = set(groups)
        chosen = np.array([group in wanted for group in self.groups])
        how = {"by": "group", "groups": len(wanted)}
        return self._request(np.flatnonzero(chosen), "group", how, forget_duplicates)

    def forget_where(self, predicate: Callable[[Any], bool], *, forget_duplicates: bool = False) -> Request:
        """A request to forget every training record for which `predicate(example)` is true.

        Args:
            predicate: from an example, as the data set gives it, to whether it must go.
            forget_duplicates: as in `forget_ids`.
        """
        chosen = [p for p in range(len(self.train_set)) if predicate(self.train_set[p])]
        return self._request(np.array(chosen, np.int64), "records", {"by": "predicate"}, forget_duplicates)

    # ------------------------------------------------------------------ what the requests stand on

    @cached_property
    def class_labels(self) -> npt.NDArray[Any]:
        """(N,) class labels, or (N, C) zeros and ones of a multi-label set."""
        return read_labels(self.train_set) if self.labels is None else as_labels(self.labels)

    def comparable(self, unseen: Positions, classes: Sequence[Hashable]) -> Positions | None:
        """Which unseen records to compare forgotten ones with: those of the classes that go, or all.

        Args:
            unseen: positions in the holdout set, such as those of the half kept for evaluation.
            classes: that go; none if the request is not for classes.

        Returns:
            Positions within `unseen`; None where the classes of the holdout set are not known.
        """
        if not classes:
            return np.arange(len(unseen))
        assert self.holdout_set is not None
        if self.holdout_labels is not None:
            labels = as_labels(self.holdout_labels)
        elif self.labels is None:
            labels = read_labels(self.holdout_set)
        else:
            return None
        return np.flatnonzero(with_labels(labels[unseen], classes))

    @cached_property
    def _ids(self) -> Sequence[Hashable]:
        return range(len(self.train_set)) if self.ids is None else self.ids

    @cached_property
    def _position_of(self) -> dict[Hashable, int]:
        return {each: position for position, each in enumerate(self._ids)}

    @cached_property
    def _digests(self) -> list[bytes]:
        return list(record_digests(self.train_set)) if self.check_content else []

    @cached_property
    def _unseen_positions(self) -> Positions:
        """Positions of the holdout records that are in truth unseen."""
        assert self.holdout_set is not None
        size = len(self.holdout_set)
        if self.holdout_set is self.train_set:
            overlapping = list(range(size))
        elif self.check_content:
            trained_on = set(self._digests)
            overlapping = [i for i, each in enumerate(record_digests(self.holdout_set)) if each in trained_on]
        else:
            overlapping = []
        if overlapping and self.on_overlap == "error":
            raise OverlapError(
                f"{len(overlapping)} of {size} holdout records are also training records (positions in the holdout "
                f"set: {shortened(overlapping)}). The model has fitted them, so they do not show what unseen "
                "records look like, and forgetting would be judged by remembering. Pass unseen records, or "
                "TrainingData(..., on_overlap='drop') to leave these out.",
                overlapping,
            )
        return np.setdiff1d(np.arange(size), overlapping)

    def _positions_of_ids(self, ids: list[Hashable]) -> Positions:
        """Positions of the records with these ids, or one error that names everything wrong with them."""
        unknown = [each for each in ids if each not in self._position_of]
        seen: set[Hashable] = set()
        repeated = [each for each in ids if each in seen or seen.add(each)]  # type: ignore[func-returns-value]
        problems = []
        if unknown:
            last = len(self.train_set) - 1
            known = f"positions 0 … {last}" if self.ids is None else f"such as {shortened(list(self._ids)[:3])}"
            problems.append(f"no training record has the id {shortened(unknown)} (ids are {known})")
        if repeated:
            problems.append(f"named more than once: {shortened(repeated)}")
        if problems:
            raise RequestError(
                f"The ids to forget cannot be used: {'; '.join(problems)}. A record that is not found would "
                "silently stay in the model. Correct the list; every id must stand in it once."
            )
        return np.sort(np.array([self._position_of[each] for each in ids], dtype=np.int64))

    def _request(
        self,
        forget: Positions,
        goal: Literal["records", "class", "group"],
        description: dict[str, Any],
        forget_duplicates: bool,
        classes: Sequence[Hashable] = (),
    ) -> Request:
        """The request that forgets these positions, its sets checked and its copies found."""
        copies = self._copies_left_behind(forget)
        if forget_duplicates:
            forget, copies = np.union1d(forget, copies), copies[:0]
        retain = np.setdiff1d(np.arange(len(self.train_set)), forget)
        if not len(forget):
            raise RequestError("The forget set is empty: no training record was chosen, so there is nothing to do.")
        if not len(retain):
            raise RequestError(
                "The retain set is empty: every training record would be forgotten, and nothing is left that tells "
                "what to keep. Train a new model instead, or leave some records out of the request."
            )
        assert self.holdout_set is not None
        order = np.random.default_rng(self.holdout_split_seed).permutation(self._unseen_positions)
        half = (len(order) + 1) // 2
        unseen = Records.all_of(self.holdout_set)
        records = Records.all_of(self.train_set, self._ids)
        return Request(
            forget_set=records.subset(forget),
            retain_set=records.subset(retain),
            holdout_set=unseen.subset(np.sort(order[:half])),
            evaluation_set=unseen.subset(np.sort(order[half:])),
            goal=goal,
            description={
                **description,
                "forget_duplicates": forget_duplicates,
                "holdout_split_seed": self.holdout_split_seed,
                "holdout_dropped": len(self.holdout_set) - len(order),
                "content_checked": self.check_content,
            },
            duplicate_ids=records.ids_at(copies),
            classes=classes,
            comparable=self.comparable(np.sort(order[half:]), classes),
            holdout_gone=self.comparable(np.sort(order[:half]), classes) if classes else None,
        )

    def _copies_left_behind(self, forget: Positions) -> Positions:
        """Positions of the records outside `forget` whose inputs equal those of a record inside."""
        if not self.check_content:
            return np.array([], dtype=np.int64)
        leaving = {self._digests[position] for position in forget}
        equal = [p for p, digest in enumerate(self._digests) if digest in leaving]
        return np.setdiff1d(np.array(equal, dtype=np.int64), forget)


def check_seed(seed: int) -> None:
    """Refuse a seed that is no whole number of 0 or more."""
    if not (isinstance(seed, int) and seed >= 0):
        raise RequestError(f"seed must be a whole number of 0 or more, not {seed!r}.")


def _check_known(kind: str, wanted: Sequence[Hashable], known: Sequence[Hashable]) -> None:
    """Refuse an empty choice, or one with names that do not occur."""
    if not wanted:
        raise RequestError(f"No {kind} was named. Name at least one, for instance {known[0]!r}.")
    unknown = [each for each in wanted if each not in set(known)]
    if unknown:
        raise RequestError(
            f"No training record has the {kind} {shortened(unknown)}. Known: {shortened(known, 20)}. "
            "A name that is not found would silently leave its records in the model."
        )


def _check_map_style(name: str, dataset: Any) -> None:
    """Refuse what is not a map-style data set."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise RequestError(
            f"{name} is a {type(dataset).__qualname__} without a length or without access by position, so single "
            "records cannot be chosen from it. Pass a map-style data set: one with __len__ and __getitem__."
        )
