"""The order in which measures are played: repeats, first and second endings, da capo and dal segno."""

from dataclasses import dataclass, field

MOST = 4000  # measures played, at most


@dataclass
class Signs:
    """What stands at one measure. endings: numbers of the bracket it lies under; times: of a repeat's end.
    segno, coda: names, as marked; jump: "capo" or the segno it goes back to; to_coda: the coda it leaves
    for."""

    forward: bool = False
    backward: bool = False
    times: int = 2
    endings: tuple[int, ...] = ()
    segno: str = ""
    coda: str = ""
    fine: bool = False
    jump: str = ""
    to_coda: str = ""


@dataclass
class _Player:
    signs: list[Signs]
    order: list[int] = field(default_factory=list)
    jumped: bool = False

    def play(self) -> list[int]:
        """Indices of measures as they are played; each as it stands where the signs lead in circles."""
        at = start = 0
        passed: dict[int, int] = {}
        rounds = 1
        while at < len(self.signs):
            here = self.signs[at]
            if here.forward and at != start:
                start, rounds = at, 1
            if here.endings and rounds not in here.endings and not self.jumped:
                at += 1
                continue
            if self.jumped and here.endings and self._later_ending(at):
                at += 1  # after a jump back, the last ending
                continue
            self.order.append(at)
            if len(self.order) > MOST:
                return list(range(len(self.signs)))
            if self.jumped and here.fine:
                break
            if self.jumped and here.to_coda:
                coda = self._named("coda", here.to_coda)
                if coda is not None and coda > at:
                    at, start, rounds = coda, coda, 1
                    continue
            if here.backward and not self.jumped and passed.get(at, 0) < self._times(at) - 1:
                passed[at] = passed.get(at, 0) + 1
                rounds += 1
                at = start
                continue
            if here.jump and not self.jumped:
                back = 0 if here.jump == "capo" else self._named("segno", here.jump)
                if back is not None:
                    self.jumped, at, start, rounds = True, back, back, 1
                    continue
            if here.backward:
                start, rounds = at + 1, 1
            at += 1
        return self.order

    def _times(self, at: int) -> int:
        """Rounds of the section that ends here: one more than the endings before its last."""
        endings = self.signs[at].endings
        return max(*endings, 1) + 1 if endings else self.signs[at].times

    def _later_ending(self, at: int) -> bool:
        """True where another ending of the same section follows this one."""
        own = self.signs[at].endings
        return any(
            each.endings and each.endings != own and not each.forward for each in self.signs[at + 1 : at + 9]
        )

    def _named(self, kind: str, name: str) -> int | None:
        marked = [n for n, each in enumerate(self.signs) if getattr(each, kind)]
        exact = [n for n in marked if getattr(self.signs[n], kind) == name]
        return next(iter(exact or marked), None)


def played_order(signs: list[Signs]) -> list[int]:
    """Indices of measures in the order in which they are played; repeats inside a da capo are left out."""
    return _Player(signs).play()
