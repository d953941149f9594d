"""Attempts: counted by key within a time, in a bounded memory."""

from spawner.hub.attempts import Attempts


def test_a_key_waits_until_its_oldest_attempt_is_over() -> None:
    attempts = Attempts(3, 60.0)
    for now in (0.0, 10.0, 20.0):
        assert attempts.wait_seconds("a", now) == 0
        attempts.add("a", now)
    assert attempts.wait_seconds("a", 20.0) == 40.0
    assert attempts.wait_seconds("b", 20.0) == 0
    assert attempts.wait_seconds("a", 60.0) == 0
    assert attempts.count("a", 60.0) == 2


def test_attempts_are_taken_back_and_cleared() -> None:
    attempts = Attempts(1, 60.0)
    attempts.add("a", 0.0)
    attempts.take_back("a")
    assert attempts.count("a", 0.0) == 0
    attempts.take_back("unknown")
    attempts.add("a", 1.0)
    attempts.clear("a")
    assert attempts.wait_seconds("a", 1.0) == 0


def test_the_memory_is_bounded() -> None:
    attempts = Attempts(2, 60.0, max_keys=10)
    for number in range(100):
        attempts.add(number, 0.0)
        attempts.add(number, 0.0)
    assert len(attempts) == 10
    assert attempts.count(99, 0.0) == 2
    attempts.count(99, 60.0)
    assert len(attempts) == 9
