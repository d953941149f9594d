"""Metrics of the hub for Prometheus: leases, queue, refusals, quarantines and GPU-hours by UUID."""

import subprocess

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from spawner.model import GpuHealth, Reason, Unknown
from testing.eventually import eventually
from tests.hub.hub_env import HubEnvironment
from tests.hub.servers import start, wait_in_queue


async def scrape(hub_env: HubEnvironment) -> tuple[str, dict[str, Metric]]:
    headers = {"Accept": "text/plain"}
    async with hub_env.client("admin", is_admin=True) as client:
        answer = await client.get("/hub/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text, {one.name: one for one in text_string_to_metric_families(answer.text)}


def read(found: dict[str, Metric], family: str, suffix: str = "", **labels: str) -> float:
    values = [
        sample.value
        for sample in found[family].samples
        if sample.name == family + suffix and labels.items() <= sample.labels.items()
    ]
    assert len(values) == 1, (family, labels, values)
    return values[0]


async def test_a_scrape_reports_how_leases_line_and_gpus_are(hub_env: HubEnvironment) -> None:
    _, before = await scrape(hub_env)
    await start(hub_env, "alice", {"gpus": 2})
    await wait_in_queue(hub_env, "bob")
    await hub_env.workbench.gpu_sampler.sample()
    hub_env.agent.rest(0, utilization_percent=50)
    hub_env.agent.rest(1, utilization_percent=None)
    hub_env.skip(10)
    await hub_env.workbench.gpu_sampler.sample()
    async with hub_env.client("carol") as client:
        await client.post("/hub/api/users/carol/server", json={"gpus": 9})
    _, after = await scrape(hub_env)
    assert read(after, "workbench_leases", state="running") == 1
    assert read(after, "workbench_leases", state="waiting") == 1
    assert read(after, "workbench_leases", state="lost") == 0
    assert read(after, "workbench_waiting") == 1
    assert read(after, "workbench_waiting_gpus") == 1

    def grew(family: str, suffix: str = "_total", **labels: str) -> float:
        return read(after, family, suffix, **labels) - read(before, family, suffix, **labels)

    assert grew("workbench_grants") == 1
    assert grew("workbench_wait_seconds", "_count") == 1
    assert grew("workbench_refusals", reason="not_enough_gpus") == 1
    assert read(after, "workbench_gpu_held_seconds", "_total", uuid="GPU-1") >= 10
    used = read(after, "workbench_gpu_used_seconds", "_total", uuid="GPU-0")
    assert used == pytest.approx(5, abs=1)


async def test_a_quarantine_is_reported_by_uuid(hub_env: HubEnvironment) -> None:
    hub_env.agent.set(0, health=GpuHealth.LOST)
    await eventually(lambda: hub_env.ledger.quarantines(), "it is quarantined")
    await hub_env.workbench.gpu_sampler.sample()
    _, found = await scrape(hub_env)
    assert read(found, "workbench_gpu_quarantined", uuid="GPU-0") == 1


async def test_labels_are_bounded_and_name_no_one(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await hub_env.workbench.gpu_sampler.sample()
    _, found = await scrape(hub_env)
    own = {name: one for name, one in found.items() if name.startswith("workbench_")}
    assert {key for one in own.values() for s in one.samples for key in s.labels} == {
        "state",
        "reason",
        "uuid",
        "le",
    }
    reasons = {sample.labels["reason"] for sample in own["workbench_refusals"].samples}
    assert reasons == {reason.value for reason in Reason}


async def test_a_silent_ledger_does_not_silence_the_scrape(
    hub_env: HubEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await hub_env.workbench.gpu_sampler.sample()

    def fail() -> None:
        raise Unknown("The ledger cannot be reached.")

    with monkeypatch.context() as silent:
        silent.setattr(hub_env.ledger, "live_leases", fail)
        await hub_env.workbench.gpu_sampler.sample()
        _, found = await scrape(hub_env)
    assert read(found, "workbench_leases", state="running") == 1


async def test_promtool_finds_nothing_in_it(hub_env: HubEnvironment) -> None:
    await start(hub_env, "alice", {"gpus": 1})
    await hub_env.workbench.gpu_sampler.sample()
    text, _ = await scrape(hub_env)
    done = subprocess.run(  # noqa: ASYNC221
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "workbench_" in line]
    assert said == []
