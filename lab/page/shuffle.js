// The sentence shuffled, read without positions and with them.
// props.value = {message} or {pair, text, languages, order: [place before], pieces, on, off:
//   {before, after (translations), difference, weights: {before, after}: packed [layer][query][key], mean of heads}}

const MAPS = ["before", "after", "back"];
const state = { order: "random", seed: 0, positions: "on", layer: 0 };
let shown = null;
let weights = {}; // on and off -> before and after

const bar = sentenceBar($("form"), () => send());
const send = askOnce(() => ({ pair: bar.pair, text: bar.text, order: state.order, seed: state.seed }));

// What the page shows

function show(value) {
  shown = value;
  weights = Object.fromEntries(["on", "off"].map((which) => [which,
    { before: unpacked(value[which].weights.before), after: unpacked(value[which].weights.after) }]));
  state.layer = Math.min(state.layer, props.layers[value.pair] - 1);
  fill($(".layer"), layerOptions(value.pair), state.layer);
  drawTokens();
  draw();
}

function drawTokens() {
  const { pieces, order, languages } = shown;
  for (const [when, places] of [["before", range(pieces.length)], ["after", order]]) {
    $(`.read.${when}`).lang = languages.source;
    $(`.translation.${when}`).lang = languages.target;
    $(`.read.${when}`).replaceChildren(...places.map((place) => make("li", { className: "token" },
      make("b", { textContent: readable(pieces[place]) }), make("small", { textContent: `${place + 1}` }))));
  }
}

// What each picture holds: its places in the old numbering, and its weights.
function pictures() {
  const { order } = shown;
  const [before, after] = ["before", "after"].map((when) => matrix(weights[state.positions][when], state.layer));
  const old = range(order.length);
  const place = old.map((each) => order.indexOf(each)); // where it is read now
  return { before: [old, before], after: [order, after], back: [old, (row, column) => after(place[row], place[column])] };
}

function draw() {
  const { pieces } = shown;
  const found = pictures();
  const most = largest(pieces.length, pieces.length, found.before[1], found.after[1]);
  for (const name of MAPS) {
    const [places, at] = found[name];
    const labels = places.map((place) => readable(pieces[place]));
    heatmap($(`.map.${name}`), {
      rows: labels, columns: labels, at, tint: (weight) => tinted(weight / most), cell: [10, 22],
      axes: axes("encoder"), legend: [colour, `0 … ${percent(most)}`],
    });
    $(`.map.${name}`).ariaLabel = described(say(`masks.shuffle.map_${name}`), labels, labels);
  }
  for (const when of ["before", "after"]) $(`.translation.${when}`).textContent = `→ ${shown[state.positions][when]}`;
  for (const when of ["before", "after"]) $(`h2.${when}`).textContent = say(`masks.shuffle.${when}_${state.positions}`);
  $(".with").checked = state.positions === "on";
  const same = shown.order.every((place, i) => place === i);
  $(".verdict").textContent = same ? say("masks.shuffle.unmoved") : sentences(verdict());
  if ($("details").open) drawTable();
}

// First what is on show: whether the two sides are alike, in their translations and in attention.
function verdict() {
  const which = state.positions;
  const { before, after, difference } = shown[which];
  const said = [
    say(`masks.shuffle.${which}_${before === after ? "same" : "other"}`),
    say(`masks.shuffle.${which}`, { difference: scientific(difference) }),
  ];
  const kept = shown.on.before === shown.off.before ? "same" : "other"; // the same as with positions
  return which === "off" ? [say(`masks.shuffle.without_${kept}`), ...said] : [...said, say("masks.shuffle.try_off")];
}

function drawTable() {
  const { pieces } = shown;
  const { before: [, before], back: [, back] } = pictures();
  const names = pieces.map(readable);
  numbersTable($(".numbers"), say("masks.shuffle.caption"), "", names,
    names.map((name, t) => [name, ...names.map((_, s) => `${share01(before(t, s))} | ${share01(back(t, s))}`)]));
}

// What the visitor does

$(".random").addEventListener("click", () => {
  Object.assign(state, { seed: (state.seed + 1) % 10_000, order: "random" });
  send();
});
$(".reversed").addEventListener("click", () => {
  state.order = "reversed";
  send();
});
$(".with").addEventListener("change", () => { state.positions = $(".with").checked ? "on" : "off"; draw(); });
$(".layer").addEventListener("change", () => { state.layer = Number($(".layer").value); draw(); });
$("details").addEventListener("toggle", () => shown && $("details").open && drawTable());
redrawn(() => shown && draw());
answered(show);
