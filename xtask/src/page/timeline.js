// The space-time diagram: faults, stages, loss windows, then a lane for each process with its operations, frames and copies.

const STAGE = { Planned: "grey", DualWrite: "blue", Drain: "teal", DeltaPass: "violet", Activate: "green", Cleanup: "green", Done: "grey", Aborted: "red" };
const ROW = 26;

function timeline() {
  const faultRows = stacked(data.faults.map((f) => ({ from: f[2], to: f[3] })), 4);
  const windows = data.windows.filter((window) => ofShard(window.shard) && (!view.doc || window.doc === view.doc));
  const windowRows = stacked(windows, 6);
  const migrations = [...new Set(data.stages.filter((s) => ofShard(s[1])).map((s) => s[0]))];
  const rows = (list) => list.length ? Math.max(...list) + 1 : 0;
  let y = 26;
  const faultsAt = y; y += Math.max(1, rows(faultRows)) * 16 + 6;
  const stagesAt = y; y += Math.max(1, migrations.length) * 20 + 6;
  const windowsAt = y; y += Math.max(1, rows(windowRows)) * 18 + 12;
  const shown = lanesShown();
  const lanesAt = y; y += shown.length * ROW;
  const end = y; y += 16;
  const board = canvas("timeline", y), pen = board.pen;
  // What is not shown is far away.
  const places = new Map(shown.map((n, row) => [n, lanesAt + row * ROW + ROW / 2])), lane = (n) => places.get(n) || -1e4;
  axis(board, 20, end);
  clipped(board, () => {
    phasesOn(board, end);
    data.faults.forEach(([id, text, from, to], n) => band(board, from, to, faultsAt + faultRows[n] * 16, 14, ink.fault, id + ": " + text, ink.amber, "fault " + id + ": " + text + "\n" + seconds(from) + " to " + (to === null ? "the end" : seconds(to))));
    shade(board, lanesAt, end - lanesAt);
    migrations.forEach((migration, row) => stagesOn(board, migration, stagesAt + row * 20));
    windows.forEach((window, n) => {
      const top = windowsAt + windowRows[n] * 18;
      if (!lossBand(board, window, top, 16, 0.6)) return;
      const told = window.doc + " can be missed from " + seconds(window.from) + (window.to === null ? " on, for good" : " to " + seconds(window.to) + " (" + length(window.to - window.from) + ")") + (window.declared ? ", allowed" : "");
      // On the bar if there is room, else beside it, within the picture.
      const left = Math.max(board.x(window.from), LEFT), right = Math.min(window.to === null ? Infinity : board.x(window.to), board.width - RIGHT);
      const wide = pen.measureText(told).width + 8, after = right + wide < board.width - RIGHT ? right + 4 : Math.max(LEFT, left - wide);
      pen.fillStyle = ink.ink; pen.fillText(told, right - left > wide ? left + 4 : after, top + 8);
      if (n < 40) for (const at of [window.from, window.to]) {
        if (at === null || at < view.from || at > view.to) continue;
        pen.strokeStyle = ink.loss; pen.setLineDash([4, 3]); pen.beginPath(); pen.moveTo(board.x(at), top + 16); pen.lineTo(board.x(at), end); pen.stroke(); pen.setLineDash([]);
      }
    });
    for (const n of shown) { pen.fillStyle = ink.line; pen.fillRect(LEFT, lane(n), board.width - LEFT, 1); }
    downOn(board, lane);
    operationsOn(board, lane);
    if (view.frames) messagesOn(board, lane);
    heldOn(board, lane);
    if (view.at !== null && view.at >= view.from && view.at <= view.to) {
      pen.fillStyle = ink.ink; pen.fillRect(board.x(view.at) - 0.5, 14, 1, end - 14);
    }
  });
  name(board, "faults", faultsAt + 7); if (!data.faults.length) pen.fillText("none planned", LEFT + 4, faultsAt + 7);
  migrations.forEach((migration, row) => name(board, "migration " + migration, stagesAt + row * 20 + 9));
  name(board, "loss windows", windowsAt + 8, windows.length ? ink.loss : ink.faint);
  if (!windows.length) { pen.fillStyle = ink.faint; pen.fillText(view.doc && data.windows.length ? "none of " + view.doc : "none", LEFT + 4, windowsAt + 8); }
  data.lanes.forEach((text, n) => name(board, text, lane(n), ink.ink));
  holdersOn(board, lane);
}

