/* The Chat page: the thread and its answers as they grow, the model menu, conversations, settings.
   Turns come from the server as ready HTML, made and escaped by render/chat.py; all else is set as text. */
workbench.chat = (() => {
  const { BASE, element, say } = workbench;
  const byId = (id) => document.getElementById(id);
  const MOST_BYTES = 80e6; // of a file to import; the server counts more exactly
  const NEAR_END = 80; // px from the end within which the thread follows what is written

  let server = null; // the component's functions on the server
  let conversation = ""; // id of the open one, "" for a new one
  let models = []; // as render/picker.py makes them
  let picked = []; // names; more than one to compare
  let pickedBefore = []; // what Escape goes back to
  let running = null; // the answer that is being written: its name and how to leave it
  let opening = 0; // counts, so that of two conversations that are opened the later one shows
  let follows = true; // whether the thread stays at its end

  const act = (values, button) => workbench.act(server, values, button);

  function mount(root, functions) {
    server = functions;
    workbench.region("warming", byId("warming"));
    root.addEventListener("click", clicked);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    byId("message").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    byId("message").addEventListener("input", fit);
    byId("chat").addEventListener("scroll", scrolled, { passive: true });
    byId("conversation-search").addEventListener("input", searchSoon);
    byId("model-search").addEventListener("input", showModels);
    byId("compare").addEventListener("change", () => {
      if (!byId("compare").checked) picked = picked.slice(0, 1);
      showModels();
    });
    byId("models-dialog").addEventListener("cancel", () => pick(pickedBefore));
    byId("models-dialog").addEventListener("close", () => {
      byId("model").setAttribute("aria-expanded", "false");
      showPicked();
    });
    byId("models-dialog").addEventListener("keydown", moveInMenu);
    byId("preset").addEventListener("change", usePreset);
    byId("import-file").addEventListener("change", importFile);
    workbench.view("chat", showFrame);
    restoreDraft();
    act({ do: "list_presets" }).then((reply) => show(reply?.show));
    open(workbench.wanted(), true);
    byId("message").focus();
  }

  // --- The thread ---------------------------------------------------------------------------------------

  const thread = () => byId("thread");
  const turnOf = (key) => thread().querySelector(`[data-turn="${CSS.escape(key)}"]`);

  /* Put an update on the page; see chat_flow.Update. */
  function show(update) {
    if (!update) return;
    for (const key of update.gone ?? []) turnOf(key)?.remove();
    for (const [key, html] of update.turns ?? []) {
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      const old = turnOf(key);
      if (old) workbench.become(old, fresh.content.firstElementChild);
      else thread().append(fresh.content);
    }
    if (update.list !== undefined) {
      if (byId("conversation-search").value) list();
      else showList(update.list);
    }
    if (update.conversation !== undefined) setConversation(update.conversation);
    if (update.presets !== undefined) showPresets(update.presets);
    if (update.system !== undefined) byId("system-prompt").value = update.system;
    for (const [name, text] of Object.entries(update.options ?? {})) parameter(name).value = text;
    if (update.draft && !byId("message").value) {
      byId("message").value = update.draft;
      fit();
    }
    if (update.turns && follows) toEnd();
  }

  function toEnd() {
    const chat = byId("chat");
    chat.scrollTop = chat.scrollHeight;
  }

  function scrolled() {
    const chat = byId("chat");
    follows = chat.scrollHeight - chat.scrollTop - chat.clientHeight < NEAR_END;
    byId("latest").hidden = follows;
  }

  async function open(id, first = false) {
    const turn = ++opening;
    leave();
    const reply = await act({ do: "open_conversation", conversation: id });
    if (!reply && first && turn === opening) setTimeout(() => open(id, true), 2000); // the server is down
    if (turn !== opening || !reply) return false;
    thread().replaceChildren();
    follows = true;
    const { model, ...update } = reply.show;
    if (!update.conversation && !first) update.system = "";
    show(update);
    if (model && models.some(({ name }) => name === model)) pick([model]);
    toEnd();
    workbench.closeDrawers(true);
    if (!first) byId("message").focus();
    return true;
  }

  function setConversation(id) {
    conversation = id;
    workbench.opened(id);
    markOpen();
    for (const [link, form] of [["export-json", "json"], ["export-markdown", "markdown"]]) {
      byId(link).hidden = !id;
      byId(link).href = new URL(`chat/${id}/export?form=${form}`, BASE);
    }
  }

  // --- Answers ------------------------------------------------------------------------------------------

  function send() {
    const text = byId("message").value;
    if (!text.trim()) return;
    if (running) return say("An answer is being written. Wait for its end, or stop it with Esc.");
    byId("message").value = "";
    fit();
    follows = true;
    answer({ do: "send", text });
  }

  /* Have something answered and show it as it grows. */
  async function answer(what) {
    if (running) return;
    const stream = crypto.randomUUID?.() ?? String(Math.random());
    const mine = { stream, leaving: new AbortController() };
    running = mine;
    document.body.classList.add("answering");
    byId("chat").setAttribute("aria-busy", "true"); // screen readers wait for the whole answer
    for (const key of ["question", "answer"]) turnOf(key)?.remove(); // of a message that was refused
    const asked = {
      ...what,
      stream,
      conversation: conversation ? Number(conversation) : null,
      models: picked,
      system: byId("system-prompt").value,
      options: parameters(),
    };
    let begun = false;
    try {
      const response = await fetch(new URL("chat/answer", BASE), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(asked),
        signal: mine.leaving.signal,
      });
      if (!response.ok) throw Object.assign(new Error("refused"), { status: response.status });
      begun = true;
      for await (const update of lines(response.body)) if (running === mine) show(update);
    } catch (error) {
      if (running === mine) broken(what, begun, error.status);
    }
    if (running === mine) ended();
  }

  /* No answer, or no more of it: what of it is kept only the server knows. */
  function broken(what, begun, status) {
    if (begun) return say("The connection broke off. What was written is kept.", true);
    if (!byId("message").value) byId("message").value = what.text ?? "";
    fit();
    say(status ? `Workbench did not take the message (status ${status}).` : "Workbench can't be reached.", true);
  }

  async function* lines(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part) yield JSON.parse(part);
    }
  }

  function ended() {
    running = null;
    document.body.classList.remove("answering");
    byId("chat").removeAttribute("aria-busy");
  }

  /* Stop: the answer ends in order, and what was written is shown as it is kept. */
  const stop = () => running && act({ do: "stop", stream: running.stream }, byId("stop"));

  /* Leave: another conversation is opened; the server ends the answer when nobody listens. */
  function leave() {
    running?.leaving.abort();
    ended();
  }

  // --- What is done with turns ----------------------------------------------------------------------------

  const handlers = {
    copy: ({ article, button }) => copy(article.dataset.text, button),
    edit: ({ article }) => edit(article),
    regenerate: () => answer({ do: "regenerate" }),
    continue: () => answer({ do: "continue" }),
    branch: ({ article, button }) => branch(article, button),
    choose: async ({ article, button }) => {
      if (running) return;
      const values = { do: "choose", conversation, message: article.dataset.message, version: button.dataset.version };
      const reply = await act(values, button);
      if (reply) show({ turns: reply.show.turns });
    },
  };

  async function branch(article, button) {
    const reply = await act({ do: "branch", message: article.dataset.message }, button);
    return Boolean(reply) && open(reply.open);
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      const label = button.textContent;
      button.textContent = label.length > 1 ? "Copied" : "✓";
      setTimeout(() => (button.textContent = label), 1500);
    } catch {
      say("The browser did not let the page copy. Select the text instead.", true);
    }
  }

  /* A turn becomes a text box: save it, or, for a question, have it answered again. */
  function edit(article) {
    if (article.querySelector(".editing")) return;
    const isQuestion = article.classList.contains("question");
    const isLast = ![...thread().querySelectorAll(".question")].some((other) => article.compareDocumentPosition(other) & 4);
    const box = element("textarea", { value: article.dataset.text, className: "edit-box", ariaLabel: "Edit the message", title: "Ctrl+Enter saves, Esc leaves it as it was" });
    const form = element("form", { className: "editing" }, box);
    const tools = element("div", { className: "choices" });
    tools.append(element("button", { type: "button", textContent: "Cancel", value: "cancel" }));
    tools.append(element("button", { type: "submit", textContent: "Save", value: "save", className: isQuestion ? "" : "primary" }));
    if (isQuestion) {
      const label = isLast ? "Save and answer" : "Branch and answer";
      tools.append(element("button", { type: "submit", textContent: label, value: "answer", className: "primary" }));
    }
    form.append(tools);
    article.append(form);
    article.classList.add("is-edited");
    const close = () => {
      form.remove();
      article.classList.remove("is-edited");
    };
    const save = async (message) => {
      const reply = await act({ do: "edit", conversation, message, text: box.value });
      if (reply) show({ turns: reply.show.turns });
      return Boolean(reply);
    };
    form.querySelector("[value=cancel]").addEventListener("click", close);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(tools.lastChild);
      else return;
      event.stopPropagation();
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answers = event.submitter?.value === "answer";
      if (running) return say("An answer is being written. Stop it first.", true);
      if (!answers || isLast) {
        if ((await save(article.dataset.message)) && answers) answer({ do: "regenerate" });
        return;
      }
      const text = box.value;
      if (!text.trim()) return say("The message would be empty.", true);
      if (!(await branch(article))) return;
      const copied = [...thread().querySelectorAll(".question")].at(-1);
      const reply = await act({ do: "edit", conversation, message: copied.dataset.message, text });
      if (reply) {
        show({ turns: reply.show.turns });
        answer({ do: "regenerate" });
      }
    });
    box.style.height = `${Math.min(box.scrollHeight + 4, 400)}px`;
    box.focus();
  }

  function clicked(event) {
    const target = event.target;
    const button = target.closest("button");
    const opener = target.closest("[data-open]");
    if (opener && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      if (running && opener.dataset.open === conversation) workbench.closeDrawers(true);
      else open(opener.dataset.open);
    }
    if (!button) return;
    const article = button.closest(".turn");
    if (button.dataset.turnDo && article) handlers[button.dataset.turnDo]({ article, button });
    else if (button.dataset.copyCode !== undefined) copy(button.closest(".code").querySelector("code").textContent, button);
    else if (button.dataset.do) changeConversation(button);
    else buttons[button.id]?.(button);
  }

  const buttons = {
    "new-chat": () => newChat(),
    stop: () => stop(),
    latest: () => toEnd(),
    model: () => openMenu(),
    import: () => byId("import-file").click(),
    "save-preset": (button) => savePreset(button),
    "delete-preset": (button) => deletePreset(button),
    "compare-done": () => byId("models-dialog").close(),
  };

  function newChat() {
    pick(picked.slice(0, 1));
    open("");
  }

  // --- Conversations --------------------------------------------------------------------------------------

  function showList(html) {
    const fresh = document.createElement("div");
    fresh.innerHTML = html;
    workbench.morph(byId("conversations"), fresh);
    markOpen();
  }

  function markOpen() {
    for (const link of byId("conversations").querySelectorAll("[data-open]")) {
      if (link.dataset.open === conversation) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  let searching = 0;
  function searchSoon() {
    clearTimeout(searching);
    searching = setTimeout(list, 200);
  }

  async function list() {
    const search = byId("conversation-search").value;
    const reply = await act({ do: "list_conversations", search });
    if (reply && byId("conversation-search").value === search) showList(reply.show.list);
  }

  async function changeConversation(button) {
    const values = workbench.request(button);
    const reply = await act(values, button);
    if (!reply) return;
    if (values.do === "delete" && values.conversation === conversation) await open("");
    list();
  }

  async function importFile({ target }) {
    const [file] = target.files;
    target.value = "";
    if (!file) return;
    if (file.size > MOST_BYTES) return say("The file is larger than 80 MB, too large for a conversation.", true);
    const reply = await act({ do: "import_conversation", text: await file.text() });
    if (reply) await open(reply.open);
  }

  // --- Models ---------------------------------------------------------------------------------------------

  function showFrame(data) {
    models = data.models;
    picked = picked.filter((name) => models.some((model) => model.name === name));
    if (!picked.length) {
      const able = models.filter(({ servable }) => servable);
      const first = able.find(({ residency }) => residency === "device") ?? able[0];
      if (first) picked = [first.name];
    }
    showPicked();
    if (byId("models-dialog").open) showModels();
  }

  function pick(names) {
    picked = names;
    showPicked();
  }

  function showPicked() {
    const chosen = picked.map((name) => models.find((model) => model.name === name)).filter(Boolean);
    const label = chosen.length ? chosen.map(({ name }) => name).join(" + ") : "Pick a model";
    const parts = [element("span", { className: "name", textContent: label })];
    if (chosen.length === 1) parts.push(badge(chosen[0]));
    byId("model").replaceChildren(...parts, element("span", { className: "caret", textContent: "▾", ariaHidden: "true" }));
    byId("model").setAttribute("aria-label", `Model: ${label}${chosen.length === 1 ? `, ${chosen[0].label}` : ""}`);
    const note = byId("model-note");
    note.classList.toggle("bad", chosen[0]?.residency === "broken");
    if (chosen.length > 1) note.textContent = "Each message goes to all of them, side by side.";
    else if (!chosen.length) note.textContent = "Pick a model to chat with.";
    else {
      const [{ note: text, facts, servable }] = chosen;
      note.textContent = [text, servable ? facts : ""].filter(Boolean).join(" · ");
      if (!servable) note.append(" ", element("a", { href: "models", textContent: "See it on the Models page" }));
    }
  }

  const badge = ({ residency, label }) => element("span", { className: `badge badge-${residency}`, textContent: label });

  function openMenu() {
    const dialog = byId("models-dialog");
    pickedBefore = picked;
    byId("model-search").value = "";
    byId("compare").checked = picked.length > 1;
    showModels();
    dialog.showModal();
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
      element("span", { className: "facts", textContent: model.facts || model.note }),
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

  document.addEventListener("click", ({ target }) => {
    const dialog = byId("models-dialog");
    if (!dialog?.open) return;
    if (target === dialog) return dialog.close(); // beside it
    const choice = target.closest("[data-pick]");
    const tool = target.closest("[data-model-do]");
    if (tool && dialog.contains(tool)) act({ do: tool.dataset.modelDo, model: tool.dataset.model }, tool);
    if (!choice || !dialog.contains(choice)) return;
    const name = choice.dataset.pick;
    if (!byId("compare").checked) {
      pick([name]);
      dialog.close();
      byId("message").focus();
    } else {
      picked = picked.includes(name) ? picked.filter((other) => other !== name) : [...picked, name];
      showModels();
    }
  });

  function moveInMenu(event) {
    const rows = [...byId("model-list").querySelectorAll(".choose")];
    const here = rows.indexOf(document.activeElement);
    if (event.key === "ArrowDown") (rows[here + 1] ?? rows[0])?.focus();
    else if (event.key === "ArrowUp") (rows[here - 1] ?? byId("model-search")).focus();
    else if (event.key === "Enter" && document.activeElement === byId("model-search")) rows[0]?.click();
    else return;
    event.preventDefault();
  }

  // --- Settings -------------------------------------------------------------------------------------------

  const parameterInputs = () => [...document.querySelectorAll("#chat-settings .parameters input")];
  const parameter = (name) => parameterInputs().find((input) => input.name === name) ?? {};
  const parameters = () => Object.fromEntries(parameterInputs().map(({ name, value }) => [name, value]));

  function showPresets(html) {
    const chosen = byId("preset").value;
    byId("preset").innerHTML = html;
    byId("preset").value = [...byId("preset").options].some(({ value }) => value === chosen) ? chosen : "";
    byId("delete-preset").hidden = !byId("preset").value;
  }

  async function usePreset() {
    const name = byId("preset").value;
    byId("delete-preset").hidden = !name;
    if (!name) return;
    const reply = await act({ do: "use_preset", name });
    if (reply) show(reply.show);
  }

  async function savePreset(button) {
    const reply = await act({ do: "save_preset", system: byId("system-prompt").value, ...parameters() }, button);
    if (!reply) return;
    show(reply.show);
    byId("preset").value = reply.saved;
    byId("delete-preset").hidden = false;
  }

  async function deletePreset(button) {
    const reply = await act({ do: "delete_preset", name: byId("preset").value }, button);
    if (reply) show(reply.show);
  }

  // --- Keyboard, drafts -----------------------------------------------------------------------------------

  addEventListener("keydown", (event) => {
    if (document.body.dataset.page !== "chat" || document.querySelector("dialog[open]")) return;
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key.toLowerCase() === "k") openMenu();
    else if (event.altKey && event.code === "KeyN") newChat();
    else if (event.key === "Escape" && running && event.target.type !== "search") stop();
    else return;
    event.preventDefault();
  });

  function fit() {
    const box = byId("message");
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 220)}px`;
  }

  /* What is being written survives a reload, by the person or after a restart of the server. */
  addEventListener("pagehide", () => sessionStorage.setItem("draft", byId("message")?.value ?? ""));

  function restoreDraft() {
    byId("message").value = sessionStorage.getItem("draft") ?? "";
    fit();
  }

  return { mount };
})();
