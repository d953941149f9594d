// Keeps the GPU page up to date from one stream of events, and redraws only the changed parts.
// page.html defines wbClock, wbDuration and wbFormatTimes.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const page = byId("wb-map");
  const may = new Set(page.dataset.may.trim().split(" "));
  const STATES = { free: "Free", held: "In use", closing: "Ending", drained: "Drained", quarantined: "Quarantined", unknown: "Unknown" };
  const SILENT_MS = 20000;
  const HIDDEN_MS = 30000;
  let { map, own } = JSON.parse(byId("wb-first").textContent);

  const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
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
  function collectTiles() {
    tiles = [...page.querySelectorAll(".wb-tile")];
    tiles.forEach((tile) => { tile.parts = Object.fromEntries([...tile.querySelectorAll("[data-f], [data-meter]")].map((part) => [part.dataset.f ?? part.dataset.meter, part])); });
  }
  function meter(part, percent, text) {
    const bar = part.querySelector("progress");
    bar.value = percent ?? 0;
    bar.classList.toggle("wb-none", percent === null);
    setText(part.querySelector(".wb-num"), text);
  }
  function paint(index) {
    const gpu = map.devices[index], tile = tiles[index];
    if (!tile) return;
    const { parts } = tile;
    tile.className = `wb-tile wb-is-${gpu.state}${own.leases.includes(gpu.lease) ? " wb-mine" : ""}`;
    setText(parts.state, STATES[gpu.state]);
    const { memory_used_bytes: used, memory_total_bytes: total } = gpu;
    meter(parts.memory, used === null || !total ? null : (100 * used) / total, memory(gpu));
    meter(parts.use, gpu.utilization_percent, orUnknown(gpu.utilization_percent, "%"));
    setText(parts.temperature.lastChild, gpu.temperature_celsius === null ? "? °C" : `${gpu.temperature_celsius} °C`);
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
      wbFormatTimes(parts.who);
    }
  }
  const paintAll = () => map.devices.forEach((_, index) => paint(index));

  // --- sum, error and queue
  function paintSum() {
    byId("wb-sum").replaceChildren(...map.kinds.map(({ free, total, mig_profile: profile }) => {
      const sum = make("span", "");
      sum.append(make("strong", free), ` of ${total} ${profile ?? (total === 1 ? "GPU" : "GPUs")} free`);
      return sum;
    }));
    byId("wb-error").hidden = map.error === null;
    setText(byId("wb-error").querySelector("span"), map.error ?? "");
  }
  function paintQueue() {
    const list = byId("wb-waiters"), focused = list.contains(document.activeElement) ? document.activeElement : null;
    const kept = focused && [focused.closest("li").dataset.lease, focused.dataset.order];
    const rows = map.queue.map((one) => {
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
    const more = map.queue_length - map.queue.length;
    if (more > 0) rows.push(make("li", `and ${more} more`, "text-secondary"));
    list.replaceChildren(...(rows.length ? rows : [make("li", "The queue is empty.", "text-secondary")]));
    setText(byId("wb-queue-length"), `${map.queue_length || "none"} waiting`);
    if (kept) list.querySelector(`[data-lease="${kept[0]}"] [data-order="${kept[1]}"]`)?.focus();
  }
  // a changed list of GPUs and the user's own week are loaded from this page's HTML, after a random delay that spreads the load
  let refreshing = null;
  function refresh(id) {
    refreshing ??= new Promise((done) => setTimeout(done, Math.random() * 2000)).then(async () => {
      refreshing = null;
      const answer = await fetch(window.location.pathname, wbRead());
      return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    });
    refreshing.then((fresh) => {
      const found = fresh?.getElementById(id);
      if (!found) return;
      page.classList.toggle("wb-many", fresh.getElementById("wb-map").classList.contains("wb-many"));
      byId(id).replaceChildren(...found.childNodes);
      wbFormatTimes(byId(id));
      if (id !== "wb-hosts") return;
      collectTiles();
      if (tiles.length === map.devices.length) paintAll();
    }).catch(() => {});
  }

  // --- the stream
  let events = null, silence = null, misses = 0;
  function setLive(state, text) {
    page.dataset.live = state;
    setText(byId("wb-live"), text);
  }
  function markAlive() {
    misses = 0;
    setLive("yes", "Live");
    clearTimeout(silence);
    silence = setTimeout(reconnect, SILENT_MS);
  }
  function reconnect() {
    stop();
    misses += 1;
    // a reload sends a user who was logged out to the log-in page
    if (misses > 20) return window.location.reload();
    setLive("no", "Reconnecting…");
    silence = setTimeout(connect, 2000 + Math.random() * 2000);
  }
  function stop() {
    clearTimeout(silence);
    events?.close();
    events = null;
  }
  function connect() {
    stop();
    silence = setTimeout(reconnect, SILENT_MS);
    events = new EventSource(`${page.dataset.stream}?_xsrf=${encodeURIComponent(window.jhdata.xsrf_token)}`);
    events.onerror = reconnect;
    const on = (kind, act) => events.addEventListener(kind, ({ data }) => { markAlive(); act(JSON.parse(data)); });
    on("map", (current) => {
      const hasOtherGpus = current.devices.length !== tiles.length || current.devices.some(({ uuid }, index) => uuid !== tiles[index].dataset.uuid);
      map = current;
      if (hasOtherGpus) refresh("wb-hosts");
      else paintAll();
      paintSum();
      paintQueue();
    });
    on("changes", ({ devices = {}, ...rest }) => {
      Object.assign(map, rest);
      for (const [index, changed] of Object.entries(devices)) {
        Object.assign(map.devices[index], changed);
        paint(index);
      }
      if (rest.kinds || "error" in rest) paintSum();
      if (rest.queue || "queue_length" in rest) paintQueue();
      if (details.open) showDetails();
    });
    on("own", (current) => {
      const hasChanged = current.leases.join() !== own.leases.join();
      own = current;
      paintAll();
      paintQueue();
      if (hasChanged && byId("wb-own")) refresh("wb-own");
    });
  }
  // a hidden page closes its stream
  let leaving = null;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(stop, HIDDEN_MS);
    else if (!events) connect();
  });

  // --- keyboard navigation between GPUs
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

  // --- details of one GPU, and an admin's actions
  const details = byId("wb-details"), order = byId("wb-order");
  let shown = null;
  function facts(gpu) {
    const { drain, quarantine } = gpu;
    return [
      ["State", STATES[gpu.state]],
      gpu.lease && ["Held by", nameOf(gpu.lease, gpu.holder)],
      gpu.ends_at && ["Until", wbClock(gpu.ends_at)],
      drain && ["Drained", `${drain.reason} (${drain.by ?? "an admin"}, ${wbClock(drain.since)})`],
      drain && gpu.lease && ["", "Its lease continues; after that it is not granted again."],
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
    drain: (gpu) => may.has("gpus") && !gpu.drain && { label: "Drain", path: `gpus/${gpu.uuid}/drain`, title: `Drain ${gpu.title}?`, what: "It gets no new lease. A current lease continues until its end.", done: `${gpu.title} is drained.` },
    undrain: (gpu) => may.has("gpus") && gpu.drain && { label: "Undrain", path: `gpus/${gpu.uuid}/undrain`, title: `Undrain ${gpu.title}?`, what: "It can be granted again.", done: `${gpu.title} can be granted again.` },
    return: (gpu) => may.has("gpus") && gpu.quarantine && { label: "Release", path: `gpus/${gpu.uuid}/release`, title: `Release ${gpu.title} from quarantine?`, what: `It ${gpu.quarantine.reason}. Release it once it is repaired; it can then be granted again.`, done: `${gpu.title} can be granted again.`, hasNoReason: true },
    end: (gpu) => may.has("leases") && gpu.lease && gpu.state !== "closing" && { label: "End lease", isDanger: true, path: `leases/${gpu.lease}/end`, title: `End the lease of ${nameOf(gpu.lease, gpu.holder)}?`, what: "The server stops at once, on all of its GPUs. Unsaved work is lost.", done: "The lease has ended." },
  };
  function showDetails() {
    const gpu = map.devices.find(({ uuid }) => uuid === shown);
    if (!gpu) return details.close();
    setText(byId("wb-details-title"), gpu.title);
    const shownFacts = facts(gpu);
    if (details.dataset.facts === JSON.stringify(shownFacts)) return;
    details.dataset.facts = JSON.stringify(shownFacts);
    byId("wb-details-facts").replaceChildren(...shownFacts.flatMap(([term, text]) => [make("dt", term), make("dd", text)]));
    const orders = Object.values(ORDERS).map((build) => build(gpu)).filter(Boolean);
    const buttons = byId("wb-details-orders"), labels = orders.map(({ label }) => label).join();
    if (buttons.dataset.labels === labels && buttons.dataset.uuid === gpu.uuid) return;
    Object.assign(buttons.dataset, { labels, uuid: gpu.uuid });
    buttons.replaceChildren(...orders.map((one) => {
      const button = Object.assign(make("button", one.label, `btn ${one.isDanger ? "btn-outline-danger" : "btn-outline-secondary"}`), { type: "button" });
      button.addEventListener("click", () => { details.close(); openOrder(one); });
      return button;
    }));
  }
  byId("wb-hosts").addEventListener("click", ({ target }) => {
    const tile = target.closest(".wb-tile");
    if (!tile) return;
    shown = tile.dataset.uuid;
    details.dataset.facts = byId("wb-details-orders").dataset.uuid = "";
    showDetails();
    details.showModal();
  });
  byId("wb-waiters").addEventListener("click", ({ target }) => {
    const { order: what } = target.dataset;
    const lease = target.closest("li")?.dataset.lease, one = map.queue.find((waiter) => waiter.lease === lease);
    if (!what || !one) return;
    const who = nameOf(lease, one.user);
    if (what === "remove") return openOrder({ label: "Remove", path: `leases/${lease}/end`, title: `Take ${who} out of the queue?`, what: "The position in the queue is lost.", done: "The request is out of the queue." });
    openOrder({ label: "Move", method: "PATCH", path: `queue/${lease}`, body: { to: what }, title: `Move ${who} to the ${what === "first" ? "front" : "end"} of the queue?`, what: what === "first" ? "This request goes before all others for the same kind of GPU, except those that have waited for more than a day." : "This request goes behind all others for the same kind of GPU.", done: `${who} moved.` });
  });

  let pendingOrder = null;
  function openOrder(one) {
    pendingOrder = one;
    byId("wb-order-title").textContent = one.title;
    byId("wb-order-what").textContent = one.what;
    byId("wb-order-why").hidden = Boolean(one.hasNoReason);
    byId("wb-reason").required = !one.hasNoReason;
    byId("wb-reason").value = "";
    byId("wb-order-error").hidden = true;
    const button = byId("wb-order-do");
    button.textContent = one.label;
    button.className = `btn ${one.isDanger ? "btn-danger" : "btn-jupyter"}`;
    order.showModal();
  }
  byId("wb-order-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = byId("wb-order-do"), one = pendingOrder;
    button.disabled = true;
    const reason = byId("wb-reason").value.trim();
    const answer = await fetch(`${window.jhdata.base_url}api/workbench/${one.path}?_xsrf=${encodeURIComponent(window.jhdata.xsrf_token)}`, {
      method: one.method ?? "POST",
      headers: { "Content-Type": "application/json" },
      body: one.hasNoReason ? "" : JSON.stringify({ ...one.body, reason }),
    }).catch(() => null);
    button.disabled = false;
    if (answer?.ok) {
      order.close();
      byId("wb-said").hidden = false;
      byId("wb-said").textContent = one.done;
      return;
    }
    if (wbConfirm(answer?.headers.get("X-Workbench-Confirm"))) return;
    const refusal = answer && (await answer.json().catch(() => null));
    byId("wb-order-error").textContent = refusal?.message ?? "The hub does not answer: try again.";
    byId("wb-order-error").hidden = false;
  });
  page.querySelectorAll("[data-close]").forEach((button) => button.addEventListener("click", () => button.closest("dialog").close()));

  collectTiles();
  connect();
})();
