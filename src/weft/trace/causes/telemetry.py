"""Metrics as monitoring systems write them: Prometheus' answer to a range query, OpenTelemetry's JSON.

    curl "$PROMETHEUS/api/v1/query_range?query={job=\\"shop\\"}&start=…&end=…&step=15" > shop.json

A file may hold several answers, one after the other. What a metric is of is told by one of its labels, the first of
`PLACES` that it has; labels that tell metrics of one name apart become part of the name. Counters, which only grow,
become their growth a second; buckets of histograms are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from weft.core.errors import BadInput
from weft.trace.causes.samples import gridded
from weft.trace.causes.series import Series
from weft.trace.spans import attributes, json_values

PLACES = ("service", "service_name", "service.name", "app", "app_kubernetes_io_name", "deployment",
    "k8s.deployment.name", "container", "pod", "k8s.pod.name", "job", "instance", "host.name")  # fmt: skip
COUNTERS = ("_total", "_count", "_sum")
"""How Prometheus calls what only grows."""
CUMULATIVE = (2, "AGGREGATION_TEMPORALITY_CUMULATIVE")


class Told(NamedTuple):
    """One series. `values`: seconds and numbers. `grows`: it is a counter."""

    metric: str
    labels: dict[str, str]
    values: list[tuple[float, float]]
    grows: bool


def read_telemetry(path: Path, by: str | None = None) -> Series:
    """The series of a file; `by`: the label that tells what a metric is of. Raises BadInput."""
    found: list[Told] = []
    for line, value in json_values(path):
        for one in value if isinstance(value, list) else [value]:
            try:
                found += _told(one)
            except BadInput as error:
                raise BadInput(f"{path}:{line}: {error}") from None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
                raise BadInput(f"{path}:{line}: these are no metrics: {what}") from None
    if by is not None and not any(by in one.labels for one in found):
        labels = sorted({label for one in found for label in one.labels})
        raise BadInput(f"{path}: no metric has the label {by!r}; there are {', '.join(labels) or 'none'}")
    try:
        return gridded(dict(_named(found, by)))
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def _told(value: Any) -> Iterator[Told]:
    if "resourceMetrics" in value:
        yield from _opentelemetry(value)
    elif "status" in value or "resultType" in value:
        yield from _prometheus(value)
    else:
        raise BadInput("neither Prometheus' answer to a range query nor OpenTelemetry's metrics")


def _prometheus(answer: Mapping[str, Any]) -> Iterator[Told]:
    if answer.get("status") == "error":
        raise BadInput(f"Prometheus answered with an error: {answer.get('error', 'it does not say which')}")
    data = answer.get("data", answer)
    if data["resultType"] != "matrix":
        raise BadInput(f"this is a {data['resultType']}, of one moment; ask /api/v1/query_range for values over time")
    for one in data["result"]:
        labels = {str(key): str(text) for key, text in one["metric"].items()}
        metric = labels.pop("__name__", "value")
        if not metric.endswith("_bucket"):
            values = [(float(at), _finite(text)) for at, text in one.get("values", ())]
            yield Told(metric, labels, values, metric.endswith(COUNTERS))


def _opentelemetry(value: Mapping[str, Any]) -> Iterator[Told]:
    """One series of each attribute set of each metric."""
    for resource in value["resourceMetrics"]:
        whole = attributes(resource.get("resource", {}))
        for scope in resource.get("scopeMetrics", ()):
            for metric in scope.get("metrics", ()):
                yield from _metric(metric, whole)


def _metric(metric: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Told]:
    name = str(metric["name"])
    kind = next((kind for kind in ("gauge", "sum", "histogram") if kind in metric), None)
    if kind is None:
        return
    body = metric[kind]
    grows = kind != "gauge" and body.get("aggregationTemporality") in CUMULATIVE
    grows = grows and (kind == "histogram" or bool(body.get("isMonotonic")))
    fields = {"count": "count", "sum": "sum"} if kind == "histogram" else {"": "asDouble"}
    for point in body.get("dataPoints", ()):
        labels = {str(key): str(text) for key, text in {**whole, **attributes(point)}.items()}
        at = int(point["timeUnixNano"]) / 1e9
        for suffix, field in fields.items():
            number = point.get(field, point.get("asInt"))
            if number is not None:
                yield Told(f"{name}_{suffix}" if suffix else name, labels, [(at, _finite(number))], grows)


def _finite(number: Any) -> float:
    found = float(number)
    return found if found - found == 0 else float("nan")


def _named(found: list[Told], by: str | None) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Names and values, of counters their growth; of what one series told in pieces, all."""
    same: dict[str, dict[tuple[tuple[str, str], ...], list[Told]]] = defaultdict(lambda: defaultdict(list))
    for one in found:
        same[_name(one, by)][tuple(sorted(one.labels.items()))].append(one)
    for name, apart in same.items():
        shared = set.intersection(*(set(labels) for labels in apart))
        for labels, pieces in apart.items():
            differ = ",".join(f"{key}={text}" for key, text in labels if (key, text) not in shared)
            values = sorted(dict(pair for piece in pieces for pair in piece.values).items())
            yield f"{name}{{{differ}}}" if differ else name, _growth(values) if pieces[0].grows else values


def _name(one: Told, by: str | None) -> str:
    label = next((label for label in ((by,) if by is not None else PLACES) if label in one.labels), None)
    return f"{one.metric}/value" if label is None else f"{one.labels[label].replace('/', ':')}/{one.metric}"


def _growth(values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Growth a second since the value before; one that is less has begun again from 0."""
    values = [(at, number) for at, number in values if number == number]
    return [
        (at, (number - last if number >= last else number) / (at - before))
        for (before, last), (at, number) in pairwise(values)
    ]
