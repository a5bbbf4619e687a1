"""The tests. A package only so that `tests.support` has one name under pytest and mypy."""
