// The journey of one token through one layer, step by step. props.value = {message} or
//   {pair, text, translation, languages: {source, target}, source: [piece], written: [piece], layers,
//    sizes: {B, S, T, D, F, H, d_k}, kind, layer, head, query, key, differing: [id],
//    steps: [{id, block, key, part, formula, shape: [axis], size, whole: [axis], value, made_from: [id],
//             own, difference, agrees, parameters}]}
// props.formulas has each step's MathML, by key. inside_layer.js, inside_pictures.js and
// inside_sentences.js stand before.

const KINDS = ["encoder", "decoder", "cross"];
const SYMBOLS = {
  x: "x", tokens: "Y", memory: "M", query: "q", keys: "K", values: "V", products: "q·k", score: "q·k",
  scores: "qKᵀ", scaled: "z", padding_mask: "m", decoder_mask: "m", masked: "z", weights: "w", weighted: "w·v",
  head: "o⁽ʰ⁾", heads: "o", projected: "oW", attended: "att", residual: "r", mean: "μ", variance: "σ²",
  normalised: "r̂", norm: "y", hidden: "u", relu: "relu", fed: "ffn",
};
const chosen = {}; // places that the visitor chose, here or in another tab; the server chooses the others
let shown = null; // the answer on show
let steps = {}; // its steps by id
let at = 0; // which of them
let asked = ""; // the last question
let drawing = null; // of the layer
let drawnKind = "";

// Questions

function note(changes) {
  const { kind } = changes;
  chosen.ids = lab.shared.ids; // Translate's, which may begin with tokens that were forced
  if ("text" in changes || "pair" in changes) ["query", "key"].forEach((place) => delete chosen[place]);
  if (KINDS.includes(kind) && kind !== chosen.kind) {
    if (sideOf(kind) !== sideOf(chosen.kind ?? "cross")) delete chosen.query;
    delete chosen.key;
    chosen.kind = kind;
  }
  for (const place of ["layer", "head", "query", "key"]) { // another tab's head may be "mean"
    if (Number.isInteger(changes[place])) chosen[place] = changes[place];
  }
}

function send(again = false) {
  const { text = props.example ?? "", pair = props.pairs[0] } = lab.shared;
  const question = { text, pair, ...chosen };
  if (JSON.stringify(question) === asked && !again) return;
  asked = JSON.stringify(question);
  ask(question);
}

// What a value holds

const number = (value) => (Array.isArray(value) ? value.map(number) : typeof value === "boolean" ? value : Number(value));

// The tokens of either side, as {pieces, language}; `read` is what the decoder reads.
function sides() {
  const { source, written, languages } = shown;
  const read = { pieces: [START, ...written.slice(0, -1)], language: languages.target };
  return { source: { pieces: source, language: languages.source }, read };
}

const asking = () => sides()[shown.kind === "encoder" ? "source" : "read"];
const answering = () => sides()[shown.kind === "decoder" ? "read" : "source"];
const queryToken = () => readable(asking().pieces[shown.query]);
const keyToken = (s = shown.key) => readable(answering().pieces[s]);

// Whose numbers a step's rows are, and which of them was chosen.
function rowsOf({ block, key }) {
  const across = block === "cross_attention";
  const inDetail = isAttention(block) && across === (shown.kind === "cross");
  return { ...sides()[across || shown.kind === "encoder" ? "source" : "read"], outlined: inDetail ? shown.key : -1 };
}

const step = () => shown.steps[at];
const beside = (key, block = step().block) => steps[`${block}.${key}`].value; // of the same block

function show(value) {
  const before = shown && step();
  shown = value;
  for (const each of shown.steps) each.value = number(each.value);
  steps = Object.fromEntries(shown.steps.map((each) => [each.id, each]));
  const same = (found) => shown.steps.findIndex(found);
  at = before ? [same(({ id }) => id === before.id), same(({ key }) => key === before.key), 0].find((i) => i >= 0) : 0;
  fill($(".kind"), KINDS.map((kind) => [kind, say(`inside.kind.${kind}`)]), shown.kind);
  const numbered = (count) => [...Array(count).keys()].map((i) => [i, `${i + 1}`]);
  fill($(".layer"), numbered(shown.layers), shown.layer);
  fill($(".head"), numbered(shown.sizes.H), shown.head);
  drawTokens();
  if (drawnKind !== shown.kind) $(".layer-drawing").replaceChildren(drawing = layerDrawing(drawnKind = shown.kind));
  drawSteps();
  $(".differing").hidden = shown.differing.length === 0;
  $(".differing span").textContent = say("inside.differing", { n: shown.differing.length });
  draw();
  settle();
}

