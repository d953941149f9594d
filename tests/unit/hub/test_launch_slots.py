"""Launch slots: one user's many launches delay another user's by a bounded number."""

import asyncio

from spawner.hub.launch_slots import LaunchSlots


async def test_one_user_s_loop_of_starts_delays_others_by_its_own_slots_only() -> None:
    slots, began = LaunchSlots(total=4, of_user=2), []
    active: list[str] = []
    peak = 0

    async def launch(user: str) -> None:
        nonlocal peak
        async with slots.take(user):
            began.append(user)
            active.append(user)
            peak = max(peak, active.count("mallory"))
            for _ in range(5):
                await asyncio.sleep(0)
            active.remove(user)

    loop_of_starts = [asyncio.create_task(launch("mallory")) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.gather(launch("alice"), launch("bob"), *loop_of_starts)
    assert peak == 2
    assert {"alice", "bob"} <= set(began[:4]), began
    assert len(began) == 52


async def test_all_users_together_have_a_bound() -> None:
    slots, running, peak = LaunchSlots(total=3, of_user=2), 0, 0

    async def launch(user: str) -> None:
        nonlocal running, peak
        async with slots.take(user):
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(launch(f"user-{number}") for number in range(20)))
    assert (running, peak) == (0, 3)
