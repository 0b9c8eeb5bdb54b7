// The page of the daemon. What it shows is set as text, never as markup: names come from strangers.
"use strict";

const PACE = 1000; // milliseconds between two questions while something changes
const WAIT = 25; // seconds that the daemon may wait for news
const KEPT = 120; // points of the chart
const MANIFEST = "application/vnd.swarm.manifest";
const MOST_MANIFEST = 8 * 1024 * 1024;

const by = (id) => document.getElementById(id);
const transfers = new Map(); // id: { item, about, open }
const rates = [];
let token = "";
let version = "";
let running = false;

// --- Figures -----------------------------------------------------------------------------------------

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit && bytes < 99.95 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

const rate = (bytes) => `${size(bytes)}/s`;

function left(seconds) {
  if (seconds === null) return "";
  const total = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(total / 3600);
  const rest = `${two(Math.floor(total / 60) % 60)}:${two(total % 60)}`;
  return hours ? `${hours}:${rest} left` : `${rest} left`;
}

const percent = (part) => `${(100 * part).toFixed(part < 1 ? 1 : 0)} %`;

function share(about) {
  if (about.state === "hashing" && about.hash_total) return about.hashed / about.hash_total;
  return about.size ? Math.min(1, about.done / about.size) : Number(about.complete);
}

// --- Asking ------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(method, path, body, kind = "application/json") {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = kind;
  const plain = body === undefined || kind !== "application/json" ? body : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: plain, cache: "no-store" });
  const found = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, found.error.message);
  return found;
}

function trouble(text) {
  by("trouble").textContent = text;
  by("trouble").hidden = !text;
}

async function command(work) {
  try {
    trouble("");
    await work();
  } catch (error) {
    trouble(error instanceof Refused ? error.message : "The daemon does not answer.");
  }
}

// --- The list ----------------------------------------------------------------------------------------

function rowOf(about) {
  const known = transfers.get(about.id);
  if (known) return known;
  const item = by("transfer").content.cloneNode(true).querySelector(".transfer");
  const row = { item, about, open: false };
  const find = (selector) => item.querySelector(selector);
  find(".name").addEventListener("click", () => toggle(row));
  find(".pause").addEventListener("click", () => command(() => {
    const paused = !["paused", "finished", "failed", "waiting"].includes(row.about.state);
    return ask("PATCH", `/v1/transfers/${row.about.id}`, { paused });
  }));
  find(".remove").addEventListener("click", () => {
    if (confirm(`Remove ${row.about.name || row.about.id} from the list? Its files stay.`)) {
      command(() => ask("DELETE", `/v1/transfers/${row.about.id}`));
    }
  });
  transfers.set(about.id, row);
  by("transfers").prepend(item);
  return row;
}

