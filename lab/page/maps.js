// Heat maps of tokens and of numbers, drawn alike in every view of the Masks and positions tab.

const MEAN = "mean";
const KINDS = ["encoder", "decoder", "cross"];
const range = (length) => [...Array(length).keys()];
const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
const quoted = (piece) => say("masks.quoted", { piece: readable(piece) });

// The number at (row, column) of one layer or head; MEAN is the mean over all.
function matrix({ rows, columns, numbers }, first) {
  const size = rows * columns;
  const count = numbers.length / size;
  let all = numbers.subarray(first * size, (first + 1) * size);
  if (first === MEAN) {
    all = new Float32Array(size);
    numbers.forEach((number, i) => { all[i % size] += number / count; });
  }
  return (row, column) => all[row * columns + column];
}
const largest = (rows, columns, ...maps) => // of several, so that one scale serves all
  Math.max(...range(rows).flatMap((row) => range(columns).flatMap((column) => maps.map((at) => at(row, column)))));
const PALETTE = range(256).map((i) => colour(i / 255)); // a colour is made once, not once a cell
const tinted = (share) => PALETTE[Math.round(255 * clamp(share, 0, 1))];
const unpacked = (packed) => ({ ...packed, numbers: unpack(packed) });

const share01 = (share) => (share > 0 && share < 0.005 ? say("page.below_percent") : percent(share));
const rounded = (value) => decimal(value, { maximumFractionDigits: 1 });
const superscript = (number) => `${number}`.replace(/./g, (sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(sign)]);

function scientific(value) { // 0.62, but 3 · 10⁻⁷
  if (value === 0 || value >= 0.001) return decimal(value, { maximumSignificantDigits: 2 });
  const [digits, power] = value.toExponential(0).split("e");
  return `${digits} · 10${superscript(Number(power))}`;
}

// Draws `at(row, column)` as squares. rows and columns are labels ("" for none), which lean over
// their column or not; `axes` is the title of both, `tint` makes a colour of a number, `cell` is the
// least and the greatest size in pixels, `legend` colours and a text, `box` what is outlined, as
// [row, column, rows, columns], `diagonal` a distance: a line through all cells so far apart.
function heatmap(canvas, { rows, columns, at, tint, axes, cell, legend, box = null, diagonal = null, lean = true }) {
  const style = getComputedStyle(canvas);
  const context = canvas.getContext("2d");
  context.font = `13px ${style.fontFamily}`;
  const width = (text) => Math.min(context.measureText(text).width, 110);
  const widest = (texts) => Math.max(...texts.map(width));
  const left = Math.ceil(Math.max(widest(rows), 24) + 10);
  const top = Math.ceil(lean ? widest(columns) * 0.72 + 28 : 40);
  const past = lean ? 44 : 12; // labels lean out to the right
  const room = canvas.parentElement.clientWidth - left - past;
  const size = clamp(Math.floor(room / columns.length), ...cell);
  const bottom = top + size * rows.length;
  const ratio = window.devicePixelRatio || 1;
  const full = Math.max(left + size * columns.length + past, context.measureText(axes).width + 8);
  const height = bottom + 30;
  [canvas.width, canvas.height] = [full * ratio, height * ratio];
  [canvas.style.width, canvas.style.height] = [`${full}px`, `${height}px`];
  context.scale(ratio, ratio);
  rows.forEach((_, row) => columns.forEach((_, column) => {
    context.fillStyle = tint(at(row, column));
    context.fillRect(left + column * size, top + row * size, size, size);
  }));
  context.font = `13px ${style.fontFamily}`;
  context.fillStyle = style.color;
  context.textBaseline = "middle";
  context.fillText(axes, 0, 10);
  if (lean) context.font = `${clamp(size, 10, 13)}px ${style.fontFamily}`;
  context.textAlign = "right";
  rows.forEach((name, row) => context.fillText(name, left - 6, top + (row + 0.5) * size, left - 8));
  context.textAlign = lean ? "left" : "center";
  columns.forEach((name, column) => {
    context.save();
    context.translate(left + (column + 0.5) * size, top - 8);
    if (lean) context.rotate(-Math.PI / 4);
    context.fillText(name, 0, 0, 110);
    context.restore();
  });
  const [colours, text] = legend;
  range(80).forEach((i) => {
    context.fillStyle = colours(i / 79);
    context.fillRect(left + i, bottom + 12, 1, 10);
  });
  context.fillStyle = style.color;
  context.textAlign = "left";
  context.font = `13px ${style.fontFamily}`;
  context.fillText(text, left + 88, bottom + 17);
  const lines = new Path2D();
  if (box) lines.rect(left + box[1] * size, top + box[0] * size, box[3] * size, box[2] * size);
  if (diagonal !== null) {
    lines.moveTo(left + diagonal * size, top);
    lines.lineTo(left + rows.length * size, bottom - diagonal * size);
  }
  for (const [ink, line] of [["#fff", 4], ["#c2410c", 2]]) { // seen on dark and light
    [context.strokeStyle, context.lineWidth] = [ink, line];
    context.stroke(lines);
  }
  canvas.place = { left, top, size, rows: rows.length, columns: columns.length };
}

