"""Dates as catalogues write them, brought to decades and centuries; what is unclear stays out."""

from __future__ import annotations

import re
from dataclasses import dataclass

LAST_YEAR = 2100
_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    "sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_DASHES = re.compile("[\u2010-\u2015\u2212]")
_APPROXIMATE = re.compile(
    r"\bca?\.? ?(?=\d)|\b(?:ca?|circa|about|approximately|approx|probably|possibly)\b\.?|\(?\?\)?"
)
_VERBS = re.compile(r"^(?:signed and dated|dated|made|painted|printed|published|issued) ")
_ERA = re.compile(r"\b(b\.? ?c\.?(?: ?e\.?)?|a\.? ?d\.?|c\.? ?e\.?)(?=$|[\s,-])")
_PART = re.compile(
    r"\b(?:early|mid|middle|late|beginning|end|(?:first|second|third|fourth|last|1st|2nd|3rd|4th) "
    r"(?:half|quarter|third))\b(?: of)?(?: the)?[ -]?"
)
_CENTURY = re.compile(
    r"(?:the )?(\d{1,2})(?:st|nd|rd|th)(?: ?(?:-|to|or) ?(\d{1,2})(?:st|nd|rd|th))? "
    r"(?:century|centuries)"
)
_SHORT_CENTURY = re.compile(r"(?<=\d(?:st|nd|rd|th)) c(?:ent)?\b\.?")
_TWO_CENTURIES = re.compile(r"(\d{1,2})(?:st|nd|rd|th) century ?(?:-|to|or) ?(?=\d)")
_YEARS = re.compile(r"(\d{1,4})(s)?(?: ?(?:-|to|or|and|/) ?(\d{1,4})(s)?)?")
_DAY = re.compile(
    rf"(?:\+?(\d{{4}})-\d\d(?:-\d\d(?:[t ][\d:.]+z?)?)?"
    rf"|(?:\d{{1,2}}\.? )?(?:{_MONTHS})\.?,? (\d{{4}})"
    rf"|(?:{_MONTHS})\.? \d{{1,2}}, (\d{{4}})"
    r"|\d{1,2}[./]\d{1,2}[./](\d{4}))"
)


@dataclass(frozen=True)
class Period:
    """The years that a date leaves open.

    Args:
        first, last: int, `first <= last`. Years before Christ are negative, there is no year 0.
        approximate: whether the catalogue itself doubts it ("ca.", "probably", "?").
    """

    first: int
    last: int
    approximate: bool = False

    @property
    def decade(self) -> str:
        """Such as "1880s"; "" where the years lie in several, or before Christ."""
        one = self.first > 0 and self.first // 10 == self.last // 10
        return f"{self.first // 10}0s" if one else ""

    @property
    def century(self) -> str:
        """Such as "17th" for 1600 to 1699, or "5th bc"; "" where the years lie in several."""
        first, last = (_century_of(year) for year in (self.first, self.last))
        if first != last:
            return ""
        return _ordinal(first) if first > 0 else f"{_ordinal(-first)} bc"


def parse_period(text: str) -> Period | None:
    """Reads a date as an English catalogue writes it.

    Known are single years, also with month and day, spans, decades, centuries with or without
    "early", "late" and the like, "ca." and "?", BC and AD. Centuries are counted by hundreds:
    1600 to 1699 is the 17th, and "1600s" are these hundred years, "1650s" ten. An open end
    ("before 1650", "after 1700") says neither decade nor century.

    Args:
        text: str.

    Returns:
        `Period`, or None where the text is none of these.

    Example:
        >>> parse_period("ca. 1650").decade, parse_period("1650-1660").decade
        ('1650s', '')
        >>> parse_period("late 17th century").century
        '17th'
        >>> parse_period("before 1650") is None
        True
    """
    text = _DASHES.sub("-", " ".join(text.lower().split())).strip(" .,;")
    text = text.strip("[]()") if text.count("[") + text.count("(") <= 1 else text
    text = re.sub(r"^between (.+) and (.+)$", r"\1-\2", _VERBS.sub("", text))
    eras = {era[0] for era in _ERA.findall(text)}
    before_christ = "b" in eras
    if before_christ and len(eras) > 1:  # "30 BC-AD 14" crosses the turn
        return None
    text = _SHORT_CENTURY.sub(" century", _ERA.sub(" ", text))
    plain = _APPROXIMATE.sub(" ", text)
    approximate = plain != text
    plain = _PART.sub("", " ".join(plain.split())).strip(" .,")
    if "centur" in plain:
        span = _parse_century(plain, before_christ)
    else:
        span = _parse_day(plain) or _parse_years(plain, short=bool(eras), downwards=before_christ)
    if span is None:
        return None
    first, last = (-max(span), -min(span)) if before_christ else span
    if first > last or last > LAST_YEAR or 0 in (first, last):
        return None
    return Period(first, last, approximate)


def _parse_century(text: str, before_christ: bool) -> tuple[int, int] | None:
    match = _CENTURY.fullmatch(_TWO_CENTURIES.sub(r"\1th-", text))
    if not match:
        return None
    numbers = int(match[1]), int(match[2] or match[1])
    first, last = (min(numbers) - 1) * 100, max(numbers) * 100
    # Counted by hundreds the first century has no year 0; before Christ it is 100 to 1.
    return (first + 1, last) if before_christ else (first or 1, last - 1)


def _parse_day(text: str) -> tuple[int, int] | None:
    match = _DAY.fullmatch(text)
    if not match:
        return None
    # "1887-05" is a month and "1887-95" a span, which is no day.
    month = re.match(r"\+?\d{4}-(\d\d)", text)
    if month and int(month[1]) > 12:
        return None
    if re.fullmatch(r"\d{4}-\d\d", text) and int(text[2:4]) < int(text[5:]):
        return None
    year = int(next(group for group in match.groups() if group))
    return year, year


def _parse_years(text: str, *, short: bool, downwards: bool) -> tuple[int, int] | None:
    match = _YEARS.fullmatch(re.sub(r"\.0$", "", text))
    if not match:
        return None
    first, last = match[1], match[3] or match[1]
    if len(last) < len(first) and not downwards:
        last = first[: len(first) - len(last)] + last  # 1650-59
    if min(len(first), len(last)) < 3 and not short:
        return None
    start, end = int(first), int(last)
    if match[4] or (match[2] and not match[3]):
        end += 99 if end % 100 == 0 else 9
    if (match[2] or match[4]) and (start % 10 or int(last) % 10):
        return None
    return start, end


def _century_of(year: int) -> int:
    return year // 100 + 1 if year > 0 else -((-year - 1) // 100 + 1)


def _ordinal(number: int) -> str:
    teen = 10 <= number % 100 <= 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
