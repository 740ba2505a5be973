// Switches for every head, and the translation with and without. props.value, from lab.page.heads:
//   {pair, text, off: [[kind, layer, head]], layers, heads, before: {text, pieces, log_probability,
//    ended}, after: {…}, change, chances: [[before, after]], attention: {kind: packed}}

const KINDS = ["cross", "decoder", "encoder"]; // what breaks a translation most comes first
const off = new Set(); // "cross 1 2": what the visitor has switched off, answered or not yet
let shown = {};
let wanted = {}, asked = {}; // questions
let painted = ""; // whose attention the switches show

const bar = sentenceBar($("form"), () => send());
const name = (...head) => head.join(" ");
const parsed = (key) => key.split(" ").map((part, i) => (i ? Number(part) : part));
const exactly = (number) => decimal(number, { maximumFractionDigits: 2, minimumFractionDigits: 2 });

// What is off stays off when the page is loaded anew, in the other language for instance.
const OFF = "lab.off";
const keepOff = () => { try { sessionStorage.setItem(OFF, JSON.stringify([bar.pair, ...off])); } catch { /* all on, then */ } };
function offBefore() {
  try {
    const [pair, ...heads] = JSON.parse(sessionStorage.getItem(OFF));
    return pair === bar.pair ? heads : [];
  } catch { return []; }
}

function send() {
  const first = wanted.pair === undefined;
  if (bar.pair !== wanted.pair) off.clear(); // another model has other heads
  if (first) offBefore().forEach((head) => off.add(head));
  keepOff();
  wanted = { pair: bar.pair, text: bar.text, off: [...off].map(parsed) };
  if (element.dataset.state !== "asking") ask(asked = wanted); // else the answer sees that it is late
}

function draw(value) {
  shown = value;
  for (const side of ["before", "after"]) {
    const { text, log_probability, ended } = value[side];
    const line = $(`.translation.${side}`);
    line.lang = target();
    if (side === "after") line.replaceChildren(...compared(value));
    else line.textContent = text;
    $(`.small.${side}`).textContent = say("heads.logp", { value: exactly(log_probability) }) +
      (ended ? "" : ` ${say("heads.cut")}`);
  }
  $(".sentence").textContent = inWords(value);
  drawPieces(value);
  if (painted !== `${value.pair} ${value.text}`) build();
  press();
  if (asked !== wanted) ask(asked = wanted);
}

const target = () => ({ zh: "zh-CN" })[shown.pair.split("-")[1]] ?? shown.pair.split("-")[1];

// The new translation, what the old one had not marked.
function compared({ before, after }) {
  const same = kept(before.pieces, after.pieces);
  return after.pieces.filter((piece) => piece !== END)
    .map((piece, i) => (same.has(i) ? piece : make("mark", { textContent: piece })));
}

// Which pieces of `now` stand in `old` too, in the same order: the longest common subsequence.
function kept(old, now) {
  const most = Array.from({ length: old.length + 1 }, () => new Uint8Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      most[i][j] = old[i] === now[j] ? 1 + most[i + 1][j + 1] : Math.max(most[i + 1][j], most[i][j + 1]);
    }
  }
  const same = new Set();
  for (let i = 0, j = 0; i < old.length && j < now.length;) {
    if (old[i] === now[j]) { same.add(j++); i++; }
    else if (most[i + 1][j] >= most[i][j + 1]) i++;
    else j++;
  }
  return same;
}

function inWords({ off: heads, before, after, change }) {
  if (!heads.length) return say("heads.none_off", { n: 3 * shown.layers * shown.heads });
  const values = {
    heads: named(heads), factor: times(Math.abs(change)), change: exactly(change), before: exactly(before.log_probability),
    after: exactly(before.log_probability + change),
  };
  return [
    say(before.text === after.text ? "heads.same" : "heads.changed", values),
    say(Math.abs(change) < 0.005 ? "heads.no_change" : change < 0 ? "heads.less" : "heads.more", values),
  ].join(lab.language === "en" ? " " : "");
}

// Whole layers by one name; many names are too many.
function named(heads) {
  const whole = (kind, layer) => heads.filter((each) => each[0] === kind && each[1] === layer).length === shown.heads;
  const names = heads.flatMap(([kind, layer, head]) =>
    !whole(kind, layer) ? [headName([kind, layer, head])] : head === 0 ? [layerName(kind, layer)] : []);
  return names.length > 4 ? say("heads.count", { n: heads.length }) : names.join(say("heads.and"));
}

// How often e to the power of `nats` is: "2.1", "4,300", then "10¹²".
function times(nats) {
  if (nats < Math.log(1e6)) return decimal(Math.exp(nats), { maximumSignificantDigits: 2 });
  return `10${String(Math.round(nats / Math.LN10)).replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`;
}

