"use strict";
// The voting page. It asks its own server alone, and knows of two answers only which is on the left.

const el = (id) => document.getElementById(id);
const sides = ["left", "right"];
let state = { task: null };
let shownAt = 0;
let busy = false;
let view = { raw: false, diff: false };

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body) };
  const response = await fetch(path, { ...options, credentials: "same-origin" });
  if (response.status === 401) throw Object.assign(new Error("no session"), { kind: "session" });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw Object.assign(new Error(problem.error || problem.detail || `the server said ${response.status}`),
      { kind: response.status === 503 ? "later" : "refused" });
  }
  return response.json();
}

// A vote whose acknowledgement was lost is sent again: the server counts a task once.
async function surely(path, body) {
  for (let wait = 1; ; wait = Math.min(10, wait * 2)) {
    try {
      const found = await call(path, body);
      notice("");
      return found;
    } catch (error) {
      if (error.kind === "session" || error.kind === "refused") throw error;
      notice(`Not saved yet (${error.message}). Trying again in ${wait} s; keep this page open.`);
      await new Promise((resume) => setTimeout(resume, wait * 1000));
    }
  }
}

function notice(text) {
  el("notice").textContent = text;
  el("notice").hidden = !text;
}

function only(name) {
  for (const part of ["join", "done", "ballot"]) el(part).hidden = part !== name;
}

function show(found) {
  state = found;
  el("ask").hidden = !found.can_ask;
  el("again").hidden = !found.can_ask;
  if (!found.task) {
    only("done");
    el("progress").textContent = "";
    el("done-text").textContent = found.closed ? "The ballot is closed; the organiser has the figures."
      : "There is no pair left for you. If others are still voting, come back later.";
    if (found.closed) el("ask").hidden = true;
    el("undo-last").hidden = found.closed;
    el("done-title").focus();
    return;
  }
  only("ballot");
  el("progress").textContent = `Pair ${found.number} of ${Math.max(found.number, found.total)}`;
  el("prompt").innerHTML = found.prompt; // sanitised by the server; the page's policy runs no script of it
  el("note").value = "";
  el("flag").setAttribute("aria-pressed", "false");
  el("diff").disabled = found.left.marked === null;
  reasons(found.reasons);
  sidesShown();
  el("prompt").scrollTop = 0;
  el("prompt-title").focus({ preventScroll: true });
  window.scrollTo(0, 0);
  shownAt = performance.now();
}

function sidesShown() {
  for (const side of sides) {
    const answer = state[side];
    const box = el(side);
    const written = view.raw || (view.diff && answer.marked !== null);
    box.classList.toggle("raw", written);
    if (view.diff && answer.marked !== null) box.innerHTML = answer.marked;
    else if (view.raw) box.textContent = answer.raw;
    else box.innerHTML = answer.html;
    box.dir = "auto";
    if (!box.textContent.trim()) box.textContent = "(no answer)";
    box.scrollTop = 0;
    const more = el(`${side}-more`);
    more.hidden = !answer.more;
    more.textContent = `Show ${answer.more.toLocaleString("en")} characters more`;
  }
}

function reasons(known) {
  const box = el("reasons");
  box.hidden = known.length === 0;
  box.querySelectorAll("label").forEach((label) => label.remove());
  for (const reason of known) {
    const label = document.createElement("label");
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.value = reason;
    label.append(tick, reason);
    box.append(label);
  }
}

async function change(path, body) {
  if (busy) return;
  busy = true;
  document.querySelectorAll("#ballot button, #undo-last").forEach((button) => { button.disabled = true; });
  try {
    show(await surely(path, body));
  } catch (error) {
    if (error.kind === "session") return join();
    notice(error.message);
  } finally {
    busy = false;
    document.querySelectorAll("#ballot button, #undo-last").forEach((button) => { button.disabled = false; });
    el("diff").disabled = !state.task || state.left.marked === null;
  }
}

function vote(choice) {
  if (!state.task) return;
  const ticked = [...el("reasons").querySelectorAll("input:checked")].map((tick) => tick.value);
  change("/api/vote", { task: state.task, choice, note: el("note").value, reasons: ticked,
    flagged: el("flag").getAttribute("aria-pressed") === "true", seconds: (performance.now() - shownAt) / 1000 });
}

