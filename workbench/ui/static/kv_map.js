/* The block map: every physical block, coloured by request. */
(() => {
  const { drawings, number, count, make, setText, filled, readGroups, fit, colours, hatch, section } = workbench.kv;
  const GAP_CELLS = 4; // width of a fold that stands for free blocks
  const STRIPES = 4; // owners that a shared block shows

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

  drawings.map = BlockMap;
})();
