/* The KV cache page: draws block maps, block tables and the batching strip into the places that the live
   panel leaves to it (`data-own`). Text from outside is set as text, never as HTML. */
(() => {
  const STATES = { n: "null", ".": "free", k: "kept", u: "used", s: "shared" };
  const HEAD_CHIPS = 14; // of a long block table, unless it is unfolded
  const TAIL_CHIPS = 4;
  const MAX_CHIPS = 512;
  const GAP_CELLS = 4; // width of a fold that stands for free blocks
  const STRIPES = 4; // owners that a shared block shows
  const parts = new WeakMap(); // element that is ours -> what draws into it

  const number = (value) => value.toLocaleString("en");
  const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
  const seconds = (hundredths) => `${(hundredths / 100).toFixed(hundredths < 1000 ? 2 : 1)} s`;

  function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  /* Change a text only if it is another one, so that nothing is announced or laid out for no reason. */
  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // --- What frames say ----------------------------------------------------------------------------------

  /* "17-20 31 0x3 ~9 40" as runs of [logical block, first physical block or null, length]. */
  function readTable(text) {
    const runs = [];
    let logical = 0;
    for (const word of text ? text.split(" ") : []) {
      const [, mark, first, sign, second] = /^(~?)(\d+)(?:([-x])(\d+))?$/.exec(word);
      const start = Number(first);
      const length = mark ? start : sign === "-" ? Number(second) - start + 1 : sign === "x" ? Number(second) : 1;
      runs.push([logical, mark ? null : start, length]);
      logical += length;
    }
    return { runs, length: logical };
  }

  function readRequest([label, id, colour, running, prompt, output, computed, reused, shared, tables]) {
    return { label, id, colour, running, prompt, output, computed, reused, shared, tables: tables.map(readTable) };
  }

  /* Who holds a block: physical block -> [{request, logical, group}], from the tables as far as they are told. */
  function readOwners(model) {
    const owners = new Map();
    for (const request of model.requests) {
      request.tables.forEach((table, group) => {
        for (const [logical, first, length] of table.runs) {
          if (!first) continue; // left out, or a placeholder
          for (let offset = 0; offset < length; offset++) {
            const holders = owners.get(first + offset) ?? [];
            holders.push({ request, logical: logical + offset, group });
            owners.set(first + offset, holders);
          }
        }
      });
    }
    return owners;
  }

  /* Cells of the map in order; `fold` is a stretch of free blocks that is not drawn block by block. */
  function readCells({ map, blocks }) {
    if (map.cells) return readGroups(map.cells, blocks);
    const cells = [];
    let next = 0;
    for (const [start, letters] of map.parts) {
      if (start > next) cells.push({ from: next, to: start, state: "fold" });
      [...letters].forEach((letter, index) => {
        cells.push({ from: start + index, to: start + index + 1, state: STATES[letter] });
      });
      next = start + letters.length;
    }
    if (next < blocks) cells.push({ from: next, to: blocks, state: "fold" });
    return cells;
  }

  function readGroups({ per, used, shared, kept, owners }, blocks) {
    return used.map((_, index) => {
      const from = index * per;
      const to = Math.min(from + per, blocks);
      const cell = { from, to, used: used[index], shared: shared[index], kept: kept[index], colour: owners?.[index] };
      const taken = cell.used + cell.shared;
      return { ...cell, state: taken ? "group" : cell.kept ? "kept" : "free", fill: taken / (to - from) };
    });
  }

  function readModel(model) {
    const read = { ...model, requests: model.requests.map(readRequest) };
    return { ...read, owners: readOwners(read), list: readCells(model) };
  }

  /* Tokens in a request's logical block. */
  function filled(model, { request, logical, group }) {
    const size = model.groups[group][1];
    return size ? Math.max(0, Math.min(size, request.computed - logical * size)) : 0;
  }

  // --- Canvas -------------------------------------------------------------------------------------------

  /* A canvas as wide as its parent and sharp on any screen; `draw(context, width)` returns nothing. */
  function fit(canvas, height) {
    const width = Math.max(1, Math.floor(canvas.parentElement.clientWidth));
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    return { context, width };
  }

  /* The theme's colours at this moment. */
  function colours(element) {
    const style = getComputedStyle(element);
    const named = (name) => style.getPropertyValue(name).trim();
    return {
      requests: Array.from({ length: 8 }, (_, index) => named(`--kv-${index}`)),
      free: named("--kv-free"),
      quiet: named("--quiet"),
      text: named("--body-text-color"),
      edge: named("--edge"),
      bad: named("--bad"),
    };
  }

  function hatch(context, x, y, width, height, colour) {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    for (let offset = -height; offset < width; offset += 4) {
      context.moveTo(x + offset, y + height);
      context.lineTo(x + offset + height, y);
    }
    context.stroke();
    context.restore();
  }

  // --- Block map ----------------------------------------------------------------------------------------

  class BlockMap {
    constructor(root, section) {
      this.section = section;
      this.pool = make("canvas", { className: "kv-strip" });
      this.poolNote = make("p", { className: "quiet kv-note" });
      this.strip = make("div", { className: "kv-pool", hidden: true }, this.poolNote, this.pool);
      this.pool.setAttribute("aria-hidden", "true");
      this.canvas = make("canvas", { className: "kv-map", tabIndex: 0 });
      this.canvas.setAttribute("role", "img");
      this.readout = make("p", { className: "kv-readout figure" });
      this.spoken = make("p", { className: "unseen" });
      this.spoken.setAttribute("aria-live", "polite");
      root.append(this.legend(), this.strip, make("div", {}, this.canvas), this.readout, this.spoken);
      this.chosen = null; // block that is pointed at, or was chosen with a tap or a key
      this.pinned = false;
      this.canvas.addEventListener("pointermove", (event) => this.pinned || this.choose(this.at(event)));
      this.canvas.addEventListener("pointerleave", () => this.pinned || this.choose(null));
      this.canvas.addEventListener("click", (event) => this.pin(this.at(event)));
      this.canvas.addEventListener("keydown", (event) => this.onKey(event));
      new ResizeObserver(() => this.model && this.draw()).observe(root);
    }

    legend() {
      const items = [
        ["used", "in use, in its request's colour, filled as far as it is"],
        ["shared", "shared by several requests"],
        ["kept", "kept for prefix reuse"],
        ["free", "free"],
      ];
      return make(
        "ul",
        { className: "kv-legend" },
        ...items.map(([kind, text]) => make("li", {}, make("i", { className: `kv-key kv-key-${kind}` }), text)),
      );
    }

    show(model) {
      this.model = model;
      this.draw();
      this.tell();
    }

    draw() {
      const { list, map } = this.model;
      const units = list.reduce((sum, cell) => sum + (cell.state === "fold" ? GAP_CELLS : 1), 0);
      const narrow = this.canvas.parentElement.clientWidth < 500;
      this.size = units <= 160 ? 26 : units <= 420 ? (narrow ? 18 : 21) : units <= 900 ? (narrow ? 14 : 17) : 12;
      this.place();
      const theme = colours(this.section);
      const { context } = fit(this.canvas, this.height);
      for (const cell of list) this.drawCell(context, theme, cell);
      this.strip.hidden = !map.strip;
      if (map.strip) this.drawStrip(theme);
      const note = map.cells
        ? `Each cell stands for ${number(map.cells.per)} blocks; it is grey where no request has most of them.`
        : "";
      this.note = note;
      this.canvas.setAttribute(
        "aria-label",
        `Map of ${number(this.model.blocks)} blocks. ${note} Arrow keys move from block to block.`,
      );
    }

    /* Cells flow like words: left to right, wrapped at the edge. */
    place() {
      const columns = Math.max(GAP_CELLS, Math.floor(this.canvas.parentElement.clientWidth / this.size));
      let column = 0;
      let row = 0;
      for (const cell of this.model.list) {
        const span = cell.state === "fold" ? GAP_CELLS : 1;
        if (column + span > columns) {
          column = 0;
          row += 1;
        }
        Object.assign(cell, { x: column * this.size, y: row * this.size, width: span * this.size });
        column += span;
      }
      this.height = (row + 1) * this.size;
    }

    drawCell(context, theme, cell) {
      const inset = this.size > 16 ? 1.5 : 1;
      const [x, y, width, height] = [cell.x + inset, cell.y + inset, cell.width - 2 * inset, this.size - 2 * inset];
      const holders = this.model.owners.get(cell.from) ?? [];
      const lit = section(this.section).lit;
      context.globalAlpha = lit && !holders.some(({ request }) => request.label === lit) ? 0.3 : 1;
      if (cell.state === "fold") {
        context.strokeStyle = theme.edge;
        context.setLineDash([3, 3]);
        context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
        context.setLineDash([]);
        context.fillStyle = theme.quiet;
        context.font = `${Math.min(12, this.size - 4)}px ${getComputedStyle(this.section).fontFamily}`;
        context.textAlign = "center";
        context.textBaseline = "middle";
        context.fillText(`+${number(cell.to - cell.from)}`, x + width / 2, y + height / 2 + 0.5, width - 4);
      } else {
        context.fillStyle = theme.free;
        context.fillRect(x, y, width, height);
        if (cell.state === "kept") this.drawKept(context, theme, x, y, width, height);
        if (cell.state === "used") this.drawUsed(context, theme, holders, x, y, width, height);
        if (cell.state === "shared") this.drawShared(context, theme, holders, x, y, width, height);
        if (cell.state === "group") {
          const colour = theme.requests[cell.colour] ?? theme.quiet;
          this.drawFill(context, colour, cell.fill, x, y, width, height);
        }
        if (cell.state === "null") hatch(context, x, y, width, height, theme.edge);
      }
      context.globalAlpha = 1;
      if (this.chosen !== null && this.chosen >= cell.from && this.chosen < cell.to) {
        context.strokeStyle = theme.text;
        context.lineWidth = 2;
        context.strokeRect(cell.x + 1, cell.y + 1, cell.width - 2, this.size - 2);
        context.lineWidth = 1;
      }
    }

    drawKept(context, theme, x, y, width, height) {
      hatch(context, x, y, width, height, theme.quiet);
      context.strokeStyle = theme.quiet;
      context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    }

    drawUsed(context, theme, holders, x, y, width, height) {
      const [holder] = holders;
      const colour = holder ? theme.requests[holder.request.colour] : theme.quiet;
      const size = holder ? this.model.groups[holder.group][1] : 0;
      this.drawFill(context, colour, size ? filled(this.model, holder) / size : 1, x, y, width, height);
    }

    /* A tank, filled from below. */
    drawFill(context, colour, share, x, y, width, height) {
      const full = Math.max(share > 0 ? 2 : 0, Math.round(height * share));
      const alpha = context.globalAlpha;
      context.fillStyle = colour;
      context.globalAlpha = alpha * 0.28;
      context.fillRect(x, y, width, height);
      context.globalAlpha = alpha;
      context.fillRect(x, y + height - full, width, full);
    }

    drawShared(context, theme, holders, x, y, width, height) {
      const shown = holders.slice(0, STRIPES);
      const stripe = width / Math.max(1, shown.length);
      context.fillStyle = theme.quiet;
      if (!shown.length) context.fillRect(x, y, width, height);
      shown.forEach(({ request }, index) => {
        context.fillStyle = theme.requests[request.colour];
        context.fillRect(x + index * stripe, y, stripe + 0.5, height);
      });
      context.strokeStyle = theme.text;
      context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    }

    drawStrip(theme) {
      const groups = readGroups(this.model.map.strip, this.model.blocks);
      const height = 22;
      const { context, width } = fit(this.pool, height);
      const column = width / groups.length;
      groups.forEach((cell, index) => {
        const whole = cell.to - cell.from;
        let top = height;
        context.fillStyle = theme.free;
        context.fillRect(index * column, 0, column - 0.5, height);
        for (const [blocks, colour] of [[cell.used + cell.shared, theme.requests[0]], [cell.kept, theme.quiet]]) {
          const tall = blocks ? Math.max(2, (height * blocks) / whole) : 0;
          context.fillStyle = colour;
          context.fillRect(index * column, top - tall, column - 0.5, tall);
          top -= tall;
        }
      });
      const per = this.model.map.strip.per;
      setText(this.poolNote, `The whole pool, ${count(per, "block")} a column; below it, the parts with something in them.`);
    }

    at(event) {
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const inside = (cell) => x >= cell.x && x < cell.x + cell.width && y >= cell.y && y < cell.y + this.size;
      return this.model?.list.find(inside)?.from ?? null;
    }

    choose(block) {
      if (block === this.chosen || !this.model) return;
      this.chosen = block;
      this.draw();
      this.tell();
    }

    /* A tap keeps a block chosen; another tap on it, or Escape, lets go. */
    pin(block) {
      const again = this.pinned && this.cell() === this.cellOf(block);
      this.pinned = block !== null && !again;
      if (again) block = null;
      this.choose(block);
      this.tell();
    }

    onKey(event) {
      const list = this.model?.list ?? [];
      const present = list.indexOf(this.cell());
      const columns = Math.max(1, Math.floor(this.canvas.parentElement.clientWidth / this.size));
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
      let next = null;
      if (event.key in steps) next = present < 0 ? 0 : Math.max(0, Math.min(list.length - 1, present + steps[event.key]));
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = list.length - 1;
      else if (event.key === "Escape") return this.pin(null);
      if (next === null) return;
      event.preventDefault();
      this.pinned = true;
      this.choose(list[next].from);
      setText(this.spoken, this.readout.textContent);
    }

    cellOf(block) {
      return block === null ? undefined : this.model?.list.find((cell) => block >= cell.from && block < cell.to);
    }

    cell() {
      return this.cellOf(this.chosen);
    }

    tell() {
      const cell = this.cell();
      setText(this.readout, cell ? describe(this.model, cell) : this.note || "Point at a block to see what it holds.");
    }
  }

  /* What a cell of the map holds, in a sentence. */
  function describe(model, cell) {
    const blocks = cell.to - cell.from;
    if (blocks > 1) {
      const name = `Blocks ${number(cell.from)} to ${number(cell.to - 1)}`;
      if (cell.used === undefined) return `${name} are free.`;
      const free = blocks - cell.used - cell.shared - cell.kept - (cell.from === 0 ? 1 : 0); // less the placeholder
      return `${name}: ${number(cell.used + cell.shared)} in use, ${number(cell.shared)} of them shared, ${number(cell.kept)} kept, ${number(free)} free.`;
    }
    const name = `Block ${number(cell.from)}`;
    const holders = model.owners.get(cell.from) ?? [];
    if (cell.state === "null") return `${name} is a placeholder of the engine; nothing is stored in it.`;
    if (cell.state === "free") return `${name} is free.`;
    if (cell.state === "kept") {
      return `${name} is free to be taken. Until then its tokens are kept for a request that begins with them.`;
    }
    if (!holders.length) return `${name} is ${cell.state === "shared" ? "shared by several requests" : "in use"}.`;
    const [first] = holders;
    const [kind, size] = model.groups[first.group];
    const group = model.groups.length > 1 ? ` (${kind} layers)` : "";
    const start = first.logical * size;
    const tokens = filled(model, first);
    const held = size
      ? `tokens ${number(start + 1)} to ${number(start + Math.max(1, tokens))}, ${number(tokens)} of ${number(size)} filled`
      : "its state";
    if (holders.length === 1) {
      return `${name} is block ${number(first.logical)} of request ${first.request.label}${group}: ${held}.`;
    }
    const names = holders.map(({ request }) => request.label);
    const listed = names.length > 8 ? `${names.slice(0, 8).join(", ")} and ${names.length - 8} more` : names.join(", ");
    return `${name} is shared by requests ${listed}${group}, as block ${number(first.logical)} of each: ${held}.`;
  }

  // --- Block tables -------------------------------------------------------------------------------------

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

  // --- Batching strip -------------------------------------------------------------------------------------

  const WINDOW = 6000; // hundredths of a second
  const LANES_HEIGHT = 132;
  const BARS_HEIGHT = 44;
  const TITLE_HEIGHT = 20;

  class Steps {
    constructor(root, section) {
      this.section = section;
      this.canvas = make("canvas", { className: "kv-steps", tabIndex: 0 });
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", "Requests in the batch and tokens computed, over the last minute. Arrow keys move from request to request.");
      this.readout = make("p", { className: "kv-readout figure" });
      this.spoken = make("p", { className: "unseen" });
      this.spoken.setAttribute("aria-live", "polite");
      root.append(make("div", {}, this.canvas), this.readout, this.spoken);
      this.chosen = null; // a span, or a bar
      this.canvas.addEventListener("pointermove", (event) => this.choose(this.at(event)));
      this.canvas.addEventListener("pointerdown", (event) => this.choose(this.at(event)));
      this.canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.choose(null));
      this.canvas.addEventListener("keydown", (event) => this.onKey(event));
      new ResizeObserver(() => this.model && this.draw()).observe(root);
    }

    show(model) {
      this.model = model;
      this.draw();
    }

    draw() {
      const height = TITLE_HEIGHT * 4 + LANES_HEIGHT + BARS_HEIGHT * 2;
      const theme = colours(this.section);
      const { context, width } = fit(this.canvas, height);
      this.width = width;
      context.font = `12px ${getComputedStyle(this.section).fontFamily}`;
      this.drawAxis(context, theme, height);
      this.drawLanes(context, theme);
      const top = TITLE_HEIGHT * 2 + LANES_HEIGHT;
      this.drawBars(context, theme, top, 1, "Prefill: prompt tokens computed", theme.text);
      this.drawBars(context, theme, top + BARS_HEIGHT + TITLE_HEIGHT, 2, "Decode: tokens added to answers", theme.quiet);
      this.tell();
    }

    x(moment) {
      return this.width * Math.max(0, 1 - (this.model.now - moment) / WINDOW);
    }

    title(context, theme, text, top) {
      context.fillStyle = theme.quiet;
      context.textAlign = "left";
      context.textBaseline = "alphabetic";
      context.fillText(text, 0, top - 6);
    }

    drawAxis(context, theme, height) {
      context.textBaseline = "alphabetic";
      for (const ago of [6000, 4500, 3000, 1500, 0]) {
        const x = Math.min(this.width - 0.5, Math.round(this.width * (1 - ago / WINDOW)) + 0.5);
        context.strokeStyle = theme.edge;
        context.beginPath();
        context.moveTo(x, TITLE_HEIGHT);
        context.lineTo(x, height - TITLE_HEIGHT);
        context.stroke();
        context.fillStyle = theme.quiet;
        context.textAlign = ago === 6000 ? "left" : ago === 0 ? "right" : "center";
        context.fillText(ago ? `${ago / 100} s ago` : "now", x, height - 5);
      }
    }

    drawLanes(context, theme) {
      const { spans } = this.model;
      const lanes = Math.max(6, ...spans.map(([, , lane]) => lane + 1));
      const tall = LANES_HEIGHT / lanes;
      this.title(context, theme, "Requests in the batch: prefill dark, decode light", TITLE_HEIGHT);
      this.boxes = spans.map((span) => {
        const [, colour, lane, began, decoding, ended] = span;
        const [from, to] = [this.x(began), ended ? this.x(ended) : this.width];
        const turn = decoding ? this.x(decoding) : to;
        const y = TITLE_HEIGHT + lane * tall;
        const height = Math.max(1, tall - (tall > 5 ? 2 : tall > 2 ? 1 : 0));
        const dark = Math.max(2, turn - from);
        context.fillStyle = theme.requests[colour];
        context.globalAlpha = 0.45;
        context.fillRect(from + dark, y, Math.max(1, to - from - dark), height);
        context.globalAlpha = 1;
        context.fillRect(from, y, dark, height);
        if (span[6]) {
          context.fillStyle = theme.bad;
          context.fillRect(to - 2, y, 2, height);
        }
        return { x: from, y, width: Math.max(4, to - from), height: tall, span };
      });
      const box = this.boxes.find(({ span }) => same(span, this.chosen));
      if (box) {
        context.strokeStyle = theme.text;
        context.strokeRect(box.x - 1.5, box.y - 1, box.width + 3, Math.max(3, box.height));
      }
    }

    drawBars(context, theme, top, column, title, colour) {
      const { bars } = this.model;
      const most = Math.max(0, ...bars.map((bar) => bar[column]));
      const wide = this.width / 120;
      this.title(context, theme, most ? `${title}; up to ${number(most)} in half a second` : title, top);
      context.fillStyle = colour;
      for (const bar of bars) {
        if (!bar[column]) continue;
        const tall = Math.max(2, (BARS_HEIGHT * bar[column]) / most);
        context.fillRect(this.x(bar[0]), top + BARS_HEIGHT - tall, Math.max(1.5, wide - 1), tall);
      }
      context.fillStyle = theme.edge;
      context.fillRect(0, top + BARS_HEIGHT, this.width, 1);
    }

    /* The span or the bar under the pointer. */
    at(event) {
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      if (y > TITLE_HEIGHT + LANES_HEIGHT) {
        return this.model?.bars.find((bar) => Math.abs(this.x(bar[0]) + this.width / 240 - x) < this.width / 200) ?? null;
      }
      const near = (one) => x >= one.x - 3 && x < one.x + one.width + 3 && y >= one.y && y < one.y + one.height;
      return this.boxes?.find(near)?.span ?? null;
    }

    choose(span) {
      if (span === this.chosen || !this.model) return;
      this.chosen = span;
      this.draw();
    }

    onKey(event) {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      const spans = this.model?.spans ?? [];
      if (event.key === "Escape") return this.choose(null);
      if (!(event.key in steps) || !spans.length) return;
      event.preventDefault();
      const present = spans.findIndex((span) => same(span, this.chosen));
      const next = present < 0 ? spans.length - 1 : Math.max(0, Math.min(spans.length - 1, present + steps[event.key]));
      this.choose(spans[next]);
      setText(this.spoken, this.readout.textContent);
    }

    tell() {
      const { spans, bars, now, untoldSpans } = this.model;
      const span = spans.find((one) => same(one, this.chosen));
      const bar = bars.find((one) => same(one, this.chosen));
      const untold = untoldSpans ? `The latest ${spans.length} stays are shown, ${number(untoldSpans)} earlier ones are not.` : "";
      const hint = untold || "Point at a request or at a bar for more.";
      setText(this.readout, span ? stay(span, now) : bar ? halfSecond(bar, now) : hint);
    }
  }

  /* Whether spans, or bars, of two frames are the same one. */
  function same(one, other) {
    return other !== null && one.length === other.length && one[0] === other[0] && (one.length === 6 || one[3] === other[3]);
  }

  function halfSecond([moment, prefill, decode, prefillSteps, decodeSteps, batch], now) {
    return (
      `${seconds(Math.max(0, now - moment))} ago, in half a second: ${count(prefillSteps, "step")} with prefill, ${count(prefill, "token")}; ` +
      `${count(decodeSteps, "step")} with decode, ${count(decode, "token")}; up to ${count(batch, "request")} in a step.`
    );
  }

  function stay([label, , , began, decoding, ended, preempted], now) {
    const start = `Request ${label} joined the batch ${seconds(now - began)} ago`;
    const prompt = decoding ? `its prompt took ${seconds(decoding - began)}` : "its prompt is being computed";
    if (!ended) return `${start}; ${prompt}${decoding ? `, and it decodes since ${seconds(now - decoding)}` : ""}.`;
    const decode = decoding ? `, decoding ${seconds(Math.max(0, ended - decoding))}` : "";
    return `${start}; ${prompt}${decode}; it ${preempted ? "was preempted" : "left"} ${seconds(now - ended)} ago.`;
  }

  // --- The page -----------------------------------------------------------------------------------------

  const KINDS = { map: BlockMap, tables: BlockTables, steps: Steps };
  const sections = new WeakMap();

  /* What is kept of a model's section besides its drawings: the request that is pointed at. */
  function section(element) {
    if (!sections.has(element)) sections.set(element, { lit: null });
    return sections.get(element);
  }

  function light(element, label) {
    const state = section(element);
    if (state.lit === (label ?? null)) return;
    state.lit = label ?? null;
    parts.get(element.querySelector('[data-own="map"]'))?.draw();
  }

  function draw({ models = [] }) {
    const byName = new Map(models.map((model) => [model.name, model]));
    for (const element of document.querySelectorAll("#kv-cache .kv-model")) {
      const model = byName.get(element.dataset.name);
      if (!model) continue;
      const read = readModel(model);
      for (const own of element.querySelectorAll("[data-own]")) {
        if (!parts.has(own)) parts.set(own, new KINDS[own.dataset.own](own, element));
        parts.get(own).show(read);
      }
    }
  }

  workbench.view("kv", draw);
})();
