"""The KV cache page's live panels: figures and words. What is drawn comes from `kv_frame`."""

from collections.abc import Sequence
from html import escape

from workbench.engine.kv_cache import Allocation, BlockState, KvSnapshot
from workbench.ui import figures
from workbench.ui.render.parts import age, table
from workbench.values import KvCacheView, PoolSnapshot

SHOWN_MODELS = 6
STALE_S = 2.0
"""From this age on a picture is said to be old."""
NOTHING_SERVES = (
    '<div class="card kv-empty"><p>No model serves now.</p><p class="quiet">A model keeps the keys and '
    "values of every token it has read, so that the next one needs no second look at them. Ask one something "
    'in <a href="./">the chat</a>, and watch its cache fill here.</p></div>'
)
NOT_SERVING = {
    "asleep": "is asleep; no request uses its cache.",
    "sleeping": "is falling asleep.",
    "waking": "is waking.",
    "loading": "is loading.",
    "unloading": "is leaving.",
}


def caches(pool: PoolSnapshot, views: Sequence[KvCacheView]) -> str:
    """A section for each serving model, and a line for each that a worker holds but that doesn't serve."""
    serving = {view.model for view in views}
    others = [
        f'<p class="empty">{escape(runner.model)} {NOT_SERVING[runner.state]}</p>'
        for runner in pool.runners
        if runner.model not in serving and runner.state in NOT_SERVING
    ]
    if not views and not others:
        return NOTHING_SERVES
    hidden = len(views) - SHOWN_MODELS
    if hidden > 0:
        others.append(f'<p class="empty">{figures.count(hidden, "more model")} served, not shown here.</p>')
    return "".join([*(_cache(view) for view in views[:SHOWN_MODELS]), *others])


def _cache(view: KvCacheView) -> str:
    name, snapshot = escape(view.model), view.snapshot
    head = f'<h2>{name}</h2><p class="kv-stale">{_staleness(view)}</p>'
    if snapshot is None:
        body = ""
    elif not snapshot.groups:
        body = '<p class="empty">This model keeps no KV cache: it does not look back at earlier tokens.</p>'
    else:
        body = (
            _figures(snapshot)
            + _blocks(snapshot)
            + _tables(snapshot)
            + _batching(snapshot)
            + _waste(snapshot)
        )
    return (
        f'<section class="kv-model" data-testid="kv-cache" data-name="{name}" aria-label="{name}">'
        f"{head}{body}</section>"
    )


def _staleness(view: KvCacheView) -> str:
    if view.failed:
        return "The engine could not tell what its KV cache holds. The log of its worker says why."
    if view.snapshot is None:
        return f"Waiting for the engine's step to end: {age(view.at - view.waiting_s, view.at)} so far."
    if view.waiting_s and view.age_s > STALE_S:
        old = age(view.at - view.age_s, view.at)
        return f"The engine is in a long step, a big prompt perhaps. This picture is {old} old."
    return ""


# Figures.


def _figures(snapshot: KvSnapshot) -> str:
    used, usable = snapshot.used_blocks, snapshot.usable_blocks
    kept = snapshot.count(BlockState.KEPT)
    tiles = [
        _tile(
            "Blocks in use",
            share(used, usable),
            f"{used:,} of {usable:,}, {figures.size(used * snapshot.block_bytes)} of "
            f"{figures.size(usable * snapshot.block_bytes)}. {kept:,} more are kept for reuse.",
        )
    ]
    if snapshot.main_group is not None:
        group = snapshot.groups[snapshot.main_group]
        tiles.append(
            _tile(
                "Tokens in the cache",
                f"{snapshot.paged.used_tokens:,}",
                "Keys and values of running requests; each one's newest token follows with the next step. "
                f"There is room for {usable * group.block_tokens:,}.",
            )
        )
    tiles += [_prefix_tile(snapshot), _preemption_tile(snapshot), _batch_tile(snapshot)]
    return f'<div class="kv-tiles">{"".join(tiles)}</div>'


def _prefix_tile(snapshot: KvSnapshot) -> str:
    if not snapshot.caching:
        return _tile("Prefix-cache hits", "off", "This engine computes every prompt anew.")
    return _tile(
        "Prefix-cache hits",
        share(snapshot.prefix_hits, snapshot.prefix_queries) if snapshot.prefix_queries else "–",
        f"{snapshot.prefix_hits:,} of {figures.count(snapshot.prefix_queries, 'prompt token')} since the "
        "load were there already, and not computed again.",
    )


def _preemption_tile(snapshot: KvSnapshot) -> str:
    return _tile(
        "Preemptions",
        f"{snapshot.preemptions:,}",
        "Requests that lost their blocks because none were left, and had to be computed again.",
    )


def _batch_tile(snapshot: KvSnapshot) -> str:
    waiting = f"{snapshot.waiting:,} wait for a place" if snapshot.waiting else "nobody waits"
    return _tile(
        "In the batch",
        f"{snapshot.running:,}",
        f"Requests that each step serves together; {waiting}. It takes {snapshot.max_running:,} at most.",
    )


def _tile(label: str, value: str, caption: str) -> str:
    return (
        f'<div class="card kv-tile" data-testid="kv-figure" data-name="{label}"><h3>{label}</h3>'
        f'<p class="kv-value figure">{value}</p><p class="quiet">{caption}</p></div>'
    )


