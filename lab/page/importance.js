// How much each head matters: rows come in slices, see lab.page.heads. props.value:
//   {pair, n, done, total, rows: [{kind, layer, head, loss, changed, label, habits}]}

const state = { pair: null, rows: [], total: 0, sentences: [], running: false, by: "loss", down: true };
const box = $("textarea");
const lines = () => box.value.split("\n").map((line) => line.trim()).filter(Boolean);
const digits = (number, most = 3) => decimal(number, { maximumFractionDigits: most, minimumFractionDigits: most });
const ruleOf = Object.fromEntries(props.rules.map((rule) => [rule.name, rule]));
const word = (label) => label.replace(" ", "_");

$(".sentences span").textContent = say("heads.table.sentences", { limit: props.limit });
fill($(".pair"), props.pairs.map((pair) => [pair, pairName(pair)]), lab.shared.pair ?? props.pairs[0]);
$(".rules").append(...props.rules.flatMap(({ name, least }) => [
  make("dt", { textContent: say(`heads.label.${word(name)}`) }),
  make("dd", { textContent: say(`heads.rule.${word(name)}`, { least: percentOrNumber(name, least) }) }),
]), make("dt", { textContent: say("heads.label.none") }), make("dd", { textContent: say("heads.rule.none") }));

function percentOrNumber(name, value) { // alignment is a correlation, the others are shares
  return name === "alignment" ? digits(value, 2) : percent(value);
}

// Asking

// A table that was stopped, and is asked for again.
const unfinished = () => state.rows.length > 0 && state.rows.length < state.total &&
  state.pair === $(".pair").value && state.sentences.join("\n") === lines().join("\n");

function start() {
  Object.assign(state, { pair: $(".pair").value, sentences: lines(), rows: [], running: true });
  more();
}

function more() {
  ask({ pair: state.pair, sentences: state.sentences, done: state.rows.length });
  tell();
}

answered((value) => {
  if (value.pair !== state.pair || value.done !== state.rows.length) return;
  state.total = value.total;
  state.rows.push(...value.rows);
  if (state.rows.length >= state.total) state.running = false;
  draw();
  if (state.running) more();
});

new MutationObserver(() => { // a message ends the run
  if (element.dataset.state !== "message") return;
  state.running = false;
  tell();
}).observe(element, { attributeFilter: ["data-state"] });

function tell() {
  const { running, rows, total } = state;
  $(".stop").hidden = !running;
  $("progress").hidden = !running;
  $("progress").max = total || 1;
  $("progress").value = rows.length;
  $("progress").ariaLabel = say("heads.table.title");
  $(".go").disabled = running;
  $(".go").textContent = say(!running && unfinished() ? "heads.table.go_on" : "heads.table.go");
  $(".again").hidden = lines().join("\n") === props.sentences[$(".pair").value].join("\n");
  $(".told").textContent = running ? say("heads.table.running", { done: rows.length, total: total || "…" })
    : !rows.length ? "" : rows.length < total ? say("heads.table.stopped", { done: rows.length, total })
    : say("heads.table.finished", { total, n: state.sentences.length });
}

// Drawing

const COLUMNS = ["head", "loss", "changed", "label"];
const order = { head: (row) => row.place, loss: (row) => row.loss, changed: (row) => row.changed, label: (row) => say(`heads.label.${word(row.label)}`) };

function draw() {
  tell();
  const rows = state.rows.map((row, place) => ({ ...row, place }));
  const key = order[state.by];
  rows.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a.place - b.place) * (state.down ? -1 : 1));
  const most = Math.max(...rows.map((row) => row.loss), 1e-9);
  $("table").replaceChildren(
    make("caption", { textContent: say("heads.table.caption") }),
    make("thead", {}, make("tr", {}, ...COLUMNS.map(heading), make("th", { scope: "col", textContent: say("heads.table.why") }), make("th", { scope: "col", textContent: say("heads.table.try") }))),
    make("tbody", {}, ...rows.map((row) => line(row, most))));
}

function heading(column) {
  const chosen = state.by === column;
  const sort = make("button", { type: "button", className: "sort", dataset: { column }, textContent: say(`heads.table.${column}`) });
  sort.append(make("span", { ariaHidden: true, textContent: chosen ? (state.down ? " ↓" : " ↑") : "" }));
  return make("th", { scope: "col", ariaSort: chosen ? (state.down ? "descending" : "ascending") : "none" }, sort);
}

function line(row, most) {
  const { kind, layer, head, loss, changed, label } = row;
  const bar = make("i", { className: "loss" });
  bar.style.width = `${Math.max(0, 100 * loss / most)}%`;
  const name = say("heads.head", { kind: say(`heads.kind.${kind}`), layer: layer + 1, head: head + 1 });
  return make("tr", { dataset: { kind, layer, head } },
    make("th", { scope: "row", textContent: name }),
    make("td", {}, make("span", { className: "number", textContent: digits(loss) }), bar),
    make("td", { textContent: percent(changed) }),
    make("td", {}, make("b", { className: `label ${word(label)}`, textContent: say(`heads.label.${word(label)}`) })),
    make("td", { className: "why" }, ...why(row)),
    make("td", {}, make("button", { type: "button", className: "off", ariaLabel: say("heads.table.off_name", { name }), textContent: say("heads.table.off") })));
}

// The rule that gave the label with this head's number; folded away, every number that met none.
function why({ label, habits }) {
  const one = (name) => {
    const { reads, least } = ruleOf[name];
    return say(`heads.why.${word(name)}`, { value: percentOrNumber(name, habits[reads]), least: percentOrNumber(name, least) });
  };
  if (label !== "none") return [one(label)];
  const all = props.rules.filter(({ reads }) => habits[reads] !== null).map(({ name }) => make("li", { textContent: one(name) }));
  return [make("details", {}, make("summary", { textContent: say("heads.rule.none") }), make("ul", {}, ...all))];
}

// What the visitor does

function defaults() {
  box.value = props.sentences[$(".pair").value].join("\n");
  tell();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (element.dataset.state === "asking") return;
  if (unfinished()) {
    state.running = true;
    more();
  } else start();
});
$(".stop").addEventListener("click", () => { state.running = false; tell(); });
$(".again").addEventListener("click", defaults);
$(".pair").addEventListener("change", () => { defaults(); share({ pair: $(".pair").value }); });
box.addEventListener("input", tell);
element.addEventListener("click", ({ target }) => {
  const sort = target.closest(".sort"), switched = target.closest(".off");
  if (sort) {
    const { column } = sort.dataset;
    Object.assign(state, { by: column, down: state.by === column ? !state.down : column !== "head" && column !== "label" });
    draw();
    $(`.sort[data-column=${column}]`).focus();
  }
  if (switched) {
    const { kind, layer, head } = switched.closest("tr").dataset;
    share({ switchOff: { pair: state.pair, head: [kind, Number(layer), Number(head)] } });
    document.querySelector(".lab.heads .sentence")?.scrollIntoView({ block: "center", behavior: still.matches ? "auto" : "smooth" });
  }
});
window.addEventListener("lab:shared", ({ detail }) => {
  if (!("pair" in detail) || detail.pair === $(".pair").value || !props.pairs.includes(detail.pair)) return;
  const untouched = $(".again").hidden;
  $(".pair").value = detail.pair;
  if (untouched) defaults();
  tell();
});

defaults();
whenSeen(() => {
  if (element.dataset.state === "empty" && !state.running) start();
});
