// Draws one translation and all that is behind it. Before it stand its parts: views (what is
// computed), map, state (what is on show), export, tree, guess and link.

const STEP_MS = 450;

let earlier = []; // values before another token was taken
let timer = null;
let painted = ""; // which pictures the grid holds
let link = null; // what the address asks for, until it is answered
let sharing = false;
let taken = []; // places of the tokens that the visitor chose
let news = false; // another tab has another sentence

// Questions

function translate(text, pair, method = state.method, options = {}) {
  const usual = { greedy: {}, beam: { beam_size: state.beam_size }, sample: lab.sampling ?? { top_p: 0.9 } };
  lab.question = { text, pair, method, options: { ...usual[method], ...options } };
  news = false;
  if (!options.prefix?.length) taken = [];
  ask(lab.question);
}

function again(changes = {}, method = shown.asked.method) { // the same sentence
  const { text, pair, options } = shown.asked;
  translate(text, pair, method, method === shown.asked.method ? { ...options, ...changes } : changes);
}

function goOn(prefix) { // another token is taken
  earlier.push(shown);
  taken = [...shown.taken.filter((place) => place < prefix.length - 1), prefix.length - 1];
  again({ prefix });
}

// A new value

function show(value, at = props.state?.query ?? Math.max(0, value.asked.options.prefix.length - 1)) {
  taken = value.taken ?? chosenIn(value);
  take({ ...value, taken });
  state.method = value.asked.method;
  state.beam_size = value.asked.options.beam_size ?? state.beam_size;
  painted = "";
  mapRoom = 0;
  if (value.tree) grow(value.tree);
  drawValue();
  stop();
  if (link) follow(link);
  else place(at);
  if (!link && !lab.offline && !still.matches && state.kind !== "encoder" && !game.on) replay(at);
  const { query, ...others } = places(); // which token is nobody's choice yet, but in a link
  tell({ text: value.asked.text, pair: value.asked.pair, ids: value.ids, ...others, ...(link && { query }) });
  link = null;
  if (lab.question && !lab.offline) remember(); // the first example needs no address
}

// Of a beginning that is given, the last token; a link to a draw gives all of them, and none was chosen.
function chosenIn({ asked: { options: { prefix } }, target }) {
  if (taken.at(-1) < prefix.length) return taken;
  return prefix.length && target[prefix.length - 1] !== END ? [prefix.length - 1] : [];
}

function drawValue() {
  const { asked, about, target, languages, ended } = shown;
  const { prefix } = asked.options;
  const before = earlier.at(-1)?.text;
  const method = texts(`method_${asked.method}`);
  const parameters = lab.language === "zh-CN" ? Math.round(100 * about.parameters) : about.parameters; // 万, or M
  const told = say("translate.about", { ...about, parameters, method, n: target.length, log: rounded(about.log_probability) });
  const others = about.together > 1 ? say("translate.about_together", { n: about.together - 1 }) : "";
  $(".translation").lang = languages.target;
  const sure = Math.exp(about.log_probability / target.length);
  $(".doubt").hidden = sure >= UNSURE;
  $(".doubt").textContent = sure < UNSURE ? say("translate.unsure", { share: percent(sure) }) : "";
  $(".about").textContent = joined([told, others, ended ? "" : say("translate.cut", { n: target.length })]);
  fill($(".method"), ["greedy", "beam", "sample"].map((name) => [name, texts(`method_${name}`)]), state.method);
  fill($(".beam-size"), range(8).map((i) => [`${i + 1}`, `${i + 1}`]), `${state.beam_size}`);
  $(".beam").hidden = state.method !== "beam";
  $(".cuts").hidden = state.method !== "sample";
  $(".knows").textContent = known(asked.pair);
  $(".forced").hidden = prefix.length === 0;
  $(".forced span").textContent = "";
  if (taken.length) {
    const values = { n: prefix.length, token: readable(target[prefix.length - 1]), before };
    $(".forced span").textContent = say(before ? "translate.forced_before" : "translate.forced", values);
  }
  drawTree();
}

function known(pair) { // what the model has learnt; of one from elsewhere nothing is known
  const word = `translate.knows.${pair.replace("-", "_")}`;
  return word in lab.words.en ? say(word) : "";
}

// A new choice

function choose(query) {
  place(query);
  tell(places());
  if (!lab.offline) remember();
}

function place(query) {
  stop();
  state.written = shown.target.length;
  state.query = Math.min(Math.max(query, 0), labels().queries.length - 1);
  game.guessed = null;
  draw();
}

// For the other tabs; "all" heads are no place there.
function places() {
  const numbers = Object.entries({ layer: state.layer, head: state.head }).filter(([, each]) => typeof each === "number");
  return { kind: state.kind, query: state.query, ...Object.fromEntries(numbers) };
}