// The [row, column] under the pointer, or null.
function cellUnder({ target: { place }, offsetX, offsetY }) {
  const row = Math.floor((offsetY - place.top) / place.size);
  const column = Math.floor((offsetX - place.left) / place.size);
  return row >= 0 && column >= 0 && row < place.rows && column < place.columns ? [row, column] : null;
}

// A table with a caption, a header row and a header column: the same numbers for whoever cannot see.
function numbersTable(table, caption, corner, columns, rows) { // rows: [header, ...texts]
  table.replaceChildren(
    make("caption", { textContent: caption }),
    make("tr", {}, make("td", { textContent: corner }), ...columns.map((name) => make("th", { scope: "col", textContent: name }))),
    ...rows.map(([name, ...texts]) => make("tr", {},
      make("th", { scope: "row", textContent: name }), ...texts.map((text) => make("td", { textContent: text })))),
  );
}

// Draws again when its place grows or shrinks (from nothing, where its tab is opened) or the theme changes.
function redrawn(draw) {
  let width = element.clientWidth;
  new ResizeObserver(() => {
    if (width !== element.clientWidth && element.clientWidth) draw();
    width = element.clientWidth;
  }).observe(element);
  new MutationObserver(draw).observe(document.body, { attributeFilter: ["class"] });
}

// One question at a time; of those that come while the server thinks, the last is asked then.
const PATIENCE_MS = 15_000; // afterwards an answer is taken for lost
const turn = { since: -Infinity, next: null };

function askInTurn(question) {
  turn.next = question;
  if (performance.now() - turn.since < PATIENCE_MS) return;
  Object.assign(turn, { since: performance.now(), next: null });
  ask(question);
}

watch("value", () => queueMicrotask(() => { // when the answer has been drawn
  turn.since = -Infinity;
  if (turn.next) askInTurn(turn.next);
}));

// Asks now, and when the drawing comes into view and another tab has chosen something else.
function askOnce(question, before = () => {}) {
  let asked = "";
  const send = () => {
    before();
    asked = JSON.stringify(question());
    askInTurn(question());
  };
  whenSeen(() => asked !== JSON.stringify(question()) && send());
  return send;
}

const layerOptions = (pair) => range(props.layers[pair]).map((i) => [i, `${i + 1}`]);
const headOptions = (pair) => [[MEAN, say("masks.mean")], ...range(props.heads[pair]).map((i) => [i, `${i + 1}`])];
const sentences = (texts) => texts.join(lab.language === "en" ? " " : "");
const described = (when, rows, columns) => // a picture's name, for whoever cannot see it
  say("masks.picture", { when, rows: rows.length, columns: columns.length });
const axes = (kind) => say("masks.axes", { query: say(`masks.queries.${kind}`), key: say(`masks.keys.${kind}`) });
const kindOptions = (kinds = KINDS) => kinds.map((kind) => [kind, say(`masks.kind.${kind}`)]);
