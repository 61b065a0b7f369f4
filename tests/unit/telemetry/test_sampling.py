"""Who is traced: the caller's word first, then a share."""

import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanContext, TraceFlags

from leaderboard.config import ConfigError
from leaderboard.telemetry.sampling import Sampler, from_environment, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def context(trace_id, *, sampled):
    return SpanContext(trace_id, 1, True, TraceFlags(int(sampled)))


def test_a_traceparent_names_its_trace_its_span_and_whether_it_is_sampled():
    sent = parse(f"00-{TRACE}-{SPAN}-01")
    assert (sent.trace_id, sent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert (sent.trace_flags.sampled, sent.is_remote) == (True, True)
    assert not parse(f"00-{TRACE}-{SPAN}-00").trace_flags.sampled


def test_a_later_version_may_say_more():
    assert parse(f"01-{TRACE}-{SPAN}-01-more") is not None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
    ],
)
def test_what_w3c_calls_invalid_names_nothing(header):
    assert parse(header) is None


def test_about_the_share_of_new_traces_is_sampled():
    sampler = Sampler(0.05)
    sampled = sum(sampler.root() != 0 for _ in range(100_000))
    assert 4_500 < sampled < 5_500  # seven standard deviations


def test_all_or_none_are_exact():
    assert all(Sampler(1.0).root() for _ in range(1_000))
    assert not any(Sampler(0.0).root() for _ in range(1_000))


def test_the_sdks_own_sampler_decides_alike_by_the_trace_id():
    theirs, ours = TraceIdRatioBased(0.25), Sampler(0.25)
    for trace_id in (ours.root() for _ in range(1_000)):
        if trace_id:
            assert theirs.should_sample(None, trace_id, "x").decision.is_sampled()
    for trace_id in range(0, 2**64, 2**58):
        decided = theirs.should_sample(None, trace_id + 1, "x").decision.is_sampled()
        assert Sampler(0.25, parent_based=False).continued(context(trace_id + 1, sampled=False)) == decided


def test_the_callers_decision_comes_before_the_share():
    assert Sampler(0.0).continued(context(1, sampled=True))
    assert not Sampler(1.0).continued(context(1, sampled=False))


@pytest.mark.parametrize(
    ("environ", "root", "unsampled_parent"),
    [
        ({"OTEL_TRACES_SAMPLER_ARG": "1"}, True, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, True, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, False, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, True, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, False, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.0"}, True, True),
    ],
)
def test_opentelemetrys_variables_choose(environ, root, unsampled_parent):
    sampler = from_environment(environ)
    assert bool(sampler.root()) == root
    assert sampler.continued(context(1, sampled=False)) == unsampled_parent


@pytest.mark.parametrize(
    "environ",
    [{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, {"OTEL_TRACES_SAMPLER_ARG": "5%"}, {"OTEL_TRACES_SAMPLER_ARG": "1.5"}],
)
def test_a_wrong_variable_is_named(environ):
    with pytest.raises(ConfigError, match=next(iter(environ))):
        from_environment(environ)
