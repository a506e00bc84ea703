/* The Latency page: charts and figures of the window and model that a person picked, and the last requests.
   The choice is in the URL. Text that comes from outside is set as text, never as HTML. */
window.latencyPage = (() => {
  const PAGE = "latency";
  const DEFAULT_SPAN = "1h";
  const HEIGHT = 108; // of a plot, px
  const TIMES = ["ttft", "tpot", "pause", "total", "queue", "switch"];
  const SPAN_WORDS = { "5m": "5 minutes", "1h": "hour", "24h": "24 hours" };
  const PHASES = {
    accept: "Accepted",
    queue: "Queue",
    switch: "Switch",
    prefill: "Prefill",
    decode: "Decode",
    end: "End",
  };
  const OUTCOMES = { ok: "complete", cancelled: "stopped", failed: "failed" };

  let shown = null; // the data that is drawn
  const pointed = {}; // chart -> slot under the pointer, or reached by the arrow keys

  const byId = (id) => document.getElementById(id);
  const all = (root, selector) => [...root.querySelectorAll(selector)];

  function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // --- Figures, as figures.py writes them, with a decimal more for what takes few milliseconds -----------

  function seconds(value) {
    if (value === null || value === undefined) return "–";
    if (value < 0.00005) return "0 ms";
    if (value < 0.00995) return `${(value * 1000).toFixed(1)} ms`;
    if (value < 0.0995) return `${(value * 1000).toFixed(0)} ms`;
    if (value < 0.995) return `${value.toFixed(2)} s`;
    return value < 9.95 ? `${value.toFixed(1)} s` : `${value.toFixed(0)} s`;
  }

  /* A power of ten on a scale. */
  const power = (value) => (value < 0.5 ? `${Number((value * 1000).toPrecision(1))} ms` : `${Math.round(value)} s`);

  function number(value) {
    if (value >= 99.5 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
    return value < 0.095 ? value.toFixed(2) : value.toFixed(1);
  }

  const clock = (at, withSeconds) =>
    new Date(at * 1000).toLocaleTimeString([], {
      hourCycle: "h23",
      hour: "2-digit",
      minute: "2-digit",
      ...(withSeconds ? { second: "2-digit" } : {}),
    });

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);

  // --- The choice: window, model and request ----------------------------------------------------------------

  let choice = read();
  workbench.choose(PAGE, `${choice.span}:${choice.model}`);

  function read() {
    const here = location.pathname.endsWith(`/${PAGE}`);
    const given = new URLSearchParams(here ? location.search : "");
    return { span: given.get("window") ?? DEFAULT_SPAN, model: given.get("model") ?? "", request: given.get("request") ?? "" };
  }

  /* Put the choice into the URL; what is as by default is left out. */
  function write() {
    const url = new URL(location);
    for (const [name, value, usual] of [
      ["window", choice.span, DEFAULT_SPAN],
      ["model", choice.model, ""],
      ["request", choice.request, ""],
    ]) {
      if (value === usual) url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    }
    if (url.href !== location.href) history.replaceState(history.state, "", url);
  }

  function pick(changes) {
    choice = { ...choice, ...changes };
    write();
    workbench.choose(PAGE, `${choice.span}:${choice.model}`);
    if (shown && "request" in changes) drawLife(shown);
  }

  function showChoice(data) {
    const form = byId("latency-choice")?.querySelector("form");
    if (!form) return;
    const select = form.elements.model;
    if (choice.model && !data.models.includes(choice.model)) pick({ model: "" });
    const names = ["", ...data.models];
    if (names.join("\n") !== [...select.options].map((option) => option.value).join("\n")) {
      select.replaceChildren(...names.map((name) => make("option", { value: name, textContent: name || "All models" })));
    }
    if (document.activeElement !== select) select.value = choice.model;
    for (const radio of all(form, "[name=span]")) radio.checked = radio.value === choice.span;
  }

  // --- Charts ---------------------------------------------------------------------------------------------

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

  function setText(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
  }

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

  // --- One request ------------------------------------------------------------------------------------------

  function drawLife(data) {
    const [list, detail] = byId("latency-life")?.querySelector(".latency-life")?.children ?? [];
    if (!list) return;
    const requests = data.requests;
    const picked = requests.find(({ id }) => id === choice.request) ?? requests[0];
    const look = JSON.stringify([requests, picked?.id]);
    if (list.drawn === look) return;
    list.drawn = look;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.request : null;
    list.parentElement.classList.toggle("idle", !picked);
    if (!picked) {
      list.replaceChildren();
      detail.replaceChildren(
        make("p", { className: "empty", textContent: "No requests yet. Send a message in the chat, and follow it here from its arrival to its last token." }),
      );
      return;
    }
    list.replaceChildren(...requests.map((request) => listed(request, request === picked)));
    if (focused) all(list, "button").find(({ dataset }) => dataset.request === focused)?.focus();
    detail.replaceChildren(...told(picked));
  }

  function listed(request, current) {
    const button = make(
      "button",
      { type: "button" },
      make("time", { className: "figure quiet", textContent: clock(request.at, true) }),
      make("span", { className: "name", textContent: request.model }),
      make("span", { className: `outcome ${request.outcome}`, textContent: request.outcome === "ok" ? "" : OUTCOMES[request.outcome] }),
      make("span", { className: "figure", textContent: seconds(request.total) }),
    );
    button.dataset.request = request.id;
    if (current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      pick({ request: request.id });
      document.querySelector(".latency-life > section").scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    const item = make("li", {}, button);
    item.dataset.testid = "request";
    return item;
  }

  /* From arrival to the last token: each phase begins where the one before it ended. */
  function told(request) {
    const rows = [];
    let before = 0;
    Object.entries(PHASES).forEach(([phase, title], index) => {
      const spent = request.phases[index];
      const bar = make("i", { className: `phase-${phase}` });
      bar.style.marginLeft = `${((100 * before) / request.total).toFixed(2)}%`;
      bar.style.width = `${((100 * spent) / request.total).toFixed(2)}%`;
      before += spent;
      rows.push(
        make(
          "li",
          {},
          make("span", { textContent: title }),
          make("span", { className: "track", ariaHidden: "true" }, spent >= 0.00005 ? bar : ""),
          make("span", { className: "figure", textContent: spent >= 0.00005 ? seconds(spent) : "–" }),
        ),
      );
    });
    const [, , , , decode] = request.phases;
    const cached = request.cachedTokens ? `, ${number(request.cachedTokens)} of them cached` : "";
    const facts = [
      ["Arrived", `${new Date(request.at * 1000).toLocaleDateString()}, ${clock(request.at, true)}`],
      ["First token", request.ttft === null ? "never came" : `after ${seconds(request.ttft)}`],
      ["Prompt", request.promptTokens ? `${number(request.promptTokens)} tokens${cached}` : "–"],
      ["Answer", `${number(request.tokens)} ${request.tokens === 1 ? "token" : "tokens"}`],
      ["Per token", request.tpot === null ? "–" : `${seconds(request.tpot)}, longest pause ${seconds(request.pause)}`],
      ["Speed", request.tpot ? `${number(1 / request.tpot)} tokens/s` : "–"],
    ];
    const parts = [
      make(
        "header",
        {},
        make("h3", { textContent: request.model }),
        make("span", { className: `outcome ${request.outcome}`, textContent: OUTCOMES[request.outcome] }),
        make("strong", { className: "figure", textContent: seconds(request.total) }),
      ),
      make("ol", { className: "phases" }, ...rows),
      make("dl", {}, ...facts.map(([term, fact]) => make("div", {}, make("dt", { textContent: term }), make("dd", { className: "figure", textContent: fact })))),
    ];
    if (request.switchReason) parts.push(make("p", { className: "quiet", textContent: `It waited for a switch: ${request.switchReason}.` }));
    if (request.error) parts.push(make("p", { className: "bad", textContent: request.error }));
    return parts;
  }

  // --- All of it ----------------------------------------------------------------------------------------------

  function draw(data) {
    if (!data.spreads) return; // another page's
    shown = data;
    if (document.body.dataset.page === PAGE) write();
    showChoice(data);
    const root = byId("latency");
    if (root) {
      for (const place of all(root, "[data-now]")) setText(place, number(data.now[place.dataset.now]));
      for (const card of all(root, "[data-chart]")) drawChart(card, data);
      const { read, since } = data.past;
      const past = !read ? "Earlier requests are being read." : since ? `Of earlier ones only those since ${clock(since)} are here.` : "";
      setText(root.querySelector("[data-past]"), past);
    }
    drawLife(data);
    for (const time of document.querySelectorAll("#latency-switches time[data-at]")) {
      setText(time, clock(Number(time.dataset.at), true));
    }
  }

  function mount(root) {
    root.querySelector("form")?.addEventListener("change", ({ target }) => pick({ [target.name]: target.value }));
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
    workbench.view(PAGE, draw);
  }

  let resized = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(resized);
    resized = requestAnimationFrame(() => shown && document.body.dataset.page === PAGE && draw(shown));
  });

  return { mount };
})();
