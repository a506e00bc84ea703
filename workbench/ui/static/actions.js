/* What buttons ask of the server: the questions that come back, what is told of the outcome. */
(() => {
  const { element } = workbench;

  const busy = new WeakMap(); // button -> its action that runs; not disabled, which would take the focus away

  /* Ask the server for something, with the questions it has; returns its reply, or null if nothing was done. */
  async function act(server, values, button = {}) {
    if (busy.get(button) === values.do) return null;
    busy.set(button, values.do); // a button may come to stand for another action meanwhile
    try {
      let reply = await server.act(values);
      if (reply.ask) {
        const answers = await ask(reply.ask);
        if (!answers) return null;
        reply = await server.act({ ...values, ...answers, confirmed: "yes" });
      }
      if (reply.tell) await tell(reply.tell);
      if (reply.done ?? reply.error) say(reply.done ?? reply.error, Boolean(reply.error));
      if (reply.download) location.assign(new URL(reply.download, workbench.BASE)); // an attachment: the page stays
      return reply.error ? null : reply;
    } catch {
      workbench.session();
      say("Workbench did not answer. Try again when the connection is back.", true);
      return null;
    } finally {
      if (busy.get(button) === values.do) busy.delete(button);
    }
  }

  /* A question in a dialog. Resolves to the answers, or null if the person changes their mind. */
  function ask({ text, more, button, field, option, calm }) {
    const form = element("form", { method: "dialog" }, element("p", { textContent: text, id: "dialog-text" }));
    if (more) form.append(element("p", { textContent: more, id: "dialog-more", className: "more" }));
    if (field) {
      const input = element("input", { name: field.name, value: field.value, autocomplete: "off", required: true });
      form.append(element("label", { textContent: field.label }, input));
    }
    if (option) {
      const tick = element("input", { type: "checkbox", name: option.name, value: "yes" });
      form.append(element("label", { className: "tick" }, tick, element("span", { textContent: option.label })));
    }
    form.append(
      element(
        "div",
        { className: "choices" },
        element("button", { textContent: "Cancel", value: "no", formNoValidate: true, type: "submit" }),
        element("button", { textContent: button, value: "yes", className: field || calm ? "primary" : "danger" }),
      ),
    );
    const dialog = element("dialog", { className: "ask" }, form);
    dialog.setAttribute("aria-labelledby", "dialog-text");
    if (more) dialog.setAttribute("aria-describedby", "dialog-more");
    document.body.append(dialog);
    dialog.showModal();
    form.querySelector("input:not([type=checkbox])")?.select();
    return new Promise((resolve) => {
      form.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && event.target.tagName === "INPUT") {
          event.preventDefault();
          form.requestSubmit(form.querySelector("button[value=yes]"));
        }
      });
      dialog.addEventListener("close", () => {
        dialog.remove();
        resolve(dialog.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null);
      });
    });
  }

  /* Something to copy that is not shown again. */
  async function tell({ text, more, secret }) {
    const shown = element("textarea", { value: secret, readOnly: true, rows: 2, ariaLabel: text, className: "secret" });
    shown.addEventListener("focus", () => shown.select());
    const copy = element("button", { textContent: "Copy", type: "button", className: "primary" });
    copy.addEventListener("click", async () => {
      shown.select();
      // Over plain HTTP browsers have no clipboard but this one.
      await (navigator.clipboard?.writeText(secret) ?? document.execCommand("copy"));
      copy.textContent = "Copied";
    });
    const form = element(
      "form",
      { method: "dialog" },
      element("p", { textContent: text, id: "dialog-text" }),
      element("p", { textContent: more, id: "dialog-more", className: "more" }),
      shown,
      element("div", { className: "choices" }, copy, element("button", { textContent: "Done" })),
    );
    const dialog = element("dialog", { className: "ask" }, form);
    dialog.setAttribute("aria-labelledby", "dialog-text");
    dialog.setAttribute("aria-describedby", "dialog-more");
    document.body.append(dialog);
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve));
    dialog.remove();
  }

  /* A note that goes by itself; with `undo`, it has a button for that. */
  function say(text, bad, undo) {
    const note = element("div", { className: bad ? "toast bad" : "toast", textContent: text });
    if (undo) note.append(element("button", { type: "button", textContent: "Undo", onclick: undo }));
    document.getElementById("toasts").append(note);
    setTimeout(() => note.remove(), bad || undo ? 10000 : 4000);
    note.addEventListener("click", () => note.remove());
  }

  Object.assign(workbench, { act, say });
})();
