// Keeps the GPU page as the hub says it is now: one stream, and only what changed is drawn anew.
// wbClock, wbDuration and wbTell are the page's own.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const page = byId("wb-map");
  const may = new Set(page.dataset.may.trim().split(" "));
  const STATES = { free: "Free", held: "In use", closing: "Ending", drained: "Drained", quarantined: "Quarantined", unknown: "Unknown" };
  const SILENT_MS = 20000;
  const HIDDEN_MS = 30000;
  let { map, own } = JSON.parse(byId("wb-first").textContent);

  const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const make = (tag, text, className = "") => Object.assign(document.createElement(tag), { textContent: text, className });
  const gib = (bytes, digits) => (bytes / 2 ** 30).toFixed(digits);
  const orUnknown = (value, unit) => (value === null ? "unknown" : `${value} ${unit}`);
  const nameOf = (lease, name) => (own.leases.includes(lease) ? "you" : name);
  const kindName = (number, profile) => (profile ? `× ${profile}` : number === 1 ? "GPU" : "GPUs");
  function memory({ memory_used_bytes: used, memory_total_bytes: total }) {
    return used === null || total === null ? "unknown" : `${gib(used, 1)} / ${gib(total, 0)} GiB`;
  }

  // --- tiles
  let tiles = [];
  function takeTiles() {
    tiles = [...page.querySelectorAll(".wb-tile")];
    tiles.forEach((tile) => { tile.parts = Object.fromEntries([...tile.querySelectorAll("[data-f], [data-meter]")].map((part) => [part.dataset.f ?? part.dataset.meter, part])); });
  }
  function meter(part, percent, text) {
    const bar = part.querySelector("progress");
    bar.value = percent ?? 0;
    bar.classList.toggle("wb-none", percent === null);
    say(part.querySelector(".wb-num"), text);
  }
  function paint(index) {
    const gpu = map.gpus[index], tile = tiles[index];
    if (!tile) return;
    const { parts } = tile;
    tile.className = `wb-tile wb-is-${gpu.state}${own.leases.includes(gpu.lease) ? " wb-mine" : ""}`;
    say(parts.state, STATES[gpu.state]);
    const { memory_used_bytes: used, memory_total_bytes: total } = gpu;
    meter(parts.memory, used === null || !total ? null : (100 * used) / total, memory(gpu));
    meter(parts.use, gpu.utilization_percent, orUnknown(gpu.utilization_percent, "%"));
    say(parts.temperature.lastChild, gpu.temperature_celsius === null ? "? °C" : `${gpu.temperature_celsius} °C`);
    const who = gpu.lease === null ? "" : nameOf(gpu.lease, gpu.holder);
    const until = gpu.lease !== null && gpu.state !== "closing" ? gpu.ends_at : null;
    const key = `${who} ${until}`;
    if (parts.who.dataset.key === key) return;
    parts.who.dataset.key = key;
    parts.who.replaceChildren(who);
    if (until) {
      const more = make("span", "", "wb-more");
      more.append(" · ", Object.assign(make("time", "", "wb-left"), { dateTime: until }), " left");
      parts.who.append(more);
      wbTell(parts.who);
    }
  }
  const paintAll = () => map.gpus.forEach((_, index) => paint(index));

  // --- what stands around them
  function paintSum() {
    byId("wb-sum").replaceChildren(...map.kinds.map(({ free, total, mig_profile: profile }) => {
      const sum = make("span", "");
      sum.append(make("strong", free), ` of ${total} ${profile ?? (total === 1 ? "GPU" : "GPUs")} free`);
      return sum;
    }));
    byId("wb-error").hidden = map.error === null;
    say(byId("wb-error").querySelector("span"), map.error ?? "");
  }
  function paintLine() {
    const list = byId("wb-waiters"), focused = list.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && [focused.closest("li").dataset.lease, focused.dataset.order];
    const rows = map.line.map((one) => {
      const row = byId("wb-waiter").content.firstElementChild.cloneNode(true);
      const part = (name) => row.querySelector(`[data-f=${name}]`);
      row.dataset.lease = one.lease;
      row.classList.toggle("wb-you", own.leases.includes(one.lease));
      row.querySelector(".wb-rank").textContent = one.position;
      part("who").textContent = nameOf(one.lease, one.user);
      part("wants").textContent = `${one.gpus} ${kindName(one.gpus, one.mig_profile)} for ${one.hours}\u00a0h`;
      part("about").textContent = one.starts_at ? `about ${wbClock(one.starts_at)}` : "no estimate yet";
      return row;
    });
    const more = map.queue_length - map.line.length;
    if (more > 0) rows.push(make("li", `and ${more} more`, "text-secondary"));
    list.replaceChildren(...(rows.length ? rows : [make("li", "Nobody waits.", "text-secondary")]));
    say(byId("wb-line-length"), `${map.queue_length || "nobody"} waiting`);
    if (kept) list.querySelector(`[data-lease="${kept[0]}"] [data-order="${kept[1]}"]`)?.focus();
  }
  // GPUs that came or went, and one's own week, are taken from the page itself; not by everyone in the same moment
  let refreshing = null;
  function refresh(id) {
    refreshing ??= new Promise((done) => setTimeout(done, Math.random() * 2000)).then(async () => {
      refreshing = null;
      const answer = await fetch(window.location.pathname, { redirect: "manual" });
      return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    });
    refreshing.then((fresh) => {
      const found = fresh?.getElementById(id);
      if (!found) return;
      page.classList.toggle("wb-many", fresh.getElementById("wb-map").classList.contains("wb-many"));
      byId(id).replaceChildren(...found.childNodes);
      wbTell(byId(id));
      if (id !== "wb-hosts") return;
      takeTiles();
      if (tiles.length === map.gpus.length) paintAll();
    }).catch(() => {});
  }

  // --- the stream
  let events = null, silence = null, misses = 0;
  function tellLive(state, words) {
    page.dataset.live = state;
    say(byId("wb-live"), words);
  }
  function hear() {
    misses = 0;
    tellLive("yes", "Live");
    clearTimeout(silence);
    silence = setTimeout(again, SILENT_MS);
  }
  function again() {
    stop();
    misses += 1;
    // who was logged out is sent to log in
    if (misses > 20) return window.location.reload();
    tellLive("no", "Reconnecting…");
    silence = setTimeout(follow, 2000 + Math.random() * 2000);
  }
  function stop() {
    clearTimeout(silence);
    events?.close();
    events = null;
  }
  function follow() {
    stop();
    silence = setTimeout(again, SILENT_MS);
    events = new EventSource(`${page.dataset.stream}?_xsrf=${encodeURIComponent(window.jhdata.xsrf_token)}`);
    events.onerror = again;
    const on = (kind, act) => events.addEventListener(kind, ({ data }) => { hear(); act(JSON.parse(data)); });
    on("map", (told) => {
      const isOther = told.gpus.length !== tiles.length || told.gpus.some(({ uuid }, index) => uuid !== tiles[index].dataset.uuid);
      map = told;
      if (isOther) refresh("wb-hosts");
      else paintAll();
      paintSum();
      paintLine();
    });
    on("changes", ({ gpus = {}, ...rest }) => {
      Object.assign(map, rest);
      for (const [index, changed] of Object.entries(gpus)) {
        Object.assign(map.gpus[index], changed);
        paint(index);
      }
      if (rest.kinds || "error" in rest) paintSum();
      if (rest.line || "queue_length" in rest) paintLine();
      if (details.open) showDetails();
    });
    on("own", (told) => {
      const isNews = told.leases.join() !== own.leases.join();
      own = told;
      paintAll();
      paintLine();
      if (isNews && byId("wb-own")) refresh("wb-own");
    });
  }
  // who does not look costs nothing
  let leaving = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(stop, HIDDEN_MS);
    else if (!events) follow();
  });

  // --- from GPU to GPU without a mouse
  byId("wb-hosts").addEventListener("keydown", (event) => {
    const at = tiles.findIndex((tile) => tile.contains(document.activeElement));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = (tile) => tile.getBoundingClientRect().top, column = tiles[at].getBoundingClientRect().left;
    const nearest = (all) => all.reduce((best, tile) => (!best || Math.abs(tile.getBoundingClientRect().left - column) < Math.abs(best.getBoundingClientRect().left - column) ? tile : best), null);
    const inRow = (candidates) => candidates.filter((tile) => row(tile) === row(candidates[0]));
    const below = tiles.slice(at + 1).filter((tile) => row(tile) > row(tiles[at]));
    const above = tiles.slice(0, at).filter((tile) => row(tile) < row(tiles[at])).reverse();
    const to = {
      ArrowRight: () => tiles[at + 1],
      ArrowLeft: () => tiles[at - 1],
      ArrowDown: () => nearest(inRow(below)),
      ArrowUp: () => nearest(inRow(above)),
      Home: () => tiles[0],
      End: () => tiles.at(-1),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const next = to();
    if (!next) return;
    tiles[at].querySelector("button").tabIndex = -1;
    next.querySelector("button").tabIndex = 0;
    next.querySelector("button").focus();
  });

  // --- one GPU, and what can be ordered
  const details = byId("wb-details"), order = byId("wb-order");
  let shown = null;
  function facts(gpu) {
    const { drain, quarantine } = gpu;
    return [
      ["State", STATES[gpu.state]],
      gpu.lease && ["Held by", nameOf(gpu.lease, gpu.holder)],
      gpu.ends_at && ["Until", wbClock(gpu.ends_at)],
      drain && ["Drained", `${drain.reason} (${drain.by ?? "an admin"}, ${wbClock(drain.since)})`],
      drain && gpu.lease && ["", "Whoever has it keeps it; nobody gets it afterwards."],
      quarantine && ["In quarantine", `It ${quarantine.reason}, ${wbClock(quarantine.since)}.`],
      ["Memory", memory(gpu)],
      ["Load", orUnknown(gpu.utilization_percent, "%")],
      ["Temperature", orUnknown(gpu.temperature_celsius, "°C")],
      ["Power", orUnknown(gpu.power_watts === null ? null : Math.round(gpu.power_watts), "W")],
      ["Model", `${gpu.mig_profile ? `${gpu.mig_profile} · ` : ""}${gpu.name ?? "unknown"}${gpu.simulated ? " (simulated)" : ""}`],
      ["UUID", gpu.uuid],
    ].filter(Boolean);
  }
  const ORDERS = {
    drain: (gpu) => may.has("gpus") && !gpu.drain && { label: "Drain", path: `gpus/${gpu.uuid}/drain`, title: `Drain ${gpu.title}?`, what: "Nobody is given it any more. Whoever has it now keeps it until their lease ends.", done: `${gpu.title} is drained.` },
    undrain: (gpu) => may.has("gpus") && gpu.drain && { label: "Undrain", path: `gpus/${gpu.uuid}/undrain`, title: `Undrain ${gpu.title}?`, what: "It is given to people again.", done: `${gpu.title} can be given to people again.` },
    return: (gpu) => may.has("gpus") && gpu.quarantine && { label: "Return", path: `gpus/${gpu.uuid}/return`, title: `Return ${gpu.title}?`, what: `It ${gpu.quarantine.reason}. Return it once it is repaired; it is given to people again.`, done: `${gpu.title} was returned.`, isSilent: true },
    end: (gpu) => may.has("leases") && gpu.lease && gpu.state !== "closing" && { label: "End lease", isDanger: true, path: `leases/${gpu.lease}/end`, title: `End the lease of ${nameOf(gpu.lease, gpu.holder)}?`, what: "Their server is stopped at once, on all of its GPUs; what is not saved is lost.", done: "The lease was ended." },
  };
  function showDetails() {
    const gpu = map.gpus.find(({ uuid }) => uuid === shown);
    if (!gpu) return details.close();
    say(byId("wb-details-title"), gpu.title);
    const told = facts(gpu);
    if (details.dataset.told === JSON.stringify(told)) return;
    details.dataset.told = JSON.stringify(told);
    byId("wb-details-facts").replaceChildren(...told.flatMap(([term, text]) => [make("dt", term), make("dd", text)]));
    const orders = Object.values(ORDERS).map((build) => build(gpu)).filter(Boolean);
    const buttons = byId("wb-details-orders"), labels = orders.map(({ label }) => label).join();
    if (buttons.dataset.labels === labels && buttons.dataset.uuid === gpu.uuid) return;
    Object.assign(buttons.dataset, { labels, uuid: gpu.uuid });
    buttons.replaceChildren(...orders.map((one) => {
      const button = Object.assign(make("button", one.label, `btn ${one.isDanger ? "btn-outline-danger" : "btn-outline-secondary"}`), { type: "button" });
      button.addEventListener("click", () => { details.close(); ask(one); });
      return button;
    }));
  }
  byId("wb-hosts").addEventListener("click", ({ target }) => {
    const tile = target.closest(".wb-tile");
    if (!tile) return;
    shown = tile.dataset.uuid;
    details.dataset.told = byId("wb-details-orders").dataset.uuid = "";
    showDetails();
    details.showModal();
  });
  byId("wb-waiters").addEventListener("click", ({ target }) => {
    const { order: what } = target.dataset;
    const lease = target.closest("li")?.dataset.lease, one = map.line.find((waiter) => waiter.lease === lease);
    if (!what || !one) return;
    const who = nameOf(lease, one.user);
    if (what === "remove") return ask({ label: "Remove", path: `leases/${lease}/end`, title: `Take ${who} out of line?`, what: "Their place is lost.", done: "They are out of line." });
    ask({ label: "Move", path: `line/${lease}/move`, body: { to: what }, title: `Move ${who} to the ${what === "first" ? "front" : "end"} of the line?`, what: what === "first" ? "They go before everyone who wants the same kind of GPU, except who has waited for more than a day." : "They go behind everyone who wants the same kind of GPU.", done: `${who} moved.` });
  });

  let asked = null;
  function ask(one) {
    asked = one;
    byId("wb-order-title").textContent = one.title;
    byId("wb-order-what").textContent = one.what;
    byId("wb-order-why").hidden = Boolean(one.isSilent);
    byId("wb-reason").required = !one.isSilent;
    byId("wb-reason").value = "";
    byId("wb-order-error").hidden = true;
    const button = byId("wb-order-do");
    button.textContent = one.label;
    button.className = `btn ${one.isDanger ? "btn-danger" : "btn-jupyter"}`;
    order.showModal();
  }
  byId("wb-order-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("wb-order-do"), one = asked;
    button.disabled = true;
    const reason = byId("wb-reason").value.trim();
    const answer = await fetch(`${window.jhdata.base_url}api/workbench/${one.path}?_xsrf=${encodeURIComponent(window.jhdata.xsrf_token)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: one.isSilent ? "" : JSON.stringify({ ...one.body, reason }),
    }).catch(() => null);
    button.disabled = false;
    if (answer?.ok) {
      order.close();
      byId("wb-said").hidden = false;
      byId("wb-said").textContent = one.done;
      return;
    }
    const told = answer && (await answer.json().catch(() => null));
    byId("wb-order-error").textContent = told?.message ?? "The hub does not answer: try again.";
    byId("wb-order-error").hidden = false;
  });
  page.querySelectorAll("[data-close]").forEach((button) => button.addEventListener("click", () => button.closest("dialog").close()));

  takeTiles();
  follow();
})();
