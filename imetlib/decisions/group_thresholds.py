"""A threshold of its own for each group of classes: cultures and tags of iMet, for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imetlib.decisions.cases import make_case
from imetlib.decisions.exclusive import columns_of_groups
from imetlib.decisions.fbeta import fbeta_of_counts
from imetlib.decisions.group_events import collect_group_events, search_coordinates
from imetlib.decisions.label_sets import decide
from imetlib.decisions.pair_search import search_pair
from imetlib.decisions.sweep import choose_levels
from imetlib.decisions.thresholds import search_threshold, use_numba
from imetlib.decisions.top_scores import TopScores

if TYPE_CHECKING:
    from imetlib.decisions.fbeta import Labels

OTHERS = "others"


@dataclass(frozen=True, eq=False)
class GroupThresholds:
    """Result of `search_group_thresholds`.

    Args:
        thresholds: group to its threshold, exactly a float32; inf where none of its labels is
            worth taking beyond the minimum.
        score: float in [0, 1]. Mean per-sample F-beta **on the rows searched**.
        certified: whether no other thresholds score higher (True for one or two groups).
        class_names: names of the classes that the rule belongs to.
        limits: group to its (fewest, most) labels of a row.
    """

    thresholds: dict[str, float]
    score: float
    certified: bool
    class_names: tuple[str, ...]
    limits: dict[str, tuple[int, int]]

    def decide(self, y_prob: np.ndarray) -> np.ndarray:
        """`(num_samples, num_classes)` bool. Label sets by the thresholds and limits.

        Raises:
            ValueError: another number of classes, or a score is not finite.
        """
        y_prob = _check_dense(y_prob)
        if y_prob.shape[1:] != (len(self.class_names),):
            raise ValueError(
                f"`y_prob` must have the {len(self.class_names)} classes of the thresholds. "
                f"Received: shape {y_prob.shape}"
            )
        y_pred = np.empty(y_prob.shape, bool)
        for name, columns in _split(self.class_names, list(self.thresholds)).items():
            fewest, most = self.limits[name]
            y_pred[:, columns] = decide(
                y_prob[:, columns], self.thresholds[name], min_labels=fewest, max_labels=most
            )
        return y_pred


def search_group_thresholds(
    y_true: Labels,
    y_prob: np.ndarray,
    class_names: Sequence[str],
    *,
    beta: float = 2.0,
    groups: Sequence[str] | None = None,
    min_labels: int | Mapping[str, int] = 0,
    max_labels: int | Mapping[str, int] | None = None,
) -> GroupThresholds:
    """The best threshold of each group, all chosen together.

    Of two groups the best of all pairs is found and certified, however many there are. Of more,
    one after another is set to its best beside the others until nothing improves: a start
    elsewhere might end higher, so that is not certified.

    Args:
        y_true: `LabelTable` or `(num_samples, num_classes)` array of 0/1.
        y_prob: `(num_samples, num_classes)` float, any range. Read as float32. `TopScores` are
            refused: a minimum may ask for labels that were left out.
        class_names: `num_classes` names `group::name`.
        beta: float > 0.
        groups: names of groups with thresholds of their own; the rest shares one, as group
            "others". None takes every group.
        min_labels: fewest labels that a row gets of each group, or of each named one: its
            highest scores, whatever the threshold.
        max_labels: most labels, likewise; None sets no limit.

    Returns:
        `GroupThresholds`. Report its `decide` on other rows: `score` flatters.

    Raises:
        ValueError: as `search_threshold`; unknown names, or limits that contradict each other.

    Example:
        >>> names = ["culture::a", "culture::b", "tag::c", "tag::d"]
        >>> y_prob = np.array([[0.9, 0.6, 0.3, 0.1], [0.2, 0.8, 0.2, 0.3]], np.float32)
        >>> found = search_group_thresholds([[1, 0, 1, 0], [0, 1, 0, 1]], y_prob, names)
        >>> {name: round(level, 2) for name, level in found.thresholds.items()}, found.score
        ({'culture': 0.8, 'tag': 0.3}, 1.0)
    """
    fbeta_of_counts(0, 1, 1, beta)
    case = make_case(y_true, _check_dense(y_prob), check=False)
    if len(class_names) != case.y_prob.shape[1]:
        raise ValueError(
            f"`class_names` must have one name a class, {case.y_prob.shape[1]}. "
            f"Received: {len(class_names)}"
        )
    split = _split(class_names, groups)
    limits = _make_limits(split, min_labels, max_labels)
    compiled = use_numba(8 * case.y_prob.size)  # it gains more here, and pays earlier
    per_row = 8 * max(1.0, float(case.num_true.mean()))
    while True:
        floor = float(choose_levels(case.y_prob, per_row)[0])
        events = collect_group_events(
            case, list(split.values()), list(limits.values()), floor, compiled
        )
        pair = None
        if len(events) == 2:
            pair = search_pair(events[0], events[1], case.num_true, beta, compiled)
        if pair is None:
            start = search_threshold(y_true, case.y_prob, beta=beta).threshold
            thresholds = search_coordinates(
                events, [max(start, floor)] * len(events), case.num_true, beta
            )
        else:
            thresholds = list(pair)
        if min(thresholds) > -np.inf or floor == -np.inf:
            break
        # It would rather go below the floor.
        per_row *= 2
    counts = [group.counts_at(level) for group, level in zip(events, thresholds, strict=True)]
    labels, hits = (sum(part[at] for part in counts) for at in range(2))
    return GroupThresholds(
        thresholds=dict(zip(split, map(float, thresholds), strict=True)),
        score=float(fbeta_of_counts(hits, case.num_true, labels, beta).mean()),
        certified=pair is not None or len(events) == 1,
        class_names=tuple(class_names),
        limits=limits,
    )


def _check_dense(y_prob: np.ndarray) -> np.ndarray:
    if isinstance(y_prob, TopScores):
        raise ValueError(
            "Thresholds of groups need all scores. Received: TopScores; give its `dense()`"
        )
    return np.asarray(y_prob)


def _split(class_names: Sequence[str], groups: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Columns of each group that has a threshold; those of no named one come last, together."""
    known = columns_of_groups(class_names)
    if groups is None:
        return {name: np.array(columns) for name, columns in known.items()}
    named = [name for name in groups if name != OTHERS or name in known]
    unknown = sorted(set(named) - set(known))
    if unknown or len(set(named)) < len(named):
        raise ValueError(
            f"`groups` must be different names of: {', '.join(known)}. Received: {list(groups)}"
        )
    split = {name: np.array(known[name]) for name in named}
    rest = [column for name, columns in known.items() if name not in split for column in columns]
    return split | ({OTHERS: np.sort(rest)} if rest else {})


def _make_limits(
    split: dict[str, np.ndarray],
    min_labels: int | Mapping[str, int],
    max_labels: int | Mapping[str, int] | None,
) -> dict[str, tuple[int, int]]:
    for given in (min_labels, max_labels):
        unknown = sorted(set(given) - set(split)) if isinstance(given, Mapping) else []
        if unknown:
            raise ValueError(
                f"Limits of unknown groups: {', '.join(unknown)}. Known: {', '.join(split)}"
            )
    limits = {}
    for name, columns in split.items():
        fewest = min_labels.get(name, 0) if isinstance(min_labels, Mapping) else min_labels
        most = max_labels.get(name) if isinstance(max_labels, Mapping) else max_labels
        most = len(columns) if most is None else min(most, len(columns))
        if not 0 <= fewest <= most:
            raise ValueError(
                f"Limits of {name} must be 0 <= fewest <= most <= {len(columns)} classes. "
                f"Received: min_labels={fewest}, max_labels={most}"
            )
        limits[name] = (int(fewest), int(most))
    return limits
