// Mistakes everybody makes once, switched on in the trained model.
// props.faults = {group: [{name, parts, lesson}]}; props.value = {message} or {pair, text, languages,
//   faults: [name], source: [piece], right, wrong: {text, pieces, ended, weights: {kind:
//   packed [layer][query][key], mean of heads}}, change, layers: [right, wrong] of [{size, alike}],
//   the encoder's first}

const SIDES = ["right", "wrong"];
const FAULTS = Object.values(props.faults).flat();
const state = { on: ["upside_down"], kind: "decoder", layer: 0 };
let shown = null;
let weights = {}; // side -> kind

const bar = sentenceBar($("form"), () => send());
const send = askOnce(() => ({ pair: bar.pair, text: bar.text, faults: state.on }));

// What the page shows

function show(value) {
  shown = value;
  weights = Object.fromEntries(SIDES.map((side) => [side,
    Object.fromEntries(Object.entries(value[side].weights).map(([kind, packed]) => [kind, unpacked(packed)]))]));
  state.layer = Math.min(state.layer, props.layers[value.pair] - 1);
  fill($(".kind"), kindOptions(), state.kind);
  fill($(".layer"), layerOptions(value.pair), state.layer);
  const on = FAULTS.filter(({ name }) => value.faults.includes(name));
  $(".told").replaceChildren(...on.map(({ name, parts: [part], lesson }) => make("p", {},
    make("b", { textContent: say(`masks.faults.${name}.name`) + say("masks.faults.colon") }),
    sentences([say(`masks.faults.${name}.told`), say("masks.faults.lesson", { lesson, part })]))));
  drawTranslations();
  drawLayers();
  drawMaps();
}

// Pieces as words, which Chinese has no spaces between.
const inWords = (pieces) => pieces.filter((piece) => piece !== END).reduce((words, piece, i) => {
  if (joins(piece, i, shown.languages.target)) words[words.length - 1] += piece;
  else words.push(piece);
  return words;
}, []);

// Which words of one are in the other as well, in the same order (longest common subsequence).
function kept(one, other) {
  const best = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      best[i][j] = one[i] === other[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
    }
  }
  const found = new Set();
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (one[i] === other[j]) [found.add(i++), j++];
    else if (best[i + 1][j] >= best[i][j + 1]) i++;
    else j++;
  }
  return found;
}

function drawTranslations() {
  const { right, wrong, change, languages } = shown;
  for (const [side, other, tag] of [["right", wrong, "del"], ["wrong", right, "ins"]]) {
    const words = inWords(shown[side].pieces);
    const same = kept(words, inWords(other.pieces));
    const box = $(`.translation.${side}`);
    box.lang = languages.target;
    box.replaceChildren(...words.map((word, i) => make(same.has(i) ? "span" : tag, { textContent: word })));
    if (!shown[side].ended) box.append(make("small", { textContent: ` ${say("masks.faults.endless")}` }));
  }
  const words = shown.faults.length === 0 ? ["masks.faults.none"] : [
    right.text === wrong.text ? "masks.faults.same" : "masks.faults.differs",
    Math.abs(change) < 0.05 ? "masks.faults.as_much" : change < 0 ? "masks.faults.less" : "masks.faults.more",
  ];
  $(".verdict").textContent = sentences(words.map((word) => say(word, { change: rounded(Math.abs(change)) })));
}

// How large and how alike the tokens leave each layer: what the norm and the residual are for.
function drawLayers() {
  const { layers: [right, wrong] } = shown;
  const columns = ["encoder", "decoder"].flatMap((side) => range(right.length / 2).map((i) =>
    say(`masks.faults.layer_${side}`, { layer: i + 1 })));
  const rows = ["size", "alike"].flatMap((what) => [["right", right], ["wrong", wrong]].map(([side, of]) =>
    [say(`masks.faults.${what}_${side}`), ...of.map((layer) => decimal(layer[what], { maximumFractionDigits: layer[what] < 10 ? 2 : 0 }))]));
  numbersTable($("table.layers"), say("masks.faults.handed_on"), "", columns, rows);
}

const labels = (side) => {
  const { pieces } = shown[side];
  if (state.kind === "encoder") return [shown.source, shown.source];
  return [pieces, state.kind === "cross" ? shown.source : [START, ...pieces.slice(0, -1)]];
};

function drawMaps() {
  const sums = {};
  for (const side of SIDES) {
    const [queries, keys] = labels(side);
    const at = matrix(weights[side][state.kind], state.layer);
    heatmap($(`canvas.${side}`), {
      rows: queries.map(readable), columns: keys.map(readable), at, tint: tinted, cell: [10, 24], legend: [colour, "0 … 100 %"],
      axes: axes(state.kind),
    });
    const sum = queries.map((_, t) => keys.reduce((total, _, s) => total + at(t, s), 0));
    const ahead = queries.reduce((total, _, t) => total + keys.reduce((more, _, s) => more + (s > t ? at(t, s) : 0), 0), 0);
    const [least, most] = [Math.min(...sum), Math.max(...sum)].map(percent);
    sums[side] = { sums: least === most ? least : `${least} … ${most}`, ahead: percent(ahead / queries.length) };
    $(`.of.${side}`).textContent = say(`masks.faults.map_${side}`, { layer: state.layer + 1 });
    $(`canvas.${side}`).ariaLabel = described($(`.of.${side}`).textContent, queries, keys);
  }
  const told = SIDES.map((side) => say(`masks.faults.sums_${side}`, sums[side]));
  if (state.kind === "decoder") told.push(say("masks.faults.ahead", { right: sums.right.ahead, wrong: sums.wrong.ahead }));
  $(".sentence").textContent = sentences(told);
  if ($("details").open) drawTables();
}

function drawTables() {
  for (const side of SIDES) {
    const [queries, keys] = labels(side);
    const at = matrix(weights[side][state.kind], state.layer);
    numbersTable($(`.numbers.${side}`), $(`.of.${side}`).textContent, "", keys.map(readable),
      queries.map((query, t) => [readable(query), ...keys.map((_, s) => share01(at(t, s)))]));
  }
}

// What the visitor does

const switchFor = ({ name, parts }) => {
  const made = make("input", { type: "checkbox", checked: state.on.includes(name), dataset: { name, parts } });
  made.setAttribute("role", "switch");
  return make("label", { className: "switch" }, made, make("span", { textContent: say(`masks.faults.${name}.name`) }));
};
$(".groups").replaceChildren(...Object.entries(props.faults).map(([group, faults]) => make("fieldset", {},
  make("legend", { textContent: say(`masks.faults.group.${group}`) }), ...faults.map(switchFor))));
$(".groups").addEventListener("change", ({ target }) => {
  const boxes = $$(".groups input");
  const replaced = target.dataset.parts.split(",");
  for (const box of boxes) { // a part can be wrong in one way at a time
    if (target.checked && box !== target && box.dataset.parts.split(",").some((part) => replaced.includes(part))) box.checked = false;
  }
  state.on = boxes.filter((box) => box.checked).map((box) => box.dataset.name);
  send();
});
$(".kind").addEventListener("change", () => { state.kind = $(".kind").value; drawMaps(); });
$(".layer").addEventListener("change", () => { state.layer = Number($(".layer").value); drawMaps(); });
$("details").addEventListener("toggle", () => shown && $("details").open && drawTables());
redrawn(() => shown && drawMaps());
answered(show);
