"""Which of the free GPUs somebody gets: those that reach each other fastest, out of what is broken up already.

Deterministic: the same ones whatever order the free GPUs come in, and ties go to the lowest index.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable
from operator import attrgetter

from spawner.model import Gpu

_Kin = tuple[int | None, int | None]
"""(NVLink group, or of a MIG instance the GPU that it is a part of; NUMA node), None where there is none or unknown."""
_Cells = dict[_Kin, list[int]]
"""The free GPUs of each kin, by their rank, least first: those of one cell are alike."""
_NameOf = Callable[[_Kin], Hashable | None]

_RANK = attrgetter("index", "mig_index", "uuid")


class FreeGpus:
    """The free GPUs of one ``mig_profile`` (None: whole GPUs), from which sets are taken one after the other."""

    def __init__(self, gpus: Iterable[Gpu]) -> None:
        """Take up ``gpus``, in any order."""
        self._gpus = sorted(gpus, key=_RANK)
        self._cells: _Cells = {}
        for rank, gpu in enumerate(self._gpus):
            link = gpu.nvlink_group if gpu.mig_profile is None else gpu.index
            self._cells.setdefault((link, gpu.numa_node), []).append(rank)
        self._views: dict[_NameOf, _Groups] = {}

    def take(self, count: int) -> tuple[Gpu, ...]:
        """Return ``count`` of the GPUs, and keep the others; raises IndexError where there are fewer.

        They come from one NVLink group (MIG: one GPU) where one suffices, else from one NUMA node, else from as few
        groups as possible. Where several would do, it is the one with the fewest free: large ones stay whole.
        """
        whole = None
        if count > 1:
            whole = self._by(_name_link).best_fit(count) or self._by(_name_node).best_fit(count)
        taken: list[int] = []
        while len(taken) < count:
            left = count - len(taken)
            taken += self._take_from(whole or self._by(_name_group).nearest(left), left)
        return tuple(self._gpus[rank] for rank in taken)

    def _by(self, name_of: _NameOf) -> _Groups:
        if name_of not in self._views:
            self._views[name_of] = _Groups(self._cells, name_of)
        return self._views[name_of]

    def _take_from(self, kins: list[_Kin], most: int) -> list[int]:
        """Take up to ``most`` GPUs out of the cells of ``kins``, out of as few as possible."""
        taken: list[int] = []
        while len(taken) < most and (filled := [kin for kin in kins if self._cells[kin]]):
            left = most - len(taken)
            kin = min(filled, key=lambda kin: _distance(self._cells[kin], left))
            for view in self._views.values():
                view.leave(kin)
            taken += self._cells[kin][:left]
            del self._cells[kin][:left]
            for view in self._views.values():
                view.enter(kin)
        return taken


class _Groups:
    """Cells in groups by ``name_of`` (None: in no group), found by how many GPUs they have."""

    def __init__(self, cells: _Cells, name_of: _NameOf) -> None:
        self._cells = cells
        self._name_of = name_of
        self._kins: dict[Hashable, list[_Kin]] = {}
        for kin, cell in cells.items():
            if cell and (name := name_of(kin)) is not None:
                self._kins.setdefault(name, []).append(kin)
        # (how many GPUs, the first of them, name): no two have the same first
        self._sizes = sorted(map(self._measure, self._kins))

    def best_fit(self, count: int) -> list[_Kin] | None:
        """Return the smallest group with ``count`` GPUs or more."""
        at = bisect_left(self._sizes, (count,))
        return self._kins[self._sizes[at][-1]] if at < len(self._sizes) else None

    def nearest(self, count: int) -> list[_Kin]:
        """Return the smallest group with ``count`` GPUs or more, or else a largest one."""
        most = self._sizes[-1][0]
        return self._kins[self._sizes[bisect_left(self._sizes, (min(count, most),))][-1]]

    def leave(self, kin: _Kin) -> None:
        """Forget the group of ``kin`` while its cell changes."""
        name = self._name_of(kin)
        if name is not None:
            del self._sizes[bisect_left(self._sizes, self._measure(name))]

    def enter(self, kin: _Kin) -> None:
        """Find the group of ``kin`` again, unless nothing is left of it."""
        name = self._name_of(kin)
        if name is not None and any(self._cells[kin] for kin in self._kins[name]):
            insort(self._sizes, self._measure(name))

    def _measure(self, name: Hashable) -> tuple[int, int, Hashable]:
        filled = [cell for kin in self._kins[name] if (cell := self._cells[kin])]
        return sum(map(len, filled)), min(filled)[0], name


def _name_link(kin: _Kin) -> Hashable | None:
    return kin[0]


def _name_node(kin: _Kin) -> Hashable | None:
    return kin[1:]


def _name_group(kin: _Kin) -> Hashable | None:
    """Name the NVLink group; a GPU without one stands with the others of its node that have none."""
    return kin if kin[0] is None else kin[0]


def _distance(cell: list[int], count: int) -> tuple[bool, int, int]:
    """Return what is least for the smallest cell that suffices for ``count``, or else for the largest."""
    return len(cell) < count, abs(len(cell) - count), cell[0]
