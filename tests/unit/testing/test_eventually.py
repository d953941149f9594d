"""Eventually: returns the first true answer, and its failure names the condition."""

from collections.abc import Awaitable, Callable

import pytest

from testing.eventually import eventually, eventually_sync


def counter(answers: list[object]) -> Callable[[], object]:
    """Return a probe that gives, or raises, one of ``answers`` after the other and repeats the last."""

    def probe() -> object:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return probe


def coroutine(probe: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def answer() -> object:
        return probe()

    return answer


async def test_the_first_true_answer_is_returned() -> None:
    assert eventually_sync(counter([None, 0, "", "it"])) == "it"
    assert await eventually(counter([None, 0, "", "it"])) == "it"
    assert await eventually(coroutine(counter([None, 0, "", "it"]))) == "it"


async def test_an_unreachable_server_is_not_yet_an_answer() -> None:
    refused = ConnectionRefusedError("refused")
    assert eventually_sync(counter([refused, 1])) == 1
    assert await eventually(coroutine(counter([refused, 1]))) == 1
    with pytest.raises(AssertionError, match="refused"):
        eventually_sync(counter([refused]), seconds=0.01)


async def test_any_other_error_ends_the_wait() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually_sync(counter([ZeroDivisionError(), 1]))
    with pytest.raises(ZeroDivisionError):
        await eventually(counter([ZeroDivisionError(), 1]))


async def test_the_failure_names_the_condition_and_the_last_answer() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.01 s: it runs \(last answer: \[\]\)"):
        eventually_sync(counter([[]]), "it runs", seconds=0.01)
    with pytest.raises(AssertionError, match=r"not within 0.01 s: it runs \(last answer: \[\]\)"):
        await eventually(coroutine(counter([[]])), "it runs", seconds=0.01)


async def test_without_a_name_the_failure_shows_the_source() -> None:
    lights = 0
    with pytest.raises(AssertionError, match="lambda: lights == 4"):
        await eventually(lambda: lights == 4, seconds=0.01)
