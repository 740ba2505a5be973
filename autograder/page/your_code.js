// The learner's parts beside PyTorch's. props.value, from autograder.page.your_code:
//   {version, languages, parts: [{part, unit, state, used, on, words}], verdicts: {part: {…}}, source: [piece],
//    stock, yours: {text, pieces, attention, …}, fault, first: {part, place, difference: {…}, …}, calls, seconds}

const KINDS = ["cross", "decoder", "encoder"];
const MEAN = "mean";
const MAPS = ["apart", "yours", "stock"];

const state = { off: new Set(), on: new Set(), search: "greedy", kind: "cross", layer: Infinity, head: MEAN, map: "apart" };
let shown = null;
let version = 0; // of the folder
let asked = null; // the sentence on show
let wanted = ""; // the part whose mistake is looked up
let bar = null;

if (props.live) {
  bar = sentenceBar($("form"), send);
  $(".live").hidden = false;
  fill($(".search"), ["greedy", "beam", "sample"].map((name) => [name, say(`your_code.${name}`)]), state.search);
  fill($(".kind"), KINDS.map((kind) => [kind, say(`your_code.attention.${kind}`)]), state.kind);
  $(".watching").textContent = say("your_code.watching", { folder: props.home });
  $(".maps").append(...MAPS.map((map) => Object.assign(button("map", say(`your_code.map.${map}`)), { value: map })));
  whenSeen(() => (asked?.text === bar.text && asked?.pair === bar.pair) || send());
  follow(look, () => Boolean(wanted));
}

function send() {
  asked = { text: bar.text, pair: bar.pair };
  ask({ ...asked, search: state.search, off: [...state.off], on: [...state.on] });
}

// What was saved, and what the checks say of the first part that differs

async function look() {
  const found = await news(wanted);
  if (!found || !shown) return;
  if (found.version !== version && element.ariaBusy !== "true") {
    version = found.version;
    $(".watching").textContent = say("your_code.reloaded", { names: found.saved.join(", ") });
    send();
  } else if (wanted && "result" in found && (found.result || !found.running)) {
    drawMistake(found.result);
    wanted = "";
  }
}

// Drawing

answered((value) => {
  shown = value;
  version = value.version;
  const { layers } = value.stock;
  state.layer = Math.min(state.layer, layers - 1);
  fill($(".layer"), [...Array(layers).keys()].map((i) => [i, `${i + 1}`]), state.layer);
  fill($(".head"), [[MEAN, say("your_code.attention.mean")], ...[...Array(value.stock.heads).keys()].map((i) => [i, `${i + 1}`])], state.head);
  drawTranslation($(".stocks"), value.stock);
  drawTranslation($(".yours"), value.yours);
  drawSentence();
  drawFirst();
  drawParts();
  drawAttention();
  $(".time").textContent = value.on.length ? say("your_code.time", { calls: value.calls, seconds: value.seconds }) : "";
});

function drawTranslation(box, written) {
  box.hidden = !written;
  if (!written) return;
  const text = box.querySelector(".translation");
  text.lang = shown.languages.target === "zh" ? "zh-CN" : shown.languages.target;
  text.textContent = written.text || "·";
  const cut = written.ended ? "" : ` · ${say("your_code.cut")}`;
  box.querySelector(".small").textContent = say("your_code.probability", { value: `−${digits(written.log_probability)}` }) + cut;
}

const verdict = (part) => shown.verdicts[part];
const runs = (part) => ["same", "differs"].includes(verdict(part).state);

// One sentence for all of it.
function drawSentence() {
  const { on, parts, fault } = shown;
  const said = [];
  const written = parts.filter(({ state }) => !["stub", "missing"].includes(state));
  const wrong = on.filter((part) => verdict(part).state !== "same");
  if (!written.length) said.push(say("your_code.none_written", props.begin));
  else if (!on.length) said.push(say("your_code.none_on"));
  else if (!wrong.length) {
    const most = digits(Math.max(...on.map((part) => verdict(part).most)));
    said.push(say("your_code.agree", { n: on.length, calls: shown.calls, most }));
  } else said.push(say("your_code.among", { n: wrong.length }));
  const out = on.filter((part) => !runs(part));
  if (out.length) said.push(say("your_code.left_out", { parts: out.join(lab.language === "en" ? ", " : "、") }));
  if (fault) said.push(`${say("your_code.no_translation")} ${saidOf(fault)}`);
  $(".sentence").textContent = said.join(" ");
}

