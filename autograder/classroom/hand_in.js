// Hands files in and shows what came of them. Gradio gives: element.
// Everything that is shown is set as text: nothing in anybody's work is read as markup.

const $ = (selector) => element.querySelector(selector);
const at = (path) => new URL(`course/${path}`, document.baseURI);
let shown = null; // what /course/mine said last
let pause = 1500; // ms until the queue is asked again

function make(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

async function ask(path, options) {
  const answer = await fetch(at(path), options);
  if (answer.status === 401) location.reload(); // the session is over: the login comes
  return answer.json();
}

// Handing in

$(".sending").addEventListener("submit", async (event) => {
  event.preventDefault();
  const files = [...$("#notebooks").files];
  $(".go").disabled = true;
  $(".news").replaceChildren();
  for (const [number, file] of files.entries()) {
    const line = make("p", { class: "said wait", text: `Sending ${number + 1} of ${files.length}: ${file.name} …` });
    $(".news").append(line);
    const { receipt, fault } = await send(file);
    line.className = receipt ? "said receipt" : "said bad";
    line.textContent = receipt ?? `Not handed in: ${fault.startsWith(file.name) ? "" : `${file.name}: `}${fault}.`;
  }
  $(".go").disabled = false;
  $(".sending").reset();
  pause = 1500;
  await load();
});

async function send(file) {
  if (file.size > shown.limit) {
    return { fault: `it has more than ${shown.limit / 1e6} MB: clear its outputs (Edit, Clear Outputs of All Cells), save, hand in again` };
  }
  const query = new URLSearchParams({ name: file.name, saved: file.lastModified });
  const headers = { "Content-Type": "application/x-ipynb+json" };
  try {
    return await ask(`hand-in?${query}`, { method: "POST", body: file, headers });
  } catch {
    return { fault: "the connection broke, or the file was changed meanwhile: choose it again" };
  }
}

// What came of it

async function load() {
  shown = await ask("mine");
  $(".who").textContent = `You are ${shown.name}${shown.name === shown.id ? "" : ` (${shown.id})`}.`;
  $(".open").textContent = shown.open.length
    ? `Choose one file or several, .ipynb, as you saved them. Open: ${shown.open.map(open).join("; ")}.`
    : "Nothing is open for handing in yet.";
  const unfolded = new Set([...element.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  $(".units").replaceChildren(...shown.units.map(unit));
  for (const each of element.querySelectorAll("details")) each.open = unfolded.has(each.dataset.key);
}

const clock = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
const open = ({ name, due }) => (due ? `${name}, due ${clock(due)}` : name);
const points = ({ points, max_points }) => `${points} of ${max_points} points`;

function unit(value) {
  const { name, title, number, notebook, time, late, receipt, earlier } = value;
  const about = `${notebook}, ${clock(time)}${late ? `: LATE by ${late}` : ""}`;
  const card = make("article", { class: "unit", "data-unit": name, "data-state": value.state },
    make("h2", { text: `${name}  ${title}` }), make("p", { class: "small", text: about }), standing(value));
  card.append(...value.parts.map(part));
  const receipts = make("details", { "data-key": `${name} receipts` },
    make("summary", { text: earlier.length ? `Receipts (${earlier.length + 1})` : "Receipt" }));
  for (const each of [value, ...earlier]) {
    const id = new URLSearchParams({ id: `${name}/${each.number}` });
    const came = each.points === null ? each.state : points(each);
    receipts.append(make("pre", { text: each.receipt }),
      make("p", { class: "small" }, `${came}. `, make("a", { href: at(`notebook?${id}`), download: "", text: "The file as it was handed in" })));
  }
  card.append(receipts);
  return card;
}

const turn = (before) => (before ? `In the queue: ${before} before you.` : "It is being graded now.");

function standing(value) {
  if (value.state === "waiting") {
    const id = `${value.name}/${value.number}`;
    return make("p", { class: "said wait place", "data-place": id, text: turn(value.before) });
  }
  if (value.state === "graded") {
    const share = value.max_points ? Math.min(100, (100 * value.points) / value.max_points) : 0;
    const bar = make("i");
    bar.style.width = `${share}%`;
    const box = make("div", {}, make("p", { class: "points", text: points(value) }), make("div", { class: "meter" }, bar));
    if (value.reason) box.append(make("p", { class: "small message", text: `Odd about the notebook: ${value.reason}.` }));
    return box;
  }
  const text = {
    rejected: `It could not be graded: ${value.reason}. Hand in again; your teacher sees it, too.`,
    error: `The machine could not grade it, which costs you nothing: your teacher sees it. (${value.reason})`,
  }[value.state] ?? "It is kept, and waits for the queue.";
  return make("p", { class: "said bad", text });
}

function part(value) {
  const box = make("section", { "data-part": value.name },
    make("h3", { text: `${value.name}: ${value.points} of ${value.max_points}${value.state === "not started" ? " (not started)" : ""}` }));
  if (value.message) box.append(make("p", { class: "message", text: value.message }));
  const list = make("ul");
  for (const { said, passed, points, max_points } of value.checks) {
    list.append(make("li", {}, make("b", { text: passed ? "✓" : "✗", "aria-label": passed ? "met" : "not met" }), `${said} (${points} of ${max_points})`));
  }
  box.append(list);
  return box;
}

// The queue, asked often while something of one's own is in it, and not otherwise

async function watch() {
  try {
    if (shown?.units.some((each) => each.state === "waiting") && !document.hidden) {
      const { places } = await ask("changes");
      const waiting = [...element.querySelectorAll(".place")];
      pause = Math.min(pause * 1.2, 6000);
      if (waiting.some((each) => !(each.dataset.place in places))) {
        pause = 1500;
        await load();
      } else {
        for (const each of waiting) each.textContent = turn(places[each.dataset.place]);
      }
    }
  } catch {
    pause = 6000; // the server is away: it comes back with everything that was handed in
  }
  setTimeout(watch, pause);
}

load().catch(() => $(".open").replaceChildren("The course does not answer: reload the page in a while."));
setTimeout(watch, pause);
