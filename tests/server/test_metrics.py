"""Figures that Prometheus reads: right, whole, of all workers, and cheap."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from asr.errors import ProtocolError
from asr.transcript import Final, Partial, Word
from server import metrics
from server.dialogue import Done, Failed, Heard
from server.metrics import Board, Meter, Metrics
from tests.server.sockets import http_get, in_a_loop, serving, until
from tests.server.tones import sing

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
SAMPLES = [f for f in metrics.FAMILIES if f.kind == "histogram"]


def read(text: str) -> dict[str, float]:
    """Every sample by name and labels, as Prometheus' own parser reads them."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert name_of(sample) not in found
            found[name_of(sample)] = sample.value
    return found


def name_of(sample: Sample) -> str:
    """`name{label="value"}`."""
    labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
    return f"{sample.name}{{{labels}}}" if labels else sample.name


@given(st.lists(st.floats(0, 30), max_size=50), st.sampled_from(SAMPLES))
def test_a_histogram_is_that_of_the_reference_client(
    values: list[float], family: metrics.Family
) -> None:
    """Buckets, sum and count of any observations, those on a bound included."""
    ours, theirs = Metrics(), CollectorRegistry()
    reference = Histogram(family.name, family.help, buckets=family.bounds, registry=theirs)
    for value in [*values, *family.bounds]:
        ours.observe(family, value)
        reference.observe(value)
    expected = {
        name_of(sample): sample.value
        for collected in theirs.collect()
        for sample in collected.samples
        if not sample.name.endswith("_created")
    }
    told = read(ours.text({}))
    assert {n: v for n, v in told.items() if n.startswith(f"{family.name}_")} == expected


def test_every_documented_error_has_its_own_series() -> None:
    """An operator who sees `other` grow would have to guess."""
    table = re.findall(r"^\| `(\w+)` \| 1\d{3} \|", PROTOCOL.read_text("utf-8"), re.MULTILINE)
    assert len(table) > 10
    assert set(table) - set(metrics.ERRORS) == set()


