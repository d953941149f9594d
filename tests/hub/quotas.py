"""Quotas over REST."""

from typing import Any

from tests.hub.hub_env import HubEnvironment

QUOTAS = "/hub/api/workbench/quotas"


async def request_quotas(
    hub_env: HubEnvironment, who: str, method: str, path: str = "", body: Any = None, **options: Any
) -> tuple[int, Any]:
    """Return the status and the answer; a refusal's is its sentence."""
    async with hub_env.client(who, is_admin=who == "root") as client:
        answer = await client.request(method, QUOTAS + path, json=body, **options)
    if not answer.content:
        return answer.status_code, None
    said = answer.json()
    return answer.status_code, said.get("message", said) if answer.is_error else said


async def put_quota(hub_env: HubEnvironment, path: str, **row: Any) -> None:
    status, said = await request_quotas(hub_env, "root", "PUT", path, row)
    assert status == 200, said
