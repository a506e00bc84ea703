/* The Models page: a filter over the rows that its live panel draws. */
workbench.models = (() => {
  const filter = () => document.getElementById("model-filter");

  /* Show the models that have every word in one of their cells; what buttons say does not count. */
  function apply() {
    const words = filter()?.value.toLowerCase().split(/\s+/).filter(Boolean) ?? [];
    const rows = [...document.querySelectorAll("#model-catalog [data-testid=model]")];
    for (const row of rows) {
      const text = [...row.cells].slice(0, -1).map((cell) => cell.textContent).join("\n").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    document.getElementById("no-model").hidden = !rows.length || rows.some((row) => !row.hidden);
  }

  function mount() {
    filter().addEventListener("input", apply);
    workbench.view("models", apply);
  }

  return { mount };
})();