def share(part: float, whole: float) -> str:
    """A share that tells little from nothing: "0 %", "0.3 %", "38 %"."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"


# What the script draws, with its words.


def _blocks(snapshot: KvSnapshot) -> str:
    text = (
        f"The cache is cut into blocks{_block_size(snapshot)}, handed out one by one wherever they are free. "
        "Point at a block, tap it, or use the arrow keys to see what it holds."
    )
    return _drawing("map", "Physical blocks", text, summary(snapshot))


def _block_size(snapshot: KvSnapshot) -> str:
    if snapshot.main_group is None:
        return " of one size"
    return f" with room for {snapshot.groups[snapshot.main_group].block_tokens} tokens each"


def summary(snapshot: KvSnapshot) -> str:
    """The block map in words."""
    shared, kept = snapshot.count(BlockState.SHARED), snapshot.count(BlockState.KEPT)
    used, free = snapshot.used_blocks, snapshot.count(BlockState.FREE)
    holders = figures.count(len(snapshot.requests), "request")
    return (
        f"{figures.count(used, 'block')} in use by {holders}, {shared:,} of them shared; "
        f"{kept:,} kept for reuse; {free:,} free."
    )


def _tables(snapshot: KvSnapshot) -> str:
    text = (
        "Each request finds its tokens through its block table: the first entry says where its first "
        "tokens are, and so on. Requests that begin alike share their first blocks."
    )
    count = len(snapshot.requests)
    words = f"{figures.count(count, 'request')} {'holds' if count == 1 else 'hold'} blocks." if count else ""
    return _drawing("tables", "Block tables", text, words)


def _batching(snapshot: KvSnapshot) -> str:
    text = (
        "Requests join and leave the batch at any step. First their prompts are computed, many tokens in a "
        "step (prefill); then each step adds one token to every request (decode)."
    )
    return _drawing("steps", "Continuous batching, the last minute", text, batching_summary(snapshot))


def batching_summary(snapshot: KvSnapshot) -> str:
    """The batching strip in words."""
    if not snapshot.bins:
        return "No steps in the last minute."
    oldest = snapshot.taken_at - 60
    joined = sum(span.began > oldest for span in snapshot.spans)
    left = sum(span.ended > oldest for span in snapshot.spans)
    steps = sum(bin.steps for bin in snapshot.bins)
    prefill = sum(bin.prefill_steps for bin in snapshot.bins)
    decode = sum(bin.decode_steps for bin in snapshot.bins)
    return (
        f"{figures.count(joined, 'request')} joined and {left:,} left. {figures.count(steps, 'step')}: "
        f"{prefill:,} with prefill, {decode:,} with decode."
    )


def _drawing(kind: str, title: str, text: str, words: str) -> str:
    return (
        f'<div class="card kv-card"><h3>{title}</h3><p class="quiet">{text}</p>'
        f'<p class="kv-words figure">{words}</p><div data-own="{kind}"></div></div>'
    )


# Paged against contiguous allocation.


def _waste(snapshot: KvSnapshot) -> str:
    paged, contiguous = snapshot.paged, snapshot.contiguous
    longest = f"{snapshot.context_length:,}"
    text = (
        f"Servers once reserved room for the longest request, {longest} tokens here, for each request and "
        "in one piece. In pages, at most the end of a last block is wasted, and what requests share is "
        "stored once."
    )
    most = max(paged.bytes, contiguous.bytes)
    rows = [
        _allocation("Paged, as here", paged, most, snapshot),
        _allocation("Contiguous", contiguous, most, snapshot),
    ]
    return (
        '<div class="card kv-card kv-waste"><h3>What paging saves</h3>'
        f'<p class="quiet">{text}</p>{table("Paged and contiguous allocation", "kv-allocation", rows)}'
        f'<p class="quiet">{_fits_note(snapshot)}</p></div>'
    )


def _allocation(name: str, one: Allocation, most: int, snapshot: KvSnapshot) -> tuple[str, dict[str, str]]:
    tokens = snapshot.main_group is not None

    def amount(count: int, size: int) -> str:
        words = f"{count:,} tokens<br>" if tokens else ""
        return f'{words}<span class="quiet">{figures.size(size)}</span>'

    used, wasted = (100 * part / most if most else 0 for part in (one.used_bytes, one.wasted_bytes))
    picture = (
        f'<span class="kv-split" aria-hidden="true"><i style="width:{used:.1f}%"></i>'
        f'<b style="width:{wasted:.1f}%"></b></span>'
    )
    room = f"{one.fits_more:,}" if one.fits_more >= 0 else f"none: {-one.fits_more:,} of these don’t fit"
    return name, {
        "Allocation": f"<strong>{name}</strong>{picture}",
        "Allocated": amount(one.tokens, one.bytes),
        "Used": amount(one.used_tokens, one.used_bytes),
        "Wasted": f"{amount(one.wasted_tokens, one.wasted_bytes)}, {share(one.wasted_bytes, one.bytes)}",
        "More fit": room,
    }


def _fits_note(snapshot: KvSnapshot) -> str:
    if snapshot.requests:
        kind = "such as these are now, on average"
    else:
        kind = "of full length, as nobody is served now"
    return f"“More fit” counts further requests {kind}; paged ones may take kept blocks, too."
