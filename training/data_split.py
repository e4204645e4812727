"""Which images must stay together, and which split they go to.

A group is everything that hangs together by the child, the pixels or a near-duplicate; it goes to one split as a
whole. A stratified split keeps each stratum's shares near those of the export, as far as whole groups allow."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from engine.annotations import SPLITS, Split, class_of
from engine.findings.answers import Answer
from engine.services.export import TRAIN_SHARE, VAL_SHARE, split_of

SHARES: dict[Split, float] = {"train": TRAIN_SHARE, "val": VAL_SHARE, "test": 1 - TRAIN_SHARE - VAL_SHARE}
SMALLEST_STRATUM = 7  # images; fewer cannot be shared out, so they only count within the stratum above
PASSES = 20  # over all groups, moving one where that brings the shares nearer


def connected(keys: Sequence[Iterable[Hashable]], pairs: Iterable[tuple[int, int]] = ()) -> list[list[int]]:
    """Items that share a key or a pair, directly or through others. Groups and their items in order."""
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: dict[Hashable, int] = {}
    joined = [(first.setdefault(key, item), item) for item, of_item in enumerate(keys) for key in of_item]
    for one, other in (*joined, *pairs):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for item in range(len(keys)):
        groups.setdefault(root(item), []).append(item)
    return list(groups.values())


def strata_of(answer: Answer, sex: str | None) -> tuple[str, str, str]:
    """Task, label within it (bone age in two-year bands) and sex within that."""
    task, label = str(answer["task"]), class_of(answer)
    return task, f"{task}: {label}", f"{task}: {label}, {sex or 'sex unknown'}"


def hash_split(names: Sequence[str], seed: int) -> list[Split]:
    """By a hash of each group's name: a group keeps its split when others come and go."""
    return [split_of(name, seed) for name in names]


def stratified_split(groups: Sequence[Sequence[tuple[str, ...]]], names: Sequence[str], seed: int) -> list[Split]:
    """`groups`: for each group, the strata of each of its images, the widest first. `names` and `seed` decide between
    equals; the order of the groups does not matter.

    Greedy: large groups first, each to where it brings the images of its strata nearest to what they should be
    (chi-square, summed over task, label and sex); then single groups are moved as long as that brings it nearer."""
    sizes = [Counter(stratum for strata in group for stratum in strata) for group in groups]
    totals: Counter[str] = sum(sizes, Counter())
    tasks = {strata[0] for group in groups for strata in group}
    counted = {stratum for stratum, count in totals.items() if count >= SMALLEST_STRATUM} | tasks
    sizes = [Counter({s: count for s, count in of_group.items() if s in counted}) for of_group in sizes]
    held: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}

    def cost(group: int, split: Split) -> float:
        """What it costs to have this group here, beside what is here already."""
        change = 0.0
        for stratum, count in sizes[group].items():
            expected = SHARES[split] * totals[stratum]
            excess = held[split][stratum] - expected
            change += count * (count + 2 * excess) / expected
        return change

    def order(group: int) -> tuple[int, str]:
        return -len(groups[group]), hashlib.sha256(f"{seed}:{names[group]}".encode()).hexdigest()

    in_order = sorted(range(len(groups)), key=order)
    chosen: dict[int, Split] = {}
    for _ in range(PASSES):
        moved = False
        for group in in_order:
            before = chosen.get(group)
            if before is not None:
                held[before].subtract(sizes[group])
            costs = {split: cost(group, split) for split in SPLITS}
            best = min(SPLITS, key=lambda split: costs[split])
            if before is not None and costs[best] > costs[before] - 1e-9:
                best = before
            chosen[group] = best
            held[best].update(sizes[group])
            moved = moved or best != before
        if not moved:
            break
    return [chosen[group] for group in range(len(groups))]
