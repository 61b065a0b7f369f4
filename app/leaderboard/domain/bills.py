"""Bills: what a month costs, from the plan's prices and the score updates of the ledger. Exact decimals throughout."""

from decimal import ROUND_HALF_UP, Decimal

import msgspec

CURRENCY = "USD"
UNIT = 1_000_000
"""Score updates are priced by so many."""
_CENT = Decimal("0.01")


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan costs: a month, the score updates that are in it, and a million more, in `CURRENCY`."""

    monthly: Decimal
    included_updates: int
    per_million: Decimal


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a bill: `quantity` of `item`, of which `included` cost nothing, at `unit_price` for `per` of them."""

    item: str
    quantity: int
    included: int
    unit_price: Decimal
    per: int
    amount: Decimal


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of one month."""

    currency: str
    lines: tuple[Line, ...]
    total: Decimal


PRICES: dict[str, Prices] = {
    "free": Prices(monthly=Decimal(0), included_updates=1_000_000, per_million=Decimal(0)),
    "pro": Prices(monthly=Decimal(29), included_updates=50_000_000, per_million=Decimal("0.50")),
    "enterprise": Prices(monthly=Decimal(499), included_updates=1_000_000_000, per_million=Decimal("0.50")),
}
"""The prices a new installation starts with; the rows of the `plans` table are what counts afterwards."""


def bill(prices: Prices, *, score_updates: int) -> Bill:
    """Return what a month with so many score updates costs. Each line is rounded to cents, halves up."""
    further = max(0, score_updates - prices.included_updates)
    lines = (
        Line(item="plan", quantity=1, included=0, unit_price=prices.monthly, per=1, amount=_cents(prices.monthly)),
        Line(
            item="score_updates",
            quantity=score_updates,
            included=prices.included_updates,
            unit_price=prices.per_million,
            per=UNIT,
            amount=_cents(further * prices.per_million / UNIT),
        ),
    )
    return Bill(currency=CURRENCY, lines=lines, total=sum((line.amount for line in lines), Decimal(0)))


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, rounding=ROUND_HALF_UP)