function saidOf({ state, words, where }) {
  return say(`your_code.said.${state}`, { words }) + (where ? ` → ${where}` : "");
}

// "encoder.layers.0.self_attention" as "encoder, layer 1, self_attention"
function placed(path) {
  const [, side, n, name] = path.match(/^(encoder|decoder)(?:\.layers\.(\d+))?(?:\.(.+))?$/) ?? [];
  if (!side) return path || say("your_code.place.model");
  const values = { side: say(`your_code.place.${side}`), n: Number(n) + 1, name };
  return say(`your_code.place.${name ? "layer" : n ? "whole" : "side"}`, values);
}

function tensorName({ place, name }) {
  return place ? say("your_code.within", { place, name }) : say("your_code.gives", { name });
}

const valuesOf = (each) => ({ tensor: tensorName(each), shape: shape(each.shape), most: digits(each.most), at: `[${each.at.join(", ")}]` });

const shape = (sizes) => `(${sizes.join(", ")})`;

function drawFirst() {
  const { first } = shown;
  $(".first").hidden = !first;
  wanted = "";
  if (!first) return;
  const { difference } = first;
  $(".which").textContent = say("your_code.first", { part: first.part });
  $(".place").textContent = placed(first.place);
  const said = [];
  if (saysItself(first.verdict)) said.push(saidOf(first.verdict));
  else if (!difference) said.push(say("your_code.somewhere", { most: digits(first.verdict.most) }));
  else if (difference.other_shape) {
    said.push(say("your_code.shapes", { tensor: tensorName(difference), yours: shape(difference.other_shape), shape: shape(difference.shape) }));
  } else said.push(say("your_code.tensor", valuesOf(difference)));
  if (difference?.then) said.push(say("your_code.then", valuesOf(difference.then)));
  if (first.verdict.changes) said.push(say("your_code.changes"));
  $(".tensor").textContent = said.join(" ");
  drawn = difference?.then ?? difference;
  $(".difference").hidden = !drawn?.rows.length;
  if (!$(".difference").hidden) drawDifference();
  $(".lesson").textContent = say("your_code.lesson", { title: unitTitle(first.unit), part: first.part, notebook: first.notebook });
  $(".command code").textContent = `lab notebook ${first.unit}`;
  drawMistake(undefined);
  wanted = first.part;
}

const saysItself = ({ state }) => state in { raises: 1, timeout: 1, crashed: 1 };

// The mistake by its name, once the checks have said it; undefined while they are asked.
function drawMistake(result) {
  const named = result && result.mistake;
  const words = result === undefined ? say("your_code.looking")
    : named ? result.headline
    : result && result.state === "passed" ? say("your_code.passes")
    : result && result.message ? result.headline || say("your_code.unnamed") : say("your_code.unchecked");
  $(".named").textContent = words;
  $(".named").classList.toggle("known", Boolean(named));
  $(".why").textContent = result?.message ?? "";
  $(".where").hidden = !result?.where;
  $(".where code").textContent = result?.where ?? "";
  $(".hint").textContent = result?.hint ?? "";
  $(".mistake").dataset.state = result === undefined ? "asking" : "done";
}

let drawn = null; // the difference whose heat map is shown
let cellAt = () => null; // the cell of the difference below a pointer
let numbers = {}; // of the difference: apart, yours, stock

