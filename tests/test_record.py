"""Records that load nothing: what attrs' frozen classes do, of which they take the place where clients start."""

from __future__ import annotations

import copy
import pickle

import pytest

from flexcore.override import override
from flexcore.record import Record, replace


class Point(Record):
    x: int
    y: int = 0


class Place(Record):
    x: int
    y: int = 0


class Named(Record, kw_only=True, secret=("word",)):
    name: str
    word: str = "none"

    @override
    def _check(self) -> None:
        if not self.name:
            raise ValueError("no name")


class Nothing(Record):
    """An event without facts."""


def test_fields_and_defaults() -> None:
    assert (Point(1).x, Point(1).y) == (1, 0)
    assert Point(1, 2) == Point(y=2, x=1)
    assert Point(1, 0) == Point(1), "a default that is given is no other value"
    assert hash(Point(1, 0)) == hash(Point(1))
    assert repr(Point(1)) == "Point(x=1, y=0)"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Point(), "missing x"),  # type: ignore[call-arg]
        (lambda: Point(1, 2, 3), "takes 2 values without a name, not 3"),  # type: ignore[call-arg]
        (lambda: Point(1, x=2), "two values for x"),  # type: ignore[misc]
        (lambda: Point(1, z=2), "no field z"),  # type: ignore[call-arg]
        (lambda: Named("ann"), "takes 0 values without a name, not 1"),  # type: ignore[call-arg]
        (lambda: replace(Point(1), z=2), "no field z"),
    ],
)
def test_wrong_fields(make, said) -> None:
    with pytest.raises(TypeError, match=said):
        make()


def test_equal_only_within_one_class() -> None:
    assert Point(1) != Place(1)
    assert Point(1) != (1, 0)
    assert Nothing() == Nothing()
    assert bool(Nothing()), "unlike an empty tuple"
    assert len({Point(1), Point(1, 0), Point(2)}) == 2


def test_frozen() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x
    assert replace(point, x=2) == Point(2)
    assert point == Point(1)


def test_checked_and_secret() -> None:
    with pytest.raises(ValueError, match="no name"):
        Named(name="")
    with pytest.raises(ValueError, match="no name"):
        replace(Named(name="ann"), name="")
    assert repr(Named(name="ann", word="hush")) == "Named(name='ann')"
    assert Named(name="ann", word="hush") != Named(name="ann"), "equal all the same only if all is"


def test_matched_copied_and_pickled() -> None:
    match Point(1, 2):
        case Point(x, y=2):
            assert x == 1
        case _:
            raise AssertionError
    for twin in (copy.copy(Point(1)), copy.deepcopy(Point(1)), pickle.loads(pickle.dumps(Point(1)))):
        assert twin == Point(1)


def test_a_record_is_no_base() -> None:
    with pytest.raises(AssertionError):
        type("Derived", (Point,), {})
