// The table of positions: as a heat map, wave by wave, and what its rows say to each other.
// props.value = {message} or {pair, table: packed [position][feature] from -1 to 1, products: packed
//   [position][position] from -most to most, most, spread, by_distance: [product], wavelengths: [of each pair]}

const state = { wave: 4, apart: 1 };
let shown = null;
let table = null; // (position, feature) -> -1 … 1
let products = null;

const pair = () => lab.shared.pair ?? props.pairs[0];
askOnce(() => ({ pair: pair() }));

const blueToOrange = (share) => signed(2 * share - 1, 1);
const SIGNED_PALETTE = range(256).map((i) => blueToOrange(i / 255));
const every = (count, step) => range(count).map((i) => (i % step === 0 ? `${i}` : ""));

// What the page shows

function show(value) {
  shown = value;
  const [waves, rows] = [value.table, value.products].map((packed) => matrix(unpacked(packed), 0));
  table = (position, feature) => 2 * waves(position, feature) - 1;
  products = (p, q) => value.most * (2 * rows(p, q) - 1);
  $(".wave").max = value.wavelengths.length - 1;
  $(".apart").max = value.by_distance.length - 1;
  draw();
}

function draw() {
  if (!shown) return;
  drawTable();
  drawWave();
  drawProducts();
  if ($("details").open) drawNumbers();
}

function drawTable() {
  const { rows, columns } = shown.table;
  heatmap($(".table"), {
    rows: every(rows, 8), columns: every(columns, 8), lean: false, cell: [6, 10],
    axes: say("masks.axes", { query: say("masks.positions.position"), key: say("masks.positions.feature") }),
    at: table, tint: (value) => SIGNED_PALETTE[Math.round(127.5 * (value + 1))],
    legend: [blueToOrange, "−1 … 1"], box: [0, 2 * state.wave, rows, 2],
  });
  $(".table").ariaLabel = say("masks.positions.table_picture", { rows, columns });
}

// Lines of `points(i)` for i of a count, from `least` to `most`; `dash` tells two lines apart without colour.
function plot(canvas, count, least, most, lines, titles, mark = null) {
  const style = getComputedStyle(canvas);
  const [left, top, height] = [44, 24, 150];
  const full = clamp(canvas.parentElement.clientWidth, 280, 900);
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [full * ratio, (top + height + 44) * ratio];
  [canvas.style.width, canvas.style.height] = [`${full}px`, `${top + height + 44}px`];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const x = (i) => left + (i / (count - 1)) * (full - left - 12);
  const y = (value) => top + (1 - (value - least) / (most - least)) * height;
  context.font = `13px ${style.fontFamily}`;
  [context.fillStyle, context.strokeStyle] = [style.color, style.color];
  context.textBaseline = "middle";
  context.fillText(titles[1], 0, 9);
  context.textAlign = "right";
  for (const value of new Set([least, 0, most])) {
    context.fillText(rounded(value), left - 8, y(value));
    context.globalAlpha = 0.3;
    context.fillRect(left, y(value), full - left - 12, 1);
    context.globalAlpha = 1;
  }
  context.fillText(titles[0], full - 12, top + height + 34);
  context.textAlign = "center";
  range(count).forEach((i) => i % 8 === 0 && context.fillText(`${i}`, x(i), top + height + 14));
  for (const { at, ink, dash = [], dots = true } of lines) {
    [context.strokeStyle, context.fillStyle, context.lineWidth] = [ink ?? style.color, ink ?? style.color, 2];
    context.setLineDash(dash);
    context.beginPath();
    for (let i = 0; i <= count - 1; i += dots ? 1 : 0.05) context.lineTo(x(i), y(at(i)));
    context.stroke();
    context.setLineDash([]);
    if (dots) range(count).forEach((i) => context.fillRect(x(i) - 2, y(at(i)) - 2, 4, 4));
  }
  if (mark !== null) {
    [context.strokeStyle, context.lineWidth] = ["#c2410c", 3];
    context.strokeRect(x(mark) - 6, y(lines[0].at(mark)) - 6, 12, 12);
  }
}

