/* The page's script: which page shows, live panels from the event stream, dialogs, and the chat's small things.
   Gradio components call it through `js_on_load` and `js`; nothing here renders untrusted text as HTML. */
window.workbench = (() => {
  const BASE = new URL("./", document.baseURI);
  const PAGES = { "": "chat", kv: "kv", latency: "latency", pool: "pool", models: "models", keys: "keys" };
  const SILENCE = 2500; // ms without a sign of life after which the server counts as gone; it beats each second
  const body = () => document.body;
  let source = null; // the event stream of the page that shows

  // --- Which page shows -----------------------------------------------------------------------------

  const pageOf = (url) => PAGES[url.pathname.slice(BASE.pathname.length).replace(/\/$/, "")] ?? "chat";
  let conversation = new URL(location).searchParams.get("chat") ?? "";

  function chatUrl() {
    const url = new URL(BASE);
    if (conversation) url.searchParams.set("chat", conversation);
    return url;
  }

  function show(page) {
    const moved = body().dataset.page !== page;
    body().dataset.page = page;
    if (moved && source) connect();
    const name = document.querySelector(`nav [data-page="${page}"]`)?.textContent;
    document.title = name ? `${name} · Workbench` : "Workbench";
    for (const link of document.querySelectorAll("nav [data-page]")) {
      link.toggleAttribute("aria-current", link.dataset.page === page);
      if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    }
    closeDrawers();
  }

  function go(url) {
    const page = pageOf(url);
    history.pushState(null, "", page === "chat" ? chatUrl() : url);
    show(page);
  }

  const opensTab = (event) => event.ctrlKey || event.metaKey || event.shiftKey;

  addEventListener("popstate", () => show(pageOf(new URL(location))));
  addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    const drawer = event.target.closest(".drawer-button");
    if (drawer) toggleDrawer(drawer.dataset.drawer);
    else if (!event.target.closest(".drawer, dialog") && event.target.id !== "theme-button") closeDrawers(true);
    if (!link || link.target || opensTab(event)) return;
    if (link.closest("#chat") || link.dataset.open !== undefined || link.hasAttribute("download")) return;
    const url = new URL(link.href);
    if (url.origin === BASE.origin && !url.hash) {
      event.preventDefault();
      go(url);
    }
  });

  // --- Drawers: columns on wide screens, sheets over the chat on narrow ones --------------------------

  const narrow = matchMedia("(max-width: 1100px)");

  function toggleDrawer(id) {
    const open = body().dataset.drawer === id ? "" : id;
    if (narrow.matches) body().dataset.drawer = open;
    else body().classList.toggle(`hide-${id}`);
    const visible = document.getElementById(id).checkVisibility();
    document.querySelector(`button[data-drawer="${id}"]`).setAttribute("aria-expanded", visible);
  }

  function closeDrawers(onlyNarrow) {
    if (onlyNarrow && !narrow.matches) return;
    const button = document.querySelector(`button[data-drawer="${body().dataset.drawer || "none"}"]`);
    body().dataset.drawer = "";
    button?.setAttribute("aria-expanded", "false");
  }

  addEventListener("keydown", (event) => {
    const open = body().dataset.drawer;
    const clears = event.target.type === "search" && event.target.value;
    if (event.key !== "Escape" || !open || clears || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    closeDrawers();
    document.querySelector(`button[data-drawer="${open}"]`).focus();
  });

  // --- Live panels ------------------------------------------------------------------------------------

  const panels = new Map(); // element id -> where the fragment of that id goes
  const viewers = {}; // page -> what draws the data of its frames
  const choices = {}; // page -> what the person picked there, which its frames depend on
  let frame = null; // all that the page that shows was told, the newest of each part
  let serverName = "";
  let ahead = 0; // seconds of this browser's clock less the server's
  let heardAt = 0;
  let lastHeardAt = Date.now(); // also while it is gone

  function panel(root, server) {
    const id = root.closest("[id]:not([id^='html-'])")?.id;
    region(id, root);
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-do]");
      if (button) workbench.act(server, request(button), button);
    });
    root.addEventListener("submit", (event) => {
      event.preventDefault();
      const form = event.target;
      const values = Object.fromEntries(new FormData(form));
      const button = form.querySelector("button");
      workbench.act(server, { do: form.dataset.do, ...values }, button).then((reply) => (reply?.done || reply?.tell) && form.reset());
    });
  }

  /* Let frames fill an element. */
  function region(id, root) {
    panels.set(id, root);
    if (frame) fill(id);
    drawData();
  }

  function request(button) {
    const values = { do: button.dataset.do };
    for (const [key, value] of Object.entries(button.dataset)) {
      if (key.startsWith("value")) values[key.slice(5).toLowerCase()] = value;
    }
    return values;
  }

  function fill(id) {
    const html = frame?.html?.[id];
    const root = panels.get(id);
    if (html === undefined || !root?.isConnected) return;
    const wanted = document.createElement("div");
    wanted.innerHTML = html; // made and escaped by render.py
    countOn(wanted);
    let target = root.querySelector(":scope > .live");
    if (!target) {
      target = document.createElement("div");
      target.className = "live";
      root.replaceChildren(target);
    }
    morph(target, wanted);
  }

  /* Make `old`'s children like those of `fresh`, keeping elements, so that focus and choices survive.
     What is in an element with `data-own` belongs to the page's own script. */
  function morph(old, fresh) {
    if (old.dataset.own !== undefined) return;
    const olds = [...old.childNodes];
    const news = [...fresh.childNodes]; // those that are put in place leave `fresh`
    news.forEach((child, index) => {
      const present = olds[index];
      if (!present) old.append(child);
      else if (present.nodeName !== child.nodeName || present.dataset?.name !== child.dataset?.name) {
        present.replaceWith(child);
      } else if (child.nodeType === Node.TEXT_NODE) {
        if (present.data !== child.data) present.data = child.data;
      } else if (child.nodeType === Node.ELEMENT_NODE) become(present, child);
    });
    olds.slice(news.length).forEach((node) => node.remove());
  }

  const unfolded = new WeakSet(); // <details> that the person opened or closed

  /* Make an element like `fresh`, attributes and children. */
  function become(old, fresh) {
    const left = (name) => name === "open" && unfolded.has(old);
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !left(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !left(name)) old.setAttribute(name, value);
    }
    morph(old, fresh);
  }

  addEventListener("click", ({ target }) => {
    const details = target.closest("summary")?.parentElement;
    if (details) unfolded.add(details);
  });

  function showFrame(next) {
    if (serverName && serverName !== next.server) return location.reload(); // a new server starts afresh
    serverName = next.server;
    ahead = Date.now() / 1000 - next.now;
    frame = { html: { ...frame?.html, ...next.html }, data: { ...frame?.data, ...next.data } };
    for (const id of Object.keys(next.html ?? {})) fill(id);
    drawData();
  }

  /* Let `draw` have the data of each frame while `page` is shown. */
  function view(page, draw) {
    viewers[page] = draw;
    drawData();
  }

  function drawData() {
    if (frame?.data) viewers[body().dataset.page]?.(frame.data);
  }

  /* Have the frames of `page` made for what a person picked there. */
  function choose(page, choice) {
    if (choices[page] === choice) return;
    choices[page] = choice;
    if (source && body().dataset.page === page) connect();
  }

  function connect() {
    source?.close();
    frame = null;
    const url = new URL("events", BASE);
    const page = body().dataset.page;
    url.searchParams.set("page", page);
    if (choices[page]) url.searchParams.set("choice", choices[page]);
    source = new EventSource(url);
    source.addEventListener("frame", (event) => {
      alive();
      showFrame(JSON.parse(event.data));
    });
    source.addEventListener("beat", alive);
    source.onerror = () => {
      source.close();
      session(); // it may be that this browser is signed out
      heardAt = 0;
      missed();
      setTimeout(connect, 1000);
    };
  }

  function alive() {
    heardAt = lastHeardAt = Date.now();
    body().classList.remove("disconnected");
  }

  /* The server is silent: say since when, and that all figures are from then. */
  function missed() {
    if (body().classList.contains("disconnected")) return;
    const since = new Date(lastHeardAt).toLocaleTimeString([], { hourCycle: "h23" });
    document.getElementById("disconnected").textContent = `Workbench has not answered since ${since}. Trying again …`;
    body().classList.add("disconnected");
  }

  setInterval(() => {
    if (heardAt && Date.now() - heardAt > SILENCE && !document.hidden) missed();
    if (body().classList.contains("disconnected")) return; // what is shown is of then
    for (const root of document.querySelectorAll(".live")) countOn(root);
  }, 500);

  /* Say how long ago the moments in an element are by now. */
  function countOn(root) {
    for (const age of root.querySelectorAll("[data-since]")) {
      const text = duration(Math.max(0, Date.now() / 1000 - ahead - Number(age.dataset.since)));
      if (age.textContent !== text) age.textContent = text;
    }
  }

  /* As figures.duration. */
  function duration(value) {
    const total = Math.floor(value);
    if (total < 60) return `${total} s`;
    if (total < 3600) return `${Math.floor(total / 60)} min`;
    if (total < 86400) return `${Math.floor(total / 3600)} h ${Math.floor((total % 3600) / 60)} min`;
    return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
  }

  // --- Who the page is for, and its small parts ------------------------------------------------------

  /* Learn who this page is for; where it is for nobody any more, its reload leads to the sign-in. */
  async function session() {
    const response = await fetch(new URL("session", BASE)).catch(() => null);
    if (response?.status === 401) return location.reload();
    if (!response?.ok) return;
    const { name, scopes, signed_in } = await response.json();
    body().classList.toggle("admin", scopes.includes("admin"));
    const button = document.getElementById("sign-out");
    if (!button) return;
    button.hidden = !signed_in;
    button.title = button.ariaLabel = `Sign out (${name})`;
  }

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  /* The conversation that the URL names, "" for none. */
  const wanted = () => conversation;

  function opened(id) {
    conversation = id;
    if (body().dataset.page === "chat") history.replaceState(null, "", chatUrl());
  }

  // --- Start --------------------------------------------------------------------------------------------

  function topbar() {
    show(pageOf(new URL(location)));
  }

  function tools(root) {
    root.querySelector("#sign-out").addEventListener("click", async () => {
      await fetch(new URL("logout", BASE), { method: "POST" });
      location.assign(new URL("login", BASE));
    });
    session();
    root.querySelector("#theme-button").addEventListener("click", () => {
      const dark = body().classList.toggle("dark");
      localStorage.setItem("theme", dark ? "dark" : "light");
    });
    const chosen = localStorage.getItem("theme");
    if (chosen) body().classList.toggle("dark", chosen === "dark");
  }

  function start() {
    body().append(
      element("div", { id: "disconnected" }),
      element("div", { id: "toasts" }),
    );
    document.getElementById("disconnected").setAttribute("role", "alert");
    document.getElementById("toasts").setAttribute("aria-live", "polite");
    show(pageOf(new URL(location)));
    connect();
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();

  return {
    BASE, panel, region, view, choose, request, session, element, morph, become, countOn, closeDrawers, go, wanted, opened, topbar, tools,
  };
})();