const layerName = (kind, layer) => say("heads.layer_of", { kind: say(`heads.kind.${kind}`), layer: layer + 1 });
const headName = ([kind, layer, head]) =>
  say("heads.head", { kind: say(`heads.kind.${kind}`), layer: layer + 1, head: head + 1 });

// Each piece of the old translation: how probable it was, and is now.
function drawPieces({ before, chances }) {
  $(".pieces").lang = target();
  $(".pieces").replaceChildren(...before.pieces.map((piece, i) => {
    const [usually, now] = chances[i];
    const one = make("span", { className: "token", role: "listitem" },
      make("span", { textContent: readable(piece) }),
      make("i", { className: "usually" }), make("i", { className: "now" }),
      make("small", { textContent: `${percent(usually)} → ${percent(now)}` }));
    one.style.setProperty("--usually", usually);
    one.style.setProperty("--now", now);
    one.classList.toggle("joins", joins(piece, i, target()));
    one.classList.toggle("lost", now < usually / 2);
    return one;
  }));
}

// The switches: a board a kind, a row a layer; the first of a row switches the layer.

function build() {
  painted = `${shown.pair} ${shown.text}`;
  $(".boards").replaceChildren(...KINDS.map((kind) => {
    const weights = unpack(shown.attention[kind]);
    const { rows, columns } = shown.attention[kind];
    const board = make("div", { className: "board", role: "group", ariaLabel: say(`heads.kind.${kind}`) },
      make("h3", { textContent: say(`heads.kind.${kind}`) }), make("p", { className: "small", textContent: say(`heads.looks.${kind}`) }));
    for (let layer = 0; layer < shown.layers; layer++) {
      const row = make("div", { className: "row" }, toggle(kind, layer));
      for (let head = 0; head < shown.heads; head++) {
        const at = (layer * shown.heads + head) * rows * columns;
        row.append(toggle(kind, layer, head, thumbnail(weights.subarray(at, at + rows * columns), rows, columns)));
      }
      board.append(row);
    }
    return board;
  }));
  $(".boards").style.setProperty("--columns", shown.heads + 1);
  switches()[0].tabIndex = 0;
}

const switches = () => $$("[role=switch]");

function toggle(kind, layer, head = null, ...picture) {
  const text = head === null ? say("heads.layer", { layer: layer + 1 }) : say("heads.short", { head: head + 1 });
  const made = make("button", { type: "button", role: "switch", className: head === null ? "layer" : "head", tabIndex: -1 },
    ...picture, make("span", { textContent: text }), make("small", { className: "state" }));
  made.ariaLabel = head === null ? layerName(kind, layer) : headName([kind, layer, head]);
  made.dataset.heads = (head === null ? [...Array(shown.heads).keys()] : [head])
    .map((each) => name(kind, layer, each)).join();
  return made;
}

function thumbnail(weights, rows, columns) {
  const canvas = make("canvas", { width: columns, height: rows, ariaHidden: true });
  const context = canvas.getContext("2d");
  const most = weights.reduce((a, b) => Math.max(a, b), 0) || 1;
  weights.forEach((weight, i) => {
    context.fillStyle = colour(weight / most);
    context.fillRect(i % columns, Math.floor(i / columns), 1, 1);
  });
  return canvas;
}

function press() {
  for (const each of switches()) {
    const on = each.dataset.heads.split(",").some((head) => !off.has(head));
    each.ariaChecked = on;
    each.querySelector(".state").textContent = say(on ? "heads.on" : "heads.off");
  }
  $(".all").disabled = off.size === 0;
  $(".count").textContent = say("heads.count_off", { n: off.size });
}

function change(heads, on) {
  for (const head of heads) on ? off.delete(head) : off.add(head);
  press();
  send();
}

// What the visitor does

element.addEventListener("click", (event) => {
  const clicked = event.target.closest("button");
  if (!clicked) return;
  if (clicked.matches(".all")) change([...off], true);
  if (clicked.matches("[role=switch]")) {
    walk(clicked, false);
    change(clicked.dataset.heads.split(","), clicked.ariaChecked !== "true");
  }
});

function walk(to, focus = true) { // one stop for Tab, arrows inside
  for (const each of switches()) each.tabIndex = each === to ? 0 : -1;
  if (focus) to.focus();
}

element.addEventListener("keydown", (event) => {
  if (!event.target.matches("[role=switch]")) return;
  const all = switches(), width = shown.heads + 1;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width, Home: -Infinity, End: Infinity }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = all[Math.min(Math.max(all.indexOf(event.target) + step, 0), all.length - 1)];
  walk(next);
});

// The table below switches heads too.
window.addEventListener("lab:shared", ({ detail }) => {
  if (detail.switchOff && detail.switchOff.pair === shown.pair) change([name(...detail.switchOff.head)], false);
});

answered(draw);
whenSeen(() => {
  if (bar.text && (bar.text !== wanted.text || bar.pair !== wanted.pair)) send();
});
