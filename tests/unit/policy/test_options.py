"""The closed schema of server options, as a table of what people send."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawner.model import Options, OptionsError, StartMode
from spawner.policy.options import MAX_GPUS, MAX_HOURS, MIN_HOURS, parse_options

RELEASES = {"v2.7": "first", "v2.8": "second"}


def parse(raw: object) -> Options:
    return parse_options(raw, releases=RELEASES, default_release="v2.7")


@pytest.mark.parametrize(
    ("raw", "options"),
    [
        ({}, Options("v2.7", 0)),
        ({"gpus": 2}, Options("v2.7", 2)),
        ({"release": "v2.8", "gpus": 0}, Options("v2.8", 0)),
        ({"gpus": MAX_GPUS}, Options("v2.7", MAX_GPUS)),
        ({"hours": 4}, Options("v2.7", 0, 4.0)),
        ({"hours": MIN_HOURS}, Options("v2.7", 0, MIN_HOURS)),
        ({"gpus": 1, "hours": None}, Options("v2.7", 1)),
        ({"start_mode": None}, Options("v2.7", 0)),
        ({"start_mode": "repair"}, Options("v2.7", 0, start_mode=StartMode.REPAIR)),
        ({"gpus": 1, "mig_profile": None}, Options("v2.7", 1)),
        ({"gpus": 2, "mig_profile": "1g.10gb"}, Options("v2.7", 2, None, "1g.10gb")),
        ({"gpus": 1, "mig_profile": "1c.3g.40gb"}, Options("v2.7", 1, None, "1c.3g.40gb")),
        ({"gpus": 1, "mig_profile": "1g.10gb+me"}, Options("v2.7", 1, None, "1g.10gb+me")),
    ],
)
def test_good_options_are_taken_as_they_are(raw: object, options: Options) -> None:
    assert parse(raw) == options


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "must be an object"),
        ([1], "must be an object"),
        ("gpus=1", "must be an object"),
        ({"image": "evil"}, "'image' is not an option"),
        ({"gpus": 1, "volumes": {}}, "'volumes' is not an option"),
        ({1: 1}, "'1' is not an option"),
        ({"gpus": -1}, "'-1' is not a number of GPUs"),
        ({"gpus": MAX_GPUS + 1}, "is not a number of GPUs"),
        ({"gpus": 10**30}, "is not a number of GPUs"),
        ({"gpus": math.nan}, "'nan' is not a number of GPUs"),
        ({"gpus": math.inf}, "'inf' is not a number of GPUs"),
        ({"gpus": 1.0}, "'1.0' is not a number of GPUs"),
        ({"gpus": True}, "'True' is not a number of GPUs"),
        ({"gpus": "two"}, "'two' is not a number of GPUs"),
        ({"gpus": "1"}, "'1' is not a number of GPUs"),
        ({"gpus": None}, "'None' is not a number of GPUs"),
        ({"gpus": [1]}, "is not a number of GPUs"),
        ({"start_mode": "safe"}, "'safe' is not a way to start"),
        ({"start_mode": ["repair"]}, "is not a way to start"),
        ({"hours": 0}, "'0' is not a number of hours"),
        ({"hours": -1.5}, "is not a number of hours"),
        ({"hours": MAX_HOURS + 1}, "is not a number of hours"),
        ({"hours": math.nan}, "'nan' is not a number of hours"),
        ({"hours": math.inf}, "'inf' is not a number of hours"),
        ({"hours": True}, "'True' is not a number of hours"),
        ({"hours": "4"}, "'4' is not a number of hours"),
        ({"hours": []}, "is not a number of hours"),
        ({"mig_profile": "1g.10gb"}, "The MIG profile 1g.10gb needs a number of instances"),
        (
            {"gpus": 0, "mig_profile": "1g.10gb"},
            "The MIG profile 1g.10gb needs a number of instances",
        ),
        ({"gpus": 1, "mig_profile": ""}, "'' is not a MIG profile"),
        ({"gpus": 1, "mig_profile": 1}, "'1' is not a MIG profile"),
        ({"gpus": 1, "mig_profile": ["1g.10gb"]}, "is not a MIG profile"),
        ({"gpus": 1, "mig_profile": "1G.10GB"}, "'1G.10GB' is not a MIG profile"),
        ({"gpus": 1, "mig_profile": "0g.10gb"}, "is not a MIG profile"),
        ({"gpus": 1, "mig_profile": "1g.10gb\n"}, "is not a MIG profile"),
        ({"gpus": 1, "mig_profile": "x" * 1000}, "is not a MIG profile"),
        ({"gpus": 1, "mig_profile": "1g.10gb+" + "a" * 30}, "is not a MIG profile"),
        ({"release": "v9"}, "no release 'v9': choose one of v2.7, v2.8"),
        ({"release": ["v2.7"]}, "no release 'list'"),
        ({"release": None}, "no release 'NoneType'"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(raw: object, said: str) -> None:
    with pytest.raises(OptionsError, match=r"^[^\n]{1,200}$") as refusal:
        parse(raw)
    assert said in str(refusal.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.sampled_from(["gpus", "hours", "mig_profile"]), inner)
    ),
    max_leaves=8,
)


@given(json_values)
def test_whatever_is_sent_gives_valid_options_or_one_error(value: object) -> None:
    raw = json.loads(json.dumps(value))
    try:
        options = parse(raw)
    except OptionsError:
        return
    assert options.release in RELEASES
    assert 0 <= options.gpus <= MAX_GPUS
    assert options.hours is None or MIN_HOURS <= options.hours <= MAX_HOURS
