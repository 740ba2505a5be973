// Paint who may look at whom, and see the attention and the model's words change.
// props.value = {message} or {pair, text, languages, kind, layer, queries: [piece], keys: [piece],
//   own: ["110…"], mask: ["110…"], weights: {before, after}: packed [head][query][key],
//   output: [share], steps: [{piece, before, after, now, differs}], sum: {before, after}}

const PRESETS = ["own", "causal", "padding", "open", "upside_down", "row", "column"];
const PADDED = 2; // keys that the preset takes for padding

// Begins with the decoder, whose mask is the causal one, and follows other tabs from then on.
const state = { kind: "decoder", layer: lab.shared.layer ?? 0, head: MEAN, row: 0, column: 0 };
let shown = null; // the value on show
let weights = {}; // before, after
let picture = {}; // of the chosen head: (query, key) -> weight before and after, most of both
let boxes = []; // the grid's cells, [query][key]
let mask = []; // [query][key], as it is being painted
let wanted = null; // the mask that was asked for last, null for the model's own
let stroke = null; // what the pointer paints while it is down

const bar = sentenceBar($("form"), () => begin());
const question = () => ({ pair: bar.pair, text: bar.text, kind: state.kind, layer: Math.min(state.layer, props.layers[bar.pair] - 1) });
const begin = askOnce(question, () => { wanted = null; });
const asRows = () => mask.map((row) => row.map(Number).join(""));
function send() {
  wanted = asRows();
  askInTurn({ pair: shown.pair, text: shown.text, kind: shown.kind, layer: shown.layer, mask: wanted });
}

// What the page shows

const place = (value) => value && JSON.stringify([value.pair, value.text, value.kind, value.layer]);

function show(value) {
  const anew = wanted === null || place(value) !== place(shown); // else whoever paints has the newer mask
  shown = value;
  weights = { before: unpacked(value.weights.before), after: unpacked(value.weights.after) };
  if (anew) {
    Object.assign(state, { kind: value.kind, layer: value.layer });
    mask = value.mask.map((row) => [...row].map((cell) => cell === "1"));
    state.row = clamp(lab.shared.query ?? value.queries.length - 1, 0, value.queries.length - 1);
    state.column = clamp(lab.shared.key ?? 0, 0, value.keys.length - 1);
    drawChoices();
    drawCells();
  }
  chooseHead();
  drawSays();
}

function drawChoices() {
  if (state.head !== MEAN && state.head >= props.heads[shown.pair]) state.head = MEAN;
  fill($(".kind"), kindOptions(), shown.kind);
  fill($(".layer"), layerOptions(shown.pair), shown.layer);
  fill($(".head"), headOptions(shown.pair), state.head);
}

function sides() { // the languages of who asks and who answers
  const { source, target } = shown.languages;
  return { asks: shown.kind === "encoder" ? source : target, answers: shown.kind === "decoder" ? target : source };
}

function drawCells() {
  const { queries, keys } = shown;
  const { asks, answers } = sides();
  const part = (role, text = "", lang = "") => make("div", { role, lang }, make("span", { textContent: text }));
  $(".axes").textContent = axes(shown.kind);
  $(".shift").hidden = shown.kind !== "decoder";
  $(".cells").ariaLabel = say("masks.paint.grid", { rows: queries.length, columns: keys.length });
  $(".cells").style.setProperty("--columns", keys.length);
  const row = (...parts) => make("div", { role: "row", className: "row" }, ...parts);
  $(".cells").replaceChildren(
    row(part("gridcell"), ...keys.map((key) => part("columnheader", readable(key), answers))),
    ...queries.map((query, t) => row(part("rowheader", readable(query), asks), ...keys.map((_, s) =>
      make("div", { className: "cell", role: "gridcell", tabIndex: -1, ariaSelected: mask[t][s], dataset: { row: t, column: s } })))),
  );
  boxes = [...$(".cells").children].slice(1).map((line) => [...line.children].slice(1));
  cellAt(state.row, state.column).tabIndex = 0;
  fitCells();
}

function fitCells() { // as large as there is room for, from 24 to 32 pixels
  const labels = $(".cells [role=rowheader]").offsetWidth;
  const room = $(".result").clientWidth - labels - 16;
  $(".cells").style.setProperty("--cell", `${clamp(Math.floor(room / shown.keys.length) - 1, 24, shown.keys.length > 20 ? 24 : 32)}px`);
}

