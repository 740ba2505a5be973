// Pictures of numbers: bars for features, tiles for tokens, a map where there are both.
// On each, the number under the pointer is told.

const inf = (n) => (n > 0 ? "∞" : "−∞");

// Three digits: 3.21, −0.0571, 128
function digits(n) {
  if (Number.isNaN(n)) return "?";
  if (!Number.isFinite(n)) return inf(n);
  const size = Math.abs(n);
  const text = size === 0 ? "0" : size >= 100 ? n.toFixed(0) : size < 1e-4 ? n.toExponential(2) : n.toPrecision(3);
  return text.replaceAll("-", "−");
}

const largest = (values) => values.reduce((most, n) => (Number.isFinite(n) ? Math.max(most, Math.abs(n)) : most), 0);

function canvasOf(width, height, label) {
  const canvas = make("canvas", { role: "img", ariaLabel: label });
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle($(".stage"));
  const ink = (name) => style.getPropertyValue(name).trim();
  context.font = `12px ${style.fontFamily}`;
  context.textBaseline = "middle";
  return { canvas, context, ink: { text: style.color, plus: ink("--plus"), minus: ink("--minus"), mark: ink("--button-primary-background-fill"), line: ink("--border-color-primary") } };
}

function told(canvas, at) { // at(x, y) is a text or nothing
  canvas.addEventListener("pointermove", (event) => {
    $(".pointed").textContent = at(event.offsetX, event.offsetY) || "\u00a0";
  });
  canvas.addEventListener("pointerleave", () => { $(".pointed").textContent = "\u00a0"; });
  return canvas;
}

// Series of equal length, one below the other: what belongs together stands together.
// On the last one: `outlined` [from, to], `every` so many a line between, `level` {value, spread} across.
function bars(series, width, label, { outlined = null, every = 0, level = null } = {}) {
  const count = series[0].values.length;
  const numbered = count <= 64;
  const names = 44;
  const room = width - names - 2;
  const widest = room / (numbered ? 22 : 5);
  const fitting = Math.ceil(count / Math.ceil(count / widest));
  const perLine = every ? Math.max(every, fitting - (fitting % every)) : fitting;
  const lines = Math.ceil(count / perLine);
  const unit = Math.min(room / perLine, 36);
  const [bar, text, gap] = [numbered ? 44 : count > 128 ? 40 : 60, numbered ? 44 : 0, numbered ? 4 : 10];
  const lane = bar + text + gap;
  const most = largest(series.flatMap(({ values }) => values)) || 1;
  const { canvas, context, ink } = canvasOf(width, lines * (series.length * lane + 8), label);
  const top = (line, s) => line * (series.length * lane + 8) + s * lane;
  const put = (i) => [Math.floor(i / perLine), names + (i % perLine) * unit];
  series.forEach(({ name, values }, s) => {
    for (let line = 0; line < lines; line++) {
      const zero = top(line, s) + bar / 2;
      const end = names + Math.min(perLine, count - line * perLine) * unit;
      context.fillStyle = ink.text;
      context.textAlign = "left";
      context.fillText(name, 0, zero, names - 6);
      context.fillRect(names, zero - 0.5, end - names, 1);
    }
    values.forEach((n, i) => {
      const [line, x] = put(i);
      const y = top(line, s);
      const high = Math.min(Math.abs(n) / most, 1) * (bar / 2);
      context.fillStyle = n < 0 ? ink.minus : ink.plus;
      context.fillRect(x + 0.5, n < 0 ? y + bar / 2 : y + bar / 2 - high, Math.max(unit - (numbered ? 3 : 1), 1), high);
      if (!numbered) return;
      context.save();
      context.fillStyle = ink.text;
      context.textAlign = "right";
      context.translate(x + unit / 2, y + bar + 2);
      context.rotate(-Math.PI / 2);
      context.fillText(digits(n), 0, 0, text - 2);
      context.restore();
    });
  });
  const last = series.length - 1;
  context.fillStyle = ink.text;
  for (let i = every; every && i < count; i += every) if (i % perLine) context.fillRect(put(i)[1] - 1, top(put(i)[0], last), 1, bar);
  if (outlined) frame(context, ink, outlined, perLine, (i) => put(i)[1], (line) => top(line, last), bar, unit);
  if (level) for (let line = 0; line < lines; line++) drawLevel(context, ink, level, most, names, room, top(line, last) + bar / 2, bar);
  return told(canvas, (x, y) => {
    const line = Math.floor(y / (series.length * lane + 8));
    const s = Math.floor((y - top(line, 0)) / lane);
    const column = Math.floor((x - names) / unit);
    const i = line * perLine + column;
    if (column < 0 || column >= perLine || i >= count || !series[s]) return "";
    return say("inside.pointed", { name: series[s].name, i: i + 1, count, number: digits(series[s].values[i]) });
  });
}

