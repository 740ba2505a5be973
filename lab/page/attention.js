// Draws one translation and its attention. Gradio gives: element, props.value, watch.
// props.value = {message} or
//   {languages: {source, target}, names: {source, target}, text, about, source: [piece], target: [piece],
//    layers, heads, attention: {cross|decoder|encoder: {rows, columns, data}}}
// data: base64 of little-endian uint16 [layer][head][row][column], 65535 = all attention.

const $ = (selector) => element.querySelector(selector);
const START = "<s>";
const END = "</s>";
const MEAN = "mean";
const STEP_MS = 450;
const still = window.matchMedia("(prefers-reduced-motion: reduce)");

// cividis, nine of its colours: even for colour-blind eyes (Nuñez, Anderton and Renslow 2018)
const COLOURS = [
  [0, 32, 77], [0, 51, 111], [57, 72, 107], [87, 92, 109], [112, 113, 115],
  [138, 134, 120], [167, 157, 117], [200, 182, 106], [255, 234, 70],
];

// The last layer first: there the cross-attention of a translation model aligns best.
const state = { kind: "cross", layer: Infinity, head: MEAN, scale: "full", query: 0, written: 0 };
let shown = null; // the value on show
let weights = {}; // kind -> Float32Array, as in data
let timer = null;
let painted = ""; // which pictures the grid holds

// What a value holds

function unpack({ data }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) / 65535);
}

function labels(kind = state.kind) {
  const { source, target } = shown;
  return {
    cross: { queries: target, keys: source, asks: "target", answers: "source" },
    decoder: { queries: target, keys: [START, ...target.slice(0, -1)], asks: "target", answers: "target" },
    encoder: { queries: source, keys: source, asks: "source", answers: "source" },
  }[kind];
}

// The [rows][columns] of one head, or the mean of a layer's heads.
function matrix(kind, layer, head) {
  const { rows, columns } = shown.attention[kind];
  const heads = head === MEAN ? [...Array(shown.heads).keys()] : [head];
  return Array.from({ length: rows }, (_, t) =>
    Array.from({ length: columns }, (_, s) => {
      const of = (h) => weights[kind][((layer * shown.heads + h) * rows + t) * columns + s];
      return heads.reduce((sum, h) => sum + of(h), 0) / heads.length;
    }));
}

const percent = (weight) => `${Math.round(100 * weight)} %`;
const readable = (piece) => piece.trim() || "␣";
const joins = (piece, i, language) => // this piece continues the word before it
  i > 0 && !piece.startsWith(" ") && piece !== END && !language.startsWith("zh");
const entropy = (row) => -row.reduce((sum, p) => sum + (p > 0 ? p * Math.log2(p) : 0), 0);

function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  const mix = COLOURS[low].map((c, i) => Math.round(c + (COLOURS[low + 1][i] - c) * (place - low)));
  return `rgb(${mix.join(",")})`;
}

const scaled = (row) => {
  const most = state.scale === "row" ? Math.max(...row) || 1 : 1;
  return row.map((weight) => weight / most);
};

// What the page shows

function show() {
  shown = props.value?.attention ? props.value : null;
  const message = props.value?.message ?? "";
  $(".message").hidden = !message;
  $(".message").textContent = message;
  $(".result").hidden = !shown;
  element.dataset.state = shown ? "done" : "message";
  element.dataset.answers = Number(element.dataset.answers ?? 0) + 1; // tests wait for it
  if (!shown) return stop();
  weights = Object.fromEntries(Object.entries(shown.attention).map(([kind, packed]) => [kind, unpack(packed)]));
  state.layer = Math.min(state.layer, shown.layers - 1);
  if (state.head !== MEAN && state.head >= shown.heads) state.head = MEAN;
  $(".translation").lang = shown.languages.target;
  $(".about").textContent = shown.about;
  fill(".layer", [...Array(shown.layers).keys()].map((i) => [i, `${i + 1}`]), state.layer);
  fill(".head", [[MEAN, "mean of all"], ...[...Array(shown.heads).keys()].map((i) => [i, `${i + 1}`])], state.head);
  painted = "";
  state.query = 0;
  state.written = shown.target.length;
  stop();
  if (!still.matches && state.kind !== "encoder") replay();
  draw();
}

