// What is on show of a translation: which heads, seen how, and what that is called.

// Of 400 captions of the validation part the ones below have a chrF of 40, two in five of them far off; the others 70.
const UNSURE = 0.5;
const SOME = "some"; // heads that no layer and no number name

// The last layer first: there the cross-attention of a translation model aligns best.
const state = {
  kind: "cross", layer: Infinity, head: "all", heads: [], together: "mean", scale: "full", hidden: false,
  several: false, query: 0, written: 0, method: "greedy", beam_size: 4, ...props.state,
};
let shown = null; // the value on show, see lab.page.translate
let stacks = {}; // kind -> matrices by layer and head
let pictures = new Map(); // those computed, by what is chosen

const texts = (name) => say(`translate.${name}`);
// Sentences one after another; Chinese puts no space between them.
const joined = (parts) => parts.filter(Boolean).join(lab.language === "zh-CN" ? "" : " ");
const range = (count) => [...Array(count).keys()];
// Which sentence asks and which one answers.
const SIDES = { cross: ["target", "source"], decoder: ["target", "target"], encoder: ["source", "source"] };
const language = (side) => languageName(shown.asked.pair.split("-")[side === "source" ? 0 : 1]);

function labels(kind = state.kind) {
  const { source, target } = shown;
  return {
    cross: { queries: target, keys: source },
    decoder: { queries: target, keys: [START, ...target.slice(0, -1)] },
    encoder: { queries: source, keys: source },
  }[kind];
}

// The key where a head with nothing to do likes to look.
const sink = (keys) => (state.kind === "decoder" ? 0 : keys.lastIndexOf(END));

// Chosen heads in one matrix: {values, share: hidden share of each row, target: share of the target}.
function picture(heads = state.heads, together = state.together) {
  const name = `${state.kind} ${together} ${state.hidden} ${heads.join(" ")}`;
  if (!pictures.has(name)) pictures.set(name, computed(heads, together));
  return pictures.get(name);
}

function computed(heads, together) {
  const layers = stacks[state.kind];
  let values, target;
  if (together !== "rollout") {
    values = (together === "maximum" ? maximum : mean)(heads.map(([layer, head]) => layers[layer][head]));
  } else if (state.kind === "cross") {
    const both = rolloutToSource(stacks);
    values = both.source;
    target = range(values.rows).map((t) => sum(rowOf(both.target, t)));
  } else {
    values = rollout(layers);
  }
  if (!state.hidden) return { values, target };
  const { left, share } = hide(values, sink(labels().keys));
  return { values: left, share, target };
}

function where() {
  const kind = texts(`the_${state.kind}`);
  if (state.together === "rollout") return say("translate.where_rollout", { kind });
  const values = {
    kind, layer: state.layer + 1, head: state.head + 1, together: texts(state.together), n: state.heads.length,
    heads: state.heads.map(([layer, head]) => `L${layer + 1} H${head + 1}`).join(", "),
  };
  const layer = typeof state.layer === "number" ? "layer" : state.layer;
  const head = typeof state.head === "number" ? "head" : state.head;
  return say(layer === SOME ? "translate.where_some" : `translate.where_${layer}_${head}`, values);
}

function caption() {
  const sums = state.together === "maximum" ? "sums_not" : picture().target && !state.hidden ? "sums_both" : "sums";
  const parts = [say("translate.title", { where: where() }), state.hidden ? say("translate.sums_hidden", { token: hiddenToken() }) : texts(sums)];
  return joined(parts);
}

const hiddenToken = () => readable(labels().keys[sink(labels().keys)]);

function mapped() {
  return {
    ...labels(), values: picture().values, query: state.query, scale: state.scale,
    axes: texts(`axes_${state.kind}`), legend: texts(`legend_${state.scale}`),
  };
}

function take(value) {
  shown = value;
  pictures = new Map();
  stacks = Object.fromEntries(Object.entries(shown.attention).map(([kind, packed]) =>
    [kind, unstacked(unpack(packed), packed, shown.layers, shown.heads)]));
  pick(state.layer, state.head, state.heads);
}

// Heads by layer and number, each of which may be "all"; or those given.
function pick(layer, head, heads = []) {
  const last = (place, count) => (typeof place === "number" ? Math.min(Math.max(place, 0), count - 1) : place);
  if (layer !== SOME && head !== SOME) {
    [state.layer, state.head] = [last(layer, shown.layers), last(head, shown.heads)];
    const of = (place, count) => (place === "all" ? range(count) : [place]);
    state.heads = of(state.layer, shown.layers).flatMap((l) => of(state.head, shown.heads).map((h) => [l, h]));
    return;
  }
  const there = heads.filter(([l, h]) => l >= 0 && l < shown.layers && h >= 0 && h < shown.heads);
  const names = new Set(there.map((place) => place.join()));
  if (names.size === 0) return pick(shown.layers - 1, "all");
  state.heads = range(shown.layers).flatMap((l) => range(shown.heads).map((h) => [l, h])).filter((place) => names.has(place.join()));
  [state.layer, state.head] = state.heads.length === 1 ? state.heads[0] : [SOME, SOME];
}