function drawDifference() {
  const { rows, columns, at, corner, limit, scale } = drawn;
  const both = (packed) => unpack(packed).map((share) => (2 * share - 1) * limit);
  numbers = { apart: unpack(drawn.apart), yours: both(drawn.yours), stock: both(drawn.stock) };
  $$(".map").forEach((each) => each.setAttribute("aria-pressed", each.value === state.map));
  const values = numbers[state.map];
  const of = (row, column) => values[row * columns.length + column];
  const paint = (row, column) => (state.map === "apart" ? colour(of(row, column)) : signed(of(row, column), limit));
  const mark = [(at.at(-2) ?? 0) - corner[0], at.at(-1) - corner[1]];
  const canvas = $(".difference canvas");
  cellAt = drawMatrix(canvas, rows, columns, paint, { mark, room: $(".result").clientWidth > 900 ? 620 : $(".result").clientWidth, largest: 30 });
  const what = say(`your_code.map.${state.map}`);
  canvas.ariaLabel = say("your_code.map.picture", { what, rows: rows.length, columns: columns.length });
  const kind = (names) => say(/^\d+$/.test(names[0]) ? "your_code.map.features" : "your_code.map.tokens");
  const range = say(`your_code.map.${state.map === "apart" ? "scale" : "signed"}`, { most: digits(state.map === "apart" ? scale : limit) });
  const parts = [say("your_code.map.title", { what, tensor: tensorName(drawn), rows: kind(rows), columns: kind(columns) }), `(${range})`];
  if (columns.length < drawn.shape.at(-1) || rows.length < (drawn.shape.at(-2) ?? 1)) parts.push(say("your_code.map.window"));
  $(".difference figcaption").textContent = parts.join(" ");
  drawCell(mark);
  if ($(".difference details").open) drawNumbers();
}

function drawCell([row, column]) {
  const { rows, columns } = drawn;
  const of = (which) => digits(numbers[which][row * columns.length + column]);
  $(".cell").textContent = say("your_code.map.cell", { row: readable(rows[row]), column: readable(columns[column]), yours: of("yours"), stock: of("stock") });
}

function drawNumbers() {
  const { rows, columns, scale } = drawn;
  const times = state.map === "apart" ? scale : 1;
  const text = (row, column) => digits(times * numbers[state.map][row * columns.length + column]);
  fillTable($(".difference table"), $(".difference figcaption").textContent, rows, columns, text);
}

// A switch for each part, with what is known of it

function drawParts() {
  const used = shown.parts.filter((each) => each.used);
  const on = shown.on.filter(runs);
  $(".sum").textContent = say("your_code.sum", { on: on.length, used: used.length });
  const open = document.activeElement?.dataset?.part;
  $(".units").replaceChildren(...props.units.map((name) => make("fieldset", {},
    make("legend", { textContent: `${name.slice(0, 2)} ${unitTitle(name)}` }),
    ...shown.parts.filter(({ unit }) => unit === name).map(drawPart))));
  if (open) $(`[data-part="${open}"]`)?.focus();
}

function drawPart({ part, state: written, used, on, words }) {
  const can = used && !["stub", "missing"].includes(written);
  const box = make("input", { type: "checkbox", checked: on, disabled: !can, ariaLabel: say("your_code.switch", { part }), dataset: { part } });
  box.setAttribute("role", "switch");
  const found = on ? verdict(part) : null;
  const chip = (name, text) => make("span", { className: `chip ${name}`, textContent: text });
  const marks = (found || !used) && written === "written" ? [] : [chip(written, say(`your_code.state.${written}`))];
  if (found) {
    const more = found.state === "differs" ? ` ${digits(found.most)}` : "";
    marks.push(chip(found.state, `${found.state === "same" ? "✓" : "✗"} ${say(`your_code.verdict.${found.state}`)}${more}`));
  }
  if (!used) marks.push(chip("unused", say("your_code.unused")));
  const line = make("label", { className: "part" }, box, make("span", { className: "name" }, make("code", { textContent: part }), ...marks));
  const told = found && saysItself(found) ? saidOf(found) : words;
  return told ? make("div", {}, line, make("p", { className: "small told", textContent: told })) : line;
}

// Attention, PyTorch's and the learner's