function drawWave() {
  const { rows } = shown.table;
  const [sine, cosine] = [2 * state.wave, 2 * state.wave + 1];
  const length = shown.wavelengths[state.wave];
  const [blue, orange] = document.body.classList.contains("dark") ? ["#6bb1ff", "#ee9966"] : ["#004488", "#994400"];
  plot($(".plot"), rows, -1, 1, [
    { at: (position) => table(position, sine), ink: blue },
    { at: (position) => table(position, cosine), ink: orange, dash: [6, 4] },
  ], [`${say("masks.positions.position")} →`, say("masks.positions.value")]);
  const turns = rows / length;
  $(".which").textContent = say("masks.positions.which", { sine, cosine });
  $(".sentence").textContent = say(turns >= 1 ? "masks.positions.wave" : "masks.positions.long_wave", {
    sine, cosine, rows, turns: rounded(turns), share: share01(turns),
    length: decimal(length, { maximumSignificantDigits: 4 }),
  });
  $(".plot").ariaLabel = $(".sentence").textContent;
  $(".wave").ariaValueText = $(".which").textContent;
}

function drawProducts() {
  const { rows } = shown.products;
  const { most, by_distance: profile, spread } = shown;
  const least = Math.min(...profile);
  heatmap($(".products"), {
    rows: every(rows, 8), columns: every(rows, 8), lean: false, cell: [4, 7],
    at: products, tint: (product) => tinted((product - least) / (most - least)),
    axes: say("masks.axes", { query: say("masks.positions.position"), key: say("masks.positions.position") }),
    legend: [colour, `${rounded(least)} … ${rounded(most)}`], diagonal: state.apart,
  });
  $(".products").ariaLabel = say("masks.positions.products_picture", { rows });
  plot($(".profile"), rows, Math.min(0, least), most, [{ at: (distance) => profile[distance] }],
    [`${say("masks.positions.distance")} →`, say("masks.positions.product")], state.apart);
  $(".profile").ariaLabel = say("masks.positions.profile");
  $(".far").textContent = say("masks.positions.far", { n: state.apart });
  $(".apart").ariaValueText = $(".far").textContent;
  $(".verdict").textContent = say("masks.positions.law", {
    far: $(".far").textContent, product: rounded(profile[state.apart]), spread: scientific(spread), most: rounded(most),
  });
}

function drawNumbers() {
  const { rows } = shown.table;
  const [sine, cosine] = [2 * state.wave, 2 * state.wave + 1];
  const digits = (value) => decimal(value, { maximumFractionDigits: 3 });
  numbersTable($(".waves"), $(".sentence").textContent, say("masks.positions.position"), [`sin (${sine})`, `cos (${cosine})`],
    range(rows).map((position) => [`${position}`, digits(table(position, sine)), digits(table(position, cosine))]));
  numbersTable($("table.far"), say("masks.positions.profile"), say("masks.positions.distance"), [say("masks.positions.product")],
    shown.by_distance.map((product, distance) => [`${distance}`, digits(product)]));
}

// What the visitor does

function choose(wave, apart) {
  state.wave = clamp(wave, 0, shown.wavelengths.length - 1);
  state.apart = clamp(apart, 0, shown.by_distance.length - 1);
  [$(".wave").value, $(".apart").value] = [state.wave, state.apart];
  draw();
}
$(".wave").addEventListener("input", () => choose(Number($(".wave").value), state.apart));
$(".apart").addEventListener("input", () => choose(state.wave, Number($(".apart").value)));
$(".table").addEventListener("click", (event) => {
  const under = cellUnder(event);
  if (under) choose(Math.floor(under[1] / 2), state.apart);
});
$(".products").addEventListener("click", (event) => {
  const under = cellUnder(event);
  if (under) choose(state.wave, Math.abs(under[1] - under[0]));
});
$("details").addEventListener("toggle", () => shown && $("details").open && drawNumbers());
redrawn(draw);
answered(show);
