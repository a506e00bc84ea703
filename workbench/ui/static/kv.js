/* The KV cache page: what its frames say, and what its drawings share. The drawings are in kv_map.js, kv_tables.js
   and kv_steps.js; each draws into a place that the live panel leaves to it (`data-own`). Text from outside is set
   as text, never as HTML. */
workbench.kv = (() => {
  const STATES = { n: "null", ".": "free", k: "kept", u: "used", s: "shared" };
  const drawings = {}; // kind of place -> class of what draws there
  const parts = new WeakMap(); // place -> what draws into it

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

  // --- The page -----------------------------------------------------------------------------------------

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
        if (!parts.has(own)) parts.set(own, new drawings[own.dataset.own](own, element));
        parts.get(own).show(read);
      }
    }
  }

  workbench.view("kv", draw);
  return { drawings, number, count, seconds, make, setText, filled, readGroups, fit, colours, hatch, section, light };
})();
