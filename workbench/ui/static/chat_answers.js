/* Answers: asked for, shown as they grow, stopped and left. */
workbench.chat.answers = (() => {
  const chat = workbench.chat;
  const { byId } = chat;
  const { BASE, say } = workbench;

  let running = null; // the answer that is being written: its name and how to leave it

  function mount() {
    chat.buttons.stop = stop;
  }

  function send() {
    const text = byId("message").value;
    if (!text.trim()) return;
    if (running) return say("An answer is being written. Wait for its end, or stop it with Esc.");
    byId("message").value = "";
    chat.fit();
    chat.follow();
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
    for (const key of ["question", "answer"]) chat.turnOf(key)?.remove(); // of a message that was refused
    const asked = {
      ...what,
      stream,
      conversation: chat.conversation() ? Number(chat.conversation()) : null,
      models: chat.models.picked(),
      ...chat.side.asked(),
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
      for await (const update of lines(response.body)) if (running === mine) chat.show(update);
    } catch (error) {
      if (running === mine) broken(what, begun, error.status);
    }
    if (running === mine) ended();
  }

  /* No answer, or no more of it: what of it is kept only the server knows. */
  function broken(what, begun, status) {
    if (begun) return say("The connection broke off. What was written is kept.", true);
    if (!byId("message").value) byId("message").value = what.text ?? "";
    chat.fit();
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
  function stop() {
    if (running) chat.act({ do: "stop", stream: running.stream }, byId("stop"));
  }

  /* Leave: another conversation is opened; the server ends the answer when nobody listens. */
  function leave() {
    running?.leaving.abort();
    ended();
  }

  return { mount, send, answer, stop, leave, running: () => running !== null };
})();
