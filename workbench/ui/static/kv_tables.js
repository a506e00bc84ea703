/* Block tables: from a request's logical blocks to physical ones. */
(() => {
  const { drawings, number, count, make, setText, light } = workbench.kv;
  const HEAD_CHIPS = 14; // of a long block table, unless it is unfolded
  const TAIL_CHIPS = 4;
  const MAX_CHIPS = 512;

  const HEADS = ["Request", "Phase", "Tokens", "Last block", "Shared prefix", "Block table: physical blocks, in logical order"];

  class BlockTables {
    constructor(root, section) {
      this.section = section;
      this.empty = make("p", { className: "empty", textContent: "No request holds blocks now. Send a message, and look here while it is answered." });
      this.rows = make("tbody");
      const heads = HEADS.map((text) => make("th", { scope: "col", textContent: text }));
      this.table = make("table", { className: "kv-table" }, make("thead", {}, make("tr", {}, ...heads)), this.rows);
      this.table.setAttribute("aria-label", "Block tables");
      this.more = make("p", { className: "quiet" });
      this.frame = make("div", { className: "kv-rows", tabIndex: 0 }, this.table);
      this.frame.setAttribute("role", "region");
      this.frame.setAttribute("aria-label", "Block tables of all requests");
      root.append(this.empty, this.frame, this.more);
      this.known = new Map();
      for (const [event, on] of [["pointerover", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
        this.rows.addEventListener(event, ({ target }) => light(this.section, on ? target.closest("tr")?.dataset.label : null));
      }
    }

    show(model) {
      const present = new Map();
      model.requests.forEach((request, index) => {
        const row = this.known.get(request.label) ?? this.newRow(request.label);
        present.set(request.label, row);
        this.fill(row, request, model);
        if (this.rows.children[index] !== row.element) this.rows.insertBefore(row.element, this.rows.children[index] ?? null);
      });
      for (const [label, row] of this.known) if (!present.has(label)) row.element.remove();
      this.known = present;
      this.empty.hidden = model.requests.length > 0;
      this.frame.hidden = !this.empty.hidden;
      setText(this.more, model.untold ? `${count(model.untold, "more request")} hold blocks, too many to list.` : "");
    }

    newRow(label) {
      const swatch = make("i", { className: "kv-swatch" });
      const name = make("strong");
      const id = make("span", { className: "quiet kv-id" });
      const [phase, tokens, last, shared] = [0, 1, 2, 3].map(() => make("td"));
      const chips = make("ol", { className: "kv-chips" });
      const button = make("button", { type: "button", className: "kv-more" });
      button.setAttribute("aria-label", `All blocks of request ${label}`);
      const cells = [make("td", {}, swatch, name, id), phase, tokens, last, shared, make("td", {}, chips, button)];
      cells.forEach((cell, index) => (cell.dataset.head = HEADS[index]));
      const element = make("tr", {}, ...cells);
      element.dataset.label = label;
      element.dataset.testid = "kv-request";
      const row = { element, swatch, name, id, phase, tokens, last, shared, chips, button, unfolded: false };
      button.addEventListener("click", () => {
        row.unfolded = !row.unfolded;
        row.refill();
      });
      return row;
    }

    fill(row, request, model) {
      const size = model.main === null ? 0 : model.groups[model.main][1];
      const table = request.tables[model.main ?? 0];
      row.swatch.style.background = `var(--kv-${request.colour})`;
      setText(row.name, `Request ${request.label}`);
      setText(row.id, request.id);
      if (row.id.title !== request.id) row.id.title = request.id;
      const prefill = request.computed < request.prompt;
      setText(row.phase, !request.running ? "waiting" : prefill ? "prefill" : "decode");
      const reused = request.reused ? `, ${number(request.reused)} from the prefix cache` : "";
      const total = number(request.prompt + request.output);
      setText(row.tokens, `${total}: ${number(request.prompt)} prompt${reused}, ${number(request.output)} answer`);
      const inLast = size && request.computed ? ((request.computed - 1) % size) + 1 : 0;
      setText(row.last, size ? `${number(inLast)} of ${number(size)}` : "–");
      setText(row.shared, request.shared ? `${number(request.shared * size)} tokens, ${count(request.shared, "block")}` : "none");
      row.refill = () => this.fillChips(row, table, model);
      row.refill();
    }

    fillChips(row, table, model) {
      const all = readChips(table, model);
      const long = all.length > HEAD_CHIPS + TAIL_CHIPS + 1;
      const left = all.slice(HEAD_CHIPS, -TAIL_CHIPS).reduce((sum, chip) => sum + chip.blocks, 0);
      const chips = long && !row.unfolded ? [...all.slice(0, HEAD_CHIPS), foldChip(left), ...all.slice(-TAIL_CHIPS)] : all;
      row.button.hidden = !long;
      setText(row.button, row.unfolded ? "Fewer" : "More");
      row.button.setAttribute("aria-expanded", row.unfolded);
      while (row.chips.children.length > chips.length) row.chips.lastChild.remove();
      chips.forEach(({ text, title, kind, logical }, index) => {
        const chip = row.chips.children[index] ?? row.chips.appendChild(make("li", {}, make("small"), make("span")));
        if (chip.title !== title) chip.title = title;
        if (chip.dataset.kind !== kind) chip.dataset.kind = kind;
        setText(chip.firstChild, logical);
        setText(chip.lastChild, text);
      });
    }
  }

  function readChips(table, model) {
    const chips = [];
    let rest = 0;
    for (const [logical, first, length] of table?.runs ?? []) {
      if (first === null) chips.push(foldChip(length));
      else if (first === 0) chips.push({ ...foldChip(length), text: `– ×${number(length)}`, title: `${count(length, "block")} that the window has left behind` });
      else {
        for (let offset = 0; offset < length; offset++) {
          if (chips.length >= MAX_CHIPS) rest += 1;
          else chips.push(blockChip(logical + offset, first + offset, model));
        }
      }
    }
    return rest ? [...chips, foldChip(rest)] : chips;
  }

  function blockChip(logical, block, model) {
    const shared = (model.owners.get(block)?.length ?? 0) > 1;
    const title = `logical block ${number(logical)} is physical block ${number(block)}${shared ? ", shared" : ""}`;
    return { logical: number(logical), text: number(block), title, kind: shared ? "shared" : "own", blocks: 1 };
  }

  function foldChip(blocks) {
    return { logical: "", text: `… ${number(blocks)} …`, title: count(blocks, "more block"), kind: "fold", blocks };
  }

  drawings.tables = BlockTables;
})();
