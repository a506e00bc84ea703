/* What stands beside the thread: conversations on the left, settings on the right. */
workbench.chat.side = (() => {
  const chat = workbench.chat;
  const { byId } = chat;
  const { BASE, say } = workbench;
  const MOST_BYTES = 80e6; // of a file to import; the server counts more exactly

  let searching = 0;

  function mount() {
    Object.assign(chat.buttons, {
      import: () => byId("import-file").click(),
      "save-preset": savePreset,
      "delete-preset": deletePreset,
    });
    byId("conversation-search").addEventListener("input", () => {
      clearTimeout(searching);
      searching = setTimeout(list, 200);
    });
    byId("import-file").addEventListener("change", importFile);
    byId("preset").addEventListener("change", usePreset);
    chat.act({ do: "list_presets" }).then((reply) => chat.show(reply?.show));
  }

  /* What of an update belongs here; see chat_flow.Update. */
  function show(update) {
    if (update.list !== undefined) {
      if (byId("conversation-search").value) list();
      else showList(update.list);
    }
    if (update.presets !== undefined) showPresets(update.presets);
    if (update.system !== undefined) {
      byId("system-prompt").value = update.system;
      choosePreset(""); // another chat has its own
    }
    for (const [name, text] of Object.entries(update.options ?? {})) parameter(name).value = text;
  }

  // --- Conversations ------------------------------------------------------------------------------------

  function showList(html) {
    const fresh = document.createElement("div");
    fresh.innerHTML = html;
    workbench.morph(byId("conversations"), fresh);
    markOpen();
  }

  function markOpen() {
    const id = chat.conversation();
    for (const link of byId("conversations").querySelectorAll("[data-open]")) {
      if (link.dataset.open === id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    for (const [link, form] of [["export-json", "json"], ["export-markdown", "markdown"]]) {
      byId(link).hidden = !id;
      byId(link).href = new URL(`chat/${id}/export?form=${form}`, BASE);
    }
  }

  async function list() {
    const search = byId("conversation-search").value;
    const reply = await chat.act({ do: "list_conversations", search });
    if (reply && byId("conversation-search").value === search) showList(reply.show.list);
  }

  /* Rename it or delete it, as the button says. */
  async function change(button) {
    const values = workbench.request(button);
    const reply = await chat.act(values, button);
    if (!reply) return;
    const wasOpen = values.conversation === chat.conversation();
    if (values.do === "delete") {
      say(reply.deleted, false, () => restore(values.conversation, wasOpen));
      if (wasOpen) await chat.open("");
    }
    list();
  }

  async function restore(conversation, opens) {
    const reply = await chat.act({ do: "restore", conversation });
    if (reply && opens && !chat.answers.running()) await chat.open(conversation);
    list();
  }

  async function importFile({ target }) {
    const [file] = target.files;
    target.value = "";
    if (!file) return;
    if (file.size > MOST_BYTES) return say("The file is larger than 80 MB, too large for a conversation.", true);
    const reply = await chat.act({ do: "import_conversation", text: await file.text() });
    if (reply) await chat.open(reply.open);
  }

  // --- Settings -----------------------------------------------------------------------------------------

  const parameterInputs = () => [...document.querySelectorAll("#chat-settings .parameters input")];
  const parameter = (name) => parameterInputs().find((input) => input.name === name) ?? {};
  const parameters = () => Object.fromEntries(parameterInputs().map(({ name, value }) => [name, value]));

  /* In empty fields, what the models that are picked do by themselves. */
  function showDefaults(defaults) {
    for (const input of parameterInputs()) {
      const own = new Set(defaults.map((texts) => texts[input.name]));
      input.placeholder = own.size === 1 ? [...own][0] : "each its own";
    }
  }

  function showPresets(html) {
    const wanted = byId("preset").value;
    byId("preset").innerHTML = html;
    byId("preset").value = [...byId("preset").options].some(({ value }) => value === wanted) ? wanted : "";
    byId("delete-preset").hidden = !byId("preset").value;
  }

  async function usePreset() {
    const name = byId("preset").value;
    if (!name) {
      show({ system: "", options: Object.fromEntries(parameterInputs().map((input) => [input.name, ""])) });
      return;
    }
    const reply = await chat.act({ do: "use_preset", name });
    if (reply) show(reply.show);
    choosePreset(reply ? name : "");
  }

  function choosePreset(name) {
    byId("preset").value = name;
    byId("delete-preset").hidden = !name;
  }

  async function savePreset(button) {
    const reply = await chat.act({ do: "save_preset", system: byId("system-prompt").value, ...parameters() }, button);
    if (!reply) return;
    show(reply.show);
    choosePreset(reply.saved);
  }

  async function deletePreset(button) {
    const reply = await chat.act({ do: "delete_preset", name: byId("preset").value }, button);
    if (reply) show(reply.show);
  }

  /* What goes with each message. */
  const asked = () => ({ system: byId("system-prompt").value, options: parameters() });

  return { mount, show, change, markOpen, showDefaults, asked };
})();
