/* The Chat page: the thread, the composer and the keyboard. What else there is has files of its own: answers as they
   grow (chat_answers.js), what is done with turns (chat_turns.js), the model menu (chat_models.js), conversations
   and settings (chat_side.js). Turns come from the server as ready HTML, made and escaped by render/chat.py; all
   else is set as text. */
workbench.chat = (() => {
  const byId = (id) => document.getElementById(id);
  const NEAR_END = 80; // px from the end within which the thread follows what is written
  const RETRY_MS = 2000;

  let server = null; // the component's functions on the server
  let conversation = ""; // id of the open one, "" for a new one
  let opening = 0; // counts, so that of two conversations that are opened the later one shows
  let follows = true; // whether the thread stays at its end

  const chat = {
    byId,
    buttons: {}, // id -> what a click does
    act: (values, button) => workbench.act(server, values, button),
    conversation: () => conversation,
    mount,
    show,
    open,
    newChat,
    turnOf,
    fit,
    follow: () => (follows = true),
  };

  function mount(root, functions) {
    server = functions;
    workbench.region("warming", byId("warming"));
    root.addEventListener("click", clicked);
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      chat.answers.send();
    });
    byId("message").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        chat.answers.send();
      }
    });
    byId("message").addEventListener("input", fit);
    byId("chat").addEventListener("scroll", scrolled, { passive: true });
    Object.assign(chat.buttons, { "new-chat": newChat, latest: toEnd });
    for (const part of [chat.answers, chat.models, chat.side]) part.mount();
    restoreDraft();
    open(workbench.wanted(), true);
    byId("message").focus();
  }

  function clicked(event) {
    const target = event.target;
    const button = target.closest("button");
    const opener = target.closest("[data-open]");
    if (opener && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault();
      if (chat.answers.running() && opener.dataset.open === conversation) workbench.closeDrawers(true);
      else open(opener.dataset.open);
    }
    if (!button) return;
    const article = button.closest(".turn");
    if (button.dataset.turnDo && article) chat.turns[button.dataset.turnDo]({ article, button });
    else if (button.dataset.copyCode !== undefined) chat.turns.copyCode(button);
    else if (button.dataset.do) chat.side.change(button);
    else chat.buttons[button.id]?.(button);
  }

  // --- The thread ---------------------------------------------------------------------------------------

  const thread = () => byId("thread");

  function turnOf(key) {
    return thread().querySelector(`[data-turn="${CSS.escape(key)}"]`);
  }

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
    if (update.conversation !== undefined) setConversation(update.conversation);
    chat.side.show(update);
    if (update.draft && !byId("message").value) {
      byId("message").value = update.draft;
      fit();
    }
    if (!update.turns) return;
    chat.models.showContext();
    if (follows) toEnd();
  }

  function toEnd() {
    const box = byId("chat");
    box.scrollTop = box.scrollHeight;
  }

  function scrolled() {
    const box = byId("chat");
    follows = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
    byId("latest").hidden = follows;
  }

  async function open(id, first = false) {
    const turn = ++opening;
    chat.answers.leave();
    const reply = await chat.act({ do: "open_conversation", conversation: id });
    if (!reply && first && turn === opening) setTimeout(() => open(id, true), RETRY_MS); // the server is down
    if (turn !== opening || !reply) return false;
    thread().replaceChildren();
    follows = true;
    const { model, ...update } = reply.show;
    if (!update.conversation && !first) update.system = "";
    show(update);
    chat.models.pickIfHere(model);
    toEnd();
    workbench.closeDrawers(true);
    if (!first) byId("message").focus();
    return true;
  }

  function newChat() {
    chat.models.pickOne();
    open("");
  }

  function setConversation(id) {
    conversation = id;
    workbench.opened(id);
    chat.side.markOpen();
  }

  // --- Keyboard, drafts -----------------------------------------------------------------------------------

  addEventListener("keydown", (event) => {
    if (document.body.dataset.page !== "chat" || document.querySelector("dialog[open]")) return;
    if (event.defaultPrevented) return; // it has closed a drawer
    const control = event.ctrlKey || event.metaKey;
    if (control && event.key.toLowerCase() === "k") chat.models.openMenu();
    else if (event.altKey && event.code === "KeyN") newChat();
    else if (event.key === "Escape" && chat.answers.running() && event.target.type !== "search") chat.answers.stop();
    else return;
    event.preventDefault();
  });

  /* Make the box as high as what is in it. */
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

  return chat;
})();
