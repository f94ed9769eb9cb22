"""Objects that are values: a copy of one is itself. Must not know what they hold."""

from typing import Self


class Value:
    """Parent of immutable objects, and of handles on something shared, which no copy and no clone doubles."""

    def __sklearn_clone__(self) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict) -> Self:
        return self
