"""What came of a refinement: acceptance, reasons, tokens, cost, and what the endpoint did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saywhere.refine.lines import RefinedLine
from saywhere.text.guards import Verdict


@dataclass(frozen=True, slots=True)
class Session:
    """What this run did, as opposed to what the file holds.

    Attributes:
        written: lines added by this run.
        cached: answers that came from the cache.
        calls, retries, failures: at the endpoint, the latter two by cause.
        tokens_in, tokens_out: of this run's live answers.
        seconds: wall clock of this run.
    """

    written: int = 0
    cached: int = 0
    calls: int = 0
    retries: Mapping[str, int] | None = None
    failures: Mapping[str, int] | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars."""
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


@dataclass(frozen=True, slots=True)
class Report:
    """Counts over all wanted lines.

    Attributes:
        wanted: jobs of the command.
        verdicts: lines by verdict, and the same by style.
    """

    wanted: int
    verdicts: Mapping[str, int]
    by_style: Mapping[str, Mapping[str, int]]
    tokens_in: int
    tokens_out: int
    session: Session
    prices: Prices

    @property
    def done(self) -> int:
        """Lines there are."""
        return sum(self.verdicts.values())

    @property
    def accepted(self) -> int:
        """Lines that carry the model's text."""
        return self.verdicts.get(Verdict.ACCEPTED, 0)

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        session = self.session
        return {
            "wanted": self.wanted,
            "lines": self.done,
            "accepted": self.accepted,
            "fell_back": self.done - self.accepted,
            "verdicts": dict(self.verdicts),
            "by_style": {style: dict(counts) for style, counts in self.by_style.items()},
            "tokens": {"in": self.tokens_in, "out": self.tokens_out},
            "this_run": {
                "written": session.written,
                "cached": session.cached,
                "calls": session.calls,
                "retries": dict(session.retries or {}),
                "failures": dict(session.failures or {}),
                "tokens": {"in": session.tokens_in, "out": session.tokens_out},
                "seconds": round(session.seconds, 1),
                "tokens_out_per_second": round(_rate(session), 1),
                "dollars": self.prices.cost(session.tokens_in, session.tokens_out),
            },
        }

    def to_text(self) -> str:
        """For people."""
        session, share = self.session, 100 * self.accepted / max(self.done, 1)
        out = [
            f"{self.done} of {self.wanted} lines, {self.accepted} accepted ({share:.1f} %)",
            f"verdicts: {_counts(self.verdicts)}",
        ]
        if len(self.by_style) > 1:
            out += [f"  {style}: {_counts(counts)}" for style, counts in self.by_style.items()]
        out.append(
            f"this run: {session.written} lines in {session.seconds:.1f} s, {session.calls} calls, "
            f"{session.cached} answers from the cache"
        )
        if session.retries:
            out.append(f"retries: {_counts(session.retries)}")
        if session.failures:
            out.append(f"never answered: {_counts(session.failures)}")
        cost = self.prices.cost(session.tokens_in, session.tokens_out)
        out.append(
            f"tokens: {session.tokens_in} in, {session.tokens_out} out "
            f"({_rate(session):.1f} a second)" + (f", ${cost:.4f}" if cost else "")
        )
        return "\n".join(out)


def make_report(
    lines: Sequence[RefinedLine], wanted: int, session: Session, prices: Prices
) -> Report:
    """Count lines."""
    by_style: dict[str, Counter[str]] = {}
    for line in lines:
        by_style.setdefault(line.style, Counter())[str(line.verdict)] += 1
    total: Counter[str] = sum(by_style.values(), Counter())
    return Report(
        wanted=wanted,
        verdicts=total,
        by_style=by_style,
        tokens_in=sum(line.tokens_in for line in lines),
        tokens_out=sum(line.tokens_out for line in lines),
        session=session,
        prices=prices,
    )


def _rate(session: Session) -> float:
    return session.tokens_out / session.seconds if session.seconds else 0.0


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"
