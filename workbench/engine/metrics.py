"""vLLM's own Prometheus metrics, of every model at once.

A `PrometheusStatLogger` of vLLM belongs to one engine, and its collectors to the process: a second one would
take the first one's away. Here each model has collectors of its own, which outlive its engines, so that the
counters of a model that is unloaded and loaded again go on. Free of vLLM but for `stat_logger`.
"""

import threading
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric


class ModelCollectors:
    """What vLLM counts of one model, whatever engine runs it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._made: dict[str, tuple[object, Any]] = {}
        """By name: what a collector was made from, and the collector."""
        self._engines = 0
        self._logger: type | None = None

    def collect(self) -> Iterable[Metric]:
        """The families as they are now."""
        return self._registry.collect()

    def stat_logger(self) -> type:
        """A class that vLLM makes the statistics logger of an engine from."""
        if self._logger is None:
            self._logger = _stat_logger(self)
        return self._logger

    def begin(self) -> int:
        """An engine is about to be attached to; returns its number."""
        self._engines += 1
        self._clear_gauges()
        return self._engines

    def end(self, engine: int) -> None:
        """That engine is gone: what it was just then doing is not to be told any more."""
        if engine == self._engines:
            self._clear_gauges()

    def _clear_gauges(self) -> None:
        for _, collector in list(self._made.values()):
            if isinstance(collector, Gauge):
                collector.clear()

    def made(self, kind: type, name: str, documentation: str, **about: Any) -> Any:
        """The collector of that name, from an earlier engine if that one's was made in the same way.

        Buckets depend on the context length: where that was changed, a histogram begins anew.
        """
        labels = tuple(about.pop("labelnames", ()))
        buckets = tuple(about.get("buckets", ()))
        recipe = (kind, labels, buckets)
        if name in self._made:
            earlier, collector = self._made[name]
            if earlier == recipe:
                return collector
            self._registry.unregister(collector)
        collector = kind(name, documentation, labels, registry=self._registry, **about)
        self._made[name] = (recipe, collector)
        return collector


class EngineMetrics:
    """The collectors of each model that was ever loaded. Any thread may ask."""

    def __init__(self) -> None:
        self._models: dict[str, ModelCollectors] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> ModelCollectors:
        """Those of a model."""
        with self._lock:
            return self._models.setdefault(model, ModelCollectors())

    def collect(self) -> Iterator[tuple[str, Iterable[Metric]]]:
        """Each model's name, and its families."""
        with self._lock:
            models = list(self._models.items())
        for model, collectors in models:
            yield model, collectors.collect()


def _stat_logger(collectors: ModelCollectors) -> type:
    """vLLM's logger with its parts, all of which make collectors through the attributes replaced here."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    makers = {
        f"_{kind.__name__.lower()}_cls": staticmethod(partial(collectors.made, kind))
        for kind in (Gauge, Counter, Histogram)
    }
    parts = {
        name: type(part.__name__, (part,), makers)
        for name in ("_spec_decoding_cls", "_kv_connector_cls", "_ec_connector_cls", "_perf_metrics_cls")
        for part in (getattr(PrometheusStatLogger, name),)
    }
    return type("ModelStatLogger", (PrometheusStatLogger,), makers | parts)
