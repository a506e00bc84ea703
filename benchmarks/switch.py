"""What a switch of model costs, from the request to its first token.

Alternates two demo models of different architecture (Llama and Qwen3) through the service call, under a
budget that holds only one of them, so that every request pays an eviction and a load. In the same run, a
fresh stock vLLM server is started on the same models with the same flags, to its first token.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.report import Figures, parser, publish, spread
from benchmarks.vllm_server import cold_first_token_s
from workbench.service import Finished, SamplingOptions, Token, Workbench
from workbench.telemetry.logs import configure_logs

DEMO = Path("data/demo")
QUESTIONS = {"adder": "38 + 47", "storyteller": "Tell me a story about a fox"}
KV_CACHE_BYTES = 64 << 20
CONTEXT_LENGTH = 1024
BUDGET_BYTES = 100 << 20
GREEDY = SamplingOptions(temperature=0, max_tokens=16)
DISCARDED = 2


async def first_token_s(workbench: Workbench, model: str) -> tuple[float, str, float]:
    """(seconds to the first token, whole answer, seconds of the switch) of one request."""
    began, first, text = time.perf_counter(), None, ""
    async for event in workbench.chat(model, QUESTIONS[model], options=GREEDY):
        if isinstance(event, Token):
            first = first or time.perf_counter() - began
            text += event.text
        elif isinstance(event, Finished):
            switch_s = event.stats.switch_s
    assert first is not None
    return first, text, switch_s


async def spare_is_warm(workbench: Workbench) -> None:
    """Wait for the worker that is started when the first model takes the first one."""
    while not any(worker.state == "warm" for worker in workbench.pool().workers):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def measure_switches(count: int) -> Figures:
    """Figures of `count` switches, and of the same requests without one."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data:
        async with Workbench(data_dir=Path(data), memory_budget=BUDGET_BYTES) as workbench:
            await workbench.warm_engine()
            switches, warm, answers = [], [], {}
            for number in range(count + DISCARDED):
                if number == DISCARDED:
                    await spare_is_warm(workbench)
                model = list(QUESTIONS)[number % 2]
                seconds, text, switch_s = await first_token_s(workbench, model)
                if not switch_s or answers.setdefault(model, text) != text:
                    raise RuntimeError(f"Request {number} paid no switch, or {model} answered differently.")
                again, _, switch_s = await first_token_s(workbench, model)
                if switch_s:
                    raise RuntimeError(f"{model} was switched out while nobody else asked.")
                if number >= DISCARDED:
                    switches.append(seconds)
                    warm.append(again)
            swaps = workbench.catalog.recent_swaps(count)
    phases = ("wait_s", "configure_s", "create_s", "weights_s", "kv_cache_s", "attach_s")
    medians: Figures = {
        f"phase_{phase}": round(statistics.median(getattr(swap, phase) for swap in swaps), 4)
        for phase in phases
    }
    return spread("tiny", switches) | {"warm_ttft_s": round(statistics.median(warm), 4)} | medians


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--switches", type=int, default=20, help=f"measured, after {DISCARDED} discarded")
    arguments.add_argument("--cold-starts", type=int, default=2, help="of the stock vLLM server; at least 2")
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    figures = asyncio.run(measure_switches(options.switches))
    cold = [
        cold_first_token_s(DEMO / model, KV_CACHE_BYTES, CONTEXT_LENGTH, QUESTIONS[model])
        for model in (list(QUESTIONS) * options.cold_starts)[: max(2, options.cold_starts)]
    ]
    figures["vllm_serve_cold_s"] = round(statistics.median(cold), 3)
    figures["vllm_serve_cold_all_s"] = [round(seconds, 3) for seconds in cold]
    figures["speedup"] = round(statistics.median(cold) / float(str(figures["tiny_p50_s"])), 1)
    publish(figures, options.json)


if __name__ == "__main__":
    main()
