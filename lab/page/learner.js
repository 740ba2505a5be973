// A small model learns to say digits backwards: its learning rate, its loss, and what goes wrong.
// props: widths, warm_ups, smoothings (the choices), steps; props.value = {message} or {width,
//   warmup, smoothing (places in these lists), shifted, losses, floor, guided, alone, source, said}

const CHOICES = { warmup: props.warm_ups, smoothing: props.smoothings, width: props.widths };
const PAPER = { width: 512, warmup: 4000 };
let shown = null;
let before = null; // the losses of the run before this

const at = (name) => Number($(`.${name}`).value);
const question = () => ({ warmup: at("warmup"), smoothing: at("smoothing"), width: at("width"), shifted: !$(".unshifted").checked });
const send = askOnce(question);
const rate = (step, width, warmup) => width ** -0.5 * Math.min(step ** -0.5, step * warmup ** -1.5); // §5.3
const nats = (value) => decimal(value, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const digits = (list) => list.join(" ");

// What the page shows

function drawRates() {
  const [width, warmup] = [props.widths[at("width")], props.warm_ups[at("warmup")]];
  for (const name of Object.keys(CHOICES)) {
    const value = CHOICES[name][at(name)];
    $(`.${name}`).ariaValueText = $(`.${name} + output`).textContent = decimal(value);
  }
  const points = range(props.steps).map((i) => [i + 1, rate(i + 1, width, warmup)]);
  const most = Math.max(...points.map(([, each]) => each));
  const peak = rate(warmup, width, warmup);
  curves($(".rates"), {
    x: { from: 0, to: props.steps, ticks: [0, props.steps / 2, props.steps], title: say("training.learner.step") },
    y: { from: 0, to: most, ticks: [0, most / 2, most], title: say("training.learner.rate") },
    lines: [{ points, ink: inks()[0] }],
  });
  const how = warmup === 1 ? "training.learner.at_once" : warmup > props.steps ? "training.learner.never" : "training.learner.peak";
  $(".rate").textContent = say(how, {
    peak: figures(peak), warmup: decimal(warmup), first: figures(rate(1, width, warmup)),
    paper: figures(rate(PAPER.warmup, PAPER.width, PAPER.warmup)),
  });
  $(".rates").ariaLabel = $(".rate").textContent;
}

function drawLosses() {
  if (!shown) return;
  const most = Math.ceil(Math.max(...shown.losses, ...(before ?? [])));
  const line = (losses) => losses.map((loss, i) => [i + 1, loss]);
  curves($(".losses"), {
    x: { from: 0, to: props.steps, ticks: [0, props.steps / 2, props.steps], title: say("training.learner.step") },
    y: { from: 0, to: most, ticks: [0, most / 2, most], title: say("training.teacher.loss") },
    lines: [
      { points: [[0, shown.floor], [props.steps, shown.floor]], dash: [2, 4] },
      ...(before ? [{ points: line(before), ink: inks()[1], dash: [6, 4] }] : []),
      { points: line(shown.losses), ink: inks()[0] },
    ],
  });
}

function show(value) {
  const another = shown && shown.losses.join() !== value.losses.join();
  if (another) before = shown.losses;
  shown = value;
  drawLosses();
  const last = value.losses.at(-1);
  $(".sentence").textContent = say("training.learner.said", {
    steps: props.steps, loss: nats(last), floor: nats(value.floor), guided: percent(value.guided), alone: percent(value.alone),
  });
  $(".losses").ariaLabel = $(".sentence").textContent;
  $(".example").textContent = say("training.learner.example", { source: digits(value.source), said: digits(value.said) || "–", right: digits([...value.source].reverse()) });
  const wrong = [ // the first that holds
    [!value.shifted, "unshifted"], [props.smoothings[value.smoothing] === 1, "smooth"],
    [value.guided < 0.5, "steps"],
  ].find(([holds]) => holds);
  $(".warning").hidden = !wrong;
  if (wrong) $(".warning").textContent = say(`training.learner.wrong.${wrong[1]}`);
}

// What the visitor does

for (const [name, choices] of Object.entries(CHOICES)) {
  $(`.${name}`).max = choices.length - 1;
  $(`.${name}`).addEventListener("input", drawRates);
  $(`.${name}`).addEventListener("change", send);
}
$(".unshifted").addEventListener("change", send);
redrawn(() => { drawRates(); drawLosses(); });
drawRates();
answered(show, true);
