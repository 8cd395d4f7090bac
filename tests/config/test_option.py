"""The declaration of an option: how its values are described, and what is refused, with which remedy."""

import numpy as np
import pytest

from raectl.config import Option
from raectl.errors import UsageError


@pytest.mark.parametrize(
    ("option", "values", "limits"),
    [
        (Option(1, "", low=1, high=2000), "whole number, 1 to 2,000", "1 to 2,000"),
        (Option(0.5, "", above=0, high=1), "number, above 0, up to 1", "above 0, up to 1"),
        (Option(0.5, "", above=0), "number, above 0", "above 0"),
        (Option(None, "", low=2), "whole number, 2 or above", "2 or above"),
        (Option(None, "", low=0.0), "number, 0 or above", "0 or above"),
        (Option("a", "", choices=("a", "b", "c")), "a, b or c", ""),
        (Option(None, "", choices=(1, 3)), "1 or 3", ""),
        (Option(False, ""), "true or false", ""),
        (Option(None, ""), "text", ""),
    ],
)
def test_an_option_describes_its_values(option, values, limits):
    assert (option.describe(), option.limits()) == (values, limits)


@pytest.mark.parametrize(
    ("option", "value", "said", "hint"),
    [
        (Option(0.5, "", above=0, high=1), 0, "kde,h=0 is out of range: above 0, up to 1", "kde,h=0.5"),
        (Option(0.5, "", above=0), 10**400, "is no finite number", "kde,h=0.5"),
        (Option(0.5, "", above=0), "wide", "kde,h='wide' is no finite number", "kde,h=0.5"),
        (Option(None, "", low=8, high=512), 7, "kde,h=7 is out of range: 8 to 512", "kde,h=8"),
        (Option(None, "", low=8, high=512), 513, "kde,h=513 is out of range: 8 to 512", "kde,h=512"),
        (Option(None, "", low=8, high=512), "x", "kde,h='x' is no whole number", "kde,h: whole number, 8 to 512"),
        (Option(3, "", low=1), True, "kde,h=true is no whole number", "kde,h=3"),
        (Option("a", "", choices=("a", "b")), None, "kde,h=None is none of a, b", "kde,h=a"),
        (Option(False, ""), 1, "kde,h=1 is neither true nor false", "kde,h: true or false"),
    ],
)
def test_an_option_refuses_by_its_name_with_a_remedy(option, value, said, hint):
    with pytest.raises(UsageError) as error:
        option.check(value, "kde,h=")
    assert said in error.value.message and error.value.hint == hint


def test_numbers_of_numpy_are_taken_and_stored_as_those_of_python():
    assert type(Option(3, "").check(np.int64(5), "")) is int and type(Option(0.5, "").check(np.float32(2), "")) is float
