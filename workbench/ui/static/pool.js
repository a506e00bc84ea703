/* The Pool page's script: a worker's log in a dialog, followed live. Lines become text, never HTML. */
(() => {
  const BASE = new URL("./", document.baseURI);
  const MAX_LINES = 2000; // kept of a log, and kept while it is paused

  addEventListener("click", (event) => {
    const opener = event.target.closest("#page-pool button[data-log]");
    if (opener) openLog(opener.dataset.log);
  });

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function levelOf(line) {
    if (/\b(ERROR|CRITICAL|FATAL|Traceback|\w*(Error|Exception):)/.test(line)) return "error";
    return /\bWARN(ING)?\b|Warning:/.test(line) ? "warning" : "";
  }

  function openLog(worker) {
    const list = element("ol", { tabIndex: 0 });
    list.setAttribute("aria-label", `Lines of the log of ${worker}`);
    const status = element("span", { textContent: "Opening …" });
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "off"); // it counts lines: to be read on demand
    const filter = element("input", { type: "search", placeholder: "Filter", autocomplete: "off" });
    filter.setAttribute("aria-label", "Show only lines with this text");
    const pause = element("button", { type: "button", textContent: "Pause" });
    const close = element("button", { type: "button", textContent: "Close" });
    const title = element("h3", { textContent: `Log of ${worker}`, id: "log-title" });
    const head = element("header", {}, title, status, element("label", {}, filter), pause, close);
    const dialog = element("dialog", { className: "log" }, head, list);
    dialog.setAttribute("aria-labelledby", "log-title");

    const source = new EventSource(new URL(`logs/${encodeURIComponent(worker)}`, BASE));
    let waiting = []; // lines that came while it was paused
    let paused = false;
    let state = "Following";

    const matches = (text) => text.toLowerCase().includes(filter.value.trim().toLowerCase());

    function add(lines) {
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
      for (const text of lines.slice(-MAX_LINES)) {
        list.append(element("li", { textContent: text, className: levelOf(text), hidden: !matches(text) }));
      }
      while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
      if (atEnd) list.scrollTop = list.scrollHeight;
      tell();
    }

    function tell() {
      const all = list.childElementCount;
      const shown = filter.value.trim() ? `${list.querySelectorAll("li:not([hidden])").length} of ${all}` : all;
      const more = waiting.length ? `, ${waiting.length} more came` : "";
      status.textContent = `${paused ? "Paused" : state} · ${shown} ${all === 1 ? "line" : "lines"}${more}`;
    }

    source.addEventListener("open", () => {
      list.replaceChildren(); // a new connection begins with the last lines again
      waiting = [];
    });
    source.addEventListener("lines", (event) => {
      const lines = JSON.parse(event.data);
      if (!paused) return add(lines);
      waiting = [...waiting, ...lines].slice(-MAX_LINES);
      tell();
    });
    source.addEventListener("end", (event) => {
      source.close();
      state = JSON.parse(event.data);
      tell();
    });
    source.onerror = () => {
      const gone = source.readyState === EventSource.CLOSED;
      state = gone ? "This log can't be followed: its worker is forgotten, or too many logs are open" : "Connecting again";
      tell();
    };
    filter.addEventListener("input", () => {
      for (const line of list.children) line.hidden = !matches(line.textContent);
      list.scrollTop = list.scrollHeight;
      tell();
    });
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.textContent = paused ? "Go on" : "Pause";
      if (!paused) add(waiting.splice(0));
      tell();
    });
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
    dialog.addEventListener("close", () => {
      source.close();
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
    list.focus();
  }
})();