function tell(changes) {
  if (lab.offline) return;
  sharing = true;
  share(changes);
  sharing = false;
}

function remember() {
  if (shown) lab.remember(onShow());
}

// What a link or another tab asks to see; what is not there stays as it was.
function follow({ kind, together, layer, head, heads, query }) {
  state.kind = kind in SIDES ? kind : state.kind;
  state.together = together ?? state.together;
  if (heads) pick(SOME, SOME, heads);
  else if (Number.isInteger(layer ?? head) || layer === "all") pick(layer ?? state.layer, head ?? "all");
  place(Number.isInteger(query) ? query : state.query);
}

// What the address asks for; a value it does not name is the usual one, a wrong one is answered in words.
function openLink() {
  const { text, pair, method, prefix, cuts } = link;
  if (text === null && pair === null && method === null && prefix.length === 0 && shown) {
    follow(link);
    link = null;
    return;
  }
  const known = pair ?? props.pairs[0];
  const asked = text ?? props.examples.find(([each]) => each === known)?.[1] ?? "";
  tell({ text: asked, ...(props.pairs.includes(known) && { pair: known }) });
  if (method === "sample") {
    const options = Object.fromEntries(CUTS.map((name, i) => [name, cuts[i] ?? null]));
    lab.sampling = options;
    window.dispatchEvent(new CustomEvent("lab:sampling", { detail: { options } }));
  }
  translate(asked, known, method ?? "greedy", { prefix });
}

// What the visitor does

function replay(from) {
  if (state.kind === "encoder") state.kind = "cross"; // the source is not generated
  if (from !== undefined) state.written = from + 1;
  else if (state.written >= shown.target.length) state.written = 1; // else go on from the pause
  state.query = state.written - 1;
  game.guessed = null;
  timer = setInterval(() => {
    if (state.written < shown.target.length) state.query = state.written++;
    else {
      state.query = taken.at(-1) ?? telling();
      pause();
    }
    draw();
  }, STEP_MS);
  draw();
}

function stop() {
  clearInterval(timer);
  timer = null;
}

function pause() {
  stop();
  tell(places());
  if (lab.question && !lab.offline) remember();
}

function playPause() {
  if (!timer) return replay();
  pause();
  draw();
}

function chooseHead({ dataset }, several = state.several) {
  const [layer, head] = [Number(dataset.layer), dataset.head === "all" ? "all" : Number(dataset.head)];
  if (state.together === "rollout") state.together = "mean";
  if (!several) pick(layer, head);
  else { // each click puts heads in or takes them out; the last one stays
    const clicked = (head === "all" ? range(shown.heads) : [head]).map((h) => [layer, h]);
    const is = (place) => clicked.some((each) => each.join() === place.join());
    const others = state.heads.filter((place) => !is(place));
    const whole = state.heads.length - others.length === clicked.length;
    pick(SOME, SOME, whole && others.length ? others : [...others, ...clicked]);
  }
  choose(state.query);
}

const CLICKS = {
  ".queries .token": ({ dataset }) => choose(Number(dataset.index)),
  ".candidates .token": ({ dataset }) => {
    const id = Number(dataset.id);
    if (id !== shown.ids[state.query]) goOn([...shown.ids.slice(0, state.query), id]);
  },
  ".keys .token": ({ dataset }) => guess(Number(dataset.key)),
  ".cell": (cell, event) => chooseHead(cell, state.several || event.ctrlKey || event.metaKey || event.shiftKey),
  ".several": () => { state.several = !state.several; drawSettings(); },
  ".leaf": ({ dataset }) => point(Number(dataset.place)),
  ".go-on": () => goOn(way(forest.nodes[forest.chosen]).map(({ id }) => id)),
  ".play": playPause,
  ".back": () => choose(state.query - 1),
  ".forward": () => choose(state.query + 1),
  ".guess": () => { game.on = !game.on; choose(game.on && !askable() ? telling() : state.query); },
  ".cuts": () => window.dispatchEvent(new CustomEvent("lab:sampling", { detail: { look: true } })),
  ".undo": () => (earlier.length ? show(earlier.pop()) : again({ prefix: [] })),
  ".example": ({ dataset }) => {
    const [pair, text] = props.examples[dataset.index];
    earlier = [];
    tell({ text, pair });
    translate(text, pair);
  },
  ".link": copyLink,
};

element.addEventListener("click", (event) => {
  const clicked = event.target.closest("button");
  if (!clicked || !shown) return;
  const [, act] = Object.entries(CLICKS).find(([selector]) => clicked.matches(selector)) ?? [];
  const file = Object.keys(FILES).find((ending) => clicked.classList.contains(ending));
  if (act) act(clicked, event);
  else if (file) FILES[file]();
});