function toggle(name) {
  view = { raw: false, diff: false, [name]: !view[name] };
  for (const other of ["raw", "diff"]) el(other).setAttribute("aria-pressed", String(view[other]));
  if (state.task) sidesShown();
}

function pressed(button) {
  const now = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(now));
}

function join() {
  only("join");
  el("ask").hidden = true;
  el("name").focus();
}

async function begin() {
  try {
    show(await call("/api/task"));
  } catch (error) {
    if (error.kind === "session") join();
    else notice(error.message);
  }
}

async function whole(side) {
  const response = await fetch(`/api/whole/${side}`, { credentials: "same-origin" });
  if (!response.ok) return;
  el(side).classList.add("raw");
  el(side).textContent = await response.text();
  el(`${side}-more`).hidden = true;
}

// Both answers appear in pieces of one pace, whichever model was faster.
async function answers(path, body) {
  if (busy) return;
  let id;
  try {
    id = (await call(path, body)).answers;
  } catch (error) {
    return notice(error.message);
  }
  busy = true;
  only("ballot");
  if (body.prompt) el("prompt").textContent = body.prompt;
  for (const side of sides) { el(side).textContent = ""; el(side).classList.add("raw"); }
  el("progress").textContent = "Both models answer …";
  const events = new EventSource(`/api/answers/${id}`);
  const end = async (text) => { events.close(); notice(text); await begin(); busy = false; };
  events.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.waiting !== undefined) el("progress").textContent = `Both models answer … ${event.waiting} s`;
    else if (event.error) end(event.error);
    else if (event.done) end("");
    else for (const side of sides) el(side).append(event[side]);
  };
  events.onerror = () => end("The connection was lost.");
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=checkbox]), textarea");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (el("help").open || !el("keys").checked) return;
  if (event.key === "?") { event.preventDefault(); el("help").showModal(); return; }
  if (busy) return;
  if (event.key === "u" && !el("done").hidden && !el("undo-last").hidden) { el("undo-last").click(); return; }
  if (el("ballot").hidden) return;
  const scrolls = event.target.classList.contains("text") && event.key.startsWith("Arrow");
  const choice = { 1: "left", 2: "right", 3: "tie", 4: "both_bad", ArrowLeft: "left", ArrowRight: "right",
    ArrowUp: "tie", ArrowDown: "both_bad" }[event.key];
  if (choice && !scrolls && !event.repeat) { event.preventDefault(); vote(choice); return; }
  const act = { n: () => el("note").focus(), f: () => pressed(el("flag")), s: () => el("skip").click(),
    u: () => el("undo").click(), w: () => toggle("raw"), d: () => el("diff").disabled || toggle("diff") }[event.key];
  if (act && !event.repeat) { event.preventDefault(); act(); }
}

let leader = null;
for (const side of sides) {
  el(side).addEventListener("scroll", () => {
    const other = el(side === "left" ? "right" : "left");
    if (leader && leader !== side) return;
    if (el("together").getAttribute("aria-pressed") !== "true") return;
    leader = side;
    const way = el(side).scrollHeight - el(side).clientHeight;
    other.scrollTop = way > 0 ? (el(side).scrollTop / way) * (other.scrollHeight - other.clientHeight) : 0;
    setTimeout(() => { leader = null; }, 80);
  });
  el(`${side}-more`).addEventListener("click", () => whole(side));
}
document.querySelectorAll("[data-choice]").forEach((button) => {
  button.addEventListener("click", () => vote(button.dataset.choice));
});
el("raw").addEventListener("click", () => toggle("raw"));
el("diff").addEventListener("click", () => toggle("diff"));
for (const name of ["together", "flag"]) el(name).addEventListener("click", () => pressed(el(name)));
el("skip").addEventListener("click", () => state.task && change("/api/skip", { task: state.task }));
for (const name of ["undo", "undo-last"]) el(name).addEventListener("click", () => change("/api/undo", {}));
el("again").addEventListener("click", () => state.task && answers("/api/again", { task: state.task }));
el("help-open").addEventListener("click", () => el("help").showModal());
el("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = el("own").value;
  el("own").value = "";
  answers("/api/ask", { prompt });
});
el("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await call("/api/join", { name: el("name").value });
  } catch (error) {
    return notice(error.message);
  }
  begin();
});
document.addEventListener("keydown", keyed);
begin();
