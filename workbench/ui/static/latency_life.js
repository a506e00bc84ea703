/* The last requests of the Latency page, and the life of one of them from its arrival to its last token. */
workbench.latency.life = (() => {
  const { OUTCOMES, byId, all, make, seconds, number, clock, pick, request: pickedRequest } = workbench.latency;
  const PHASES = {
    accept: "Accepted",
    queue: "Queue",
    switch: "Switch",
    prefill: "Prefill",
    decode: "Decode",
    end: "End",
  };

  function draw(data) {
    const [list, detail] = byId("latency-life")?.querySelector(".latency-life")?.children ?? [];
    if (!list) return;
    const requests = data.requests;
    const picked = requests.find(({ id }) => id === pickedRequest()) ?? requests[0];
    const look = JSON.stringify([requests, picked?.id]);
    if (list.drawn === look) return;
    list.drawn = look;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.request : null;
    list.parentElement.classList.toggle("idle", !picked);
    if (!picked) {
      list.replaceChildren();
      detail.replaceChildren(
        make("p", { className: "empty", textContent: "No requests yet. Send a message in the chat, and follow it here from its arrival to its last token." }),
      );
      return;
    }
    list.replaceChildren(...requests.map((request) => listed(request, request === picked)));
    if (focused) all(list, "button").find(({ dataset }) => dataset.request === focused)?.focus();
    detail.replaceChildren(...told(picked));
  }

  function listed(request, current) {
    const button = make(
      "button",
      { type: "button" },
      make("time", { className: "figure quiet", textContent: clock(request.at, true) }),
      make("span", { className: "name", textContent: request.model }),
      make("span", { className: `outcome ${request.outcome}`, textContent: request.outcome === "ok" ? "" : OUTCOMES[request.outcome] }),
      make("span", { className: "figure", textContent: seconds(request.total) }),
    );
    button.dataset.request = request.id;
    if (current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => {
      pick({ request: request.id });
      document.querySelector(".latency-life > section").scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    const item = make("li", {}, button);
    item.dataset.testid = "request";
    return item;
  }

  /* From arrival to the last token: each phase begins where the one before it ended. */
  function told(request) {
    const rows = [];
    let before = 0;
    Object.entries(PHASES).forEach(([phase, title], index) => {
      const spent = request.phases[index];
      const bar = make("i", { className: `phase-${phase}` });
      bar.style.marginLeft = `${((100 * before) / request.total).toFixed(2)}%`;
      bar.style.width = `${((100 * spent) / request.total).toFixed(2)}%`;
      before += spent;
      rows.push(
        make(
          "li",
          {},
          make("span", { textContent: title }),
          make("span", { className: "track", ariaHidden: "true" }, spent >= 0.00005 ? bar : ""),
          make("span", { className: "figure", textContent: spent >= 0.00005 ? seconds(spent) : "–" }),
        ),
      );
    });
    const [, , , , decode] = request.phases;
    const cached = request.cachedTokens ? `, ${number(request.cachedTokens)} of them cached` : "";
    const facts = [
      ["Arrived", `${new Date(request.at * 1000).toLocaleDateString()}, ${clock(request.at, true)}`],
      ["First token", request.ttft === null ? "never came" : `after ${seconds(request.ttft)}`],
      ["Prompt", request.promptTokens ? `${number(request.promptTokens)} tokens${cached}` : "–"],
      ["Answer", `${number(request.tokens)} ${request.tokens === 1 ? "token" : "tokens"}`],
      ["Per token", request.tpot === null ? "–" : `${seconds(request.tpot)}, longest pause ${seconds(request.pause)}`],
      ["Speed", request.tpot ? `${number(1 / request.tpot)} tokens/s` : "–"],
    ];
    const parts = [
      make(
        "header",
        {},
        make("h3", { textContent: request.model }),
        make("span", { className: `outcome ${request.outcome}`, textContent: OUTCOMES[request.outcome] }),
        make("strong", { className: "figure", textContent: seconds(request.total) }),
      ),
      make("ol", { className: "phases" }, ...rows),
      make("dl", {}, ...facts.map(([term, fact]) => make("div", {}, make("dt", { textContent: term }), make("dd", { className: "figure", textContent: fact })))),
    ];
    if (request.switchReason) parts.push(make("p", { className: "quiet", textContent: `It waited for a switch: ${request.switchReason}.` }));
    if (request.error) parts.push(make("p", { className: "bad", textContent: request.error }));
    return parts;
  }

  return { draw };
})();
