// Curves over numbers, for the Training tab. `lines`: {points: [[x, y]], ink, dash}; dash tells two
// lines apart without colour. `dots`: [[x, y]]. `x` and `y`: {from, to, ticks, title}.

const inks = () => (document.body.classList.contains("dark") ? ["#6bb1ff", "#ee9966"] : ["#004488", "#994400"]);
const figures = (value) => decimal(value, { maximumSignificantDigits: 3 });

function curves(canvas, { x, y, lines, dots = [] }) {
  const style = getComputedStyle(canvas);
  const [left, top, height, full] = [52, 28, 190, clamp(canvas.parentElement.clientWidth, 280, 640)];
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [full * ratio, (top + height + 46) * ratio];
  [canvas.style.width, canvas.style.height] = [`${full}px`, `${top + height + 46}px`];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const across = (value) => left + (value - x.from) / (x.to - x.from) * (full - left - 14);
  const up = (value) => top + (1 - (value - y.from) / (y.to - y.from)) * height;
  context.font = `13px ${style.fontFamily}`;
  context.fillStyle = style.color;
  context.textBaseline = "middle";
  context.fillText(y.title, 0, 9);
  context.textAlign = "right";
  context.fillText(`${x.title} →`, full - 14, top + height + 36);
  for (const tick of y.ticks) {
    context.fillText(figures(tick), left - 8, up(tick));
    context.globalAlpha = 0.3;
    context.fillRect(left, up(tick), full - left - 14, 1);
    context.globalAlpha = 1;
  }
  context.textAlign = "center";
  for (const tick of x.ticks) context.fillText(figures(tick), across(tick), top + height + 14);
  for (const { points, ink = style.color, dash = [] } of lines) {
    [context.strokeStyle, context.lineWidth] = [ink, 2];
    context.setLineDash(dash);
    context.beginPath();
    for (const [at, value] of points) if (value <= y.to) context.lineTo(across(at), up(value));
    context.stroke();
  }
  context.setLineDash([]);
  for (const [at, value] of dots) {
    context.beginPath();
    context.arc(across(at), up(value), 4, 0, 2 * Math.PI);
    [context.fillStyle, context.strokeStyle, context.lineWidth] = [inks()[1], "#fff", 1];
    context.fill();
    context.stroke();
  }
}
