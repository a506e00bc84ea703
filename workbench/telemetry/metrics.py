"""What Prometheus is told of requests and switches, counted as they end; nothing is counted per token.

Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from workbench.telemetry.windows import Time

SWITCH_BUCKETS = (
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300,
)  # fmt: skip
"""Seconds: from a model that is woken to one that is read from a slow disk."""
PHASE_BUCKETS = (0.001, 0.0025, 0.005, *SWITCH_BUCKETS)
TOKEN_BUCKETS = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5
)  # fmt: skip
REQUEST_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60, 120, 300, 600)

CREATED = "_created"


Part = tuple[Mapping[str, str], Iterable[Metric]]
"""Families, and labels that their samples are to have besides their own."""


Engines = Callable[[], Iterable[tuple[str, Iterable[Metric]]]]
"""What engines count, by the name of their model."""


def no_engines() -> Iterable[tuple[str, Iterable[Metric]]]:
    """Where there is no engine that counts."""
    return ()


class Metrics:
    """Counters and histograms of this run. Belongs to the event loop; any thread may collect."""

    def __init__(self, engines: Engines = no_engines) -> None:
        self._engines = engines
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        self._requests = counter("workbench_requests", "Requests that asked for a model.", ("model",))
        self._finished = counter(
            "workbench_requests_finished",
            "Requests that ended, by why: the engine's reason, error, or abort if the client left.",
            ("model", "finish_reason"),
        )
        self._prompt_tokens = counter("workbench_prompt_tokens", "Tokens of prompts.", ("model",))
        self._cached_tokens = counter(
            "workbench_cached_prompt_tokens", "Tokens of prompts found in the prefix cache.", ("model",)
        )
        self._completion_tokens = counter("workbench_completion_tokens", "Tokens of answers.", ("model",))
        self._switches = counter(
            "workbench_switches",
            "Loads and wakes of models, by where the weights came from.",
            ("model", "from_residency", "outcome"),
        )
        histogram = partial(Histogram, registry=self._registry)
        self._switch_seconds = histogram(
            "workbench_switch_seconds",
            "Time of loads and wakes that succeeded, from when the model was wanted.",
            ("model", "from_residency"),
            buckets=SWITCH_BUCKETS,
        )
        self._phase_seconds = histogram(
            "workbench_switch_phase_seconds",
            "Time of each phase of loads and wakes that succeeded.",
            ("phase",),
            buckets=PHASE_BUCKETS,
        )
        self._times: dict[Time, Histogram] = {
            "tpot": histogram(
                "workbench_time_per_output_token_seconds",
                "Mean time per token after the first, of complete answers.",
                ("model",),
                buckets=TOKEN_BUCKETS,
            ),
            "total": histogram(
                "workbench_request_seconds",
                "Time from arrival to the end, of complete answers.",
                ("model",),
                buckets=REQUEST_BUCKETS,
            ),
            "queue": histogram(
                "workbench_queue_seconds",
                "Time that complete answers waited for a turn, for room or for a worker.",
                ("model",),
                buckets=PHASE_BUCKETS,
            ),
        }
        self._ttft = histogram(
            "workbench_time_to_first_token_seconds",
            "Time from arrival to the first token, of complete answers, with and without a switch.",
            ("model", "switched"),
            buckets=SWITCH_BUCKETS,
        )

    def begin_request(self, model: str) -> None:
        """A request asks for a model."""
        self._requests.labels(model).inc()

    def end_request(
        self,
        model: str,
        finish_reason: str,
        times: Mapping[Time, float],
        switched: bool,
        prompt_tokens: int,
        cached_prompt_tokens: int,
        completion_tokens: int,
    ) -> None:
        """A request has ended; `times` are empty unless it was answered in full."""
        self._finished.labels(model, finish_reason).inc()
        self._prompt_tokens.labels(model).inc(prompt_tokens)
        self._cached_tokens.labels(model).inc(cached_prompt_tokens)
        self._completion_tokens.labels(model).inc(completion_tokens)
        for kind, histogram in self._times.items():
            if kind in times:
                histogram.labels(model).observe(times[kind])
        if "ttft" in times:
            self._ttft.labels(model, str(switched).lower()).observe(times["ttft"])

    def end_switch(
        self, model: str, from_residency: str, outcome: str, total_s: float, phases: Mapping[str, float]
    ) -> None:
        """A load or a wake has ended."""
        self._switches.labels(model, from_residency, outcome).inc()
        if outcome == "ok":
            self._switch_seconds.labels(model, from_residency).observe(total_s)
            for phase, seconds in phases.items():
                self._phase_seconds.labels(phase).observe(seconds)

    def parts(self) -> Iterator[Part]:
        """Our families, and those of each engine with the label `model`, as they are now."""
        yield {}, self._registry.collect()
        for model, families in self._engines():
            yield {"model": model}, families


def merged(parts: Iterable[Part]) -> Iterator[Metric]:
    """Families of several registries as those of one: each once, with the samples of all."""
    families: dict[str, Metric] = {}
    for labels, metrics in parts:
        for metric in metrics:
            if metric.name not in families:
                families[metric.name] = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            family = families[metric.name]
            if family.type != metric.type:
                raise ValueError(f"{metric.name} is a {family.type} here and a {metric.type} there")
            family.samples += (
                Sample(sample.name, {**sample.labels, **labels}, *sample[2:])
                for sample in metric.samples
                if not sample.name.endswith(CREATED)
            )
    yield from families.values()
