/* What is done with a turn of the thread; the names are those that its buttons carry. */
workbench.chat.turns = (() => {
  const chat = workbench.chat;
  const { element, say } = workbench;
  const HIGHEST_BOX = 400; // px
  const COPIED_MS = 1500;

  async function choose({ article, button }) {
    if (chat.answers.running()) return;
    const { message } = article.dataset;
    const values = { do: "choose", conversation: chat.conversation(), message, version: button.dataset.version };
    const reply = await chat.act(values, button);
    if (reply) chat.show({ turns: reply.show.turns });
  }

  async function branch({ article, button }) {
    const reply = await chat.act({ do: "branch", message: article.dataset.message }, button);
    return Boolean(reply) && chat.open(reply.open);
  }

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      if (button.dataset.copied !== undefined) return;
      const label = [...button.childNodes]; // an icon or a word
      button.dataset.copied = "";
      button.textContent = button.ariaLabel ? "✓" : "Copied";
      setTimeout(() => {
        button.replaceChildren(...label);
        delete button.dataset.copied;
      }, COPIED_MS);
    } catch {
      say("The browser did not let the page copy. Select the text instead.", true);
    }
  }

  // --- Editing ------------------------------------------------------------------------------------------

  /* A turn becomes a text box: save it, or, for a question, have it answered again. */
  function edit({ article }) {
    if (article.querySelector(".editing")) return;
    const isQuestion = article.classList.contains("question");
    const questions = [...chat.byId("thread").querySelectorAll(".question")];
    const isLast = !questions.some((other) => article.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);
    const [form, box] = editForm(article.dataset.text, isQuestion && (isLast ? "Save and answer" : "Branch and answer"));
    article.append(form);
    article.classList.add("is-edited");
    const close = () => {
      form.remove();
      article.classList.remove("is-edited");
    };
    form.querySelector("[value=cancel]").addEventListener("click", close);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(form.querySelector(".primary"));
      else return;
      event.stopPropagation();
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (chat.answers.running()) return say("An answer is being written. Stop it first.", true);
      const answers = event.submitter?.value === "answer";
      if (answers && !isLast) branchAndAnswer(article, box.value);
      else if ((await save(article.dataset.message, box.value)) && answers) chat.answers.answer({ do: "regenerate" });
    });
    box.style.height = `${Math.min(box.scrollHeight + 4, HIGHEST_BOX)}px`;
    box.focus();
  }

  /* Its form and the box in it; `answering` labels the button that has it answered too. */
  function editForm(text, answering) {
    const box = element("textarea", { value: text, className: "edit-box", ariaLabel: "Edit the message", title: "Ctrl+Enter saves, Esc leaves it as it was" });
    const tools = element("div", { className: "choices" });
    tools.append(element("button", { type: "button", textContent: "Cancel", value: "cancel" }));
    tools.append(element("button", { type: "submit", textContent: "Save", value: "save", className: answering ? "" : "primary" }));
    if (answering) tools.append(element("button", { type: "submit", textContent: answering, value: "answer", className: "primary" }));
    return [element("form", { className: "editing" }, box, tools), box];
  }

  async function save(message, text) {
    const reply = await chat.act({ do: "edit", conversation: chat.conversation(), message, text });
    if (reply) chat.show({ turns: reply.show.turns });
    return Boolean(reply);
  }

  /* An earlier question is changed in a branch, so that what was said is not lost. */
  async function branchAndAnswer(article, text) {
    if (!text.trim()) return say("The message would be empty.", true);
    if (!(await branch({ article }))) return;
    const copied = [...chat.byId("thread").querySelectorAll(".question")].at(-1);
    if (await save(copied.dataset.message, text)) chat.answers.answer({ do: "regenerate" });
  }

  return {
    copy: ({ article, button }) => copy(article.dataset.text, button),
    copyCode: (button) => copy(button.closest(".code").querySelector("code").textContent, button),
    edit,
    regenerate: () => chat.answers.answer({ do: "regenerate" }),
    continue: () => chat.answers.answer({ do: "continue" }),
    branch,
    choose,
  };
})();
