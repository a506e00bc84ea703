/* The batching strip: who was in the batch in the last minute, and what its steps computed. */
(() => {
  const { drawings, number, count, seconds, make, setText, fit, colours } = workbench.kv;

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

  drawings.steps = Steps;
})();
