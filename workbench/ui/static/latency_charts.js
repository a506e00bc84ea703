/* The charts of the Latency page, drawn from figures alone. */
workbench.latency.charts = (() => {
  const { OUTCOMES, all, setText, seconds, number, clock } = workbench.latency;
  const HEIGHT = 108; // of a plot, px
  const TIMES = ["ttft", "tpot", "pause", "total", "queue", "switch"];
  const SPAN_WORDS = { "5m": "5 minutes", "1h": "hour", "24h": "24 hours" };

  let shown = null; // the data that is drawn
  const pointed = {}; // chart -> slot under the pointer, or reached by the arrow keys

  /* A power of ten on a scale. */
  const power = (value) => (value < 0.5 ? `${Number((value * 1000).toPrecision(1))} ms` : `${Math.round(value)} s`);

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

  // --- Scales and shapes --------------------------------------------------------------------------------

  /* Where times are drawn: decades on a logarithmic scale. */
  function decades(points) {
    const values = points.filter(Boolean).flat().map((value) => Math.max(value, 1e-4));
    const low = values.length ? Math.floor(Math.log10(Math.min(...values)) + 1e-9) : -2;
    const high = values.length ? Math.ceil(Math.log10(Math.max(...values)) - 1e-9) : 0;
    const top = Math.max(high, low + 1);
    const every = Math.ceil((top - low) / 3);
    const ticks = [];
    for (let decade = low; decade <= top; decade += every) ticks.push(10 ** decade);
    return {
      ticks: ticks.map((value) => [value, power(value)]),
      y: (value) => 1 - (Math.log10(Math.max(value, 10 ** low)) - low) / (top - low),
    };
  }

  /* Where counts and rates are drawn: from nothing to a round figure. */
  function linear(values, unit) {
    const most = largest(values);
    const size = 10 ** Math.floor(Math.log10(most || 1));
    const top = most ? [1, 2, 5, 10].map((step) => step * size).find((step) => step >= most) : 1;
    return { ticks: [[top, `${number(top)}${unit}`]], y: (value) => 1 - value / top };
  }

  const WIDEST_GAP = 1.5; // slots between which a line is drawn

  function timeShapes(points, scale, x, y, width) {
    const bars = [];
    let line = "";
    let before = -Infinity;
    points.forEach((point, index) => {
      if (!point) return;
      const [median, high] = point.map((value) => y(scale.y(value)));
      const thick = Math.max(2, width - 1.5);
      bars.push(`<rect class="spread" x="${x(index) - thick / 2}" y="${high}" width="${thick}" height="${Math.max(0, median - high)}" rx="1"/>`);
      line += `${index - before < WIDEST_GAP ? "L" : "M"}${x(index).toFixed(1)} ${median.toFixed(1)}`;
      before = index;
    });
    const dots = points.map((point, index) =>
      point ? `<circle cx="${x(index).toFixed(1)}" cy="${y(scale.y(point[0])).toFixed(1)}" r="${Math.min(2.2, width / 2).toFixed(1)}"/>` : "",
    );
    return `${bars.join("")}<path class="line" d="${line}"/>${dots.join("")}`;
  }

  function stackShapes(series, scale, x, y, width) {
    const thick = Math.max(1.5, width - 1.5);
    const floors = series[0].values.map(() => 0);
    return series
      .map(({ name, values }) =>
        values
          .map((value, index) => {
            if (!value) return "";
            const from = floors[index];
            floors[index] += value;
            const top = y(scale.y(floors[index]));
            return `<rect class="${name}" x="${(x(index) - thick / 2).toFixed(1)}" y="${top.toFixed(1)}" width="${thick.toFixed(1)}" height="${Math.max(1, y(scale.y(from)) - top).toFixed(1)}"/>`;
          })
          .join(""),
      )
      .join("");
  }

  function stepShapes(series, scale, x, y, width) {
    return series
      .map(({ name, values }) => {
        let path = "";
        values.forEach((value, index) => {
          const height = y(scale.y(value)).toFixed(1);
          path += `${index ? "L" : "M"}${(x(index) - width / 2).toFixed(1)} ${height}L${(x(index) + width / 2).toFixed(1)} ${height}`;
        });
        return `<path class="line ${name}" d="${path}"/>`;
      })
      .join("");
  }

  /* What a chart shows: its scale, its shapes, and a slot in words. */
  function chart(name, data) {
    const { curves, slotS } = data;
    if (TIMES.includes(name)) {
      const points = curves[name];
      return {
        scale: decades(points),
        shapes: (...place) => timeShapes(points, ...place),
        empty: !points.some(Boolean),
        tell: (index) => (points[index] ? `median ${seconds(points[index][0])}, p95 ${seconds(points[index][1])}` : "nothing"),
      };
    }
    if (name === "tokens") {
      const rates = curves.tokens.map((tokens) => tokens / slotS);
      return {
        scale: linear(rates, " /s"),
        shapes: (...place) => stackShapes([{ name: "ok", values: rates }], ...place),
        empty: !largest(rates),
        tell: (index) => `${number(rates[index])} tokens/s`,
      };
    }
    if (name === "requests") {
      const series = ["ok", "cancelled", "failed"].map((kind) => ({ name: kind, values: curves[kind] }));
      const totals = curves.ok.map((_, index) => sum(series.map(({ values }) => values[index])));
      return {
        scale: linear(totals, ""),
        shapes: (...place) => stackShapes(series, ...place),
        empty: !largest(totals),
        tell: (index) => series.map(({ name: kind, values }) => `${values[index]} ${OUTCOMES[kind]}`).join(", "),
      };
    }
    const series = ["waiting", "batch"].map((kind) => ({ name: kind, values: curves[kind] }));
    return {
      scale: linear([...curves.waiting, ...curves.batch], ""),
      shapes: (...place) => stepShapes(series, ...place),
      empty: !largest([...curves.waiting, ...curves.batch]),
      tell: (index) => `${curves.waiting[index]} waiting, batch of ${curves.batch[index]}`,
    };
  }

  function values(name, data) {
    const { curves, counts, spreads, slotS } = data;
    if (TIMES.includes(name)) {
      return Object.fromEntries(["p50", "p95", "p99", "longest"].map((key) => [key, seconds(spreads[name][key])]));
    }
    if (name === "tokens") {
      const span = slotS * curves.tokens.length;
      return { mean: number(counts.tokens / span), peak: number(largest(curves.tokens) / slotS), sum: number(counts.tokens) };
    }
    if (name === "requests") {
      const ended = counts.ok + counts.cancelled + counts.failed;
      const rate = ended / ((slotS * curves.ok.length) / 60);
      return { rate: number(rate), ok: number(counts.ok), cancelled: number(counts.cancelled), failed: number(counts.failed) };
    }
    return { waiting: number(counts.waiting), batch: number(counts.batch) };
  }

  /* The line below a chart while no slot is pointed at. */
  function note(name, data) {
    const { counts, spreads } = data;
    if (TIMES.includes(name)) {
      const count = spreads[name].count;
      const thing = name === "switch" ? "switch" : "answer";
      const plural = name === "switch" ? "switches" : "answers";
      return count ? `${number(count)} ${count === 1 ? thing : plural}` : `No ${plural} in this window`;
    }
    if (name === "requests") {
      const ended = counts.ok + counts.cancelled + counts.failed;
      return ended ? `${number((100 * counts.failed) / ended)}% failed` : "No requests in this window";
    }
    if (name === "tokens") return "mean of the window, and its busiest step";
    return "solid: the batch, dashed: the queue";
  }

  function drawChart(card, data) {
    const name = card.dataset.chart;
    const found = values(name, data);
    for (const place of all(card, "[data-value]")) setText(place, found[place.dataset.value]);
    const plot = card.querySelector(".plot");
    const width = plot.clientWidth;
    if (!width) return;
    const left = 44;
    const count = data.curves.ok.length;
    const step = (width - left) / count;
    const x = (index) => left + (index + 0.5) * step;
    const y = (share) => 6 + share * (HEIGHT - 24);
    const { scale, shapes, empty, tell } = chart(name, data);
    const index = pointed[name];
    const ticks = (empty ? [] : scale.ticks)
      .map(([value, label]) => {
        const height = y(scale.y(value)).toFixed(1);
        return `<path class="grid" d="M${left} ${height}H${width}"/><text x="${left - 6}" y="${height}" dy="0.32em" text-anchor="end">${label}</text>`;
      })
      .join("");
    const base = y(1);
    const begins = data.endsAt - count * data.slotS;
    const mark = index === undefined ? "" : `<path class="mark" d="M${x(index).toFixed(1)} 2V${base}"/>`;
    const svg =
      `<svg width="${width}" height="${HEIGHT}" aria-hidden="true">${ticks}<path class="base" d="M${left} ${base}H${width}"/>` +
      `<text x="${left}" y="${HEIGHT - 4}">${clock(begins)}</text><text x="${width}" y="${HEIGHT - 4}" text-anchor="end">now</text>` +
      `${mark}${empty ? "" : shapes(scale, x, y, step)}</svg>`;
    if (plot.drawn !== svg) plot.innerHTML = plot.drawn = svg; // figures only
    plot.setAttribute("aria-label", `${card.getAttribute("aria-label")} in the last ${SPAN_WORDS[data.span]}: ${note(name, data)}`);
    const at = begins + (index ?? 0) * data.slotS;
    setText(card.querySelector(".readout"), index === undefined ? note(name, data) : `${clock(at, data.slotS < 60)}: ${tell(index)}`);
  }

  // --- Pointing -----------------------------------------------------------------------------------------

  function point(card, event) {
    const plot = card.querySelector(".plot");
    const count = shown?.curves.ok.length;
    if (!count) return;
    const place = (event.clientX - plot.getBoundingClientRect().left - 44) / (plot.clientWidth - 44);
    pointed[card.dataset.chart] = Math.min(count - 1, Math.max(0, Math.floor(place * count)));
    drawChart(card, shown);
  }

  function leave(card) {
    delete pointed[card.dataset.chart];
    if (shown) drawChart(card, shown);
  }

  function move(card, event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !shown) return;
    event.preventDefault();
    const last = shown.curves.ok.length - 1;
    const name = card.dataset.chart;
    pointed[name] = Math.min(last, Math.max(0, (pointed[name] ?? last + 1) + by));
    drawChart(card, shown);
  }

  function watch(root) {
    for (const card of all(root, "[data-chart]")) {
      const plot = card.querySelector(".plot");
      plot.addEventListener("pointermove", (event) => point(card, event));
      plot.addEventListener("pointerleave", () => leave(card));
      plot.addEventListener("keydown", (event) => move(card, event));
      const readout = card.querySelector(".readout");
      plot.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
      plot.addEventListener("blur", () => {
        readout.setAttribute("aria-live", "off"); // it is not read out for what frames change
        leave(card);
      });
    }
  }

  function draw(root, data) {
    shown = data;
    for (const card of all(root, "[data-chart]")) drawChart(card, data);
  }

  return { draw, watch };
})();
