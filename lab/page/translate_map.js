// A heat map: laid out once, then painted on a canvas or written as SVG.

const INK = "#111";
const LABEL = 120; // of a token, at most, in pixels
const PALETTE = Array.from({ length: 256 }, (_, i) => colour(i / 255).match(/\d+/g).map(Number));

// The cells as a picture of one pixel each; scaled up without smoothing.
function cellsOf(values, scale) {
  const canvas = make("canvas", { width: values.columns, height: values.rows });
  const context = canvas.getContext("2d");
  const image = context.createImageData(values.columns, values.rows);
  let at = 0;
  for (let t = 0; t < values.rows; t++) {
    for (const share of SCALES[scale](rowOf(values, t))) {
      image.data.set(PALETTE[Math.round(255 * Math.min(Math.max(share, 0), 1))], at);
      image.data[at + 3] = 255;
      at += 4;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Where everything stands. `map` is {values, queries, keys, query, scale, axes, legend, title};
// without a title it is the one on the page, whose caption stands below it.
function layout(map, { room, font, measure }) {
  const { values, queries, keys, title } = map;
  const widest = (names) => Math.min(Math.max(...names.map((name) => measure(readable(name)))), LABEL);
  const left = Math.round(widest(queries) + 14);
  const cell = Math.floor(Math.max(20, Math.min(38, (room - left - 60) / keys.length))); // labels lean out
  const top = Math.round(widest(keys) * 0.75 + 44);
  const right = left + cell * keys.length;
  const bottom = top + cell * queries.length;
  const long = (name) => (measure(readable(name)) > LABEL ? LABEL : undefined); // it is set narrower
  const texts = [
    { text: map.axes, x: 4, y: 12 },
    ...queries.map((name, t) => ({ text: readable(name), x: left - 8, y: top + (t + 0.5) * cell, anchor: "end", most: long(name) })),
    ...keys.map((name, s) => ({ text: readable(name), x: left + (s + 0.5) * cell, y: top - 8, lean: true, most: long(name) })),
    { text: map.legend, x: 116, y: bottom + 28 },
  ];
  if (title) texts.push({ text: title, x: 8, y: bottom + 56 });
  const width = Math.ceil(Math.max(right + 60, ...[map.axes, title ?? ""].map((text) => measure(text) + 16), measure(map.legend) + 124));
  return { values, cell, left, top, right, bottom, texts, font, query: map.query, scale: map.scale, width, height: bottom + (title ? 76 : 44) };
}

function paint(canvas, plan, { ratio, ink, outline, paper }) {
  const { cell, left, top, right, bottom, width, height } = plan;
  const context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  context.scale(ratio, ratio);
  if (paper) {
    context.fillStyle = paper;
    context.fillRect(0, 0, width, height);
  }
  context.imageSmoothingEnabled = false;
  context.drawImage(cellsOf(plan.values, plan.scale), left, top, right - left, bottom - top);
  context.strokeStyle = outline;
  context.lineWidth = 3;
  context.strokeRect(left - 2, top + plan.query * cell, right - left + 4, cell);
  for (let i = 0; i < 100; i++) {
    context.fillStyle = colour(i / 99);
    context.fillRect(8 + i, bottom + 22, 1, 12);
  }
  context.fillStyle = ink;
  context.font = plan.font;
  context.textBaseline = "middle";
  for (const { text, x, y, anchor, lean, most } of plan.texts) {
    context.save();
    context.textAlign = anchor ?? "start";
    context.translate(x, y);
    if (lean) context.rotate(-Math.PI / 4);
    context.fillText(text, 0, 0, most);
    context.restore();
  }
}

// The same as SVG: made as a document, so whatever a token holds stays text.
function written(plan, { outline, family }) {
  const { cell, left, top, right, bottom, width, height } = plan;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const add = (tag, attributes, text = "", parent = svg) => {
    const made = document.createElementNS(svg.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    parent.append(made);
    return made;
  };
  const box = { viewBox: `0 0 ${width} ${height}`, width, height, "font-family": family, "font-size": 13 };
  for (const [name, value] of Object.entries(box)) svg.setAttribute(name, value);
  add("rect", { width, height, fill: "#fff" });
  for (let t = 0; t < plan.values.rows; t++) {
    SCALES[plan.scale](rowOf(plan.values, t)).forEach((share, s) => {
      add("rect", { x: left + s * cell, y: top + t * cell, width: cell, height: cell, fill: colour(share) });
    });
  }
  add("rect", { x: left - 2, y: top + plan.query * cell, width: right - left + 4, height: cell, fill: "none", stroke: outline, "stroke-width": 3 });
  for (let i = 0; i < 20; i++) add("rect", { x: 8 + 5 * i, y: bottom + 22, width: 5, height: 12, fill: colour(i / 19) });
  for (const { text, x, y, anchor = "start", lean, most } of plan.texts) {
    const turn = lean ? { transform: `rotate(-45 ${x} ${y})` } : {};
    const narrow = most ? { textLength: most, lengthAdjust: "spacingAndGlyphs" } : {};
    add("text", { x, y, fill: INK, "text-anchor": anchor, "dominant-baseline": "middle", ...turn, ...narrow }, text);
  }
  return new XMLSerializer().serializeToString(svg);
}