function drawTokens() {
  $(".asks").textContent = say(shown.kind === "encoder" ? "inside.asks" : "inside.asks_target");
  $(".answers").textContent = say(`inside.answers.${shown.kind}`);
  const row = (box, { pieces, language }, pressed, more = () => null) => {
    const held = box.contains(document.activeElement); // the keyboard stays where it was
    box.lang = language;
    box.replaceChildren(...pieces.map((piece, i) => {
      const token = button("token", readable(piece));
      const below = more(i);
      if (below) token.append(make("small", { textContent: below }));
      token.dataset.index = i;
      token.classList.toggle("joins", joins(piece, i, language));
      token.setAttribute("aria-pressed", i === pressed);
      token.tabIndex = i === pressed ? 0 : -1; // one stop for Tab, arrows inside
      return token;
    }));
    if (held) box.children[pressed].focus();
  };
  row($(".queries"), asking(), shown.query, (i) => shown.kind !== "encoder" && `→ ${readable(shown.written[i])}`);
  row($(".keys"), answering(), shown.key);
}

function drawSteps() {
  const list = $(".steps");
  const groups = [];
  shown.steps.forEach((each, i) => {
    if (each.block !== groups.at(-1)?.block) groups.push({ block: each.block, items: [] });
    const item = button("step", say(`inside.step.${each.key}`));
    item.dataset.index = i;
    if (!each.agrees) item.append(make("b", { textContent: " ≠" }), make("span", { className: "unseen", textContent: say("inside.otherwise") }));
    groups.at(-1).items.push(make("li", {}, item));
  });
  list.replaceChildren(...groups.map(({ block, items }, i) => {
    const title = make("h2", { id: `inside-block-${i}`, textContent: blockName(block, shown.kind) });
    const ordered = make("ol", { start: Number(items[0].firstChild.dataset.index) + 1 }, ...items);
    ordered.setAttribute("aria-labelledby", title.id);
    return make("div", {}, title, ordered);
  }));
}