def test_names_and_kinds_are_those_of_the_conventions() -> None:
    """The reference client accepts each; counters say `_total`, times are in seconds."""
    kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
    for family in metrics.FAMILIES:
        labels = [family.label] if family.label else []
        kinds[family.kind](family.name, family.help, labels, registry=CollectorRegistry())
        assert family.name.startswith("asr_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.kind != "histogram" or family.name.endswith("_seconds")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(metrics.ERRORS)), max_size=30))
def test_any_worker_tells_the_sum_of_all(errors: list[tuple[int, str]]) -> None:
    """Whichever process a scrape happens to reach."""
    board = Board(3)
    workers = [Metrics(board, number) for number in range(3)]
    for worker, kind in errors:
        workers[worker].failed(kind)
    texts = {worker.text({}) for worker in workers}
    assert len(texts) == 1
    told = read(texts.pop())
    kinds = [kind for _, kind in errors]
    assert {kind: told[f'asr_errors_total{{kind="{kind}"}}'] for kind in metrics.ERRORS} == {
        kind: kinds.count(kind) for kind in metrics.ERRORS
    }


def test_what_another_process_counted_is_seen_and_outlives_it() -> None:
    """Its gauges go with it: its sessions are not open any more."""
    board = Board(2)
    child = os.fork()
    if not child:
        worker = Metrics(board, 1)
        worker.count(metrics.OPENED, 3)
        worker.hold(metrics.SESSIONS, 3)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    here = Metrics(board, 0)
    told = read(here.text({}))
    assert (told["asr_sessions_opened_total"], told["asr_sessions_open"]) == (3, 3)
    board.clear_gauges(1)
    told = read(here.text({}))
    assert (told["asr_sessions_opened_total"], told["asr_sessions_open"]) == (3, 0)


def test_replies_are_counted_by_what_they_are() -> None:
    """Latencies of partials and finals apart; errors by code, and no code can make a new series."""
    counts = Metrics()
    word = Word("a", 0, 1, 1.0)
    counts.sent(Heard(Partial(0, "a", "", 9), since=1.0), now=1.05)
    counts.sent(Heard(Final(0, (word,), "endpoint", 9), since=1.0), now=1.5)
    counts.sent(Failed(ProtocolError("x", "bad_format")), now=2.0)
    counts.sent(Failed(ProtocolError("x", 'evil"code\n')), now=2.0)
    counts.sent(Done(9, 16000, 0, 1.0), now=2.0)
    told = read(counts.text({"name": 'a"b\\c\n', "id": "1"}))
    assert told["asr_partial_latency_seconds_sum"] == pytest.approx(0.05)
    assert told["asr_final_latency_seconds_sum"] == pytest.approx(0.5)
    assert told['asr_errors_total{kind="bad_format"}'] == 1
    assert told['asr_errors_total{kind="other"}'] == 1
    assert told['asr_model_info{name="a"b\\c\n",id="1"}'] == 1


def test_the_meter_measures_delays_and_rounds() -> None:
    """From when audio was due to the round's beginning; the average forgets when nothing waits."""
    counts = Metrics()
    now = 10.0
    meter = Meter(counts, lambda: now)
    for _ in range(60):
        meter.begin([now - 0.2, now - 0.4, now + 5])  # what is due later does not wait
        now += 0.01
        assert meter.round_age() == pytest.approx(0.01)
        meter.end(0.5)
    assert meter.queue_delay() == pytest.approx(0.2, rel=0.01)
    assert meter.round_age() == 0
    now += 2
    assert meter.queue_delay() == 0
    meter.begin([])
    meter.end(0)  # a ping: nothing was recognised
    assert meter.queue_delay() == 0  # what was forgotten does not come back
    told = read(counts.text({}))
    assert told["asr_queue_delay_seconds_count"] == 180
    assert told["asr_block_compute_seconds_count"] == 60
    assert told["asr_audio_seconds_total"] == pytest.approx(30)
    assert told["asr_real_time_factor"] == pytest.approx(0.02)


@in_a_loop
async def test_a_server_counts_what_happens() -> None:
    """Everything that a dashboard shows, after a session, an error and somebody who vanished."""
    async with serving() as service:
        async with service.session() as peer:
            await peer.sing("ab c")
            heard = [await peer.hear()]
            while heard[-1]["type"] != "partial":  # one that no newer one has replaced
                heard.append(await peer.hear())
            await peer.tell("finish")
            heard += await peer.hear_all()
        finals = [message for message in heard if message["type"] == "final"]
        async with service.session() as bad:
            await bad.tell("nonsense")
            await bad.hear_all()
        async with service.session() as gone:
            gone.connection.transport.abort()
        await until(lambda: not service.server.reception.places)
        async with service.session():
            status, headers, body = await http_get(service.port, "/metrics")
    told = read(body)
    assert (status, headers["content-type"]) == (200, metrics.CONTENT_TYPE)
    assert told["asr_sessions_open"] == 1
    assert told["asr_connections_open"] == 2  # and the one that asks
    assert told["asr_workers_ready"] == 1
    assert told["asr_sessions_opened_total"] == 4
    assert told['asr_errors_total{kind="unknown_type"}'] == 1
    assert told['asr_errors_total{kind="vanished"}'] == 1
    assert told["asr_final_latency_seconds_count"] == len(finals) == 2
    assert told["asr_partial_latency_seconds_count"] >= 1
    assert told["asr_audio_seconds_total"] == pytest.approx(len(sing("ab c")) / 16000, abs=0.08)
    assert told["asr_queue_delay_seconds_count"] >= told["asr_block_compute_seconds_count"] > 0
    assert told['asr_model_info{name="tones",id="70e5"}'] == 1


@in_a_loop
async def test_refusals_are_counted_by_reason() -> None:
    """An operator sees why clients are sent away."""
    async with serving() as service:
        headers = ("Origin: https://evil.example", "Connection: Upgrade")
        assert (await http_get(service.port, "/v1/stream", *headers))[0] == 403
        told = read((await http_get(service.port, "/metrics"))[2])
    assert told['asr_rejected_total{reason="origin"}'] == 1
