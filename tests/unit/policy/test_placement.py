"""Which of the free GPUs are taken: one group where one suffices, the most broken-up one, and always the same."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawner.model import Gpu
from spawner.policy.placement import FreeGpus
from testing.factories import make_gpu


def board(link: int | None, node: int | None, *indices: int) -> list[Gpu]:
    return [replace(make_gpu(index), nvlink_group=link, numa_node=node) for index in indices]


def parts(parent: int, *mig_indices: int) -> list[Gpu]:
    whole = make_gpu(parent)
    return [
        replace(whole, uuid=f"MIG-{parent}-{part}", mig_index=part, mig_profile="1g.10gb")
        for part in mig_indices
    ]


def take(free: Sequence[Gpu], count: int) -> list[int]:
    return [gpu.index for gpu in FreeGpus(free).take(count)]


@pytest.mark.parametrize(
    ("free", "count", "taken"),
    [
        # their connection is unknown
        (board(None, None, 3, 1, 2), 2, [1, 2]),
        # one NVLink group, the smallest that suffices
        ([*board(0, 0, 0, 1, 2, 3), *board(4, 1, 5, 7)], 2, [5, 7]),
        ([*board(0, 0, 0, 1, 2, 3), *board(4, 1, 5, 7)], 3, [0, 1, 2]),
        ([*board(4, 1, 5, 7), *board(0, 0, 2, 3)], 2, [2, 3]),
        # a single one out of the most broken-up group; one without NVLink before any with it
        ([*board(0, 0, 0, 1), *board(2, 0, 3), *board(4, 1, 4, 5)], 1, [3]),
        ([*board(0, 0, 0, 1), *board(None, 1, 7)], 1, [7]),
        ([*board(None, 0, 0, 1), *board(None, 1, 2)], 1, [2]),
        # within an NVLink group, the GPUs of one NUMA node
        ([*board(0, 0, 3), *board(0, 1, 4, 5, 6, 7)], 4, [4, 5, 6, 7]),
        ([*board(0, 0, 0, 1, 2, 3), *board(0, 1, 4, 5)], 2, [4, 5]),
        # no NVLink group suffices: one NUMA node, and as few groups of it as possible
        ([*board(0, 0, 0, 1), *board(2, 0, 2), *board(4, 1, 4, 5), *board(6, 1, 6, 7)], 3, [0, 1, 2]),
        ([*board(0, 0, 0), *board(2, 0, 2, 3), *board(4, 0, 4, 5)], 4, [2, 3, 4, 5]),
        # nor does a node: as few groups as possible
        ([*board(0, 0, 0), *board(2, 0, 2, 3), *board(4, 1, 4, 5)], 4, [2, 3, 4, 5]),
        # MIG instances: those of one GPU, the one with the fewest free
        ([*parts(0, 0, 1, 2), *parts(1, 5)], 1, [1]),
        ([*parts(0, 0, 1, 2), *parts(1, 4, 5), *parts(2, 0, 1)], 2, [1, 1]),
        ([*parts(0, 0, 1), *parts(1, 4, 5)], 3, [0, 0, 1]),
    ],
)  # fmt: skip
def test_what_is_taken(free: list[Gpu], count: int, taken: list[int]) -> None:
    assert take(free, count) == taken


def test_what_is_taken_is_taken() -> None:
    free = FreeGpus([*board(0, 0, 0, 1, 2, 3), *board(4, 1, 4, 5, 6, 7)])
    sets = [[gpu.index for gpu in free.take(count)] for count in (3, 1, 4)]
    assert sets == [[0, 1, 2], [3], [4, 5, 6, 7]]
    with pytest.raises(IndexError):
        free.take(1)


def test_the_examples_of_the_essay() -> None:
    groups = FreeGpus([*board(0, 0, 0, 1, 2, 3), *board(4, 1, 5, 7)])
    assert [[gpu.index for gpu in groups.take(n)] for n in (2, 3, 1)] == [[5, 7], [0, 1, 2], [3]]
    with pytest.raises(IndexError):
        groups.take(1)
    pairs = FreeGpus([*board(0, 0, 0, 1), *board(2, 0, 2), *board(4, 1, 4, 5), *board(6, 1, 6, 7)])
    assert [[gpu.index for gpu in pairs.take(n)] for n in (3, 1, 3)] == [[0, 1, 2], [4], [6, 7, 5]]
    assert take([*board(0, 0, 0), *board(2, 0, 2, 3), *board(4, 1, 4, 5)], 4) == [2, 3, 4, 5]
    assert take([*parts(0, 0, 1, 2), *parts(1, 4, 5), *parts(2, 0, 1)], 2) == [1, 1]


@st.composite
def hosts(draw: st.DrawFn) -> list[Gpu]:
    """Return the free GPUs of a host: each without NVLink or in one of three groups, on one of two nodes or unknown."""
    kinds = st.tuples(st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, 0, 1]))
    kin = draw(st.lists(kinds, min_size=1, max_size=10))
    if draw(st.booleans()):
        return [gpu for index, (link, node) in enumerate(kin) for gpu in board(link, node, index)]
    return [gpu for parent in range(3) for gpu in parts(parent, *draw(st.sets(st.integers(0, 6))))]


def link_of(gpu: Gpu) -> int | None:
    return gpu.nvlink_group if gpu.mig_profile is None else gpu.index


def group_of(gpu: Gpu) -> tuple[int | None, int | None]:
    link = link_of(gpu)
    return (link, None) if link is not None else (None, gpu.numa_node)


@given(hosts(), st.lists(st.integers(1, 4)), st.randoms(use_true_random=False))
def test_sets_are_disjoint_and_the_same_in_whatever_order_gpus_come(
    free: list[Gpu], counts: list[int], rng: random.Random
) -> None:
    counts = [n for i, n in enumerate(counts) if sum(counts[: i + 1]) <= len(free)]
    pool = FreeGpus(free)
    sets = [pool.take(count) for count in counts]
    assert [len(taken) for taken in sets] == counts
    uuids = [gpu.uuid for taken in sets for gpu in taken]
    assert len(set(uuids)) == len(uuids)
    assert set(uuids) <= {gpu.uuid for gpu in free}

    # each is taken as if the others had never been there
    left = list(free)
    for taken in sets:
        rng.shuffle(left)
        assert FreeGpus(left).take(len(taken)) == taken
        left = [gpu for gpu in left if gpu not in taken]


@given(hosts(), st.data())
def test_a_set_is_of_one_group_whenever_one_suffices(free: list[Gpu], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(free)) if free else st.just(0))
    taken = FreeGpus(free).take(count)
    sizes = Counter(map(group_of, free))
    if count == 1:
        assert sizes[group_of(taken[0])] == min(sizes.values())
        return
    links = {name: size for name, size in sizes.items() if name[0] is not None and size >= count}
    nodes = {n: s for n, s in Counter(gpu.numa_node for gpu in free).items() if s >= count}
    if links:
        (name,) = {group_of(gpu) for gpu in taken} or [min(links)]
        assert sizes[name] == min(links.values())
        assert name in links
    elif nodes:
        (node,) = {gpu.numa_node for gpu in taken}
        assert nodes[node] == min(nodes.values())
    else:
        assert len({group_of(gpu) for gpu in taken}) == fewest(sizes, count)


def fewest(sizes: Counter[tuple[int | None, int | None]], count: int) -> int:
    """Return out of how many groups ``count`` GPUs have to come at least."""
    return next(
        number
        for number in range(len(sizes) + 1)
        if any(sum(some) >= count for some in combinations(sizes.values(), number))
    )
