// Files: the picture, the numbers, everything, and a page that works alone.

const OUTLINE = "#c2410c";
// Simplified Chinese by name: without it a viewer may take Japanese shapes.
const FAMILY = '"Source Sans Pro", system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif';
const FILES = { png: savePicture, svg: saveDrawing, csv: saveNumbers, json: saveAll, html: savePage };

function fileName(ending) {
  const heads = state.head === SOME ? [`${state.heads.length}heads`, state.together]
    : [state.layer === "all" ? "all-layers" : `layer${state.layer + 1}`, state.head === "all" ? state.together : `head${state.head + 1}`];
  return `${["attention", state.kind, ...(state.together === "rollout" ? ["rollout"] : heads)].join("-")}.${ending}`;
}

// The heat map on white paper, with its title.
function onPaper() {
  const context = make("canvas").getContext("2d");
  context.font = `13px ${FAMILY}`;
  const measure = (text) => context.measureText(text).width;
  return layout({ ...mapped(), title: caption() }, { room: 900, font: context.font, measure });
}

function savePicture() {
  const canvas = make("canvas");
  paint(canvas, onPaper(), { ratio: 3, ink: INK, outline: OUTLINE, paper: "#fff" });
  canvas.toBlob((blob) => save(fileName("png"), blob));
}

function saveDrawing() {
  const text = written(onPaper(), { outline: OUTLINE, family: FAMILY });
  save(fileName("svg"), new Blob([text], { type: "image/svg+xml" }));
}

function saveNumbers() { // every head of the kind, as the model gave them
  const { queries, keys } = labels();
  const lines = [["kind", "layer", "head", "query_position", "query", "key_position", "key", "weight"]];
  stacks[state.kind].forEach((heads, layer) => heads.forEach((head, h) => queries.forEach((query, t) =>
    rowOf(head, t).forEach((weight, s) => lines.push([
      state.kind, layer + 1, h + 1, t + 1, readable(query), s + 1, readable(keys[s]), weight.toFixed(5),
    ])))));
  save(fileName("csv"), csv(lines));
}

const plain = (head) =>
  Array.from({ length: head.rows }, (_, t) => Array.from(rowOf(head, t), (weight) => Number(weight.toFixed(5))));

function saveAll() {
  const { queries, keys } = labels();
  const { kind, heads, together, hidden } = state;
  const attention = Object.entries(stacks).map(([name, layers]) => [name, layers.map((each) => each.map(plain))]);
  const { answer, tree, attention: packed, layers, heads: n_heads, ...others } = shown;
  const all = {
    ...others,
    axes: "attention[kind][layer][head][query][key]",
    shown: { kind, heads, together, hidden, queries, keys, weights: plain(picture().values) },
    attention: Object.fromEntries(attention),
  };
  const lines = Object.entries(all).map((entry) => entry.map((each) => JSON.stringify(each)).join(": "));
  save(fileName("json"), new Blob([`{\n${lines.join(",\n")}\n}\n`], { type: "application/json" }));
}

// This script itself, as the function that Gradio makes of it: what shows the page saved, too.
const program = arguments.callee;

// A page with this translation in it. Nothing of it is put into markup: it stands as JSON in a
// script, where "<" could end the script and \u003c cannot.
function savePage() {
  const mine = ([word]) => /^(translate|language|page)\./.test(word);
  const words = Object.fromEntries(Object.entries(lab.words[lab.language]).filter(mine));
  const data = { language: lab.language, words, formulas: props.formulas, value: shown, state };
  const json = JSON.stringify(data).replaceAll("<", "\\u003c");
  const [head, middle, end] = props.standalone.split(/@DATA@|@PROGRAM@/);
  const page = [head, json, middle, String(program).replaceAll("</", "<\\/"), end];
  save(fileName("html"), new Blob(page, { type: "text/html" }));
}
