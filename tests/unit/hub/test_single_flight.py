"""Single flight: concurrent calls share one request; no caller gets an old answer or another caller's failure."""

import asyncio

import pytest

from spawner.hub.single_flight import SingleFlight
from spawner.model import Unknown


class Oracle:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_silent = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> int:
        self.asked += 1
        await self.may_answer.wait()
        if self.is_silent:
            raise Unknown("nobody knows")
        return self.asked


async def test_a_crowd_makes_one_request() -> None:
    oracle = Oracle()
    shared = SingleFlight(oracle, 60.0)
    assert set(await asyncio.gather(*(shared() for _ in range(100)))) == {1}
    assert await shared() == 1


async def test_an_old_answer_is_requested_again() -> None:
    shared = SingleFlight(Oracle(), 0.0)
    first = await shared()
    await asyncio.sleep(0.001)
    assert await shared() == first + 1


async def test_no_answer_is_not_remembered() -> None:
    oracle = Oracle()
    shared = SingleFlight(oracle, 60.0)
    oracle.is_silent = True
    with pytest.raises(Unknown):
        await shared()
    oracle.is_silent = False
    assert await shared() == 2


async def test_who_goes_away_takes_no_ones_answer() -> None:
    oracle = Oracle()
    oracle.may_answer.clear()
    shared = SingleFlight(oracle, 60.0)
    first, second = asyncio.ensure_future(shared()), asyncio.ensure_future(shared())
    await asyncio.sleep(0)
    first.cancel()
    oracle.may_answer.set()
    assert await second == 1