// With a document chosen, the clients that have to do with it.
function lanesShown() {
  const all = data.lanes.map((_, n) => n), doc = view.doc ? docOf(view.doc) : -1;
  if (doc < 0) return all;
  const busy = new Set(data.ops.filter((op) => op[3] === doc).map((op) => op[2]));
  return all.filter((n) => busy.has(n) || !data.lanes[n].startsWith("client-"));
}

function phasesOn(board, end) {
  let after = -Infinity;
  for (const [at, phase] of data.phases) {
    if (at < view.from || at > view.to) continue;
    const x = board.x(at), start = Math.max(x + 3, after);
    board.pen.fillStyle = ink.green; board.pen.fillRect(x, 20, 1, end - 6); board.pen.fillText(phase, start, end + 8);
    after = start + board.pen.measureText(phase).width + 6;
  }
}

function stagesOn(board, migration, top) {
  const pen = board.pen, of = data.stages.filter((s) => s[0] === migration);
  // Activate takes no time: it is named with what begins in the same instant.
  let passed = "", isInView = false;
  of.forEach(([, shard, at, stage, reason], n) => {
    const words = passed + stage;
    passed = n + 1 < of.length && of[n + 1][2] === at ? words + ", " : "";
    const next = n + 1 < of.length ? of[n + 1][2] : (stage === "Done" || stage === "Aborted" ? at + (view.to - view.from) * 0.02 : null);
    pen.globalAlpha = 0.35;
    const shown = band(board, at, next, top, 18, ink[STAGE[stage] || "grey"], "", null, migration + " of s" + shard + " enters " + stage + " at " + seconds(at) + (reason ? "\n" + reason : ""));
    pen.globalAlpha = 1;
    isInView ||= shown;
    if (!shown) return;
    const left = Math.max(board.x(at), LEFT), room = board.x(next === null ? data.end : next) - left;
    pen.fillStyle = ink[STAGE[stage] || "grey"]; pen.fillRect(board.x(at), top, 2, 18);
    pen.fillStyle = ink.ink;
    if (pen.measureText(words).width < room - 6) pen.fillText(words, left + 5, top + 9);
  });
  if (isInView) return;
  const [start, stop] = [of[0], of[of.length - 1]];
  pen.fillStyle = ink.faint;
  pen.fillText(start[2] > view.to ? "begins at " + seconds(start[2]) : stop[3] + " since " + seconds(stop[2]), LEFT + 4, top + 9);
}

function downOn(board, lane) {
  for (const [n, from, to, kind, why] of data.down) {
    if (n === null) continue;
    band(board, from, to, lane(n) - 8, 16, ink.down, kind, ink.red, data.lanes[n] + " is " + kind + (why ? " (" + why + ")" : "") + "\n" + seconds(from) + " to " + (to === null ? "the end" : seconds(to)));
    if (kind === "down" && from >= view.from && from <= view.to) { board.pen.strokeStyle = ink.red; cross(board.pen, board.x(from), lane(n)); }
  }
}

function operationsOn(board, lane) {
  const pen = board.pen, doc = view.doc ? docOf(view.doc) : null;
  const from = first(data.ops, view.from - longest), to = first(data.ops, view.to);
  if (to - from > MARKS_AT_MOST) return;
  for (let n = from; n < to; n++) {
    const [call, ret, on, of, kind, outcome, words] = data.ops[n];
    if (doc !== null && of !== doc) continue;
    const end = ret === null ? data.end : ret;
    if (end < view.from) continue;
    const stuck = data.stuck && data.stuck.call === call && data.docs[of] === data.stuck.doc;
    pen.fillStyle = stuck || outcome !== "o" ? ink.red : kind === "r" ? ink.green : ink.blue;
    pen.globalAlpha = stuck ? 1 : 0.55;
    const x = board.x(call), width = Math.max(1.5, board.x(end) - x);
    pen.fillRect(x, lane(on) - 4, width, 8);
    pen.globalAlpha = 1;
    drawn.marks++;
    hit(board.it, x - 2, lane(on) - 6, x + width + 2, lane(on) + 6, data.lanes[on] + ": " + words + (outcome === "u" ? " (unknown)" : outcome === "r" ? " (rejected)" : "") + "\ncalled " + seconds(call) + (ret === null ? "" : ", returned " + seconds(ret) + ", after " + length(ret - call)) + (stuck ? "\nNO INSTANT FITS IT" : ""), call);
  }
}

