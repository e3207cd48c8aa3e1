"""Note values: how a stretch of a bar is written as notes and rests of one symbol each, tied.

A stretch over a strong division of its bar (the middle of 4/4, the dotted crotchet of 6/8) is split there,
unless it begins and ends on the next weaker ones, as a minim on the second crotchet does: what Gould (Behind
Bars, 2011) gives for simple and compound metres. Times in ticks of GRID a quarter.
"""

GRID = 24  # demisemiquavers and triplets of semiquavers
PLAIN = {3 << k for k in range(8)}  # a demisemiquaver to a breve and a half more
DOTTED = {value * 3 // 2 for value in PLAIN if value > 3}
TRIPLET = {1 << k for k in range(7)}  # two thirds of a plain value
ONE_SYMBOL = PLAIN | DOTTED | TRIPLET


def is_compound(metre: tuple[int, int]) -> bool:
    return metre[1] >= 8 and metre[0] % 3 == 0 and metre[0] > 3


def values(onset: int, end: int, metre: tuple[int, int]) -> list[tuple[int, int]]:
    """(onset, length) of the symbols of a stretch of one bar, both ends in ticks from the barline."""
    numerator, denominator = metre
    return _values(onset, end, 0, max(4 * GRID * numerator // denominator, end), metre)


def _values(onset: int, end: int, start: int, length: int, metre: tuple[int, int]) -> list[tuple[int, int]]:
    """As `values`, within the node of the bar that begins at `start`."""
    size = end - onset
    if size == length and size in ONE_SYMBOL:
        return [(onset, size)]
    inner, unit = _divided(onset - start, end - start, length, metre)
    cuts = [start + cut for cut in inner if onset < start + cut < end]
    if not cuts:
        bounds = [start, *(start + cut for cut in inner), start + length]
        first = max(bound for bound in bounds if bound <= onset)
        following = min(bound for bound in bounds if bound > onset)
        return _values(onset, end, first, following - first, metre)
    if size in ONE_SYMBOL and (onset - start) % unit == 0 and (end - start) % unit == 0:
        return [(onset, size)]
    whole = [cut for cut in cuts if cut - onset in ONE_SYMBOL]
    at_division = onset == start or onset - start in inner
    cut = whole[-1] if at_division and whole else cuts[0]
    return [*_values(onset, cut, start, length, metre), *_values(cut, end, start, length, metre)]


def _divided(onset: int, end: int, length: int, metre: tuple[int, int]) -> tuple[list[int], int]:
    """Where a node of a bar is divided, and the unit that stretches over a division must keep to. Positions
    count from the node."""
    beat = 4 * GRID // metre[1]
    if length > beat:
        group = 3 * beat if is_compound(metre) else beat
        if length > group and length % group == 0:
            count = length // group
            if count in (2, 4) and length in PLAIN and _in_thirds(onset, end, length):
                return [length // 3, 2 * length // 3], length // 3
            if count in (2, 4):
                half = length // 2
                return [half], half if is_compound(metre) else group if count == 4 else group // 2
            return [k * group for k in range(1, count)], group if is_compound(metre) else group // 2
        if length == 3 * beat:
            return [beat, 2 * beat], beat
        if length > group:  # a bar that its metre does not divide
            return list(range(group, length, group)), max(group // 2, 1)
    if length % 3 == 0 and (_in_thirds(onset, end, length) or length == 3):
        return [length // 3, 2 * length // 3], length // 3
    return ([length // 2], max(length // 4, 1)) if length % 2 == 0 else (list(range(1, length)), 1)


def _in_thirds(onset: int, end: int, length: int) -> bool:
    """Whether one of the positions inside a node is none of its binary division."""
    if length > GRID:  # minims in three: only where both ends are such
        return all(place % (length // 3) == 0 for place in (onset, end)) and any(
            place % (length // 4) for place in (onset, end)
        )
    return any(0 < place < length and place % 3 for place in (onset, end))