const cellAt = (row, column) => boxes[row][column];

// What a cell holds, in words: it is the cell's name too, so that a screen reader says it.
function cellInWords({ row, column } = state) {
  return say(mask[row][column] ? "masks.paint.may" : "masks.paint.may_not",
    { query: quoted(shown.queries[row]), key: quoted(shown.keys[column]) });
}

function chooseHead() {
  const { queries, keys } = shown;
  const [before, after] = ["before", "after"].map((when) => matrix(weights[when], state.head));
  const most = Math.max(largest(queries.length, keys.length, before, after), 0.01);
  picture = { before, after, most };
  drawWeights();
  if ($("details").open) drawTable();
}

function drawWeights() {
  const { queries, keys } = shown;
  const { before, after, most } = picture;
  const common = {
    rows: queries.map(readable), columns: keys.map(readable), tint: (weight) => tinted(weight / most), cell: [12, 26],
    axes: axes(shown.kind),
    box: [state.row, state.column, 1, 1], legend: [colour, `0 … ${percent(most)}`],
  };
  for (const [name, at] of [["before", before], ["after", after]]) {
    heatmap($(`.${name}`), { ...common, at });
    $(`.${name}`).ariaLabel = described(say(`masks.paint.${name}`), queries, keys);
  }
  const { row, column } = state;
  $(".sentence").textContent = sentences([cellInWords(), say("masks.paint.weight",
    { before: share01(before(row, column)), after: share01(after(row, column)), head: headName() })]);
}

const headName = () => (state.head === MEAN ? say("masks.mean") : say("masks.one_head", { head: state.head + 1 }));

function drawSays() {
  const { sum, output, queries } = shown;
  const lost = queries.filter((_, row) => !mask[row].some(Boolean));
  $(".lost").hidden = lost.length === 0;
  $(".lost").textContent = say("masks.paint.lost", { queries: lost.map(quoted).join(say("masks.and")) });
  const changed = asRows().join() !== shown.own.join();
  const others = shown.steps.filter((step) => step.differs).length;
  const most = Math.max(...output);
  $(".verdict").textContent = !changed ? say("masks.paint.unchanged", { log: rounded(sum.before) }) : sentences([
    say("masks.paint.output", { share: share01(most), query: quoted(queries[output.indexOf(most)]) }),
    say("masks.paint.sum", { before: rounded(sum.before), after: rounded(sum.after) }),
    others ? say("masks.paint.others", { n: others, of: shown.steps.length }) : say("masks.paint.none"),
  ]);
  $(".steps").lang = shown.languages.target;
  $(".steps").replaceChildren(...shown.steps.map((step, i) => {
    const [before, after] = [share01(step.before), share01(step.after)];
    const sign = Math.abs(step.after - step.before) < 0.01 ? "" : step.after < step.before ? " ▼" : " ▲";
    const item = make("li", { className: `token${joins(step.piece, i, shown.languages.target) ? " joins" : ""}` },
      make("b", { textContent: readable(step.piece) }),
      make("small", { textContent: before === after ? before : `${before} → ${after}${sign}` }));
    if (step.differs) item.append(make("small", { className: "now", textContent: say("masks.paint.now", { piece: quoted(step.now) }) }));
    item.classList.toggle("differs", step.differs);
    return item;
  }));
}

function drawTable() {
  const { before, after } = picture;
  numbersTable($(".numbers"), say("masks.paint.caption", { head: headName() }), "", shown.keys.map(readable),
    shown.queries.map((query, t) => [readable(query), ...shown.keys.map((_, s) => {
      const [was, is] = [share01(before(t, s)), share01(after(t, s))];
      return `${mask[t][s] ? "" : "✕ "}${was === is ? was : `${was} → ${is}`}`;
    })]));
}

// What the visitor does

function go(row, column, focus = true) {
  cellAt(state.row, state.column).tabIndex = -1;
  [state.row, state.column] = [clamp(row, 0, mask.length - 1), clamp(column, 0, mask[0].length - 1)];
  const cell = cellAt(state.row, state.column);
  cell.tabIndex = 0;
  cell.ariaLabel = cellInWords();
  if (focus) cell.focus({ focusVisible: true });
  drawWeights();
}

function put(row, column, open) {
  mask[row][column] = open;
  const cell = cellAt(row, column);
  cell.ariaSelected = open;
  if (cell.ariaLabel) cell.ariaLabel = cellInWords({ row, column });
}

