"""What a run needs of its machine: processes, memory, and files that it continues from."""

from collections.abc import Callable

#: Told what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody is told of."""
