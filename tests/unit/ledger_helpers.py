"""Steps of a lease in the ledger: request, enqueue, advance, give up, close."""

import itertools
from collections.abc import Mapping, Sequence, Set

from spawner.ledger import Ledger
from spawner.ledger.quotas import Owner
from spawner.model import Cause, Lease, LeaseState, Quota, Refused, Request
from spawner.policy.admission import admit
from spawner.policy.queue import plan_queue
from testing.factories import make_gpu, make_request

GPUS = (make_gpu(0), make_gpu(1))
HOUR = 3600.0
QUOTA = Quota(max_lease_hours=8, priority=3)
ALICE = Owner("alice", "alice", ())
_moments = (i / 1e6 for i in itertools.count())


def request_lease(ledger: Ledger, request: Request, now: float = 5.0) -> Lease | Refused:
    def check(leases: Sequence[Lease], quota: Quota, held: float) -> Refused | None:
        return admit(request, gpus=GPUS, leases=leases, quota=quota, held=held, now=now)

    return ledger.admit(request, check, quota=QUOTA, now=now)


def enqueue(ledger: Ledger, user: str, gpus: int = 1, now: float | None = None) -> Lease:
    now = 5.0 + next(_moments) if now is None else now
    answer = request_lease(ledger, make_request(user, gpus), now)
    assert isinstance(answer, Lease), answer
    return answer


def advance(ledger: Ledger, now: float = 6.0) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return who still waits, in order, and what each of the others was granted."""
    still_waiting: list[str] = []

    def plan(
        waiting: Sequence[Lease],
        holding: Sequence[Lease],
        use: Mapping[int, float],
        quarantined: Set[str],
    ) -> Mapping[str, tuple[str, ...]]:
        healthy = [gpu for gpu in GPUS if gpu.uuid not in quarantined]
        planned = plan_queue(waiting, leases=holding, gpus=healthy, recent_gpu_hours=use, now=now)
        still_waiting.extend(planned.queues[None])
        return planned.grants

    granted = ledger.advance(plan, now=now)
    return still_waiting, {g.id: g.gpu_uuids for g in granted}


def grant(ledger: Ledger, user: str, gpus: int = 1, now: float = 6.0) -> Lease:
    lease = enqueue(ledger, user, gpus, now)
    assert lease.id in advance(ledger, now)[1]
    return read(ledger, lease)


def read(ledger: Ledger, lease: Lease) -> Lease:
    found = ledger.lease(lease.id)
    assert found is not None
    return found


def give_up(ledger: Ledger, user: str) -> None:
    (lease,) = (lease for lease in ledger.live_leases() if lease.user == user)
    ledger.move(lease, LeaseState.CLOSED, now=9.0, cause=Cause.USER)


def begin_closing(ledger: Ledger, lease: Lease, now: float = 9.0) -> Lease:
    return ledger.move(lease, LeaseState.CLOSING, now=now, cause=Cause.USER)


def close(ledger: Ledger, lease: Lease, now: float = 9.0) -> Lease:
    return ledger.move(begin_closing(ledger, lease, now), LeaseState.CLOSED, now=now + 0.5)
