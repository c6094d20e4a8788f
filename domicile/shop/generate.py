"""The shop's rows, the same for the same seed: customers of every country, what they ordered, and the products."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from importlib import resources

from .names import NAMES

CUSTOMERS = 30_000
PRODUCTS = 200
SEED = 20_261_124

# How many of a thousand customers live there, roughly; every other country but those without people has a few.
_WEIGHTS = {
    "US": 210, "MX": 42, "BR": 62, "CA": 40, "AR": 22, "CO": 18, "CL": 10, "PE": 8,
    "DE": 70, "FR": 55, "GB": 55, "IT": 32, "ES": 30, "PL": 22, "NL": 18, "SE": 10, "GR": 9, "UA": 9, "CZ": 8,
    "TR": 12, "EG": 10, "SA": 6, "IL": 5, "NG": 10, "ZA": 8, "KE": 5, "MA": 5, "ET": 3, "AM": 2, "GE": 2, "HU": 5,
    "JP": 62, "IN": 55, "KR": 30, "CN": 28, "TW": 14, "AU": 20, "ID": 14, "TH": 11, "VN": 10, "BD": 6, "NZ": 5,
    "PK": 5, "PH": 5, "SG": 5, "LK": 2, "MN": 1,
}  # fmt: skip
_FEW = 0.35
_WITHOUT_PEOPLE = {"AQ", "BV", "HM", "GS", "TF", "UM", "IO"}

_CALLING = {
    "US": "1", "CA": "1", "MX": "52", "BR": "55", "AR": "54", "CO": "57", "CL": "56", "PE": "51",
    "DE": "49", "FR": "33", "GB": "44", "IT": "39", "ES": "34", "PL": "48", "NL": "31", "SE": "46", "GR": "30",
    "UA": "380", "CZ": "420", "TR": "90", "EG": "20", "SA": "966", "IL": "972", "NG": "234", "ZA": "27", "KE": "254",
    "JP": "81", "IN": "91", "KR": "82", "CN": "86", "TW": "886", "AU": "61", "ID": "62", "TH": "66", "VN": "84",
}  # fmt: skip
_NO_COUNTRYS_CODE = "888"  #: kept free by the ITU

_TIERS = ("basic", "plus", "gold")
_STATUS = ("shipped", "shipped", "shipped", "paid", "new", "returned")
_NOTES = (
    "called about a refund", "prefers evening delivery", "allergic to nuts", "asked for a paper invoice",
    "moved house in spring", "speaks on behalf of her father", "two failed deliveries", "friend of the house",
)  # fmt: skip
_MATERIALS = ("Oak", "Linen", "Copper", "Glass", "Wool", "Walnut", "Steel", "Clay", "Cork", "Silk")
_THINGS = (
    "chair", "lamp", "teapot", "blanket", "notebook", "bowl", "clock", "shelf", "knife", "vase",
    "basket", "mirror", "kettle", "cushion", "tray", "stool", "frame", "candle", "mug", "rug",
)  # fmt: skip

_TODAY = date(2026, 11, 1)  #: rows must not depend on the day on which they are made
_OPENED = datetime(2019, 1, 1, tzinfo=UTC)
_OPEN_S = 7 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Country:
    code: str
    name: str
    region: str
    names: str  #: key of NAMES


def countries() -> list[Country]:
    """The countries and territories of ISO 3166-1, each with the region that is its home (shop/README.md)."""
    text = resources.files(__package__).joinpath("countries.tsv").read_text(encoding="utf-8")
    return [Country(*line.split("\t")) for line in text.splitlines()[1:]]


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


@dataclass(frozen=True)
class Shop:
    """The rows of every table, each a tuple in the order of its columns."""

    customer_count: int = CUSTOMERS
    seed: int = SEED
    _countries: list[Country] = field(default_factory=countries)

    def countries(self) -> Iterator[tuple[object, ...]]:
        return ((c.code, c.name) for c in self._countries)

    def country_region(self) -> Iterator[tuple[object, ...]]:
        return ((c.code, c.region) for c in self._countries)

    @cached_property
    def _cents(self) -> list[int]:
        r = random.Random(self.seed)
        return [r.randint(400, 24_900) for _ in range(PRODUCTS)]

    def products(self) -> Iterator[tuple[object, ...]]:
        """id, name, price."""
        names = (f"{material} {thing}" for thing in _THINGS for material in _MATERIALS)
        return ((n, name, _money(c)) for n, (name, c) in enumerate(zip(names, self._cents, strict=True), 1))

    def customers(self) -> Iterator[tuple[object, ...]]:
        """id, country, name, email, phone, born, tier, consent, note, created_at."""
        r = random.Random(self.seed + 1)
        peopled = [c for c in self._countries if c.code not in _WITHOUT_PEOPLE]
        chosen = r.choices(peopled, [_WEIGHTS.get(c.code, _FEW) for c in peopled], k=self.customer_count)
        for n, country in enumerate(chosen, 1):
            names = NAMES[country.names]
            given, family = r.randrange(len(names.given)), r.randrange(len(names.family))
            yield (
                n,
                country.code,
                names.name(given, family),
                f"{names.handle(given, family)}.{n}@{country.code.lower()}.example",
                f"+{_CALLING.get(country.code, _NO_COUNTRYS_CODE)} 555 {r.randrange(10_000_000):07d}",
                _TODAY - timedelta(days=r.randrange(18 * 365, 80 * 365)),
                r.choices(_TIERS, (6, 3, 1))[0],
                r.random() < 0.8,
                r.choice(_NOTES) if r.random() < 0.3 else None,
                _OPENED + timedelta(seconds=r.randrange(_OPEN_S)),
            )

    @cached_property
    def _baskets(self) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        r = random.Random(self.seed + 2)
        orders: list[tuple[object, ...]] = []
        items: list[tuple[object, ...]] = []
        for n in range(1, self.customer_count + 1):
            customer = r.randint(1, self.customer_count)
            total = 0
            for line in range(1, r.choice((1, 1, 2, 3)) + 1):
                product = r.randrange(PRODUCTS)
                quantity = r.choice((1, 1, 1, 2, 4))
                items.append((n, line, product + 1, quantity, _money(self._cents[product])))
                total += quantity * self._cents[product]
            placed = _OPENED + timedelta(seconds=r.randrange(_OPEN_S))
            orders.append((n, customer, placed, r.choice(_STATUS), _money(total)))
        return orders, items

    def orders(self) -> list[tuple[object, ...]]:
        """id, customer_id, placed_at, status, total."""
        return self._baskets[0]

    def order_items(self) -> list[tuple[object, ...]]:
        """order_id, line, product_id, quantity, price."""
        return self._baskets[1]