function frame(context, ink, [from, to], perLine, left, top, height, unit) {
  context.strokeStyle = ink.mark;
  context.lineWidth = 3;
  for (let line = Math.floor(from / perLine); line * perLine < to; line++) {
    const [first, last] = [Math.max(from, line * perLine), Math.min(to, (line + 1) * perLine) - 1];
    context.strokeRect(left(first) - 1, top(line) + 1, left(last) + unit - left(first) + 1, height);
  }
}

function drawLevel(context, ink, { value, spread = 0 }, most, left, width, zero, bar) {
  const y = (n) => zero - (n / most) * (bar / 2);
  context.strokeStyle = ink.mark;
  context.lineWidth = 2;
  context.setLineDash([6, 4]);
  for (const n of spread ? [value - spread, value + spread] : [value]) {
    context.beginPath();
    context.moveTo(left, y(n));
    context.lineTo(left + width, y(n));
    context.stroke();
  }
  context.setLineDash([]);
}

// One pixel for each number: thousands are drawn in a millisecond.
const SHADES = Uint32Array.from({ length: 255 }, (_, i) => {
  const [red, green, blue] = signed(i - 127, 127).match(/\d+/g).map(Number);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
});

function pixels(rows, most) {
  const canvas = make("canvas", { width: rows[0].length, height: rows.length });
  const image = new ImageData(canvas.width, canvas.height);
  const shades = new Uint32Array(image.data.buffer);
  rows.flat().forEach((n, i) => { shades[i] = SHADES[Math.round(127 + 127 * Math.min(Math.max(n / most, -1), 1))]; });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// A row for each token, a column for each feature.
function map(rows, tokens, width, label, name, outlined) {
  const names = Math.min(96, width / 4);
  const [count, features] = [rows.length, rows[0].length];
  const high = count > 30 ? 14 : 18;
  const most = largest(rows.flat()) || 1;
  const unit = Math.min((width - names) / features, 18);
  const { canvas, context, ink } = canvasOf(width, count * high + 4, label);
  context.imageSmoothingEnabled = false;
  context.drawImage(pixels(rows, most), names, 2, features * unit, count * high);
  context.fillStyle = ink.text;
  context.textAlign = "right";
  tokens.forEach((token, s) => context.fillText(readable(token), names - 6, 2 + (s + 0.5) * high, names - 8));
  context.strokeStyle = ink.mark;
  context.lineWidth = 3;
  if (outlined >= 0) context.strokeRect(names - 1, 1 + outlined * high, features * unit + 1, high + 1);
  return told(canvas, (x, y) => {
    const [s, i] = [Math.floor((y - 2) / high), Math.floor((x - names) / unit)];
    if (!(rows[s] && i >= 0 && i < features)) return "";
    return say("inside.pointed", { name: `${name} “${readable(tokens[s])}”`, i: i + 1, count: features, number: digits(rows[s][i]) });
  });
}

// One number for each token. A mask's are true and false.
function tiles(values, tokens, language, outlined, share) {
  const most = share ? 1 : largest(values.map(Number)) || 1;
  const list = make("div", { className: "tokens tiles", lang: language });
  list.setAttribute("role", "list");
  list.append(...values.map((n, s) => {
    const tile = make("span", { className: "token tile" }, make("span", { textContent: readable(tokens[s]) }));
    tile.setAttribute("role", "listitem");
    tile.classList.toggle("outlined", s === outlined);
    if (typeof n === "boolean") {
      tile.classList.toggle("hidden-one", !n);
      tile.append(make("b", { textContent: n ? "✓" : "✕" }), make("small", { textContent: say(n ? "inside.seen" : "inside.hidden") }));
      return tile;
    }
    const height = Number.isFinite(n) ? Math.abs(n) / most : 0;
    const fill = make("i", { className: share ? "share" : n < 0 ? "minus" : "plus" });
    fill.style.setProperty("--height", height);
    tile.classList.toggle("hidden-one", !Number.isFinite(n));
    tile.append(make("span", { className: share ? "column whole" : "column" }, fill), make("small", { textContent: share ? percent(n) : digits(n) }));
    return tile;
  }));
  return list;
}
