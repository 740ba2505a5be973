// What the token at the chosen place is drawn from, before and after temperature, top-k and top-p.
// It follows the translation on show (lab.shared: text, pair, ids, query), and asks only while open.

const WAIT = 150; // ms after the last movement of a slider
const FIELDS = ["temperature", "top_k", "top_p"];
let waiting = null;
let last = ""; // the question answered, or asked

function settings() {
  const [temperature, top_k, top_p] = FIELDS.map((name) => Number($(`.${name}`).value));
  return { temperature, top_k: top_k || null, top_p: top_p < 1 ? top_p : null }; // null: nothing is cut
}

function drawSettings() {
  const { temperature, top_k, top_p } = settings();
  const said = [temperature, top_k, top_p].map((value) => value?.toLocaleString(lab.language) ?? say("translate.chances.every"));
  $$("output").forEach((output, i) => { output.textContent = said[i]; });
  lab.sampling = settings(); // the next translation by lot takes them
}

function look() {
  const { text, pair, ids, query = 0, kind } = lab.shared;
  if (!$("details").open || !ids) return;
  const at = kind === "encoder" ? 0 : Math.min(query, ids.length - 1);
  const question = { text, pair, prefix: ids.slice(0, at), ...settings() };
  if (JSON.stringify(question) === last) return;
  last = JSON.stringify(question);
  ask(question);
}

function later() {
  clearTimeout(waiting);
  waiting = setTimeout(look, WAIT);
}

function draw({ chances, others, left, text }) {
  const at = JSON.parse(last).prefix.length;
  $(".sentence").textContent = say(at ? "translate.chances.said" : "translate.chances.said_first", { at: at + 1, text, left });
  const head = ["token", "before", "after"].map((name) => make("th", { scope: "col", textContent: say(`translate.chances.${name}`) }));
  const cell = (share) => {
    const made = make("td", { className: "share", textContent: share ? exact(share) : say("translate.chances.out") });
    made.style.setProperty("--share", share);
    return made;
  };
  const line = (name, before, after) => make("tr", { className: after ? "" : "out" },
    make("th", { scope: "row", textContent: name }), cell(before), cell(after));
  $("table").replaceChildren(make("tr", {}, ...head),
    ...chances.map(([, piece, before, after]) => line(readable(piece), before, after)),
    line(say("translate.chances.others"), ...others));
}

const exact = (share) => `${decimal(100 * share, { maximumSignificantDigits: 2 })} %`;

element.addEventListener("input", () => {
  drawSettings();
  later();
});
element.addEventListener("submit", (event) => event.preventDefault());
$("details").addEventListener("toggle", look);
function set(options) { // what a link asks for
  const usual = { temperature: 1, top_k: 0, top_p: 1 };
  for (const name of FIELDS) $(`.${name}`).value = options[name] ?? usual[name];
  drawSettings();
}

window.addEventListener("lab:sampling", ({ detail }) => { // a translation by lot takes these
  if (detail.options) set(detail.options);
  $("details").open = true;
  if (!detail.look) return;
  $("summary").focus({ preventScroll: true });
  element.scrollIntoView({ behavior: still.matches ? "auto" : "smooth" });
});
$(".draw").addEventListener("click", () => window.dispatchEvent(new Event("lab:draw")));
window.addEventListener("lab:shared", later);
if (lab.sampling) set(lab.sampling);
drawSettings();
answered(draw);