function draw() {
  const now = step();
  $(".count").textContent = say("inside.count", { n: at + 1, count: shown.steps.length });
  $(".back").ariaDisabled = at === 0;
  $(".next").ariaDisabled = at === shown.steps.length - 1;
  $(".name").textContent = say("inside.name", { block: blockName(now.block, shown.kind), step: say(`inside.step.${now.key}`) });
  $(".sentence").textContent = sentence(now);
  const formula = new DOMParser().parseFromString(props.formulas[now.key], "application/xml");
  $(".formula").replaceChildren(mathematics(formula.documentElement));
  $(".shape").textContent = shapeOf(now);
  $(".origin").textContent = originOf(now);
  $(".origin").classList.toggle("odd", !now.agrees);
  drawPictures(now);
  lightUp(drawing, now, shown.kind, queryToken());
  $$(".step").forEach((item, i) => {
    item.tabIndex = i === at ? 0 : -1;
    if (i === at) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
  const [list, current] = [$(".steps"), $(".step[aria-current]")];
  list.scrollTop = current.offsetTop - list.clientHeight / 2;
  if ($(".numbers").open) drawTable(now);
}

// An XML document's elements are not yet the page's.
function mathematics(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.data;
  const made = document.createElementNS("http://www.w3.org/1998/Math/MathML", node.localName);
  for (const { name, value } of node.attributes) made.setAttribute(name, value);
  made.append(...[...node.childNodes].map(mathematics));
  return made;
}

const axes = (names) => `[${names.join(", ")}] = [${names.map((name) => shown.sizes[name]).join(", ")}]`;

function shapeOf({ shape, whole, part }) {
  return say("inside.shape", { shape: shape.length ? axes(shape) : say("inside.scalar"), whole: axes(whole), part });
}

function originOf({ own, agrees, difference }) {
  if (!own) return say("inside.computed");
  const word = !agrees ? "inside.differs" : difference ? "inside.own" : "inside.own_exactly";
  return `${agrees ? "✓" : "≠"} ${say(word, { difference: digits(Number(difference)) })}`;
}

// The pictures of a step: what it is made from, then what it makes.

function drawPictures(now) {
  const { d_k } = shown.sizes;
  const parts = now.made_from.map((id) => steps[id]).map((each) =>
    ["products", "score"].includes(now.key) && each.key === "keys" // of all keys the one that is looked at
      ? { key: "one_key", name: "k", shape: ["d_k"], value: each.value[shown.key] } : each);
  for (const name of ["gamma", "beta"]) {
    if (now.parameters[name]) parts.push({ key: name, name: { gamma: "γ", beta: "β" }[name], shape: ["D"], value: now.parameters[name] });
  }
  const width = Math.max($(".pictures").clientWidth, 240);
  const result = { ...now, result: true };
  const groups = [];
  for (const part of [...parts, result].filter(({ key }) => !(now.key === "normalised" && ["mean", "variance"].includes(key)))) {
    const length = isSeries(part) ? part.value.length : 0;
    if (length && groups.at(-1)?.length === length) groups.at(-1).parts.push(part);
    else groups.push({ length, parts: [part] });
  }
  const options = now.key === "heads" ? { outlined: [shown.head * d_k, (shown.head + 1) * d_k], every: d_k } : {};
  $(".pictures").replaceChildren(...groups.map(({ length, parts }) => {
    const last = parts.at(-1);
    const [names, size] = captionOf(parts);
    const caption = `${names}, ${size}`;
    const level = !last.result && now.key === "mean" ? { value: now.value }
      : !last.result && now.key === "variance" && last.key !== "mean" ? { value: beside("mean"), spread: Math.sqrt(now.value) } : null;
    const picture = length
      ? bars(parts.map(({ key, name, value }) => ({ name: name ?? SYMBOLS[key], values: value })), width, caption, { ...(last.result && options), level })
      : pictureOf(last, width, caption);
    return make("figure", { className: last.result ? "result-of-step" : "" }, make("figcaption", {}, make("b", { textContent: names }), ` ${size}`), picture);
  }));
}

const isSeries = ({ shape }) => shape.length === 1 && ["D", "F", "d_k"].includes(shape[0]);

function pictureOf(each, width, caption) {
  const { key, shape, value } = each;
  const { pieces, language, outlined } = rowsOf(each);
  if (shape.length === 0) return make("p", { className: "scalar", textContent: `${SYMBOLS[key]} = ${digits(value)}` });
  if (shape.length === 1) return tiles(value, pieces, language, outlined, key === "weights");
  return map(value, pieces, width, caption, SYMBOLS[key], outlined);
}

const extent = (values) => {
  const all = values.flat(3).filter(Number.isFinite);
  return all.length ? `${digits(Math.min(...all))} … ${digits(Math.max(...all))}` : ""; // a mask has none
};

function captionOf(parts) {
  const names = parts.map(({ key, name }) => `${name ?? SYMBOLS[key]} ${say(`inside.step.${key}`)}`);
  const [{ shape }] = parts;
  const range = shape.length ? extent(parts.map(({ value }) => value)) : "";
  return [names.join(" · "), [shape.length ? axes(shape) : "", range].filter(Boolean).join(", ")];
}

function drawTable(now) {
  const { value, shape, key } = now;
  const { pieces } = rowsOf(now);
  const cell = (tag, textContent, scope) => make(tag, { textContent, ...(scope && { scope }) });
  const text = (n) => (typeof n === "boolean" ? say(n ? "inside.seen" : "inside.hidden") : digits(n));
  const line = (name, cells) => make("tr", {}, cell("th", name, "row"), ...cells.map((n) => cell("td", text(n))));
  const caption = make("caption", { textContent: `${say(`inside.step.${key}`)} ${shape.length ? axes(shape) : ""}` });
  let lines;
  if (!shape.length) lines = [line(SYMBOLS[key], [value])];
  else if (shape.length === 2) lines = value.map((row, s) => line(readable(pieces[s]), row));
  else if (isSeries({ shape })) {
    lines = [];
    for (let i = 0; i < value.length; i += 8) lines.push(line(`${i + 1} – ${Math.min(i + 8, value.length)}`, value.slice(i, i + 8)));
  } else lines = value.map((n, s) => line(readable(pieces[s]), [n]));
  $(".numbers table").replaceChildren(caption, ...lines);
}

// What the visitor does

function go(to) {
  const next = Math.min(Math.max(to, 0), shown.steps.length - 1);
  if (next === at) return;
  at = next;
  draw();
}

// After a click by mouse or finger the space bar belongs to the steps again, not to what was clicked.
const hand = () => document.activeElement?.matches(":focus-visible") || $(".stage").focus({ preventScroll: true });
const settle = () => document.activeElement?.matches("[role=tab]") && hand(); // who came by a click

element.addEventListener("click", (event) => {
  const clicked = event.target.closest("button, [data-block]");
  if (!clicked || !shown || clicked.type === "submit") return;
  const { index, block } = clicked.dataset;
  if (clicked.matches(".queries .token")) share({ query: Number(index) });
  else if (clicked.matches(".keys .token")) share({ key: Number(index) });
  else if (clicked.matches(".step")) go(Number(index));
  else if (clicked.matches(".back")) go(at - 1);
  else if (clicked.matches(".next")) go(at + 1);
  else if (clicked.matches(".odd")) go(shown.steps.findIndex(({ id }) => id === shown.differing[0]));
  else if (block) go(shown.steps.findIndex((each) => each.block === block));
  hand();
});

element.addEventListener("change", (event) => {
  if (!shown || !event.target.matches(".settings select")) return;
  const { className, value } = event.target;
  share({ [className]: className === "kind" ? value : Number(value) });
  hand();
});

// Space goes on, unless the focus is on something that space already types into or presses.
window.addEventListener("keydown", (event) => {
  const { key, target, shiftKey } = event;
  if (!shown || !element.checkVisibility() || event.ctrlKey || event.altKey || event.metaKey) return;
  const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity }[key];
  if (target.closest?.("input, textarea, select, [contenteditable]")) return;
  if (key === " " && !target.closest?.("button, a, summary")) onward(shiftKey ? -1 : 1);
  else if (move && target.matches?.(".inside .token")) walk($$(`.${target.parentElement.classList[1]} .token`), target, move);
  else if (move && target.matches?.(".inside .step")) {
    go(at + move);
    $(".step[aria-current]").focus({ preventScroll: true });
  } else if (["ArrowLeft", "ArrowRight"].includes(key) && !target.closest?.(".scroll, [role=tab]")) onward(move);
  else return;
  event.preventDefault();
});

// By key: the whole step comes into view, for no pointer rests on a button of it.
function onward(by) {
  go(at + by);
  const { top, bottom } = $(".stage").getBoundingClientRect();
  if (bottom > innerHeight && top > innerHeight / 4) {
    $(".stage").scrollIntoView({ block: "start", behavior: still.matches ? "instant" : "smooth" });
  }
}

function walk(items, from, move) {
  const next = Math.min(Math.max(items.indexOf(from) + move, 0), items.length - 1);
  items.forEach((item, i) => { item.tabIndex = i === next ? 0 : -1; });
  items[next].focus();
}

$(".numbers").addEventListener("toggle", () => shown && $(".numbers").open && drawTable(step()));
let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (!shown || Math.abs(contentRect.width - width) < 1) return;
  width = contentRect.width;
  if (width) drawPictures(step());
}).observe($(".pictures"));
new MutationObserver(() => shown && drawPictures(step())).observe(document.body, { attributeFilter: ["class"] });

sentenceBar($("form"), () => send(element.dataset.state !== "asking"));
answered(show);
note(lab.shared);
window.addEventListener("lab:shared", ({ detail }) => {
  note(detail);
  if (element.checkVisibility()) send();
});
whenSeen(() => {
  send();
  settle();
});
