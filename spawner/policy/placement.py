"""GPU placement: selects the GPUs of a grant: one NVLink group, else one NUMA node; best fit, against fragmentation.

It is deterministic: the order of the input does not matter, and ties go to the lowest index.

The problem
-----------
Training with several GPUs exchanges gradients at every step, so the slowest link between the GPUs limits the step.
NVLink is several times faster than PCIe, and PCIe within one NUMA node is faster than a path between two CPU sockets.
A grant cannot be moved later, because a running process keeps its GPUs. A bad choice therefore costs twice: this
request gets slow links, and the free GPUs that remain are scattered over several groups.

The units
---------
One ``FreeGpus`` holds free GPUs of one kind: whole GPUs, or the MIG instances of one profile. It sorts them by index
and gives each a *rank*. GPUs with equal links form a *cell*. The key of a cell is (NVLink group, NUMA node), and MIG
instances use the index of their GPU in place of the group. A *group* is the union of some cells: all cells of one
NVLink group, or all cells of one NUMA node.

The rules of ``take(count)``
----------------------------
1. ``count`` > 1: use the NVLink group with the fewest free GPUs among those with at least ``count``.
2. No such group: use the NUMA node with the fewest free GPUs among those with at least ``count``. GPUs with an
   unknown node count as one node.
3. No such node, or ``count`` = 1: use the smallest NVLink group that suffices for the rest, or else a largest one,
   and repeat. Unlinked GPUs of one node form a group here. This order touches the fewest groups.
4. Inside the chosen group, the same rule picks cells: the smallest cell that suffices, else the largest. So the GPUs
   share a NUMA node where possible.

Rules 1 to 3 are *best fit*: they use up small remainders and keep large groups whole for large requests. First fit
would take the lowest indices and break up the first group, as the example shows.

Worked example: eight GPUs, two NVLink groups
---------------------------------------------
GPUs 0-3 form NVLink group 0 on NUMA node 0, and GPUs 4-7 form group 4 on node 1. Leases hold GPUs 4 and 6::

    group 0 (node 0):  0 1 2 3     four free
    group 4 (node 1):  . 5 . 7     two free

    - take(2) ->  5, 7       group 4 fits exactly; group 0 stays whole. First fit would take 0, 1.
    - take(3) ->  0, 1, 2    only group 0 has three. After first fit it would be split: 2, 3 and 5.
    - take(1) ->  3          the remainder of group 0
    - take(1) ->  IndexError: the caller asks only for GPUs that are free

Worked example: NVLink pairs, so three GPUs never share a link
--------------------------------------------------------------
The pairs are 0-1 and 2-3 on node 0, 4-5 and 6-7 on node 1. GPU 3 is held::

    cells, (group, node):  (0, 0): 0 1    (2, 0): 2 .    (4, 1): 4 5    (6, 1): 6 7

    - take(3) ->  0, 1, 2    no pair has three (rule 1). Node 0 has three free, node 1 has four: rule 2 picks node 0.
                             Rule 4 takes the largest cell, 0 and 1, and then the smallest cell for one more, 2.
    - take(1) ->  4          all groups have two: the tie goes to the lowest index
    - take(3) ->  6, 7, 5    rule 2 with node 1; rule 4 takes the whole pair first

If no node suffices, the grant spans nodes. With 0, 2, 3 free on node 0 and 4, 5 on node 1, ``take(4)`` returns 2, 3,
4, 5: two whole pairs (rule 3), not three groups.

Worked example: MIG
-------------------
GPU 0 has three free instances of ``1g.10gb``, GPUs 1 and 2 have two each. ``take(2)`` returns both instances of GPU 1:
the smallest sufficient GPU, with the lowest index. GPU 0 keeps its three for a later ``take(3)``. Instances of
different profiles never compete, because each profile has its own ``FreeGpus``.

Limits
------
Placement sees one request at a time. It does not move running leases, and it does not know the end times of the
neighbours; ``spawner.policy.queue`` decides the time of a grant before placement decides the GPUs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable
from operator import attrgetter

from spawner.model import Gpu

_Links = tuple[int | None, int | None]
"""Key of a cell: (NVLink group, or the GPU index of a MIG instance; NUMA node). None means none or unknown."""
_Cells = dict[_Links, list[int]]
"""Ranks of the free GPUs of each cell, in ascending order."""
_GroupOf = Callable[[_Links], Hashable | None]
"""Maps a cell to its group; None means no group."""

_RANK = attrgetter("index", "mig_index", "uuid")


class FreeGpus:
    """The free GPUs of one kind; ``take`` removes one set after another."""

    def __init__(self, gpus: Iterable[Gpu]) -> None:
        """Build the cells of ``gpus``, which come in any order and share one ``mig_profile``."""
        self._gpus = sorted(gpus, key=_RANK)
        self._cells: _Cells = {}
        for rank, gpu in enumerate(self._gpus):
            link = gpu.nvlink_group if gpu.mig_profile is None else gpu.index
            self._cells.setdefault((link, gpu.numa_node), []).append(rank)
        self._groupings: dict[_GroupOf, _Groups] = {}

    def take(self, count: int) -> tuple[Gpu, ...]:
        """Remove ``count`` GPUs by the rules above and return them; raises IndexError if fewer are free."""
        single = None
        if count > 1:
            by_link, by_node = self._group_by(_link_group), self._group_by(_numa_node)
            single = by_link.best_fit(count) or by_node.best_fit(count)
        taken: list[int] = []
        while len(taken) < count:
            left = count - len(taken)
            taken += self._take_from(single or self._group_by(_closest_group).nearest(left), left)
        return tuple(self._gpus[rank] for rank in taken)

    def _group_by(self, group_of: _GroupOf) -> _Groups:
        if group_of not in self._groupings:
            self._groupings[group_of] = _Groups(self._cells, group_of)
        return self._groupings[group_of]

    def _take_from(self, keys: list[_Links], count: int) -> list[int]:
        """Remove up to ``count`` GPUs from the cells ``keys``, from as few cells as possible."""
        taken: list[int] = []
        while len(taken) < count and (filled := [key for key in keys if self._cells[key]]):
            left = count - len(taken)
            key = min(filled, key=lambda key: _misfit(self._cells[key], left))
            for grouping in self._groupings.values():
                grouping.remove(key)
            taken += self._cells[key][:left]
            del self._cells[key][:left]
            for grouping in self._groupings.values():
                grouping.add(key)
        return taken


class _Groups:
    """Cells in groups, sorted by their number of free GPUs."""

    def __init__(self, cells: _Cells, group_of: _GroupOf) -> None:
        self._cells = cells
        self._group_of = group_of
        self._keys: dict[Hashable, list[_Links]] = {}
        for key, cell in cells.items():
            if cell and (group := group_of(key)) is not None:
                self._keys.setdefault(group, []).append(key)
        # (number of free GPUs, lowest rank, group); the rank is unique, so a sort never compares groups
        self._sizes = sorted(map(self._measure, self._keys))

    def best_fit(self, count: int) -> list[_Links] | None:
        """Return the cells of the smallest group with at least ``count`` GPUs, or None."""
        at = bisect_left(self._sizes, (count,))
        return self._keys[self._sizes[at][-1]] if at < len(self._sizes) else None

    def nearest(self, count: int) -> list[_Links]:
        """Return the cells of the smallest group with at least ``count`` GPUs, or else of a largest group."""
        largest = self._sizes[-1][0]
        return self._keys[self._sizes[bisect_left(self._sizes, (min(count, largest),))][-1]]

    def remove(self, key: _Links) -> None:
        """Remove the group of the cell ``key`` before the cell changes."""
        group = self._group_of(key)
        if group is not None:
            del self._sizes[bisect_left(self._sizes, self._measure(group))]

    def add(self, key: _Links) -> None:
        """Add the group of the cell ``key`` with its new size, unless it is empty."""
        group = self._group_of(key)
        if group is not None and any(self._cells[key] for key in self._keys[group]):
            insort(self._sizes, self._measure(group))

    def _measure(self, group: Hashable) -> tuple[int, int, Hashable]:
        filled = [cell for key in self._keys[group] if (cell := self._cells[key])]
        return sum(map(len, filled)), min(filled)[0], group


def _link_group(key: _Links) -> Hashable | None:
    """Return the NVLink group (MIG: the GPU), or None for unlinked GPUs."""
    return key[0]


def _numa_node(key: _Links) -> Hashable | None:
    """Return the NUMA node in a tuple, so that an unknown node is a group too."""
    return key[1:]


def _closest_group(key: _Links) -> Hashable | None:
    """Return the NVLink group; unlinked GPUs of one NUMA node form one group."""
    return key if key[0] is None else key[0]


def _misfit(cell: list[int], count: int) -> tuple[bool, int, int]:
    """Return a sort key: the smallest cell that suffices for ``count`` comes first, else the largest cell."""
    return len(cell) < count, abs(len(cell) - count), cell[0]
