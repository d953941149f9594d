"""One probe for all askers, never on the event loop."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from spawner.agent.readings import Report
from spawner.agent.sampler import Sampler


class Probe:
    """A probe at NVML that counts itself and can be held up."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self) -> Report:
        self.threads.append(threading.get_ident())
        self.may_go_on.wait(30)
        return Report(sampled_at=float(len(self.threads)), host="h")


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    probe = Probe()
    yield probe
    probe.may_go_on.set()


async def test_callers_share_one_sample(probe: Probe) -> None:
    sampler = Sampler(probe, period_seconds=3600)
    reports = await asyncio.gather(*(sampler.report() for _ in range(20)))
    reports.append(await sampler.report())
    assert {report.sampled_at for report in reports} == {1.0}
    assert len(probe.threads) == 1
    sampler.close()


async def test_an_old_report_is_replaced_by_one_sample(probe: Probe) -> None:
    sampler = Sampler(probe, period_seconds=0.05)
    await sampler.report()
    await asyncio.sleep(0.06)
    reports = await asyncio.gather(*(sampler.report() for _ in range(20)))
    assert {report.sampled_at for report in reports} == {2.0}
    sampler.close()


async def test_nothing_is_sampled_without_a_caller(probe: Probe) -> None:
    sampler = Sampler(probe, period_seconds=0.01)
    await sampler.report()
    await asyncio.sleep(0.2)
    assert len(probe.threads) == 1
    sampler.close()


async def test_every_sample_has_the_one_thread(probe: Probe) -> None:
    sampler = Sampler(probe, period_seconds=0)
    for _ in range(10):
        await sampler.report()
    assert len(probe.threads) == 10
    assert len(set(probe.threads)) == 1
    assert probe.threads[0] != threading.get_ident()
    sampler.close()


async def test_a_slow_sample_does_not_hold_up_the_loop(probe: Probe) -> None:
    probe.may_go_on.clear()
    sampler = Sampler(probe)
    asked = asyncio.create_task(sampler.report())
    turns = 0
    deadline = time.monotonic() + 10
    while turns < 1000 and time.monotonic() < deadline:
        await asyncio.sleep(0)
        turns += 1
    assert turns == 1000
    assert not asked.done()
    probe.may_go_on.set()
    assert (await asked).sampled_at == 1.0
    sampler.close()


async def test_a_sample_that_never_ends_is_given_up_and_not_repeated(probe: Probe) -> None:
    probe.may_go_on.clear()
    sampler = Sampler(probe, period_seconds=0, timeout_seconds=0.05)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await sampler.report()
    assert sampler.is_stuck
    assert len(probe.threads) == 1
    probe.may_go_on.set()
    assert (await sampler.report()).sampled_at in (1.0, 2.0)
    assert not sampler.is_stuck
    sampler.close()


async def test_a_failed_sample_is_reported_and_tried_again(probe: Probe) -> None:
    answers = iter([RuntimeError("broken"), None])

    def fail_first() -> Report:
        error = next(answers)
        if error:
            raise error
        return probe()

    sampler = Sampler(fail_first, period_seconds=0)
    with pytest.raises(RuntimeError):
        await sampler.report()
    assert (await sampler.report()).sampled_at == 1.0
    sampler.close()
