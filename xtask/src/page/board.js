// What all canvases share: the time axis, bands, words that do not lie upon each other, and what can be pointed at.

const LEFT = 104, RIGHT = 8;
const LINES_AT_MOST = 3000, MARKS_AT_MOST = 6000, BINS = 240;
let ink = {}, hits = [], drawn = { lines: 0, marks: 0 };

function canvas(id, height) {
  const it = $(id), ratio = window.devicePixelRatio || 1, width = it.clientWidth || 900;
  it.width = width * ratio; it.height = height * ratio; it.style.height = height + "px";
  const pen = it.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle"; pen.lineWidth = 1;
  const x = (at) => LEFT + (at - view.from) / (view.to - view.from) * (width - LEFT - RIGHT);
  return { it, pen, width, height, x, taken: [] };
}

// What can be pointed at. A mark that is `first` wins over whatever lies near it; a click on one of a document chooses it.
function hit(on, left, top, right, bottom, text, at, more) { hits.push({ on, left, top, right, bottom, text, at, ...more }); }

// The same area from here on is drawn in; outside are names.
function clipped(board, draw) {
  board.pen.save(); board.pen.beginPath(); board.pen.rect(LEFT, 0, board.width - LEFT - RIGHT + 1, board.height); board.pen.clip();
  draw();
  board.pen.restore();
}

// A band between two instants; its words if they fit. Returns whether it is in view.
function band(board, from, to, top, height, fill, words, edge, told, more) {
  const end = to === null ? data.end : to;
  if (end < view.from || from > view.to) return false;
  const left = Math.max(board.x(from), LEFT), right = Math.max(Math.min(board.x(end), board.width - RIGHT), left + 1.5);
  board.pen.fillStyle = fill; board.pen.fillRect(left, top, right - left, height);
  if (edge) { board.pen.fillStyle = edge; board.pen.fillRect(left, top, 1.5, height); }
  if (words && right - left > 14) {
    board.pen.save(); board.pen.beginPath(); board.pen.rect(left, top, right - left - 2, height); board.pen.clip();
    board.pen.fillStyle = ink.ink; board.pen.fillText(words, left + 4, top + height / 2); board.pen.restore();
  }
  hit(board.it, left - 2, top, right + 2, top + height, told || words, from, more);
  return true;
}

// Loss windows look the same wherever they are drawn: one colour, hatched where the scenario allows them.
function lossBand(board, window, top, height, alpha) {
  const told = window.text + "\nopens " + seconds(window.from) + ", closes " + (window.to === null ? "never" : seconds(window.to) + ", after " + length(window.to - window.from));
  board.pen.globalAlpha = alpha;
  const shown = band(board, window.from, window.to, top, height, window.declared ? hatched(board) : ink.loss, "", ink.loss, told, { window });
  board.pen.globalAlpha = 1;
  return shown;
}

function hatched(board) {
  const tile = document.createElement("canvas"), pen = tile.getContext("2d");
  tile.width = tile.height = 8;
  pen.strokeStyle = ink.loss; pen.lineWidth = 3;
  for (const shift of [-8, 0, 8]) { pen.beginPath(); pen.moveTo(shift, 8); pen.lineTo(shift + 8, 0); pen.stroke(); }
  return board.pen.createPattern(tile, "repeat");
}

// Words beside a point, where nothing else is said; a must stands in any case.
function say(board, text, x, y, colour, must) {
  const pen = board.pen, width = pen.measureText(text).width;
  const places = [[x + 8, y - 9], [x + 8, y + 9], [x - 8 - width, y - 9], [x - 8 - width, y + 9]];
  const box = ([left, middle]) => [left - 2, middle - 6, left + width + 2, middle + 6];
  const inside = ([left, , right]) => left >= LEFT && right <= board.width - RIGHT;
  const free = (one) => board.taken.every((other) => one[2] < other[0] || one[0] > other[2] || one[3] < other[1] || one[1] > other[3]);
  const place = places.find((it) => inside(box(it)) && free(box(it))) || (must && (places.find((it) => inside(box(it))) || places[0]));
  if (!place) return null;
  // Lines pass behind words.
  pen.lineWidth = 3; pen.strokeStyle = ink.paper; pen.lineJoin = "round"; pen.strokeText(text, place[0], place[1]); pen.lineWidth = 1;
  pen.fillStyle = colour; pen.fillText(text, place[0], place[1]);
  board.taken.push(box(place));
  return box(place);
}

function cross(pen, x, y) {
  pen.lineWidth = 2; pen.beginPath();
  pen.moveTo(x - 4, y - 4); pen.lineTo(x + 4, y + 4); pen.moveTo(x + 4, y - 4); pen.lineTo(x - 4, y + 4);
  pen.stroke(); pen.lineWidth = 1;
}

function axis(board, top, bottom) {
  const span = view.to - view.from, wanted = span / Math.max(3, (board.width - LEFT) / 120);
  const power = Math.pow(10, Math.floor(Math.log10(wanted)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted);
  board.pen.textAlign = "center";
  for (let at = Math.ceil(Math.max(0, view.from) / step) * step; at <= view.to; at += step) {
    const x = board.x(at);
    if (x < LEFT) continue;
    board.pen.fillStyle = ink.line; board.pen.fillRect(x, top, 1, bottom - top);
    board.pen.fillStyle = ink.faint;
    const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(step / 1e6))));
    if (x > LEFT + 28 && x < board.width - 28) board.pen.fillText((at / 1e6).toFixed(digits) + " s", x, top - 8);
  }
  board.pen.textAlign = "left";
}

function name(board, text, y, colour) {
  board.pen.fillStyle = colour || ink.faint;
  board.pen.textAlign = "right"; board.pen.fillText(text, LEFT - 8, y); board.pen.textAlign = "left";
}

const ofShard = (shard) => view.shard === null || shard < 0 || shard === view.shard;

// Rows for bands that overlap: each goes to the first row that is free again.
function stacked(bands, limit) {
  const free = [];
  return bands.map((it) => {
    let row = free.findIndex((until) => until <= it.from);
    if (row < 0) row = free.length < limit ? free.length : limit - 1;
    free[row] = it.to === null ? Infinity : it.to;
    return row;
  });
}

// When any fault is at work, however many are.
const troubled = [];
for (const [, , from, to] of [...data.faults].sort((a, b) => a[2] - b[2])) {
  const end = to === null ? data.end : to, last = troubled[troubled.length - 1];
  if (last && from <= last[1]) last[1] = Math.max(last[1], end); else troubled.push([from, end]);
}
function shade(board, top, height) {
  for (const [from, to] of troubled) band(board, from, to, top, height, ink.fault, "", null, "a fault is at work");
}