function preset(name) {
  const last = mask[0].length;
  const wanted = {
    own: (row, column) => shown.own[row][column] === "1",
    causal: (row, column) => column <= row,
    padding: (row, column) => mask[row][column] && column < Math.max(last - PADDED, 1),
    open: () => true,
    upside_down: (row, column) => !mask[row][column],
    row: (row, column) => row !== state.row && mask[row][column],
    column: (row, column) => column !== state.column && mask[row][column],
  }[name];
  mask.forEach((cells, row) => cells.forEach((open, column) => {
    const other = wanted(row, column);
    if (other !== open) put(row, column, other);
  }));
  send();
}

function paintTo(cell) { // all cells on the way: a quick pointer leaves some out
  const [row, column] = [Number(cell.dataset.row), Number(cell.dataset.column)];
  const steps = Math.max(Math.abs(row - state.row), Math.abs(column - state.column), 1);
  const [fromRow, fromColumn] = [state.row, state.column];
  for (let i = 1; i <= steps; i++) {
    put(Math.round(fromRow + (row - fromRow) * i / steps), Math.round(fromColumn + (column - fromColumn) * i / steps), stroke);
  }
  go(row, column, false);
}

const cells = $(".cells");
cells.addEventListener("pointerdown", (event) => {
  const cell = event.target.closest(".cell");
  if (!cell || event.button !== 0) return;
  event.preventDefault(); // no text is selected, nothing scrolls
  const [row, column] = [Number(cell.dataset.row), Number(cell.dataset.column)];
  stroke = !mask[row][column];
  go(row, column);
  put(row, column, stroke);
  cells.setPointerCapture(event.pointerId);
});
cells.addEventListener("pointermove", (event) => {
  if (stroke === null) return;
  const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest(".cell");
  if (cell && cells.contains(cell) && cell !== cellAt(state.row, state.column)) paintTo(cell);
});
for (const end of ["pointerup", "pointercancel"]) {
  cells.addEventListener(end, () => {
    if (stroke === null) return;
    stroke = null;
    send();
  });
}
cells.addEventListener("focusin", ({ target: { dataset } }) => { // a screen reader may go anywhere
  const [row, column] = [Number(dataset.row), Number(dataset.column)];
  if (dataset.row && (row !== state.row || column !== state.column)) go(row, column);
});
cells.addEventListener("focusout", ({ relatedTarget }) => {
  if (!cells.contains(relatedTarget)) share({ query: state.row, key: state.column });
});
cells.addEventListener("keydown", (event) => {
  const { row, column } = state;
  const move = {
    ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
    Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? Infinity : row, Infinity],
  }[event.key];
  if (move) {
    const open = mask[row][column];
    go(...move);
    if (event.shiftKey && mask[state.row][state.column] !== open) { // paints on with the colour it stood on
      put(state.row, state.column, open);
      send();
    }
  } else if (event.key === " " || event.key === "Enter") {
    put(row, column, !mask[row][column]);
    drawWeights();
    send();
  } else return;
  event.preventDefault();
});

$(".presets").replaceChildren(...PRESETS.map((name) => {
  const made = button(`preset ${name}`, say(`masks.paint.preset.${name}`));
  made.addEventListener("click", () => preset(name));
  return made;
}));
for (const name of ["before", "after"]) {
  $(`.${name}`).addEventListener("click", (event) => {
    const under = cellUnder(event);
    if (under) go(...under, false);
  });
}
$(".kind").addEventListener("change", () => choose({ kind: $(".kind").value }));
$(".layer").addEventListener("change", () => choose({ layer: Number($(".layer").value) }));
$(".head").addEventListener("change", () => {
  state.head = $(".head").value === MEAN ? MEAN : Number($(".head").value);
  share({ head: state.head });
  chooseHead();
});

function choose(change) {
  Object.assign(state, change);
  share(change);
  begin();
}

window.addEventListener("lab:shared", ({ detail: { kind, layer, head } }) => { // from another tab
  if (KINDS.includes(kind)) state.kind = kind; // asked for when this tab comes into view
  if (Number.isInteger(layer)) state.layer = layer;
  if ((head !== MEAN && !Number.isInteger(head)) || head === state.head || !shown) return;
  state.head = head;
  drawChoices();
  chooseHead();
});
$("details").addEventListener("toggle", () => shown && $("details").open && drawTable());
redrawn(() => {
  if (!shown) return;
  fitCells();
  drawWeights();
});
answered(show);