const number = (text) => (text === "all" || text === SOME ? text : Number(text));
const CHANGES = {
  "select.pair": () => $("form").requestSubmit(),
  "select.method": ({ value }) => {
    state.method = value;
    earlier = [];
    again({}, value);
    if (value === "sample") window.dispatchEvent(new CustomEvent("lab:sampling", { detail: {} }));
  },
  "select.beam-size": ({ value }) => again({ beam_size: Number(value) }),
  "select.kind": ({ value }) => { [state.kind, mapRoom] = [value, 0]; },
  "select.layer": ({ value }) => pick(number(value), state.head === SOME ? "all" : state.head, state.heads),
  "select.head": ({ value }) => pick(state.layer === SOME ? "all" : state.layer, number(value), state.heads),
  "select.together": ({ value }) => { state.together = value; },
  "select.scale": ({ value }) => { state.scale = value; },
  "input.sink": ({ checked }) => { state.hidden = checked; },
};

element.addEventListener("change", ({ target }) => {
  const [selector, change] = Object.entries(CHANGES).find(([each]) => target.matches(each)) ?? [];
  if (target.matches(".dropped")) drawTree();
  if (!change || !shown) return;
  change(target);
  if (!["select.pair", "select.method", "select.beam-size"].includes(selector)) choose(state.query);
});

element.addEventListener("input", ({ target }) => target.matches(".slider") && choose(Number(target.value) - 1));

element.addEventListener("keydown", (event) => {
  const { target, key } = event;
  const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[key];
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -shown?.heads - 1, ArrowDown: shown?.heads + 1 }[key];
  if (target.matches(".queries .token") && move) {
    choose(state.query + move);
    $(".queries").children[state.query].focus();
  } else if (target.matches(".cell") && step) {
    const cells = [...$(".grid").children];
    const next = cells[cells.indexOf(target) + step];
    if (next && state.several) next.focus();
    else if (next) {
      chooseHead(next);
      $(".grid").children[cells.indexOf(next)].focus();
    }
  } else if (target.matches(".leaf") && key.startsWith("Arrow")) walk(key);
  else return;
  event.preventDefault();
});

$(".map").addEventListener("pointermove", (event) => {
  const at = cellAt(event);
  const { queries, keys } = labels();
  $(".cell-said").textContent = at ? say("translate.cell", {
    query: readable(queries[at.t]), key: readable(keys[at.s]), share: percent(rowOf(picture().values, at.t)[at.s]),
  }) : "";
});
$(".map").addEventListener("click", (event) => cellAt(event) && choose(cellAt(event).t));
$(".numbers").addEventListener("toggle", () => shown && $(".numbers").open && drawTable());
$(".tree").addEventListener("toggle", () => shown && drawTree());
$(".tree-text").addEventListener("toggle", () => shown && $(".tree-text").open && drawBranches());
const redraw = () => {
  mapRoom = 0;
  if (shown && !covered()) drawMap();
};
window.addEventListener("resize", redraw);
new MutationObserver(redraw).observe(document.body, { attributeFilter: ["class"] });

// The beginning

if (!lab.offline) {
  const fields = sentenceBar($("form"), () => {
    [earlier, link] = [[], null];
    translate(fields.text, fields.pair);
  });
  $(".go").textContent = texts("go");
  $(".examples").replaceChildren(...props.examples.map(([pair, text], index) => {
    const made = make("button", { type: "button", className: "example", lang: pair.split("-")[0], dataset: { index } }, text);
    made.append(make("small", { textContent: ` → ${languageName(pair.split("-")[1])}` }));
    return made;
  }));
  window.addEventListener("lab:shared", ({ detail }) => {
    const any = (names) => !sharing && names.some((name) => name in detail);
    if (any(["text", "pair"])) {
      news = true;
      lab.remember({ s: lab.shared.text ?? "", p: lab.shared.pair ?? "", f: "", m: "", c: "", t: "" });
    }
    if (any(["kind", "layer", "head", "query"]) && lab.shared.text === shown?.asked.text) {
      follow(detail);
      remember();
    }
  });
  window.addEventListener("lab:draw", () => { // by lot, from chances.js
    earlier = [];
    translate(shown.asked.text, shown.asked.pair, "sample");
  });
  whenSeen(() => {
    const { text, pair } = { ...(lab.question ?? shown?.asked), ...lab.shared };
    const last = lab.question ?? shown?.asked;
    if (news && (text !== last?.text || pair !== last?.pair)) translate(text, pair);
    else redraw();
  });
}
answered(show, true);
if (!lab.offline) {
  link = wanted(location.search);
  if (link) openLink();
}
