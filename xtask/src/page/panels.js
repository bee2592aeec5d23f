// Latency and throughput, and what the clients saw of one document.

function plots() {
  const board = canvas("plots", 150), pen = board.pen, latencyTop = 24, latencyBottom = 88, countTop = 102, countBottom = 142;
  axis(board, 18, 144);
  const from = first(data.ops, view.from), to = first(data.ops, view.to);
  const y = (us) => latencyBottom - Math.min(1, Math.max(0, Math.log10(Math.max(us, 10) / 10) / 6)) * (latencyBottom - latencyTop);
  let most = 1;
  clipped(board, () => {
    shade(board, latencyTop - 4, 144 - latencyTop);
    const doc = view.doc ? docOf(view.doc) : null;
    const step = Math.max(1, Math.ceil((to - from) / MARKS_AT_MOST)), bins = new Float64Array(BINS), failed = new Float64Array(BINS);
    for (let n = from; n < to; n++) {
      const [call, ret, on, of, kind, outcome, words] = data.ops[n];
      if (doc !== null && of !== doc) continue;
      const bin = Math.min(BINS - 1, Math.floor((call - view.from) / (view.to - view.from) * BINS));
      if (outcome === "o") bins[bin]++; else failed[bin]++;
      if (n % step || ret === null) continue;
      pen.fillStyle = outcome !== "o" ? ink.red : kind === "r" ? ink.green : ink.blue;
      pen.fillRect(board.x(call) - 1, y(ret - call) - 1, 2.5, 2.5);
      drawn.marks++;
      if (to - from < 3000) hit(board.it, board.x(call) - 3, y(ret - call) - 3, board.x(call) + 4, y(ret - call) + 4, data.lanes[on] + ": " + words + "\n" + seconds(call) + ", took " + length(ret - call), call);
    }
    most = Math.max(1, ...bins);
    const wide = (board.width - LEFT - RIGHT) / BINS;
    for (let n = 0; n < BINS; n++) {
      const height = bins[n] / most * (countBottom - countTop);
      pen.fillStyle = ink.blue; pen.globalAlpha = 0.6; pen.fillRect(LEFT + n * wide, countBottom - height, Math.max(1, wide - 0.5), height); pen.globalAlpha = 1;
      if (failed[n]) { pen.fillStyle = ink.red; pen.fillRect(LEFT + n * wide, countTop, Math.max(1, wide - 0.5), 4); }
    }
  });
  for (const [us, text] of [[100, "0.1 ms"], [1e4, "10 ms"], [1e6, "1 s"]]) name(board, text, y(us));
  name(board, "latency", latencyTop - 14, ink.ink);
  name(board, "operations", countTop + 8, ink.ink);
  name(board, Math.round(most / ((view.to - view.from) / BINS / 1e6)) + " /s", countTop + 24);
}

// One row per client.
function seen() {
  const of = view.doc || (data.stuck && data.stuck.doc) || (data.stories[0] && data.stories[0].doc);
  const doc = of ? docOf(of) : -1;
  if (doc < 0) { const board = canvas("history", 24); board.pen.fillStyle = ink.faint; board.pen.fillText("Choose a document to see what its clients saw.", LEFT, 12); return; }
  const ops = data.ops.filter((o) => o[3] === doc), who = [...new Set(ops.map((o) => o[2]))].sort((a, b) => a - b);
  const board = canvas("history", 34 + who.length * 22), pen = board.pen;
  axis(board, 28, board.height);
  pen.fillStyle = ink.ink; pen.fillText("what the clients saw of " + of + (data.stuck && data.stuck.doc === of ? ": no instant fits the read in red" : ""), 4, 8);
  const next = new Map();
  for (let n = ops.length - 1, after = {}; n >= 0; n--) { next.set(ops[n], after[ops[n][2]]); after[ops[n][2]] = ops[n][0]; }
  clipped(board, () => {
    for (const window of data.windows) if (window.doc === of) lossBand(board, window, 28, board.height - 28, 0.3);
    for (const op of ops) {
      const [call, ret, on, , kind, outcome, words] = op;
      const end = ret === null ? data.end : ret;
      if (end < view.from || call > view.to) continue;
      const stuck = data.stuck && data.stuck.call === call && data.stuck.doc === of, top = 32 + who.indexOf(on) * 22;
      const x = board.x(call), width = Math.max(3, board.x(end) - x), colour = stuck || outcome !== "o" ? ink.red : kind === "r" ? ink.green : ink.blue;
      pen.globalAlpha = stuck ? 0.9 : 0.35; pen.fillStyle = colour; pen.fillRect(x, top, width, 16); pen.globalAlpha = 1;
      pen.strokeStyle = colour; pen.strokeRect(x + 0.5, top + 0.5, width, 16);
      const short = words.replace(/^client \d+ /, "").replace(of, "").replace(/\s+(?=[\s,])/g, "");
      // Words only where they do not run into the next operation, and from where the operation is in view.
      const left = Math.max(x, LEFT), told = (stuck ? "IMPOSSIBLE: " : "") + short;
      const room = (next.get(op) === undefined ? board.width - RIGHT : board.x(next.get(op))) - left - 6;
      if (stuck || pen.measureText(told).width < room) { pen.fillStyle = ink.ink; pen.fillText(told, left + 4, top + 8); }
      hit(board.it, x - 2, top, x + width + 2, top + 16, words + "\ncalled " + seconds(call) + (ret === null ? ", never returned" : ", returned " + seconds(ret)) + (stuck ? "\n" + data.stuck.why : ""), call);
    }
  });
  who.forEach((on, row) => name(board, data.lanes[on], 32 + row * 22 + 8, ink.ink));
}
