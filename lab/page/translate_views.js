// Attention seen in other ways: what lab/views.py computes, here in the browser.
// A matrix is {rows, columns, data}, row after row; `layers` are matrices by layer and head.

const matrix = (rows, columns, data = new Float32Array(rows * columns)) => ({ rows, columns, data });
const rowOf = ({ columns, data }, t) => data.subarray(t * columns, (t + 1) * columns);

// Each head of unpacked numbers [layer][head][row][column]; nothing is copied.
function unstacked(numbers, { rows, columns }, n_layers, n_heads) {
  const size = rows * columns;
  const head = (i) => matrix(rows, columns, numbers.subarray(i * size, (i + 1) * size));
  return Array.from({ length: n_layers }, (_, layer) =>
    Array.from({ length: n_heads }, (_, i) => head(layer * n_heads + i)));
}

function mean(matrices) {
  const found = matrix(matrices[0].rows, matrices[0].columns);
  for (const { data } of matrices) data.forEach((weight, i) => { found.data[i] += weight / matrices.length; });
  return found;
}

function maximum(matrices) { // its rows may sum to more than 1
  const found = matrix(matrices[0].rows, matrices[0].columns);
  for (const { data } of matrices) data.forEach((weight, i) => { found.data[i] = Math.max(found.data[i], weight); });
  return found;
}

// Rollout: half of a token passes a sub-layer by, half is what its heads read (Abnar & Zuidema 2020)

const RESIDUAL = 0.5;

function identity(size) {
  const found = matrix(size, size);
  for (let i = 0; i < size; i++) found.data[i * size + i] = 1;
  return found;
}

function product(a, b) {
  const found = matrix(a.rows, b.columns);
  for (let t = 0; t < a.rows; t++) {
    const into = rowOf(found, t);
    rowOf(a, t).forEach((share, i) => {
      if (share) rowOf(b, i).forEach((weight, s) => { into[s] += share * weight; });
    });
  }
  return found;
}

const halves = (passing, read) =>
  matrix(read.rows, read.columns, read.data.map((weight, i) => RESIDUAL * passing.data[i] + (1 - RESIDUAL) * weight));
const mixed_heads = (heads) => halves(identity(heads[0].rows), mean(heads));

const rollout = (layers) =>
  layers.reduce((found, heads) => product(mixed_heads(heads), found), identity(layers[0][0].rows));

// Through the whole model: shares of the source and of the target so far, together 1 in each row.
function rolloutToSource({ encoder, decoder, cross }) {
  const memory = rollout(encoder);
  let target = identity(decoder[0][0].rows);
  let source = matrix(target.rows, memory.columns);
  decoder.forEach((heads, layer) => {
    const own = mixed_heads(heads);
    source = halves(product(own, source), product(mean(cross[layer]), memory));
    target = halves(product(own, target), matrix(target.rows, target.columns));
  });
  return { source, target };
}

// Numbers about rows

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const highest = (numbers) => numbers.reduce((most, number) => Math.max(most, number), 0);

// In bits: 0 for all on one key, log2(keys) for all alike.
const entropy = (row) => -row.reduce((total, p) => total + (p > 0 ? p * Math.log2(p) : 0), 0);
const meanEntropy = (head) =>
  sum(Array.from({ length: head.rows }, (_, t) => entropy(rowOf(head, t)))) / head.rows;

// Without one key: the others divided by their sum; and the share of each row that is hidden.
function hide({ rows, columns, data }, key) {
  const left = matrix(rows, columns, data.slice());
  const share = new Float32Array(rows);
  for (let t = 0; t < rows; t++) {
    const row = rowOf(left, t);
    share[t] = row[key];
    row[key] = 0;
    const total = sum(row);
    if (total > 0) row.forEach((weight, s) => { row[s] = weight / total; });
  }
  return { left, share };
}

// What full colour stands for.
const SCALES = {
  full: (row) => row,
  row: (row) => {
    const most = highest(row) || 1;
    return row.map((weight) => weight / most);
  },
};
