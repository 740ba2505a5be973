// A step in one sentence, with its numbers; inside.js has the journey: shown, steps, beside.

const bracketed = (n) => (n < 0 ? `(${digits(n)})` : digits(n));
const indexOfMost = (values) => values.reduce((best, n, i) => (n > values[best] ? i : best), 0);

function sentence(now) {
  const { value, key } = now;
  if (!now.agrees) return say("inside.said.differs", { difference: digits(Number(now.difference)) });
  const finite = [value].flat(2).filter(Number.isFinite);
  const common = {
    ...Object.fromEntries(Object.entries(shown.sizes).map(([name, size]) => [name, `${size}`])),
    token: queryToken(), key: keyToken(), n: Array.isArray(value) ? value.length : 1,
    t: shown.query + 1, layer: shown.layer + 1, below: shown.layer, head: shown.head + 1,
    low: digits(Math.min(...finite)), high: digits(Math.max(...finite)),
  };
  const { variant = "", ...values } = WITH[key]?.(now) ?? {};
  return say(`inside.said.${key}${variant}`, { ...common, ...values });
}

// What a sentence needs beside the sizes: by key of the step.
const WITH = {
  x: ({ id }) => ({ variant: id !== shown.steps[0].id ? "_inner" : shown.layer ? "_later" : "_first" }),
  products: ({ value }) => {
    const i = value.reduce((best, n, j) => (Math.abs(n) > Math.abs(value[best]) ? j : best), 0);
    return { i: i + 1, q: digits(beside("query")[i]), k: bracketed(beside("keys")[shown.key][i]), product: digits(value[i]) };
  },
  score: ({ value }) => ({ score: digits(value) }),
  scores: ({ value }) => {
    const best = indexOfMost(value);
    return { score: digits(value[shown.key]), best: keyToken(best), variant: best === shown.key ? "_best" : "" };
  },
  scaled: ({ value }) => ({
    score: digits(beside("score")), root: digits(Math.sqrt(shown.sizes.d_k)), scaled: digits(value[shown.key]),
  }),
  padding_mask: ({ value }) => seen(value),
  decoder_mask: ({ value }) => ({ ...seen(value), variant: value.every(Boolean) ? "_all" : "" }),
  masked: ({ value }) => {
    const hidden = value.filter((n) => n === -Infinity).length;
    return { hidden, seen: value.length - hidden, z: digits(value[shown.key]), variant: hidden === 0 ? "_none" : value[shown.key] === -Infinity ? "_key" : "" };
  },
  weights: ({ value }) => ({ z: digits(beside("masked")[shown.key]), share: percent(value[shown.key]) }),
  weighted: () => ({ weight: digits(beside("weights")[shown.key]) }),
  head: () => {
    const best = indexOfMost(beside("weights"));
    return { best: keyToken(best), share: percent(beside("weights")[best]) };
  },
  attended: ({ block }) => ({ variant: `_${block}` }),
  residual: ({ value, made_from: [arrived, made] }) => ({
    a: digits(steps[arrived].value[0]), b: bracketed(steps[made].value[0]), sum: digits(value[0]),
    block: blockName(steps[made].block, shown.kind),
  }),
  mean: ({ value }) => ({ mean: digits(value) }),
  variance: ({ value }) => ({ mean: digits(beside("mean")), variance: digits(value), deviation: digits(Math.sqrt(value)) }),
  normalised: ({ value, parameters }) => ({
    r: digits(beside("residual")[0]), mean: bracketed(beside("mean")), result: digits(value[0]),
    deviation: digits(Math.sqrt(beside("variance") + Number(parameters.epsilon))),
  }),
  norm: ({ value, id, parameters: { gamma, beta } }) => ({
    gamma: digits(gamma[0]), r: bracketed(beside("normalised")[0]), beta: bracketed(beta[0]), result: digits(value[0]),
    ...(id === shown.steps.at(-1).id && { variant: "_last", onward: onwards() }),
  }),
  relu: ({ value }) => {
    const zero = value.filter((n) => n === 0).length;
    return { zero, kept: value.length - zero };
  },
};

// Where the layer's output goes.
function onwards() {
  if (shown.layer + 1 < shown.layers) return say("inside.onward.layer", { next: `${shown.layer + 2}` });
  return say(`inside.onward.${sideOf(shown.kind)}`, { D: `${shown.sizes.D}`, written: readable(shown.written[shown.query] ?? "") });
}

function seen(mask) {
  const count = mask.filter(Boolean).length;
  return { seen: count, hidden: mask.length - count };
}
