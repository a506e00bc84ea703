"""What a switch of model costs, from the request to its first token.

Two models of a size take turns through the service call, under a budget that holds only one, so that every
request pays for putting one to sleep and waking the other, and in a run of its own, with sleep left off, for
an eviction and a load (`…_load_p50_s`): the demo models adder (Llama) and storyteller (Qwen3) as `tiny`, two
Llamas with a billion random parameters (2.0 GB each, made on first use) as `large`. In the same run a fresh
stock vLLM server is started on the same models with the same flags, to its first token; with `--with-peers`
also `transformers serve` and llama-cpp-python's server switch between the same models, in environments of
their own that are made on first use. Each peer is sent HTTP requests, and so is a Workbench that asks for a
key, by the same code (`workbench_http_…`): compare the peers with that.

`…_return_s` is the first token of a conversation that goes on after the other model was asked.
`large_eta` is the bandwidth at which a load moves the weights, as a share of the machine's copy bandwidth.
"""

import asyncio
import dataclasses
import statistics
from pathlib import Path

from benchmarks.copy_bandwidth import warm_copy_bytes_per_s
from benchmarks.peers.measure import Question, measure_peers, measure_switches
from benchmarks.peers.returns import measure_returns
from benchmarks.random_models import random_model
from benchmarks.report import Figures, parser, publish
from benchmarks.switching import Pair, eta, measure
from benchmarks.vllm_server import cold_first_token_s
from benchmarks.workbench_server import switching
from workbench.telemetry.logs import configure_logs

DEMO = Path("data/demo")
CONTEXT_LENGTH = 1024
MAX_TOKENS = 16


def tiny() -> Pair:
    """The demo models."""
    return Pair(
        "tiny",
        (DEMO / "adder", DEMO / "storyteller"),
        ("38 + 47", "Tell me a story about a fox"),
        kv_cache_bytes=64 << 20,
        weight_bytes=4 << 20,
        max_tokens=MAX_TOKENS,
    )


def large() -> Pair:
    """Two models of a billion parameters."""
    models = random_model("large", 1), random_model("large", 2)
    return Pair(
        "large",
        models,
        ("Why is the sky blue?", "How do birds fly?"),
        kv_cache_bytes=256 << 20,
        weight_bytes=(models[0] / "model.safetensors").stat().st_size,
        max_tokens=MAX_TOKENS,
    )


def cold_starts(pair: Pair, count: int) -> Figures:
    """Seconds to the first token of a fresh stock vLLM server on the models of a pair, in turn."""
    seconds = [
        cold_first_token_s(pair.models[n % 2], pair.kv_cache_bytes, CONTEXT_LENGTH, pair.prompts[n % 2])
        for n in range(max(1, count))
    ]
    return {
        f"vllm_serve_cold_{pair.name}_s": round(statistics.median(seconds), 3),
        f"vllm_serve_cold_{pair.name}_all_s": [round(value, 3) for value in seconds],
    }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--switches", type=int, default=20, help="measured, of the tiny models; half as many large"
    )
    arguments.add_argument(
        "--cold-starts", type=int, default=2, help="of the stock vLLM server, for each size; at least 1"
    )
    arguments.add_argument("--sizes", default="tiny,large", help="split by ','")
    arguments.add_argument(
        "--with-peers", action="store_true", help="transformers serve and llama-cpp-python too"
    )
    arguments.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = arguments.parse_args()
    configure_logs("warning", as_json=False)  # to standard error
    figures: Figures = {}
    questions: dict[str, tuple[Question, Question]] = {}
    for name in options.sizes.split(","):
        pair = dataclasses.replace({"tiny": tiny, "large": large}[name](), device=options.device)
        count = options.switches if name == "tiny" else max(4, options.switches // 2)
        measured, questions[name] = asyncio.run(measure(pair, count))
        figures |= measured | cold_starts(pair, options.cold_starts)
        cold, switch = figures[f"vllm_serve_cold_{name}_s"], figures[f"{name}_p50_s"]
        figures[f"speedup_{name}"] = round(float(str(cold)) / float(str(switch)), 1)
        if name == "large":
            bandwidth = warm_copy_bytes_per_s()
            figures["copy_gb_per_s"] = round(bandwidth / 1e9, 1)
            figures["large_eta"] = eta(figures, pair, bandwidth)
        with switching(pair.models, pair.kv_cache_bytes, pair.one_fits, pair.device) as server:
            over_http = measure_switches(server, questions[name], MAX_TOKENS, count)
            over_http |= measure_returns(server, pair.models[1], pair.models[0], MAX_TOKENS)
        figures |= {f"workbench_http_{name}_{figure}": value for figure, value in over_http.items()}
    if options.with_peers:
        figures |= measure_peers(questions, CONTEXT_LENGTH, MAX_TOKENS)
    publish(figures, options.json)


if __name__ == "__main__":
    main()
