"""Sums over the rows of a matrix, made by halves and on all cores: to the last bit those of the whole.

NumPy sums an array by halves as well (`pairwise_sum` in its loops), cut at multiples of eight numbers. Halved
alike, the sums of parts add up to the sum that it would find, in whatever order threads finish. It does not
know what is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgesdk_converters.quantise.all_cores import on_all_cores

Sums = tuple[float, float]


def sum_by_halves(
    span: tuple[int, int],
    columns: int,
    most: int,
    work: Callable[[int, int], Sums],
    *,
    threads: bool = False,
) -> Sums:
    """Sums of rows, of parts of at most `most` numbers where they can be halved so far.

    Args:
        span: first row, and the one after the last.
        columns: numbers of a row.
        most: numbers at once.
        work: gets such a span, and returns its sums.
        threads: whether parts are worked on at once; `work` must not write where another does, nor call this
            with threads.
    """
    parts = list(_parts(*span, columns, most))
    if threads and len(parts) > 1:
        found = iter(on_all_cores(lambda part: work(*part), parts))
    else:
        found = (work(*part) for part in parts)
    return _total(*span, columns, most, found)


def _half(rows: int, columns: int, most: int) -> int:
    """Rows of a half; 0 for rows that are summed at once."""
    half = rows // 2
    return half if rows * columns > most and rows == 2 * half and half * columns % 8 == 0 else 0


def _parts(start: int, stop: int, columns: int, most: int) -> Iterator[tuple[int, int]]:
    half = _half(stop - start, columns, most)
    if half:
        yield from _parts(start, start + half, columns, most)
        yield from _parts(start + half, stop, columns, most)
    else:
        yield start, stop


def _total(start: int, stop: int, columns: int, most: int, found: Iterator[Sums]) -> Sums:
    half = _half(stop - start, columns, most)
    if not half:
        return next(found)
    first = _total(start, start + half, columns, most, found)
    second = _total(start + half, stop, columns, most, found)
    return first[0] + second[0], first[1] + second[1]
