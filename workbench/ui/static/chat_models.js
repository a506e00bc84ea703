/* Which model answers: the menu, what the bar tells of the pick, and how full its context is. */
workbench.chat.models = (() => {
  const chat = workbench.chat;
  const { byId } = chat;
  const { element } = workbench;
  const NEARLY_FULL = 0.85;

  let models = []; // as render/picker.py makes them
  let picked = []; // names; more than one to compare
  let pickedBefore = []; // what Escape goes back to
  let hoped = ""; // the open conversation's model, until it is known which models there are

  function mount() {
    const dialog = byId("models-dialog");
    Object.assign(chat.buttons, { model: openMenu, "compare-done": () => dialog.close() });
    byId("model-search").addEventListener("input", showModels);
    byId("compare").addEventListener("change", () => {
      if (!byId("compare").checked) picked = picked.slice(0, 1);
      showModels();
    });
    dialog.addEventListener("click", clicked);
    dialog.addEventListener("cancel", () => pick(pickedBefore));
    dialog.addEventListener("close", () => {
      byId("model").setAttribute("aria-expanded", "false");
      showPicked();
    });
    dialog.addEventListener("keydown", moveInMenu);
    workbench.view("chat", showFrame);
  }

  function showFrame(data) {
    models = data.models;
    picked = picked.filter((name) => models.some((model) => model.name === name));
    if (!picked.length) {
      const able = models.filter(({ servable }) => servable);
      const first = able.find(({ name }) => name === hoped) ?? able.find(({ residency }) => residency === "device") ?? able[0];
      if (first) picked = [first.name];
    }
    showPicked();
    if (byId("models-dialog").open) showModels();
  }

  // --- The pick -----------------------------------------------------------------------------------------

  function pick(names) {
    picked = names;
    showPicked();
  }

  function pickIfHere(name) {
    if (!models.length) hoped = name;
    else if (models.some((model) => model.name === name)) pick([name]);
  }

  const chosen = () => picked.map((name) => models.find((model) => model.name === name)).filter(Boolean);

  function showPicked() {
    const here = chosen();
    const label = here.length ? here.map(({ name }) => name).join(" + ") : "Pick a model";
    const parts = [element("span", { className: "name", textContent: label })];
    if (here.length === 1) parts.push(badge(here[0]));
    byId("model").replaceChildren(...parts, element("span", { className: "caret", textContent: "▾", ariaHidden: "true" }));
    byId("model").setAttribute("aria-label", `Model: ${label}${here.length === 1 ? `, ${here[0].label}` : ""}`);
    const note = byId("model-note");
    note.classList.toggle("bad", here[0]?.residency === "broken");
    if (here.length > 1) note.textContent = "Each message goes to all of them, side by side.";
    else if (!here.length) note.textContent = "Pick a model to chat with.";
    else {
      const [{ note: text, facts, servable }] = here;
      note.textContent = [text, servable ? facts : ""].filter(Boolean).join(" · ");
      if (!servable) note.append(" ", element("a", { href: "models", textContent: "See it on the Models page" }));
    }
    showContext();
    chat.side.showDefaults(here.map(({ defaults }) => defaults));
  }

  const badge = ({ residency, label }) => element("span", { className: `badge badge-${residency}`, textContent: label });

  /* What the last answer and its prompt took of the context; the next prompt begins with both. */
  function showContext() {
    const meter = byId("context");
    const used = Number([...byId("thread").querySelectorAll("[data-tokens]")].at(-1)?.dataset.tokens);
    const room = Math.min(...chosen().map(({ context }) => context).filter(Boolean));
    meter.classList.toggle("idle", !used || !Number.isFinite(room));
    if (meter.classList.contains("idle")) return;
    const share = Math.min(1, used / room);
    meter.querySelector("i").style.width = `${100 * share}%`;
    meter.querySelector("[role=meter]").setAttribute("aria-valuenow", Math.round(100 * share));
    meter.classList.toggle("full", share >= NEARLY_FULL);
    const figures = `${used.toLocaleString("en")} of ${room.toLocaleString("en")} tokens`;
    meter.querySelector(".figure").textContent = share >= NEARLY_FULL ? `${figures}: nearly full` : figures;
  }

  // --- The menu -----------------------------------------------------------------------------------------

  function openMenu() {
    pickedBefore = picked;
    byId("model-search").value = "";
    byId("compare").checked = picked.length > 1;
    showModels();
    byId("models-dialog").showModal();
    byId("model").setAttribute("aria-expanded", "true");
    byId("model-search").focus();
  }

  /* Rows are kept while they stay, so that a change of residency does not take the focus away. */
  function showModels() {
    const search = byId("model-search").value.trim().toLowerCase();
    const compares = byId("compare").checked;
    const list = element("ul");
    for (const model of models) {
      if (search && !`${model.name} ${model.note}`.toLowerCase().includes(search)) continue;
      list.append(modelRow(model, compares));
    }
    if (!list.children.length) list.append(element("li", { className: "empty", textContent: "No model of that name." }));
    workbench.countOn(list);
    workbench.morph(byId("model-list"), list);
    byId("models-dialog").querySelector(".dialog-foot").hidden = !compares;
    byId("compare-done").textContent = picked.length > 1 ? `Compare ${picked.length} models` : "Pick two or more";
    byId("compare-done").disabled = picked.length < 2;
  }

  function modelRow(model, compares) {
    const isPicked = picked.includes(model.name);
    const row = element("li");
    row.dataset.name = model.name;
    const choose = element("button", { type: "button", className: "choose" });
    choose.dataset.pick = model.name;
    choose.setAttribute("aria-pressed", String(isPicked));
    choose.append(
      element("span", { className: "tick-mark", textContent: compares ? (isPicked ? "☑" : "☐") : isPicked ? "✓" : "", ariaHidden: "true" }),
      element("span", { className: "name", textContent: model.name }),
      badge(model),
      element("span", { className: "facts", textContent: model.facts || model.note }, ...sinceWhen(model)),
    );
    row.append(choose);
    for (const [todo, label] of model.tools) {
      const button = element("button", { type: "button", className: "model-tool", textContent: label });
      button.dataset.modelDo = todo;
      button.dataset.model = model.name;
      button.setAttribute("aria-label", `${label} ${model.name}`);
      row.append(button);
    }
    return row;
  }

  /* How long a model has been on its way; the page counts on. */
  function sinceWhen({ since }) {
    if (since === undefined) return [];
    const age = element("span", { className: "figure" });
    age.dataset.since = since;
    return [" · ", age];
  }

  function clicked({ target }) {
    const dialog = byId("models-dialog");
    if (target === dialog) return dialog.close(); // beside it
    const tool = target.closest("[data-model-do]");
    if (tool) chat.act({ do: tool.dataset.modelDo, model: tool.dataset.model }, tool);
    const name = target.closest("[data-pick]")?.dataset.pick;
    if (name === undefined) return;
    if (byId("compare").checked) {
      picked = picked.includes(name) ? picked.filter((other) => other !== name) : [...picked, name];
      showModels();
    } else {
      pick([name]);
      dialog.close();
      byId("message").focus();
    }
  }

  function moveInMenu(event) {
    const rows = [...byId("model-list").querySelectorAll(".choose")];
    const here = rows.indexOf(document.activeElement);
    if (event.key === "ArrowDown") (rows[here + 1] ?? rows[0])?.focus();
    else if (event.key === "ArrowUp") (rows[here - 1] ?? byId("model-search")).focus();
    else if (event.key === "Enter" && document.activeElement === byId("model-search")) rows[0]?.click();
    else return;
    event.preventDefault();
  }

  return { mount, openMenu, showContext, pickIfHere, picked: () => picked, pickOne: () => pick(picked.slice(0, 1)) };
})();