// When each lane was waiting for a document. Answers do not name it; they are drawn if they came meanwhile.
function waiting(doc) {
  const lanes = new Map();
  for (const op of data.ops) if (op[3] === doc) {
    if (!lanes.has(op[2])) lanes.set(op[2], []);
    lanes.get(op[2]).push([op[0], op[1] === null ? data.end : op[1]]);
  }
  return (lane, at) => (lanes.get(lane) || []).some(([from, to]) => from <= at && at <= to);
}

function messagesOn(board, lane) {
  const pen = board.pen, from = first(data.messages, view.from - slowest), to = first(data.messages, view.to);
  const about = view.doc, waits = about ? waiting(docOf(about)) : null;
  const names = (m) => data.labels[m[5]].includes(about) || (data.labels[m[5]].startsWith("answer ") && m[1] !== null && waits(m[3], m[1]));
  const isThere = (m) => lane(m[2]) > 0 && lane(m[3]) > 0;
  const matches = (m) => isThere(m) && (view.shard === null || m[6] === view.shard) && (!about || names(m));
  const narrow = view.shard !== null || about;
  // With a filter everything is looked at; without one, only if it can be drawn.
  let shown = [];
  if (narrow || to - from <= LINES_AT_MOST) {
    for (let n = from; n < to && shown.length <= LINES_AT_MOST; n++) if (!narrow || matches(data.messages[n])) shown.push(data.messages[n]);
  }
  if ((!narrow && to - from > LINES_AT_MOST) || shown.length > LINES_AT_MOST) {
    density(board, lane, from, to);
    shown = [];
    for (let n = from; n < to && shown.length < LINES_AT_MOST / 3; n++) {
      const m = data.messages[n];
      if (m[4] === 1 && (!narrow || matches(m))) shown.push(m);
    }
  }
  for (const m of shown.filter((m) => m[4] !== 1)) arrowOn(board, lane, m, shown.length);
  // On top, and to be found first: what did not come.
  const gone = shown.filter((m) => m[4] === 1);
  for (const m of gone) lostOn(board, lane, m, gone.length);
}

const journey = (m) => data.lanes[m[2]] + " to " + data.lanes[m[3]] + ": " + data.labels[m[5]] + "\nsent " + seconds(m[0]);

function arrowOn(board, lane, m, count) {
  const pen = board.pen, [sent, arrived, on, to] = m;
  const x1 = board.x(sent), y1 = lane(on), x2 = board.x(arrived === null ? sent + 1e3 : arrived), y2 = lane(to);
  pen.strokeStyle = ink.grey; pen.globalAlpha = count > 600 ? 0.35 : 0.8;
  pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(x2, y2); pen.stroke();
  if (count < 600) { pen.fillStyle = ink.grey; pen.beginPath(); pen.arc(x2, y2, 2, 0, 7); pen.fill(); }
  pen.globalAlpha = 1;
  drawn.lines++;
  hits.push({ on: board.it, line: [x1, y1, x2, y2], text: journey(m) + (arrived === null ? ", on its way at the end" : ", arrived " + seconds(arrived) + ", after " + length(arrived - sent)), at: sent });
}

// A lost frame ends in a cross; where it would have arrived is dashed, unless there are many.
function lostOn(board, lane, m, count) {
  const pen = board.pen, [sent, gone, on, to] = m;
  const x1 = board.x(sent), y1 = lane(on), x2 = Math.max(board.x(Math.max(gone, sent + usual)), x1 + 12), y2 = lane(to);
  const x = x1 + (x2 - x1) * 0.55, y = y1 + (y2 - y1) * 0.55;
  pen.strokeStyle = ink.red; pen.globalAlpha = count < 60 ? 1 : 0.3;
  pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(x, y); pen.stroke();
  pen.globalAlpha = 1;
  if (count < 60) {
    pen.setLineDash([3, 3]); pen.beginPath(); pen.moveTo(x, y); pen.lineTo(x2, y2); pen.stroke(); pen.setLineDash([]);
    const angle = Math.atan2(y2 - y1, x2 - x1);
    pen.beginPath();
    for (const turn of [2.6, -2.6]) { pen.moveTo(x2, y2); pen.lineTo(x2 + 7 * Math.cos(angle + turn), y2 + 7 * Math.sin(angle + turn)); }
    pen.stroke();
  }
  cross(pen, x, y);
  drawn.lines++;
  const text = journey(m) + ", LOST on the way to " + data.lanes[to];
  hits.push({ on: board.it, line: [x1, y1, x2, y2], text, at: sent, first: true });
  hit(board.it, x - 7, y - 7, x + 7, y + 7, text, sent, { first: true });
  const said = count < 40 && say(board, "lost on the way to " + data.lanes[to], x, y + 9, ink.red, true);
  if (said) hit(board.it, ...said, text, sent, { first: true });
}