function weights(written) {
  const { rows, columns, data } = written.attention[state.kind];
  const all = unpack({ data });
  const { heads } = written;
  const chosen = state.head === MEAN ? [...Array(heads).keys()] : [Number(state.head)];
  const of = (row, column) => chosen.reduce((sum, head) => sum + all[((state.layer * heads + head) * rows + row) * columns + column], 0) / chosen.length;
  const start = [START, ...written.pieces.slice(0, -1)];
  const names = { cross: [written.pieces, shown.source], decoder: [written.pieces, start], encoder: [shown.source, shown.source] }[state.kind];
  return { of, names };
}

function drawAttention() {
  const both = [["stocks", shown.stock], ["yours", shown.yours]];
  $(".attention .yours").hidden = !shown.yours;
  const room = $(".result").clientWidth / ($(".result").clientWidth > 900 ? 2 : 1) - 30;
  const [asks, answers] = { cross: ["generated", "source"], decoder: ["generated", "generated"], encoder: ["source", "source"] }[state.kind];
  const axes = say("your_code.attention.axes", { rows: say(`your_code.attention.${asks}`), columns: say(`your_code.attention.${answers}`) });
  for (const [side, written] of both) {
    if (!written) continue;
    const { of, names: [rows, columns] } = weights(written);
    const canvas = $(`.attention .${side} canvas`);
    drawMatrix(canvas, rows, columns, (row, column) => colour(of(row, column)), { room, largest: 28 });
    const who = say(`your_code.${side === "stocks" ? "stock" : "yours"}`);
    canvas.ariaLabel = say("your_code.attention.picture", { who, rows: rows.length, columns: columns.length });
    $(`.attention .${side} figcaption`).textContent = `${who} · ${axes}`;
  }
  $(".apart").textContent = shown.yours ? saidApart() : "";
  if ($(".numbers").open) drawTables();
}

function saidApart() {
  const { stock, yours } = shown;
  if (state.kind !== "encoder" && stock.pieces.join("|") !== yours.pieces.join("|")) return say("your_code.attention.other");
  const [ours, theirs] = [weights(stock), weights(yours)];
  const [rows, columns] = ours.names;
  const most = Math.max(...rows.map((_, r) => Math.max(...columns.map((_, c) => Math.abs(ours.of(r, c) - theirs.of(r, c))))));
  return most < 1e-3 ? say("your_code.attention.same") : say("your_code.attention.apart", { most: percent(most) });
}

function drawTables() {
  const tables = [["stock", shown.stock], ["yours", shown.yours]].filter(([, written]) => written).map(([side, written]) => {
    const { of, names: [rows, columns] } = weights(written);
    const table = make("table");
    fillTable(table, say(`your_code.${side}`), rows, columns, (row, column) => percent(of(row, column)));
    return table;
  });
  $(".numbers .scroll").replaceChildren(...tables);
}

// What the visitor does

element.addEventListener("change", ({ target }) => {
  if (target.dataset.part) toggle(target.dataset.part, target.checked);
  else if (target.matches(".search")) { state.search = target.value; send(); }
  else if (target.matches(".kind, .layer, .head")) {
    const value = target.value;
    state[target.className] = target.matches(".kind") || value === MEAN ? value : Number(value);
    drawAttention();
  }
});

function toggle(part, on) {
  state.off[on ? "delete" : "add"](part);
  state.on[on ? "add" : "delete"](part);
  send();
}

element.addEventListener("click", ({ target }) => {
  if (target.matches(".all")) { state.off.clear(); state.on.clear(); send(); }
  else if (target.matches(".none")) { shown.parts.forEach(({ part }) => state.off.add(part)); state.on.clear(); send(); }
  else if (target.matches(".map")) { state.map = target.value; drawDifference(); }
});

$(".difference canvas").addEventListener("pointermove", (event) => {
  const cell = cellAt(event);
  if (cell) drawCell(cell);
});
$(".difference details").addEventListener("toggle", ({ target }) => target.open && drawNumbers());
$(".numbers").addEventListener("toggle", ({ target }) => target.open && drawTables());
window.addEventListener("resize", () => {
  if (!shown || !inView()) return;
  drawAttention();
  if (!$(".first").hidden && !$(".difference").hidden) drawDifference();
});
