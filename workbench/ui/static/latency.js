/* The Latency page: figures of the window and model that a person picked, a choice that is in the URL. The charts are
   in latency_charts.js, the life of a request in latency_life.js. Text from outside is set as text, never as HTML. */
workbench.latency = (() => {
  const PAGE = "latency";
  const DEFAULT_SPAN = "1h";
  const OUTCOMES = { ok: "complete", cancelled: "stopped", failed: "failed" };

  let shown = null; // the data that is drawn

  const byId = (id) => document.getElementById(id);
  const all = (root, selector) => [...root.querySelectorAll(selector)];

  function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function setText(element, text) {
    if (element && element.textContent !== text) element.textContent = text;
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
    if (shown && "request" in changes) page.life.draw(shown);
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

  // --- All of it ----------------------------------------------------------------------------------------

  function draw(data) {
    if (!data.spreads) return; // another page's
    shown = data;
    if (document.body.dataset.page === PAGE) write();
    showChoice(data);
    const root = byId("latency");
    if (root) {
      for (const place of all(root, "[data-now]")) setText(place, number(data.now[place.dataset.now]));
      page.charts.draw(root, data);
      const { read, since } = data.past;
      const past = !read ? "Earlier requests are being read." : since ? `Of earlier ones only those since ${clock(since)} are here.` : "";
      setText(root.querySelector("[data-past]"), past);
    }
    page.life.draw(data);
    for (const time of document.querySelectorAll("#latency-switches time[data-at]")) {
      setText(time, clock(Number(time.dataset.at), true));
    }
  }

  function mount(root) {
    root.querySelector("form")?.addEventListener("change", ({ target }) => pick({ [target.name]: target.value }));
    page.charts.watch(root);
    workbench.view(PAGE, draw);
  }

  let resized = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(resized);
    resized = requestAnimationFrame(() => shown && document.body.dataset.page === PAGE && draw(shown));
  });

  const page = { OUTCOMES, byId, all, make, setText, seconds, number, clock, pick, request: () => choice.request, mount };
  return page;
})();