function fill(selector, options, chosen) {
  $(selector).replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

function draw() {
  const { queries, keys, asks, answers } = labels();
  const row = matrix(state.kind, state.layer, state.head)[state.query];
  const name = (side, role) => `${shown.names[side]}: ${role}`;
  $(".asks").textContent = `${name(asks, "asks (query)")} · choose a token`;
  $(".answers").textContent = name(answers, "is looked at (key)");
  $(".translation").textContent = state.written < shown.target.length
    ? shown.target.slice(0, state.written).join("").trim() + " …"
    : shown.text;
  $(".step").textContent = `token ${state.query + 1} of ${queries.length}`;
  drawQueries(queries, shown.languages[asks], asks === "target" ? state.written : queries.length);
  drawKeys(keys, row, shown.languages[answers]);
  $(".sentence").ariaLive = timer ? "off" : "polite"; // not read aloud while it plays
  $(".sentence").textContent = sentence(queries, keys, row);
  drawGrid();
  drawMap($(".map"));
  if ($("details").open) drawTable();
}

function drawQueries(queries, language, written) {
  const box = $(".queries");
  if (box.children.length !== queries.length) box.replaceChildren(...queries.map(() => button("token")));
  box.lang = language;
  [...box.children].forEach((token, i) => {
    token.textContent = i < written ? readable(queries[i]) : "·";
    token.disabled = i >= written;
    token.dataset.index = i;
    token.classList.toggle("joins", joins(queries[i], i, language));
    token.setAttribute("aria-pressed", i === state.query);
    token.tabIndex = i === state.query ? 0 : -1; // one stop for Tab, arrows inside
  });
}

function drawKeys(keys, row, language) {
  const bars = scaled(row);
  $(".keys").lang = language;
  $(".keys").replaceChildren(...keys.map((key, i) => {
    const token = document.createElement("span");
    token.className = "token";
    token.setAttribute("role", "listitem");
    token.classList.toggle("joins", joins(key, i, language));
    token.classList.toggle("most", row[i] === Math.max(...row));
    const word = document.createElement("span");
    word.textContent = readable(key);
    const bar = document.createElement("i");
    bar.style.setProperty("--share", bars[i]);
    const number = document.createElement("small");
    number.textContent = percent(row[i]);
    token.append(word, bar, number);
    return token;
  }));
}

const headName = (head) => (head === MEAN ? "mean of all heads" : `head ${head + 1}`);
const where = () => `${state.kind} attention, layer ${state.layer + 1}, ${headName(state.head)}`;

function sentence(queries, keys, row) {
  const best = row.map((weight, i) => [weight, i]).sort((a, b) => b[0] - a[0]).slice(0, 3)
    .filter(([weight], i) => i === 0 || weight >= 0.05)
    .map(([weight, i]) => `“${readable(keys[i])}” ${percent(weight)}`);
  const when = state.kind === "encoder" ? "" : " when it was chosen";
  return `“${readable(queries[state.query])}” looked at ${best.join(", ")}${when} ` +
    `(${where()}; entropy ${entropy(row).toFixed(1)} of at most ${Math.log2(keys.length).toFixed(1)} bits).`;
}

function drawGrid() {
  const grid = $(".grid");
  const heads = [MEAN, ...Array(shown.heads).keys()];
  const choices = [...Array(shown.layers).keys()].flatMap((layer) => heads.map((head) => ({ layer, head })));
  const wanted = `${state.kind} ${state.scale}`;
  if (painted !== wanted) {
    painted = wanted;
    grid.style.setProperty("--columns", heads.length);
    grid.replaceChildren(...choices.map(({ layer, head }) => {
      const cell = button("cell");
      const canvas = document.createElement("canvas");
      const caption = document.createElement("small");
      caption.textContent = `L${layer + 1} ${head === MEAN ? "mean" : `H${head + 1}`}`;
      Object.assign(cell.dataset, { layer, head });
      cell.setAttribute("aria-label", `${caption.textContent}: layer ${layer + 1}, ${headName(head)}`);
      const values = matrix(state.kind, layer, head);
      [canvas.width, canvas.height] = [values[0].length, values.length];
      paintCells(canvas.getContext("2d"), values, 0, 0, 1, 1);
      cell.append(canvas, caption);
      return cell;
    }));
  }
  choices.forEach(({ layer, head }, i) => {
    const chosen = layer === state.layer && head === state.head;
    grid.children[i].setAttribute("aria-pressed", chosen);
    grid.children[i].tabIndex = chosen ? 0 : -1;
  });
}

function paintCells(context, values, left, top, width, height) {
  values.forEach((row, t) => scaled(row).forEach((share, s) => {
    context.fillStyle = colour(share);
    context.fillRect(left + s * width, top + t * height, width, height);
  }));
}

// The large heat map: every label, the chosen row outlined, what the axes and colours mean.
// On paper it carries its title; on the page that is the caption below it.
function drawMap(canvas, { ratio = window.devicePixelRatio || 1, paper = null } = {}) {
  const { queries, keys } = labels();
  const values = matrix(state.kind, state.layer, state.head);
  const style = getComputedStyle(element.querySelector(".attention"));
  const ink = paper ? "#111" : style.color;
  const font = `13px ${style.fontFamily}`;
  const context = canvas.getContext("2d");
  context.font = font;
  const widest = (names) => Math.min(Math.max(...names.map((n) => context.measureText(readable(n)).width)), 120);
  const left = Math.round(Math.max(widest(queries), context.measureText("generated").width) + 14);
  if (!paper) $("figure").style.flexBasis = keys.length > 20 ? "100%" : ""; // a long one goes below the grid
  const room = (paper ? 900 : $(".scroll").clientWidth) - left - 60; // labels lean out to the right
  const cell = Math.floor(Math.max(20, Math.min(38, room / keys.length)));
  const top = Math.round(widest(keys) * 0.75 + 48);
  const width = left + Math.max(cell * keys.length + 60, paper ? 420 : 240);
  const height = top + cell * queries.length + (paper ? 66 : 44);
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  context.scale(ratio, ratio);
  if (paper) {
    context.fillStyle = paper;
    context.fillRect(0, 0, width, height);
  }
  paintCells(context, values, left, top, cell, cell);
  context.strokeStyle = style.getPropertyValue("--button-primary-background-fill");
  context.lineWidth = 3;
  context.strokeRect(left - 2, top + state.query * cell, cell * keys.length + 4, cell);
  context.fillStyle = ink;
  context.font = font;
  context.textBaseline = "middle";
  context.textAlign = "right";
  queries.forEach((name, t) => context.fillText(readable(name), left - 8, top + (t + 0.5) * cell, left - 12));
  context.textAlign = "left";
  keys.forEach((name, s) => {
    context.save();
    context.translate(left + (s + 0.5) * cell, top - 8);
    context.rotate(-Math.PI / 4);
    context.fillText(readable(name), 0, 0, 120);
    context.restore();
  });
  const [asking, answering] = { cross: ["generated", "source"], decoder: ["generated", "generated"], encoder: ["source", "source"] }[state.kind];
  context.fillText(`${answering} (key) →`, left, 12);
  context.textAlign = "right";
  context.fillText(asking, left - 8, top - 28);
  context.fillText("(query) ↓", left - 8, top - 12);
  context.textAlign = "left";
  const foot = top + cell * queries.length + 22;
  for (let i = 0; i < 100; i++) {
    context.fillStyle = colour(i / 99);
    context.fillRect(left + i, foot, 1, 10);
  }
  context.fillStyle = ink;
  context.fillText(state.scale === "row" ? "0 … maximum of the row" : "0 … 100 %", left + 108, foot + 6);
  const title = `${where()[0].toUpperCase()}${where().slice(1)}. Each row sums to 100 %.`;
  if (paper) {
    context.fillText(title, 8, foot + 30);
  } else {
    $("figcaption").textContent = title;
    canvas.setAttribute("aria-label", `Heat map of ${where()}: ${queries.length} by ${keys.length} tokens; ` +
      "the same numbers stand in the table below.");
  }
}

function drawTable() {
  const { queries, keys } = labels();
  const table = $("table");
  const caption = document.createElement("caption");
  caption.textContent = `${where()}: rows ask, columns are looked at`;
  const cellOf = (tag, text, scope) => {
    const cell = document.createElement(tag);
    cell.textContent = text;
    if (scope) cell.scope = scope;
    return cell;
  };
  const line = (cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  };
  const values = matrix(state.kind, state.layer, state.head);
  table.replaceChildren(caption,
    line([cellOf("td", ""), ...keys.map((key) => cellOf("th", readable(key), "col"))]),
    ...queries.map((query, t) => line([
      cellOf("th", readable(query), "row"),
      ...values[t].map((weight) => cellOf("td", percent(weight))),
    ])));
}

function button(name) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = name;
  return made;
}

