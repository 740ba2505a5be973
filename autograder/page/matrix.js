// A matrix as a picture: its rows' and columns' names where there is room for them.

const LETTERS = 12; // pixels that a name takes

// `paint(row, column)` is a colour; `mark` is a cell that is outlined.
function drawMatrix(canvas, rows, columns, paint, { mark = null, room = 600, largest = 34 } = {}) {
  const style = getComputedStyle(element.querySelector(".lab"));
  const context = canvas.getContext("2d");
  const font = `13px ${style.fontFamily}`;
  context.font = font;
  const widest = (names) => Math.min(110, Math.max(0, ...names.map((name) => context.measureText(readable(name)).width)));
  const left = Math.ceil(widest(rows)) + 10;
  const size = Math.max(4, Math.min(largest, Math.floor((room - left - 40) / columns.length)));
  const height = Math.max(size, 8);
  const named = size >= LETTERS;
  const top = named ? Math.ceil(widest(columns) * 0.75) + 16 : 8;
  const ratio = window.devicePixelRatio || 1;
  const [across, down] = [left + size * columns.length + (named ? 50 : 8), top + height * rows.length + 8];
  [canvas.width, canvas.height] = [across * ratio, down * ratio];
  [canvas.style.width, canvas.style.height] = [`${across}px`, `${down}px`];
  context.scale(ratio, ratio);
  rows.forEach((_, row) => columns.forEach((_, column) => {
    context.fillStyle = paint(row, column);
    context.fillRect(left + column * size, top + row * height, size, height);
  }));
  context.fillStyle = style.color;
  context.font = font;
  context.textBaseline = "middle";
  context.textAlign = "right";
  const every = Math.ceil(LETTERS / height); // not each row where they are thin
  rows.forEach((name, row) => row % every || context.fillText(readable(name), left - 6, top + (row + 0.5) * height, 110));
  context.textAlign = "left";
  if (named) columns.forEach((name, column) => {
    context.save();
    context.translate(left + (column + 0.5) * size, top - 6);
    context.rotate(-Math.PI / 4);
    context.fillText(readable(name), 0, 0, 110);
    context.restore();
  });
  if (mark) {
    context.strokeStyle = style.getPropertyValue("--button-primary-background-fill");
    context.lineWidth = 3;
    context.strokeRect(left + mark[1] * size - 1, top + mark[0] * height - 1, size + 2, height + 2);
  }
  return (event) => { // the cell below the pointer
    const [column, row] = [Math.floor((event.offsetX - left) / size), Math.floor((event.offsetY - top) / height)];
    return row >= 0 && column >= 0 && row < rows.length && column < columns.length ? [row, column] : null;
  };
}

// The same numbers to be read: a caption, and a cell for each.
function fillTable(table, caption, rows, columns, text) {
  const line = (cells) => make("tr", {}, ...cells);
  table.replaceChildren(
    make("caption", { textContent: caption }),
    line([make("td"), ...columns.map((name) => make("th", { scope: "col", textContent: readable(name) }))]),
    ...rows.map((name, row) => line([
      make("th", { scope: "row", textContent: readable(name) }),
      ...columns.map((_, column) => make("td", { textContent: text(row, column) })),
    ])),
  );
}

// Numbers as they are said: four digits, and words where there is no number.
function digits(value) {
  if (value === null || value === undefined) return say("your_code.far");
  if (value === 0) return "0";
  const small = Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5;
  return small ? value.toExponential(1).replace("-", "−") : Number(value.toPrecision(3)).toLocaleString(lab.language, { maximumFractionDigits: 6 });
}
