"""One user's start-stop loop ends after some starts and delays no other user."""

from spawner.hub.start_rate import BURST, StartRate
from spawner.model import Reason


def test_a_loop_is_refused_and_others_are_not() -> None:
    now = [1000.0]
    rate = StartRate(60, lambda: now[0])
    assert [rate.take("alice") for _ in range(BURST)] == [None] * BURST
    refused = rate.take("alice")
    assert refused is not None
    assert refused.reason is Reason.TOO_MANY_STARTS
    assert refused.message == "You started many servers in a short time: try again in 1 minute."
    assert rate.take("bob") is None

    now[0] += 59.0
    assert rate.take("alice") is not None, "a refused start takes nothing, and refills nothing"
    now[0] += 1.0
    assert rate.take("alice") is None
    assert rate.take("alice") is not None
    now[0] += 3600.0
    assert [rate.take("alice") for _ in range(BURST)] == [None] * BURST
    assert rate.take("alice") is not None, "an idle hour saves no more than a full bucket"