// What the visitor does

function choose(query) {
  stop();
  state.written = shown.target.length;
  state.query = Math.min(Math.max(query, 0), labels().queries.length - 1);
  draw();
}

function replay() {
  if (state.kind === "encoder") state.kind = $(".kind").value = "cross"; // the source is not generated
  if (state.written >= shown.target.length) state.written = 1; // else go on from the pause
  state.query = state.written - 1;
  timer = setInterval(() => {
    if (state.written < shown.target.length) state.query = state.written++;
    else stop();
    draw();
  }, STEP_MS);
  $(".play").textContent = "⏸ Pause";
}

function stop() {
  clearInterval(timer);
  timer = null;
  $(".play").textContent = shown && state.written < shown.target.length ? "▶ Go on" : "▶ Replay";
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `attention-${state.kind}-layer${state.layer + 1}-` +
    `${state.head === MEAN ? "mean" : `head${state.head + 1}`}.${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function savePicture() {
  const canvas = document.createElement("canvas");
  drawMap(canvas, { ratio: 3, paper: "#fff" });
  canvas.toBlob((blob) => save("png", blob));
}

function saveNumbers() {
  const { queries, keys } = labels();
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const lines = [["kind", "layer", "head", "query_position", "query", "key_position", "key", "weight"]];
  for (let layer = 0; layer < shown.layers; layer++) {
    for (let head = 0; head < shown.heads; head++) {
      matrix(state.kind, layer, head).forEach((row, t) => row.forEach((weight, s) => lines.push([
        state.kind, layer + 1, head + 1, t + 1, readable(queries[t]), s + 1, readable(keys[s]), weight.toFixed(5),
      ])));
    }
  }
  const text = lines.map((line) => line.map(quoted).join(",")).join("\r\n");
  save("csv", new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" })); // the mark makes Excel read UTF-8
}

element.addEventListener("click", (event) => {
  const clicked = event.target.closest("button");
  if (!clicked || !shown) return;
  if (clicked.matches(".queries .token")) choose(Number(clicked.dataset.index));
  else if (clicked.matches(".cell")) chooseHead(clicked);
  else if (clicked.matches(".play")) {
    if (timer) stop();
    else replay();
    draw();
  }
  else if (clicked.matches(".back")) choose(state.query - 1);
  else if (clicked.matches(".forward")) choose(state.query + 1);
  else if (clicked.matches(".png")) savePicture();
  else if (clicked.matches(".csv")) saveNumbers();
});

function chooseHead({ dataset: { layer, head } }) {
  state.layer = Number(layer);
  state.head = head === MEAN ? MEAN : Number(head);
  [$(".layer").value, $(".head").value] = [state.layer, state.head];
  choose(state.query);
}

element.addEventListener("change", (event) => {
  if (!shown || !event.target.matches("select")) return;
  const value = event.target.value;
  const name = event.target.className;
  state[name] = name === "layer" || (name === "head" && value !== MEAN) ? Number(value) : value;
  choose(state.query);
});

element.addEventListener("keydown", (event) => {
  const focused = event.target;
  const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
  if (focused.matches(".queries .token") && move) {
    choose(state.query + move);
    $(".queries").children[state.query].focus();
    event.preventDefault();
  }
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -shown?.heads - 1, ArrowDown: shown?.heads + 1 }[event.key];
  if (focused.matches(".cell") && step) {
    const cells = [...$(".grid").children];
    const next = cells[cells.indexOf(focused) + step];
    if (next) {
      chooseHead(next);
      next.focus();
    }
    event.preventDefault();
  }
});

$("details").addEventListener("toggle", () => shown && $("details").open && drawTable());
window.addEventListener("resize", () => shown && drawMap($(".map")));
new MutationObserver(() => shown && drawMap($(".map"))).observe(document.body, { attributeFilter: ["class"] });
watch("value", show);
show();
