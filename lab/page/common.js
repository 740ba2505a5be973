// What every drawing of the page shares; it stands before each drawing's own script.
// Gradio gives: element, props (props.value is the server's last answer), watch, trigger.
// The <head> gives: lab.words and lab.language (see words/head.js).

const $ = (selector) => element.querySelector(selector);
const $$ = (selector) => [...element.querySelectorAll(selector)];
const START = "<s>";
const END = "</s>";
const still = window.matchMedia("(prefers-reduced-motion: reduce)");

// Words

const plural = new Intl.PluralRules(lab.language);

// A text by its name, or a server's message {word, values}, in the visitor's language.
function say(word, values = {}) {
  if (typeof word === "object") return say(word.word, word.values);
  let text = lab.words[lab.language][word] ?? lab.words.en[word] ?? word;
  if (typeof text === "object") text = text[plural.select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name] ?? whole;
    if (typeof value === "number") return decimal(value);
    return typeof value === "object" ? say(value) : value;
  });
}

const minus = (number) => String(number).replace("-", "−");
const decimal = (number, options) => minus(number.toLocaleString(lab.language, options));

// Fills a template: data-word is an element's text, data-label its aria-label.
function spell(root = element) {
  for (const each of root.querySelectorAll("[data-word]")) each.textContent = say(each.dataset.word);
  for (const each of root.querySelectorAll("[data-label]")) each.ariaLabel = say(each.dataset.label);
}

const percent = (share) => `${Math.round(100 * share)} %`;
const languageName = (code) => say(`language.${code}`);
const pairName = (pair) => pair.split("-").map(languageName).join(" → ");

// Tokens

const readable = (piece) => piece.trim() || "␣";
const joins = (piece, i, language) => // this piece continues the word before it
  i > 0 && !piece.startsWith(" ") && piece !== END && !language.startsWith("zh");

// Elements: make("td", {className: "number", textContent: "0.5"}, child, …)

function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...others } = properties;
  const made = Object.assign(document.createElement(tag), others);
  Object.assign(made.dataset, dataset);
  made.append(...children);
  return made;
}

const button = (className, textContent = "") => make("button", { type: "button", className, textContent });

function fill(select, options, chosen) { // options: [value, text]
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

// Colours: cividis, nine of its colours: even for colour-blind eyes (Nuñez, Anderton and Renslow 2018)

const COLOURS = [
  [0, 32, 77], [0, 51, 111], [57, 72, 107], [87, 92, 109], [112, 113, 115],
  [138, 134, 120], [167, 157, 117], [200, 182, 106], [255, 234, 70],
];
// For numbers with a sign: blue, white, orange; light is near zero.
const SIGNED = [[0, 68, 136], [102, 153, 204], [247, 247, 247], [238, 153, 102], [153, 68, 0]];

function mixed(colours, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const low = Math.min(Math.floor(place), colours.length - 2);
  const mix = colours[low].map((c, i) => Math.round(c + (colours[low + 1][i] - c) * (place - low)));
  return `rgb(${mix.join(",")})`;
}

const colour = (share) => mixed(COLOURS, share);
const signed = (value, most) => mixed(SIGNED, 0.5 + (most ? value / most / 2 : 0));

// Numbers packed by lab.page.view: base64 of little-endian uint16, 65535 = 1

function unpack({ data }) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true) / 65535);
}

// Files

function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function csv(lines) { // the mark makes Excel read UTF-8
  const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const text = lines.map((line) => line.map(quoted).join(",")).join("\r\n");
  return new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" });
}

// What the tabs share: lab.shared = {pair, text, ids, kind, layer, head, query, key}; all may be missing.

lab.shared ??= {};
// `ids` are those of the translation on show, as long as it is of this sentence.
const share = (changes) => {
  const other = ["text", "pair"].some((name) => name in changes && changes[name] !== lab.shared[name]);
  Object.assign(lab.shared, other && { ids: undefined }, changes);
  window.dispatchEvent(new CustomEvent("lab:shared", { detail: changes }));
};

// Calls back whenever the drawing comes into view: a tab that is opened asks for what it shows then.
function whenSeen(callback) {
  new IntersectionObserver(([entry]) => entry.isIntersecting && callback()).observe(element);
}

// Questions to the server. The answer is the next value; a template has .message and .result for it.

function ask(question) {
  element.dataset.state = "asking";
  element.ariaBusy = true;
  trigger("ask", { language: lab.language, ...question });
}

// Draws every answer. A message ({message: {word, values}}) stands in place of the picture, or
// above the last one, where `keeps` says so.
function answered(draw, keeps = false) {
  let drawn = false;
  const show = () => {
    const value = props.value ?? {};
    const told = value.message;
    $(".message").hidden = !told;
    $(".message").textContent = told ? say(told) : "";
    const result = $(".result");
    const empty = Object.keys(value).length === 0 || Boolean(told);
    if (result) result.hidden = empty && !(keeps && told && drawn);
    element.ariaBusy = false;
    element.dataset.state = told ? "message" : empty ? "empty" : "done";
    element.dataset.answers = Number(element.dataset.answers ?? 0) + 1; // tests wait for it
    if (empty) return;
    drawn = true;
    draw(value);
  };
  watch("value", show);
  show();
}

// A field for the sentence, the languages, and a button: in every tab that asks about a sentence.
// `props.pairs` are the page's models, first the one that is shown without a choice.
function sentenceBar(form, send) {
  const text = make("input", { className: "text", value: lab.shared.text ?? props.example ?? "" });
  const pair = make("select", { className: "pair" });
  fill(pair, props.pairs.map((name) => [name, pairName(name)]), lab.shared.pair ?? props.pairs[0]);
  const labelled = (word, field) => make("label", { textContent: say(word) }, field);
  const go = make("button", { type: "submit", className: "go", textContent: say("sentence.go") });
  form.replaceChildren(labelled("sentence.text", text), labelled("sentence.pair", pair), go);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    share({ text: text.value, pair: pair.value });
    send();
  });
  window.addEventListener("lab:shared", ({ detail }) => {
    if ("text" in detail) text.value = detail.text;
    if ("pair" in detail) pair.value = detail.pair;
  });
  return { get text() { return text.value; }, get pair() { return pair.value; } };
}

spell();
