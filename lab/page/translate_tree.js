// The tree of a beam search: a column a step, kept branches and those that were cut.
// value.tree is {nodes: [[parent, step, id, piece, probability, log_probability, score, kept, rank]], forced}.

const [COLUMN, LINE, NODE] = [132, 54, 108]; // pixels
const forest = { nodes: [], chosen: -1 };

function grow({ nodes }) {
  forest.nodes = nodes.map(([parent, step, id, piece, probability, logProbability, score, kept, rank], place) =>
    ({ place, parent, step, id, piece, probability, logProbability, score, kept, rank, fate: kept ? "pruned" : "dropped" }));
  for (const end of forest.nodes.filter(({ rank }) => rank !== null).sort((a, b) => b.rank - a.rank)) {
    for (const node of way(end)) node.fate = end.rank === 0 ? "best" : "found";
  }
  forest.chosen = way(ends()[0]).at(-1).place;
}

const ends = () => forest.nodes.filter(({ rank }) => rank !== null).sort((a, b) => a.rank - b.rank);

function way(node) { // from the first piece to this one
  const found = [];
  for (; node; node = forest.nodes[node.parent]) found.unshift(node);
  return found;
}

const spelled = (node) => way(node).map(({ piece }) => piece).filter((piece) => piece !== END).join("").trim();
const visible = () => forest.nodes.filter(({ kept }) => kept || $(".dropped").checked);
const rounded = (number) => minus(number.toFixed(2));

function drawTree() {
  const box = $(".tree");
  box.hidden = !shown.tree;
  if (!shown.tree || !box.open) return;
  const { options } = shown.asked;
  const list = ends().map((end) => `${end.rank + 1}. “${spelled(end)}” ${rounded(end.score)}`).join(" · ");
  $(".tree-said").replaceChildren(say("translate.tree_said", { n: options.beam_size, list }), formula("score"), texts("tree_score"));
  const columns = grouped(visible());
  const places = new Map();
  for (const [step, nodes] of columns) {
    nodes.sort((a, b) => b.score - a.score).forEach((node, i) => places.set(node.place, [(step - 1) * COLUMN, i * LINE]));
  }
  const height = LINE * Math.max(...[...columns.values()].map((nodes) => nodes.length));
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, size] of [["width", COLUMN * columns.size], ["height", height]]) lines.setAttribute(name, size);
  lines.ariaHidden = true;
  const buttons = visible().map((node) => {
    const [left, top] = places.get(node.place);
    const from = places.get(node.parent);
    if (from) lines.append(branch([from[0] + NODE, from[1] + LINE / 2 - 5], [left, top + LINE / 2 - 5], node.fate));
    return leaf(node, left, top);
  });
  $(".branches").style.cssText = `width: ${COLUMN * columns.size}px; height: ${height}px`;
  $(".branches").replaceChildren(lines, ...buttons);
  point(forest.chosen);
  if ($(".tree-text").open) drawBranches();
}

function grouped(nodes) {
  const found = new Map();
  for (const node of nodes) found.set(node.step, [...(found.get(node.step) ?? []), node]);
  return found;
}

function branch([x, y], [right, below], fate) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", `M${x} ${y} C${x + 14} ${y} ${right - 14} ${below} ${right} ${below}`);
  path.setAttribute("class", fate);
  return path;
}

function leaf(node, left, top) {
  const made = button(`leaf ${node.fate}`);
  const rank = node.rank === null ? "" : `${node.rank + 1}. `;
  made.style.cssText = `left: ${left}px; top: ${top}px; width: ${NODE}px`;
  made.dataset.place = node.place;
  made.ariaLabel = say("translate.node", {
    step: node.step, token: readable(node.piece), score: rounded(node.score), fate: say(`translate.fate_${node.fate}`),
  });
  made.append(make("span", { textContent: readable(node.piece), lang: shown.languages.target }), make("small", { textContent: rank + rounded(node.score) }));
  return made;
}

// Chooses a node: what it is in words, and the one stop for Tab.
function point(place) {
  const all = $$(".leaf");
  forest.chosen = all.some((each) => Number(each.dataset.place) === place) ? place : Number(all[0].dataset.place);
  for (const each of all) {
    const chosen = Number(each.dataset.place) === forest.chosen;
    each.setAttribute("aria-pressed", chosen);
    each.tabIndex = chosen ? 0 : -1;
  }
  const node = forest.nodes[forest.chosen];
  $(".node-said").textContent = say("translate.node_said", {
    step: node.step, text: spelled(node) || "–", token: readable(node.piece), probability: percent(node.probability),
    log: rounded(node.logProbability), score: rounded(node.score), fate: say(`translate.fate_${node.fate}`),
  });
}

// Up and down within the step, left to the parent, right to the best that follows.
function walk(key) {
  const node = forest.nodes[forest.chosen];
  const seen = visible().sort((a, b) => b.score - a.score);
  const column = seen.filter(({ step }) => step === node.step);
  const next = {
    ArrowUp: () => column[column.indexOf(node) - 1],
    ArrowDown: () => column[column.indexOf(node) + 1],
    ArrowLeft: () => forest.nodes[node.parent],
    ArrowRight: () => seen.find(({ parent }) => parent === node.place),
  }[key]?.();
  if (!next) return;
  point(next.place);
  $(".leaf[tabindex='0']").focus();
}

function drawBranches() {
  const head = ["step", "so_far", "token", "probability", "log_probability", "score", "fate"];
  const line = (tag, texts) => make("tr", {}, ...texts.map((textContent) => make(tag, { textContent })));
  const title = line("th", head.map((name) => say(`translate.column_${name}`)));
  for (const each of title.children) each.scope = "col";
  $(".tree-text table").replaceChildren(
    make("caption", { textContent: say("translate.tree") }), title,
    ...visible().map((node) => line("td", [
      node.step, spelled(forest.nodes[node.parent]), readable(node.piece), percent(node.probability),
      rounded(node.logProbability), rounded(node.score), say(`translate.fate_${node.fate}`),
    ])));
}
