// The teacher's tab: the queue, downloads, and the report, which is a page of its own without scripts.
// Gradio gives: element. Whoever is no teacher gets nothing to show.

const $ = (selector) => element.querySelector(selector);
const at = (path) => new URL(`course/${path}`, document.baseURI);

function make(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

const clock = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

function fill(select, values, first) {
  const chosen = select.value;
  select.replaceChildren(...first, ...values.map((value) => make("option", value)));
  if (values.includes(chosen)) select.value = chosen;
}

async function load(report) {
  const answer = await fetch(at("class"));
  if (!answer.ok) return;
  const { queue, units, formats, handed_in, learners } = await answer.json();
  $(".sum").textContent = `${learners} learners, ${handed_in} hand-ins that count, ${queue.length} in the queue.`;
  const rows = queue.map(({ name, id, unit, time, late }) =>
    make("tr", null, ...[name === id ? id : `${name} (${id})`, unit, clock(time), late && `late by ${late}`].map((text) => make("td", text))));
  const head = make("tr", null, ...["learner", "unit", "handed in", ""].map((text) => make("th", text)));
  $(".queue").replaceChildren(queue.length ? make("table", null, head, ...rows) : make("p", "Nobody waits."));
  const all = make("option", "all");
  all.value = "";
  fill($("[name=unit]"), units, [all]);
  fill($("[name=format]"), formats, []);
  $(".export").hidden = !units.length;
  if (report) $("iframe").src = at(`report${$(".similar").checked ? "?similar=yes" : ""}`);
  element.dataset.loaded = "yes";
}

$(".again").addEventListener("click", () => load(true));
$(".similar").addEventListener("change", () => load(true));
setInterval(() => element.offsetParent && !document.hidden && load(false), 15000);
load(true);
