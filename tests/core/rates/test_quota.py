"""Quotas: how they are written, and what may be taken when."""

from __future__ import annotations

import pytest

from api.core.rates.quota import Quota, judge

MINUTE = Quota(60, 60)


def taken(quota, times, costs=None):
    """The verdicts on units taken at these times."""
    full_at, verdicts = 0.0, []
    for number, now in enumerate(times):
        full_at, verdict = judge(full_at, now, quota, costs[number] if costs else 1)
        verdicts.append(verdict)
    return verdicts


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [("1/second", 1, 1), ("600/minute", 600, 60), ("5/hour", 5, 3600), ("1000000/day", 1_000_000, 86_400)],
)
def test_a_quota_is_written_as_an_amount_in_a_unit_of_time(text, amount, seconds):
    assert Quota.parse(text) == Quota(amount, seconds)
    assert str(Quota.parse(text)) == text


@pytest.mark.parametrize("text", ["", "600", "0/minute", "-1/minute", "1.5/second", "6/week", "6/minutes", "٣/second"])
def test_what_is_no_quota_says_how_one_reads(text):
    with pytest.raises(ValueError, match="one reads 600/minute"):
        Quota.parse(text)


def test_a_whole_quota_can_be_used_at_once_and_not_one_unit_more():
    verdicts = taken(MINUTE, [100.0] * 61)
    assert [verdict.remaining for verdict in verdicts] == [*range(59, -1, -1), 0]
    assert [verdict.allowed for verdict in verdicts] == [True] * 60 + [False]


def test_a_refusal_tells_when_the_next_unit_is_back_and_then_it_is():
    *_, refused = taken(MINUTE, [100.0] * 61)
    assert refused.retry_after == pytest.approx(1)
    *_, still, again = taken(MINUTE, [100.0] * 60 + [100.9, 100.0 + refused.wait])
    assert (still.allowed, again.allowed) == (False, True)


def test_units_come_back_one_by_one():
    *_, later = taken(MINUTE, [100.0] * 60 + [110.0])
    assert later.remaining == 9
    *_, rested = taken(MINUTE, [100.0] * 60 + [500.0])
    assert rested.remaining == 59


def test_a_refusal_takes_nothing():
    verdicts = taken(MINUTE, [100.0] * 100 + [101.0])
    assert verdicts[-1].allowed


def test_a_costly_request_takes_many_units_and_at_most_all():
    assert taken(MINUTE, [100.0], [50])[0].remaining == 10
    first, second = taken(MINUTE, [100.0, 100.0], [50, 50])
    assert (first.allowed, second.allowed, second.remaining) == (True, False, 10)
    assert second.retry_after == pytest.approx(40)
    assert taken(MINUTE, [100.0], [1000])[0] == (True, 0, 0.0)


@pytest.mark.parametrize("quota", [Quota(3, 1), Quota(7, 60), Quota(999_999, 3600), Quota(1, 86_400)])
def test_no_unit_is_lost_or_won_to_rounding(quota):
    times = [1e9 + 0.1] * (min(quota.amount, 1000) + 1)
    verdicts = taken(quota, times)
    allowed = sum(verdict.allowed for verdict in verdicts)
    assert allowed == min(quota.amount, len(times))
    assert verdicts[0].remaining == quota.amount - 1
