// A reference, place by place: what the model says of it when it is guided, and when it is alone;
// and what label smoothing makes of that as the loss.
// props.value = {message} or {pair, text, reference, language, places: [{piece, guided, favourite,
//   surprise, of_all, own, alone}]}; own and alone are null after the model's own end.

let shown = null;
let typed = ""; // the sentence that the reference in the field belongs to

const bar = sentenceBar($("form"), () => send());
const field = $(".reference-text");
const subject = () => JSON.stringify([bar.pair, bar.text]);
const reference = () => (typed === subject() ? field.value : props.references[bar.pair]?.[bar.text] ?? "");
const send = askOnce(() => ({ pair: bar.pair, text: bar.text, reference: reference() }));

const mean = (numbers) => numbers.reduce((sum, each) => sum + each, 0) / numbers.length;
const nats = (value) => decimal(value, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

// What the page shows

function show(value) {
  shown = value;
  field.value = value.reference;
  field.lang = value.language;
  typed = JSON.stringify([value.pair, value.text]);
  const { places } = value;
  const together = places.filter((each) => each.alone !== null);
  const slip = places.findIndex((each) => each.own !== each.piece);
  const surprise = (chance) => -Math.log(Math.max(chance, 1e-45));
  const losses = { guided: nats(mean(places.map((each) => each.surprise))), alone: nats(mean(together.map((each) => surprise(each.alone)))) };
  $(".verdict").textContent = slip < 0 ? say("training.teacher.same", losses) : sentences([
    say("training.teacher.slip", { at: slip + 1, own: quotedOr(places[slip].own), piece: quotedOr(places[slip].piece) }),
    say("training.teacher.losses", losses)]);
  draw();
}

const quotedOr = (piece) => (piece === null ? "–" : quoted(piece));
const smoothing = () => Number($(".smoothing").value);
const lossOf = ({ surprise, of_all }) => (1 - smoothing()) * surprise + smoothing() * of_all;

function draw() {
  const { places, language, pair } = shown;
  const word = (text) => make("td", { className: "word", lang: language, textContent: text });
  const share = (chance) => {
    const made = make("td", { className: "share", textContent: chance === null ? "–" : share01(chance) });
    made.style.setProperty("--share", chance ?? 0);
    return made;
  };
  const columns = ["piece", "guided", "favourite", "loss", "own", "alone"];
  $(".places").replaceChildren(
    make("tr", {}, ...columns.map((name) => make("th", { scope: "col", textContent: say(`training.teacher.column.${name}`) }))),
    ...places.map((each) => make("tr", {},
      make("th", { scope: "row", lang: language, textContent: readable(each.piece) }),
      share(each.guided), word(each.favourite === each.piece ? "" : readable(each.favourite)),
      make("td", { textContent: nats(lossOf(each)) }),
      word(each.own === null ? "–" : readable(each.own)), share(each.alone))));
  drawSmoothing(props.vocabulary[pair]);
}

// The least loss for each chance of the right piece: where all others share the rest alike.
function least(p, vocabulary, smoothing) {
  const right = 1 - smoothing + smoothing / vocabulary;
  const others = 1 - right;
  return -right * Math.log(p) - (others && others * Math.log((1 - p) / (vocabulary - 1)));
}

function drawSmoothing(vocabulary) {
  const e = smoothing();
  const best = 1 - e + e / vocabulary;
  const points = (of) => range(199).map((i) => [(i + 1) / 200, least((i + 1) / 200, vocabulary, of)]);
  const most = Math.ceil(Math.max(4, ...shown.places.map(lossOf)));
  const [blue] = inks();
  curves($("canvas"), {
    x: { from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1], title: say("training.teacher.chance") },
    y: { from: 0, to: most, ticks: [0, most / 2, most], title: say("training.teacher.loss") },
    lines: [{ points: points(0), dash: [6, 4] }, { points: points(e), ink: blue }],
    dots: shown.places.map((each) => [each.guided, lossOf(each)]),
  });
  $("output").textContent = decimal(e, { minimumFractionDigits: 2 });
  $(".sentence").textContent = sentences([
    say("training.teacher.said", { e: nats(e), loss: nats(mean(shown.places.map(lossOf))), best: percent(best) }),
    ...(e === 1 ? [say("training.teacher.all")] : e === 0 ? [say("training.teacher.none")] : []),
  ]);
  $("canvas").ariaLabel = $(".sentence").textContent;
}

// What the visitor does

field.addEventListener("change", () => {
  typed = subject();
  send();
});
field.addEventListener("keydown", (event) => event.key === "Enter" && field.blur());
$(".smoothing").addEventListener("input", () => shown && draw());
redrawn(() => shown && draw());
answered(show, true);