function limitsFrom(up, down) {
  const bytes = (field) => {
    const text = field.value.trim().replace(",", ".");
    const number = Math.round(Number(text) * 1e6);
    if (text && !(number >= 1)) throw new Refused(0, "A limit is a number of MB/s, or empty for none.");
    return text ? number : null;
  };
  return { upload_limit: bytes(up), download_limit: bytes(down) };
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function show(about) {
  const row = rowOf(about);
  row.about = about;
  const find = (selector) => row.item.querySelector(selector);
  row.item.dataset.state = about.state;
  const release = about.series ? ` (release ${about.release || "…"})` : "";
  set(find(".name"), (about.name || about.manifest || about.id) + release);
  set(find(".state"), about.state);
  const part = share(about);
  find("progress").value = part;
  find("progress").setAttribute("aria-label", `${about.name}: ${percent(part)}`);
  const figures = [`${percent(part)} of ${size(about.size)}`];
  if (about.down_rate >= 1) figures.push(`↓ ${rate(about.down_rate)}`);
  if (about.up_rate >= 1) figures.push(`↑ ${rate(about.up_rate)}`);
  if (about.seconds_left !== null) figures.push(left(about.seconds_left));
  figures.push(`${about.peers} ${about.peers === 1 ? "peer" : "peers"}`);
  set(find(".figures"), figures.join(" · "));
  set(find(".pause"), { paused: "Resume", finished: "Resume", failed: "Retry", waiting: "Retry" }[about.state] || "Pause");
  find(".pause").setAttribute("aria-label", `${find(".pause").textContent} ${about.name}`);
  find(".remove").setAttribute("aria-label", `Remove ${about.name}`);
  set(find(".error"), about.error || (about.complete ? about.finished || "" : about.note || ""));
  find(".error").hidden = !find(".error").textContent;
}

function forget(id) {
  const row = transfers.get(id);
  if (row) row.item.remove();
  transfers.delete(id);
}

// --- One transfer ------------------------------------------------------------------------------------

// Made when it is opened first: browsers look at every form that is inserted, and a thousand took half a minute.
function unfold(row) {
  const section = by("more").content.cloneNode(true).querySelector("section");
  const find = (selector) => section.querySelector(selector);
  find(".own").addEventListener("submit", (event) => {
    event.preventDefault();
    command(() => ask("PATCH", `/v1/transfers/${row.about.id}`, limitsFrom(find(".up"), find(".down"))));
  });
  find(".copy").addEventListener("click", () => command(async () => {
    await navigator.clipboard.writeText(find(".command").textContent);
    find(".copy").textContent = "Copied";
    setTimeout(() => { find(".copy").textContent = "Copy"; }, 2 * PACE);
  }));
  row.item.append(section);
}

// The link for others: the command, and a code for a phone. An image cannot send the token, so it gets the bytes.
async function pass(row, link) {
  const find = (selector) => row.item.querySelector(selector);
  find(".pass").hidden = !link;
  if (!link || row.passed === link) return;
  // Links hold no quote, so this can be pasted into any shell.
  find(".command").textContent = `swarm fetch '${link}'`;
  const answer = await fetch(`/v1/transfers/${row.about.id}/qr`, {
    headers: { Authorization: `Bearer ${token}` }, cache: "no-store",
  });
  if (!answer.ok) return;
  find(".qr").src = `data:image/svg+xml;base64,${btoa(await answer.text())}`;
  find(".qr").hidden = false;
  row.passed = link;
}

async function toggle(row) {
  row.open = !row.open;
  if (!row.item.querySelector(".more")) unfold(row);
  row.item.querySelector(".more").hidden = !row.open;
  row.item.querySelector(".name").setAttribute("aria-expanded", String(row.open));
  if (row.open) {
    const megabytes = (limit) => (limit === null ? "" : String(limit / 1e6));
    row.item.querySelector(".up").value = megabytes(row.about.upload_limit);
    row.item.querySelector(".down").value = megabytes(row.about.download_limit);
    await command(() => more(row));
  }
}

function cell(text, kind) {
  const made = document.createElement("td");
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

async function more(row) {
  const about = await ask("GET", `/v1/transfers/${row.about.id}`);
  const facts = [
    ["Id", about.manifest || "not known yet"],
    ["Where", about.path || about.output || ""],
    ["Received", `${size(about.received)}, sent ${size(about.sent)}, wasted ${size(about.wasted)}`],
    ["Pieces", `${about.pieces_done} of ${about.pieces}`],
    ["Files", String(about.file_count)],
  ];
  row.item.querySelector("dl").replaceChildren(...facts.flatMap(([term, text]) => {
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = term;
    value.textContent = text;
    return [name, value];
  }));
  const lines = about.sources.map((source) => {
    const line = document.createElement("tr");
    const kind = source.connected ? "" : "gone";
    const name = source.source.length > 16 ? `…${source.source.slice(-10)}` : source.source;
    const cells = [
      `${name} ${source.banned ? "(banned)" : source.connected ? (source.inbound ? "(in)" : "") : "(gone)"}`,
      source.found,
      source.has === null ? "" : percent(source.has),
      source.down_rate >= 1 ? rate(source.down_rate) : "",
      source.up_rate >= 1 ? rate(source.up_rate) : "",
      source.round_trip === null ? "" : `${(1000 * source.round_trip).toFixed(1)} ms`,
      size(source.received), size(source.sent), source.why,
    ];
    line.append(...cells.map((text) => cell(text.trim(), kind)));
    line.title = `${source.source} ${source.address}`;
    return line;
  });
  row.item.querySelector("tbody").replaceChildren(...lines);
  const shown = about.files.filter((file) => /^(video|audio|image)\//.test(file.type)).slice(0, 50);
  row.item.querySelector(".files").replaceChildren(...shown.map((file) => {
    const line = document.createElement("li");
    const link = document.createElement("a");
    link.href = file.url;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.textContent = `Open ${file.path}`;
    line.append(link, ` ${size(file.size)}`);
    return line;
  }));
  drawMap(row.item.querySelector(".map"), about.piece_map);
  await pass(row, about.link);
}

function drawMap(canvas, encoded) {
  const cells = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = getComputedStyle(canvas).color;
  const width = canvas.width / cells.length;
  cells.forEach((value, index) => {
    pen.globalAlpha = value / 255;
    pen.fillRect(Math.floor(index * width), 0, Math.ceil(width), canvas.height);
  });
}

// --- All of it ---------------------------------------------------------------------------------------

function drawChart() {
  const canvas = by("chart");
  const pen = canvas.getContext("2d");
  const most = Math.max(1000, ...rates.flat());
  pen.clearRect(0, 0, canvas.width, canvas.height);
  [1, 0.45].forEach((alpha, kind) => {
    pen.globalAlpha = alpha;
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.lineWidth = 1.5;
    pen.beginPath();
    rates.forEach((pair, index) => {
      const x = ((index + KEPT - rates.length) / (KEPT - 1)) * canvas.width;
      pen.lineTo(x, canvas.height - 2 - (pair[kind] / most) * (canvas.height - 4));
    });
    pen.stroke();
  });
}

// What "swarm limit" has set beside the limits: by the time of day, and when seeding ends.
function rulesOf(node) {
  const limit = (bytes) => (bytes === null ? "without limit" : `at most ${rate(bytes)}`);
  const parts = [];
  if (node.schedule.length) {
    parts.push(`By the time of day: ${node.schedule.join("; ")}.`);
    parts.push(`Now: send ${limit(node.upload_limit_now)}, receive ${limit(node.download_limit_now)}.`);
  }
  const ends = [];
  if (node.ratio) ends.push(`ratio ${node.ratio}`);
  if (node.copies) ends.push(`${node.copies} copies`);
  if (node.seed_seconds) ends.push(`${Math.round(node.seed_seconds / 60)} minutes`);
  if (ends.length) parts.push(`Seeding ends at ${ends.join(" or ")}.`);
  return parts.join(" ");
}

function showNode(node) {
  set(by("rules"), rulesOf(node));
  by("rules").hidden = !by("rules").textContent;
  rates.push([node.down_rate, node.up_rate]);
  if (rates.length > KEPT) rates.shift();
  drawChart();
  const count = `${node.transfers} ${node.transfers === 1 ? "transfer" : "transfers"}`;
  set(by("totals"), `${count} · ↓ ${rate(node.down_rate)} · ↑ ${rate(node.up_rate)} · `
    + `received ${size(node.received)} · sent ${size(node.sent)}`);
  const title = node.down_rate >= 1 ? `↓ ${rate(node.down_rate)} swarm` : "swarm";
  if (document.title !== title) document.title = title;
}

function take(delta) {
  if (delta.whole) {
    const present = new Set(delta.transfers.map((each) => each.id));
    for (const id of transfers.keys()) if (!present.has(id)) forget(id);
  }
  delta.removed.forEach(forget);
  delta.transfers.forEach(show);
  by("none").hidden = transfers.size > 0;
  showNode(delta.node);
  version = delta.version;
}

const pause = (milliseconds) => new Promise((done) => { setTimeout(done, milliseconds); });

function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

async function follow() {
  let away = false;
  while (running) {
    await seen();
    try {
      const wait = version && rates.length && rates[rates.length - 1].every((each) => each < 1) ? WAIT : 0;
      take(await ask("GET", `/v1/transfers?since=${encodeURIComponent(version)}&wait=${wait}`));
      await Promise.all([...transfers.values()].filter((row) => row.open).map(more));
      if (away) trouble("");
      away = false;
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        running = false;
        login("The token is wrong.");
        return;
      }
      // One that was removed a moment ago is no trouble.
      if (!(error instanceof Refused && error.status === 404)) {
        away = true;
        trouble("The daemon does not answer; trying again.");
      }
    }
    await pause(PACE);
  }
}

function login(text) {
  sessionStorage.removeItem("token");
  by("main").hidden = true;
  by("login").hidden = false;
  by("token").focus();
  trouble(text);
}

async function begin() {
  try {
    const status = await ask("GET", "/v1/status");
    sessionStorage.setItem("token", token);
    by("login").hidden = true;
    by("main").hidden = false;
    by("output").placeholder = status.output;
    const megabytes = (limit) => (limit === null ? "" : String(limit / 1e6));
    by("up-all").value = megabytes(status.node.upload_limit);
    by("down-all").value = megabytes(status.node.download_limit);
    trouble("");
    running = true;
    follow();
  } catch (error) {
    login(error instanceof Refused && error.status === 401 ? "The token is wrong." : "The daemon does not answer.");
  }
}

// --- Adding ------------------------------------------------------------------------------------------

by("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = by("token").value.trim();
  begin();
});

by("add").addEventListener("submit", (event) => {
  event.preventDefault();
  command(async () => {
    const fields = { link: by("link").value.trim() };
    if (by("output").value.trim()) fields.output = by("output").value.trim();
    show(await ask("POST", "/v1/transfers", fields));
    by("link").value = "";
  });
});

by("limits").addEventListener("submit", (event) => {
  event.preventDefault();
  command(() => ask("PATCH", "/v1/limits", limitsFrom(by("up-all"), by("down-all"))));
});

async function dropped(data) {
  const output = by("output").value.trim();
  for (const file of data.files) {
    if (file.size > MOST_MANIFEST) throw new Refused(0, `${file.name} is too long: use swarm add.`);
    const query = output ? `?output=${encodeURIComponent(output)}` : "";
    show(await ask("POST", `/v1/transfers${query}`, await file.arrayBuffer(), MANIFEST));
  }
  const text = data.getData("text").trim();
  if (!data.files.length && text) {
    show(await ask("POST", "/v1/transfers", output ? { link: text, output } : { link: text }));
  }
}

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (running) command(() => dropped(event.dataTransfer));
});

const given = new URLSearchParams(location.hash.slice(1)).get("token");
token = given || sessionStorage.getItem("token") || "";
// Out of the address: it must not lie in the history, or go along when the address is copied.
if (given) history.replaceState(null, "", "/");
if (token) begin(); else login("");