// How many frames each lane sends, per column.
function density(board, lane, from, to) {
  const columns = new Map(), step = Math.max(1, Math.ceil((to - from) / 200000));
  for (let n = from; n < to; n += step) {
    const m = data.messages[n], x = Math.round(board.x(m[0]) / 3), key = m[2] * 100000 + x;
    columns.set(key, (columns.get(key) || 0) + step);
  }
  let most = 1;
  for (const count of columns.values()) most = Math.max(most, count);
  board.pen.fillStyle = ink.grey;
  for (const [key, count] of columns) {
    const height = Math.max(1, 9 * count / most);
    board.pen.fillRect(key % 100000 * 3, lane(Math.floor(key / 100000)) - height, 3, height);
    drawn.marks++;
  }
  say(board, "too many messages to draw one by one: come closer, or choose a document", LEFT + 2, lane(0) - 4, ink.faint, true);
}

function diamond(pen, x, y, colour, full) {
  pen.beginPath(); pen.moveTo(x, y - 5); pen.lineTo(x + 5, y); pen.lineTo(x, y + 5); pen.lineTo(x - 5, y); pen.closePath();
  pen.fillStyle = full ? colour : ink.paper; pen.fill();
  pen.strokeStyle = colour; pen.stroke();
}

// What became durable and what was lost again: of the chosen document, or of all when little is in view.
function heldOn(board, lane) {
  const pen = board.pen, brought = (by) => by === "a write" ? ink.blue : ink.violet;
  if (view.doc) {
    const course = courseOf(docOf(view.doc));
    for (let n = first(course, view.from); n < course.length && course[n][0] <= view.to; n++) {
      const [at, on, version, by] = course[n], x = board.x(at), y = lane(on);
      const colour = version === null ? ink.red : brought(by);
      diamond(pen, x, y, colour, version !== null);
      say(board, version === null ? "gone" : version, x, y, colour, false);
      drawn.marks++;
      const told = version === null ? " holds " + view.doc + " no more (" + by + ")\n" : " holds " + view.doc + " " + version + " durably (" + by + ")\n";
      hit(board.it, x - 6, y - 6, x + 6, y + 6, data.lanes[on] + told + seconds(at), at);
    }
    return;
  }
  const from = first(data.held, view.from), to = first(data.held, view.to);
  if (to - from > 400) return;
  for (let n = from; n < to; n++) {
    const [at, on, of, version, by, shard] = data.held[n];
    if (of < 0 || version === null || !ofShard(shard)) continue;
    const x = board.x(at), y = lane(on);
    diamond(pen, x, y, brought(by), true);
    drawn.marks++;
    hit(board.it, x - 6, y - 6, x + 6, y + 6, data.lanes[on] + " holds " + data.docs[of] + " " + version + " durably (" + by + ")\n" + seconds(at), at, { doc: data.docs[of] });
  }
}

// Beside each node: what it holds of the chosen document at the chosen instant.
function holdersOn(board, lane) {
  if (!view.doc || view.at === null || docOf(view.doc) < 0) return;
  const doc = docOf(view.doc), state = stateAt(view.at), held = state.held.get(doc) || new Map();
  data.lanes.forEach((_, n) => {
    if (!isNode[n]) return;
    const cell = cellOf(state, doc, n);
    board.pen.fillStyle = cell.lacks ? ink.red : ink.ink;
    board.pen.fillText(held.get(n) || (cell.lacks ? "nothing" : "-"), 4, lane(n));
  });
  board.pen.fillStyle = ink.faint; board.pen.fillText("holds", 4, lane(isNode.indexOf(true)) - ROW / 2 - 4);
}
