// Draws one run. Everything shares one view (two instants); what lies outside is not touched, and where too much lies inside,
// densities are drawn instead of lines, so that a frame costs the same for a hundred events and for a hundred thousand.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const LINES_AT_MOST = 3000, MARKS_AT_MOST = 6000, BINS = 240;
  const STAGE = { Planned: "--grey", DualWrite: "--blue", Drain: "--amber", DeltaPass: "--violet", Activate: "--red", Cleanup: "--green", Done: "--grey", Aborted: "--red" };
  const view = { from: 0, to: data.end, at: null, shard: null, doc: null, frames: true };
  let ink = {}, hits = [], drawn = { lines: 0, marks: 0 };

  // Cut off and not rounded, as everywhere else.
  const seconds = (us) => (Math.floor(us) / 1e6).toFixed(6) + " s";
  const length = (us) => us >= 1e6 ? (us / 1e6).toFixed(3) + " s" : us >= 1e3 ? (us / 1e3).toFixed(3) + " ms" : us.toFixed(1) + " us";
  // What the words of a story shout.
  const BAD = /MISSES|OPENS|LOST|BACK|WITHOUT|EARLY|IMPOSSIBLE/;
  const docOf = (name) => data.docs.indexOf(name);
  const slowest = data.messages.reduce((most, m) => Math.max(most, m[1] === null ? 0 : m[1] - m[0]), 0);
  const longest = data.ops.reduce((most, o) => Math.max(most, (o[1] === null ? data.end : o[1]) - o[0]), 0);

  // The first place whose first column is not below `at`.
  function first(rows, at) {
    let low = 0, high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle][0] < at) low = middle + 1; else high = middle;
    }
    return low;
  }

  // ---- the view, and the address that names it

  function readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const instant = (text) => text && (parseFloat(text) * (text.endsWith("ms") ? 1e3 : text.endsWith("us") ? 1 : 1e6));
    if (wanted.has("theme")) document.documentElement.classList.toggle("dark", wanted.get("theme") === "dark");
    view.shard = wanted.has("shard") ? Number(wanted.get("shard")) : null;
    view.doc = wanted.get("doc") || null;
    const at = instant(wanted.get("at"));
    if (at !== null && at !== undefined && !Number.isNaN(at)) {
      const span = instant(wanted.get("span")) || Math.min(data.end, 40e3);
      view.at = at;
      look(at - span / 2, at + span / 2);
    }
    $("shard").value = view.shard === null ? "" : String(view.shard);
    $("doc").value = view.doc || "";
  }

  function writeAddress() {
    const words = new URLSearchParams();
    const at = view.at === null ? (view.from + view.to) / 2 : view.at;
    if (view.at !== null || view.from > 0 || view.to < data.end) {
      words.set("at", (at / 1e6).toFixed(6) + "s");
      words.set("span", ((view.to - view.from) / 1e6).toFixed(6) + "s");
    }
    if (view.shard !== null) words.set("shard", view.shard);
    if (view.doc) words.set("doc", view.doc);
    if (document.documentElement.classList.contains("dark")) words.set("theme", "dark");
    history.replaceState(null, "", "#" + words.toString());
  }

  function look(from, to) {
    const span = Math.min(Math.max(to - from, 5), data.end * 1.02);
    const start = Math.min(Math.max(from, -span * 0.02), data.end * 1.02 - span);
    view.from = start; view.to = start + span;
  }

  function zoom(factor, around) {
    const at = around === undefined ? (view.at !== null && view.at > view.from && view.at < view.to ? view.at : (view.from + view.to) / 2) : around;
    look(at - (at - view.from) * factor, at + (view.to - at) * factor);
    changed();
  }

  function go(at) {
    view.at = at;
    const span = Math.min(view.to - view.from, 20e3);
    look(at - span / 2, at + span / 2);
    changed();
  }

  let due = false;
  function changed() {
    if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); writeAddress(); }); }
  }

  // ---- drawing

  const LEFT = 96, ROW = 26;
  function canvas(id, height) {
    const it = $(id), ratio = window.devicePixelRatio || 1, width = it.clientWidth || 900;
    it.width = width * ratio; it.height = height * ratio; it.style.height = height + "px";
    const pen = it.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle"; pen.lineWidth = 1;
    const x = (at) => LEFT + (at - view.from) / (view.to - view.from) * (width - LEFT - 8);
    const instant = (px) => view.from + (px - LEFT) / (width - LEFT - 8) * (view.to - view.from);
    return { it, pen, width, height, x, instant };
  }

  function hit(on, left, top, right, bottom, text, at) { hits.push({ on, left, top, right, bottom, text, at }); }

  // A band between two instants; its words if they fit. Returns whether it is in view.
  function band(board, from, to, top, height, fill, words, edge, told) {
    const end = to === null ? data.end : to;
    if (end < view.from || from > view.to) return false;
    const left = Math.max(board.x(from), LEFT), right = Math.max(Math.min(board.x(end), board.width - 8), left + 1.5);
    board.pen.fillStyle = fill; board.pen.fillRect(left, top, right - left, height);
    if (edge) { board.pen.fillStyle = edge; board.pen.fillRect(left, top, 1.5, height); }
    if (words && right - left > 14) {
      board.pen.save(); board.pen.beginPath(); board.pen.rect(left, top, right - left - 2, height); board.pen.clip();
      board.pen.fillStyle = ink["--ink"]; board.pen.fillText(words, left + 4, top + height / 2); board.pen.restore();
    }
    hit(board.it, left - 2, top, right + 2, top + height, told || words, from);
    return true;
  }

  function axis(board, top, bottom) {
    const span = view.to - view.from, wanted = span / Math.max(3, (board.width - LEFT) / 120);
    const power = Math.pow(10, Math.floor(Math.log10(wanted)));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted);
    board.pen.textAlign = "center";
    for (let at = Math.ceil(Math.max(0, view.from) / step) * step; at <= view.to; at += step) {
      const x = board.x(at);
      if (x < LEFT) continue;
      board.pen.fillStyle = ink["--line"]; board.pen.fillRect(x, top, 1, bottom - top);
      board.pen.fillStyle = ink["--faint"];
      const digits = Math.max(0, Math.min(6, Math.ceil(-Math.log10(step / 1e6))));
      if (x > LEFT + 28) board.pen.fillText((at / 1e6).toFixed(digits) + " s", x, top - 8);
    }
    board.pen.textAlign = "left";
  }

  function name(board, text, y, colour) {
    board.pen.fillStyle = colour || ink["--faint"];
    board.pen.textAlign = "right"; board.pen.fillText(text, LEFT - 8, y); board.pen.textAlign = "left";
  }

  const ofShard = (shard) => view.shard === null || shard < 0 || shard === view.shard;
  const inWindow = (window) => ofShard(window.shard) && (!view.doc || window.doc === view.doc);

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
    for (const [from, to] of troubled) band(board, from, to, top, height, ink["--fault"], "", null, "a fault is at work");
  }

  function timeline() {
    const faultRows = stacked(data.faults.map((f) => ({ from: f[2], to: f[3] })), 4);
    const windows = data.windows.filter(inWindow);
    const windowRows = stacked(windows, 6);
    const migrations = [...new Set(data.stages.filter((s) => ofShard(s[1])).map((s) => s[0]))];
    const rows = (list) => list.length ? Math.max(...list) + 1 : 0;
    let y = 26;
    const faultsAt = y; y += Math.max(1, rows(faultRows)) * 16 + 6;
    const stagesAt = y; y += Math.max(1, migrations.length) * 20 + 6;
    const windowsAt = y; y += Math.max(1, rows(windowRows)) * 18 + 10;
    const lanesAt = y; y += data.lanes.length * ROW + 8;
    const board = canvas("timeline", y), pen = board.pen;
    const lane = (n) => lanesAt + n * ROW + ROW / 2;
    axis(board, 20, y);
    pen.save(); pen.beginPath(); pen.rect(LEFT, 0, board.width - LEFT - 7, y); pen.clip();

    let after = -Infinity;
    for (const [at, phase] of data.phases) {
      if (at < view.from || at > view.to) continue;
      const x = board.x(at), start = Math.max(x + 3, after);
      pen.fillStyle = ink["--green"]; pen.fillRect(x, 20, 1, y - 20); pen.fillText(phase, start, y - 5);
      after = start + pen.measureText(phase).width + 6;
    }
    data.faults.forEach(([id, text, from, to], n) => band(board, from, to, faultsAt + faultRows[n] * 16, 14, ink["--fault"], id + ": " + text, ink["--amber"], "fault " + id + ": " + text + "\n" + seconds(from) + " to " + (to === null ? "the end" : seconds(to))));
    shade(board, lanesAt, data.lanes.length * ROW);
    migrations.forEach((migration, row) => {
      const of = data.stages.filter((s) => s[0] === migration);
      // Activate takes no time: it is named with what begins in the same instant.
      let passed = "";
      of.forEach(([, shard, at, stage, reason], n) => {
        const words = passed + stage;
        passed = n + 1 < of.length && of[n + 1][2] === at ? words + ", " : "";
        const next = n + 1 < of.length ? of[n + 1][2] : (stage === "Done" || stage === "Aborted" ? at + (view.to - view.from) * 0.02 : null);
        pen.globalAlpha = 0.35;
        const top = stagesAt + row * 20;
        const shown = band(board, at, next, top, 18, ink[STAGE[stage] || "--grey"], "", null, migration + " of s" + shard + " enters " + stage + " at " + seconds(at) + (reason ? "\n" + reason : ""));
        pen.globalAlpha = 1;
        if (!shown) return;
        const left = Math.max(board.x(at), LEFT), room = board.x(next === null ? data.end : next) - left;
        pen.fillStyle = ink[STAGE[stage] || "--grey"]; pen.fillRect(board.x(at), top, 2, 18);
        if (room > 24) {
          pen.save(); pen.beginPath(); pen.rect(left, top, room - 2, 18); pen.clip();
          pen.fillStyle = ink["--ink"]; pen.fillText(words, left + 5, top + 9); pen.restore();
        }
      });
    });
    windows.forEach((window, n) => {
      const colour = window.declared ? ink["--amber"] : ink["--red"];
      pen.globalAlpha = 0.45;
      const top = windowsAt + windowRows[n] * 18;
      const shown = band(board, window.from, window.to, top, 16, colour, "", colour, window.text + "\nopens " + seconds(window.from) + ", closes " + (window.to === null ? "never" : seconds(window.to) + ", after " + length(window.to - window.from)));
      pen.globalAlpha = 1;
      if (!shown) return;
      pen.fillStyle = ink["--ink"];
      const told = window.doc + " can be missed from " + seconds(window.from) + (window.to === null ? " on, for good" : " to " + seconds(window.to) + " (" + length(window.to - window.from) + ")") + (window.declared ? ", as declared" : "");
      // To the left of the right edge, however late the window opens.
      pen.fillText(told, Math.max(LEFT + 4, Math.min(Math.max(board.x(window.from), LEFT) + 4, board.width - 14 - pen.measureText(told).width)), top + 8);
      if (n < 40) for (const at of [window.from, window.to]) {
        if (at === null || at < view.from || at > view.to) continue;
        pen.strokeStyle = colour; pen.setLineDash([4, 3]); pen.beginPath(); pen.moveTo(board.x(at), top + 16); pen.lineTo(board.x(at), lanesAt + data.lanes.length * ROW); pen.stroke(); pen.setLineDash([]);
      }
    });

    data.lanes.forEach((_, n) => { pen.fillStyle = ink["--line"]; pen.fillRect(LEFT, lane(n), board.width - LEFT, 1); });
    for (const [n, from, to, kind, why] of data.down) {
      if (n === null) continue;
      band(board, from, to, lane(n) - 8, 16, ink["--down"], kind, ink["--red"], data.lanes[n] + " is " + kind + (why ? " (" + why + ")" : "") + "\n" + seconds(from) + " to " + (to === null ? "the end" : seconds(to)));
      if (kind === "down" && from >= view.from && from <= view.to) {
        pen.strokeStyle = ink["--red"]; pen.lineWidth = 2; const x = board.x(from), at = lane(n);
        pen.beginPath(); pen.moveTo(x - 4, at - 4); pen.lineTo(x + 4, at + 4); pen.moveTo(x + 4, at - 4); pen.lineTo(x - 4, at + 4); pen.stroke(); pen.lineWidth = 1;
      }
    }
    operationsOn(board, lane);
    if (view.frames) messagesOn(board, lane);
    appliedOn(board, lane);
    if (view.at !== null && view.at >= view.from && view.at <= view.to) {
      pen.fillStyle = ink["--ink"]; pen.fillRect(board.x(view.at) - 0.5, 14, 1, y - 14);
    }
    pen.restore();
    name(board, "faults", faultsAt + 7); if (!data.faults.length) pen.fillText("none planned", LEFT + 4, faultsAt + 7);
    migrations.forEach((migration, row) => name(board, "migration " + migration, stagesAt + row * 20 + 9));
    name(board, "loss windows", windowsAt + 8, windows.length ? ink["--red"] : ink["--faint"]);
    if (!windows.length) { pen.fillStyle = ink["--faint"]; pen.fillText("none", LEFT + 4, windowsAt + 8); }
    data.lanes.forEach((text, n) => name(board, text, lane(n), ink["--ink"]));
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
      pen.fillStyle = stuck || outcome !== "o" ? ink["--red"] : kind === "r" ? ink["--green"] : ink["--blue"];
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
    const matches = (m) => (view.shard === null || m[6] === view.shard) && (!about || names(m));
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
    for (const m of shown) {
      const [sent, arrived, on, at, fate, label] = m, lost = fate === 1;
      const x1 = board.x(sent), y1 = lane(on), x2 = board.x(arrived === null ? sent + 1e3 : arrived), y2 = lane(at);
      // A lost frame never gets there: it ends in a cross on its way.
      const share = lost ? 0.6 : 1, ex = lost ? x1 + Math.max((x2 - x1) * share, 4) : x2, ey = y1 + (y2 - y1) * share;
      pen.strokeStyle = lost ? ink["--red"] : ink["--grey"]; pen.globalAlpha = lost ? 1 : shown.length > 600 ? 0.35 : 0.7;
      pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(ex, ey); pen.stroke();
      if (lost) {
        pen.lineWidth = 2; pen.beginPath(); pen.moveTo(ex - 4, ey - 4); pen.lineTo(ex + 4, ey + 4); pen.moveTo(ex + 4, ey - 4); pen.lineTo(ex - 4, ey + 4); pen.stroke(); pen.lineWidth = 1;
        if (shown.length < 40) { pen.fillStyle = ink["--red"]; pen.fillText("lost on the way to " + data.lanes[at], ex + 7, ey); }
      } else if (shown.length < 600) {
        pen.fillStyle = ink["--grey"]; pen.beginPath(); pen.arc(ex, ey, 2, 0, 7); pen.fill();
      }
      pen.globalAlpha = 1;
      drawn.lines++;
      hits.push({ on: board.it, line: [x1, y1, ex, ey], text: data.lanes[on] + " to " + data.lanes[at] + ": " + data.labels[label] + "\nsent " + seconds(sent) + (lost ? ", LOST" : arrived === null ? ", on its way at the end" : ", arrived " + seconds(arrived) + ", after " + length(arrived - sent)), at: sent });
    }
  }

  // How many frames each lane sends, per column.
  function density(board, lane, from, to) {
    const columns = new Map(), step = Math.max(1, Math.ceil((to - from) / 200000));
    for (let n = from; n < to; n += step) {
      const m = data.messages[n], x = Math.round(board.x(m[0]) / 3), key = m[2] * 100000 + x;
      columns.set(key, (columns.get(key) || 0) + step);
    }
    const most = Math.max(1, ...columns.values());
    board.pen.fillStyle = ink["--grey"];
    for (const [key, count] of columns) {
      const height = Math.max(1, 9 * count / most);
      board.pen.fillRect(key % 100000 * 3, lane(Math.floor(key / 100000)) - height, 3, height);
      drawn.marks++;
    }
    board.pen.fillStyle = ink["--faint"]; board.pen.fillText("too many messages to draw one by one: come closer, or choose a document", LEFT + 6, lane(0) - 14);
  }

  // What became durable, when a document is chosen or little is in view.
  function appliedOn(board, lane) {
    const from = first(data.applied, view.from), to = first(data.applied, view.to), doc = view.doc ? docOf(view.doc) : null;
    if (doc === null && to - from > 400) return;
    for (let n = from; n < to; n++) {
      const [at, on, of, version, by, shard] = data.applied[n];
      if (!ofShard(shard) || (doc !== null && of !== doc)) continue;
      const x = board.x(at), y = lane(on);
      board.pen.fillStyle = by === "a write" ? ink["--blue"] : ink["--violet"];
      board.pen.beginPath(); board.pen.moveTo(x, y - 5); board.pen.lineTo(x + 5, y); board.pen.lineTo(x, y + 5); board.pen.lineTo(x - 5, y); board.pen.fill();
      if (doc !== null) board.pen.fillText(version, x + 7, y - 8);
      drawn.marks++;
      hit(board.it, x - 6, y - 6, x + 6, y + 6, data.lanes[on] + " holds " + data.docs[of] + " " + version + " durably (" + by + ")\n" + seconds(at), at);
    }
  }

  function plots() {
    const board = canvas("plots", 190), pen = board.pen, latencyTop = 24, latencyBottom = 110, countTop = 126, countBottom = 180;
    axis(board, 18, 182);
    pen.save(); pen.beginPath(); pen.rect(LEFT, 0, board.width - LEFT - 7, 190); pen.clip();
    shade(board, latencyTop, 158);
    const doc = view.doc ? docOf(view.doc) : null;
    const from = first(data.ops, view.from), to = first(data.ops, view.to);
    const y = (us) => latencyBottom - Math.min(1, Math.max(0, Math.log10(Math.max(us, 10) / 10) / 6)) * (latencyBottom - latencyTop);
    const step = Math.max(1, Math.ceil((to - from) / MARKS_AT_MOST)), bins = new Float64Array(BINS), failed = new Float64Array(BINS);
    for (let n = from; n < to; n++) {
      const [call, ret, on, of, kind, outcome, words] = data.ops[n];
      if (doc !== null && of !== doc) continue;
      const bin = Math.min(BINS - 1, Math.floor((call - view.from) / (view.to - view.from) * BINS));
      if (outcome === "o") bins[bin]++; else failed[bin]++;
      if (n % step || ret === null) continue;
      pen.fillStyle = outcome !== "o" ? ink["--red"] : kind === "r" ? ink["--green"] : ink["--blue"];
      pen.fillRect(board.x(call) - 1, y(ret - call) - 1, 2.5, 2.5);
      drawn.marks++;
      if (to - from < 3000) hit(board.it, board.x(call) - 3, y(ret - call) - 3, board.x(call) + 4, y(ret - call) + 4, data.lanes[on] + ": " + words + "\n" + seconds(call) + ", took " + length(ret - call), call);
    }
    const most = Math.max(1, ...bins), wide = (board.width - LEFT - 8) / BINS;
    for (let n = 0; n < BINS; n++) {
      const height = bins[n] / most * (countBottom - countTop);
      pen.fillStyle = ink["--blue"]; pen.globalAlpha = 0.6; pen.fillRect(LEFT + n * wide, countBottom - height, Math.max(1, wide - 0.5), height); pen.globalAlpha = 1;
      if (failed[n]) { pen.fillStyle = ink["--red"]; pen.fillRect(LEFT + n * wide, countTop, Math.max(1, wide - 0.5), 4); }
    }
    pen.restore();
    for (const [us, text] of [[100, "0.1 ms"], [1e3, "1 ms"], [1e4, "10 ms"], [1e5, "100 ms"], [1e6, "1 s"]]) name(board, text, y(us));
    name(board, "latency", latencyTop - 14, ink["--ink"]);
    name(board, "operations", countTop + 8, ink["--ink"]);
    name(board, Math.round(most / ((view.to - view.from) / BINS / 1e6)) + " /s", countTop + 24);
  }

  // What the clients saw of one document, one row per client.
  function seen() {
    const of = view.doc || (data.stuck && data.stuck.doc) || (data.story && data.story.doc);
    const doc = of ? docOf(of) : -1;
    if (doc < 0) { canvas("history", 24).pen.fillText("Choose a document to see what its clients saw.", LEFT, 12); return; }
    const ops = data.ops.filter((o) => o[3] === doc), who = [...new Set(ops.map((o) => o[2]))].sort((a, b) => a - b);
    const board = canvas("history", 34 + who.length * 22), pen = board.pen;
    axis(board, 28, board.height);
    pen.fillStyle = ink["--ink"]; pen.fillText("what the clients saw of " + of + (data.stuck && data.stuck.doc === of ? ": no instant fits the read in red" : ""), 4, 8);
    pen.save(); pen.beginPath(); pen.rect(LEFT, 0, board.width - LEFT - 7, board.height); pen.clip();
    for (const window of data.windows) if (window.doc === of) { pen.globalAlpha = 0.2; band(board, window.from, window.to, 28, board.height - 28, ink["--red"], "", ink["--red"], window.text); pen.globalAlpha = 1; }
    const next = new Map();
    for (let n = ops.length - 1, after = {}; n >= 0; n--) { next.set(ops[n], after[ops[n][2]]); after[ops[n][2]] = ops[n][0]; }
    for (const op of ops) {
      const [call, ret, on, , kind, outcome, words] = op;
      const end = ret === null ? data.end : ret;
      if (end < view.from || call > view.to) continue;
      const stuck = data.stuck && data.stuck.call === call && data.stuck.doc === of, top = 32 + who.indexOf(on) * 22;
      const x = board.x(call), width = Math.max(3, board.x(end) - x), colour = stuck || outcome !== "o" ? ink["--red"] : kind === "r" ? ink["--green"] : ink["--blue"];
      pen.globalAlpha = stuck ? 0.9 : 0.35; pen.fillStyle = colour; pen.fillRect(x, top, width, 16); pen.globalAlpha = 1;
      pen.strokeStyle = colour; pen.strokeRect(x + 0.5, top + 0.5, width, 16);
      const short = words.replace(/^client \d+ /, "").replace(of, "").replace(/\s+/g, " ");
      // Words only where they do not run into the next operation.
      const told = (stuck ? "IMPOSSIBLE: " : "") + short, room = next.get(op) === undefined ? Infinity : board.x(next.get(op)) - x - 6;
      if (stuck || pen.measureText(told).width < room) { pen.fillStyle = ink["--ink"]; pen.fillText(told, x + 4, top + 8); }
      hit(board.it, x - 2, top, x + width + 2, top + 16, words + "\ncalled " + seconds(call) + (ret === null ? ", never returned" : ", returned " + seconds(ret)) + (stuck ? "\n" + data.stuck.why : ""), call);
    }
    pen.restore();
    who.forEach((on, row) => name(board, data.lanes[on], 32 + row * 22 + 8, ink["--ink"]));
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const colour of ["paper", "ink", "faint", "line", "red", "amber", "green", "blue", "violet", "grey", "fault", "down"]) ink["--" + colour] = style.getPropertyValue("--" + colour);
    hits = []; drawn = { lines: 0, marks: 0 };
    timeline(); plots(); seen();
    $("range").textContent = seconds(Math.max(0, view.from)) + " to " + seconds(Math.min(data.end, view.to)) + " (" + length(view.to - view.from) + ")";
    // For whoever drives the page without eyes.
    Object.assign(document.body.dataset, { ready: "yes", lines: drawn.lines, marks: drawn.marks, messages: data.messages.length, windows: data.windows.length, from: Math.round(view.from), to: Math.round(view.to), doc: view.doc || "" });
  }

  // ---- pointing

  function near(event, board) {
    const box = board.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = 6;
    for (let n = hits.length - 1; n >= 0; n--) {
      const it = hits[n];
      if (it.on !== board) continue;
      if (it.line) {
        const [x1, y1, x2, y2] = it.line, dx = x2 - x1, dy = y2 - y1, along = Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
        const far = Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
        if (far < least) { least = far; best = it; }
      } else if (!best && x >= it.left && x <= it.right && y >= it.top && y <= it.bottom) return it;
    }
    return best;
  }

  function listen() {
    let drag = null;
    for (const id of ["timeline", "plots", "history"]) {
      const board = $(id), instant = (event) => view.from + (event.clientX - board.getBoundingClientRect().left - LEFT) / (board.clientWidth - LEFT - 8) * (view.to - view.from);
      board.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8, instant(event)); }, { passive: false });
      board.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, from: view.from, to: view.to, moved: false }; board.setPointerCapture(event.pointerId); });
      board.addEventListener("pointermove", (event) => {
        if (drag) {
          const by = (event.clientX - drag.x) / (board.clientWidth - LEFT - 8) * (drag.to - drag.from);
          if (Math.abs(event.clientX - drag.x) > 3) { drag.moved = true; look(drag.from - by, drag.to - by); changed(); }
          return;
        }
        const it = near(event, board);
        $("here").textContent = it ? it.text : seconds(Math.max(0, instant(event)));
      });
      board.addEventListener("pointerup", (event) => { if (drag && !drag.moved) { const it = near(event, board); view.at = it ? it.at : instant(event); changed(); } drag = null; });
    }
    addEventListener("keydown", (event) => {
      if (event.target.tagName === "INPUT") return;
      const span = view.to - view.from, moves = { ArrowLeft: -0.2, ArrowRight: 0.2 };
      if (event.key in moves) { look(view.from + span * moves[event.key], view.to + span * moves[event.key]); changed(); }
      if (event.key === "+" || event.key === "=") zoom(0.6);
      if (event.key === "-") zoom(1.6);
    });
    $("closer").onclick = () => zoom(0.5);
    $("wider").onclick = () => zoom(2);
    $("whole").onclick = () => { view.at = null; look(0, data.end); changed(); };
    $("theme").onclick = () => { document.documentElement.classList.toggle("dark"); changed(); };
    $("frames").onchange = () => { view.frames = $("frames").checked; changed(); };
    $("shard").onchange = () => { view.shard = $("shard").value === "" ? null : Number($("shard").value); changed(); };
    // Enter in a field chooses; it does not load the page again.
    $("controls").onsubmit = (event) => { event.preventDefault(); $("doc").onchange(); };
    $("doc").onchange = () => { const wanted = $("doc").value.trim(); view.doc = docOf(wanted) >= 0 ? wanted : null; $("doc").value = view.doc || ""; changed(); };
    addEventListener("resize", changed);
    addEventListener("hashchange", () => { readAddress(); changed(); });
  }

  // ---- the words beside the picture

  function words() {
    const { head, story } = data, bad = head.verdict !== "pass";
    $("title").innerHTML = "";
    $("title").append(head.scenario + " seed " + head.seed + (head.mutant ? ", planted bug " + head.mutant : "") + ": ", Object.assign(document.createElement("span"), { className: bad ? "bad" : "good", textContent: head.verdict }));
    $("what").textContent = story ? story.what : head.cause || "Nothing was lost, and everything ended as promised.";
    const shards = [...new Set(data.configs.map((c) => c[1]))].sort((a, b) => a - b);
    for (const shard of shards) $("shard").append(Object.assign(document.createElement("option"), { value: shard, textContent: "s" + shard }));
    for (const doc of data.docs) $("docs").append(Object.assign(document.createElement("option"), { value: doc }));
    const lines = story ? story.lines : data.stages.map((s) => [s[2], s[0] + " of s" + s[1] + " enters " + s[3]]);
    for (const [at, line] of lines) {
      const item = document.createElement("li"), time = document.createElement("time");
      time.textContent = seconds(at);
      item.className = BAD.test(line) ? "bad" : /committed|enters/.test(line) ? "stage" : "";
      item.append(time, line);
      item.onclick = () => go(at);
      $("story").append(item);
    }
    for (const migration of new Set(data.stages.map((s) => s[0]))) {
      const of = data.stages.filter((s) => s[0] === migration), item = document.createElement("li");
      item.className = "stage"; item.append(migration + " of s" + of[0][1] + ": ");
      of.forEach(([, , at, stage, reason], n) => {
        const link = Object.assign(document.createElement("a"), { href: "#at=" + (at / 1e6).toFixed(6) + "s", textContent: stage });
        link.title = reason || "";
        link.onclick = (event) => { event.preventDefault(); go(at); };
        item.append(n ? " > " : "", link, " " + seconds(at));
      });
      $("migrations").append(item);
    }
    if (!data.stages.length) $("migrations").append(Object.assign(document.createElement("li"), { textContent: "none" }));
    // All of them, whatever document is chosen below.
    for (const window of data.windows.slice(0, 12)) {
      const item = document.createElement("li"), from = window.from, to = window.to === null ? data.end : window.to, room = (to - from) * 0.3 + 2e3;
      item.className = window.declared ? "declared" : "";
      const link = Object.assign(document.createElement("a"), { href: "#doc=" + encodeURIComponent(window.doc), textContent: window.doc });
      link.onclick = (event) => { event.preventDefault(); view.doc = window.doc; view.at = from; look(from - room, to + room); changed(); };
      item.append(link, " of s" + window.shard + ": a read can miss it from " + seconds(from) + (window.to === null ? " on, for good" : " to " + seconds(to) + ", for " + length(to - from)));
      item.title = window.text;
      $("windows").append(item);
    }
    if (data.windows.length > 12) $("windows").append(Object.assign(document.createElement("li"), { textContent: "and " + (data.windows.length - 12) + " more" }));
    if (story && story.doc) $("of").textContent = "What happened to " + story.doc;
    const said = (id, label, text) => { if (text) $(id).append(Object.assign(document.createElement("b"), { textContent: label + " " }), text); };
    said("rule", "The rule.", story && story.rule);
    said("sibling", "What decides.", story && story.sibling);
    $("legend").textContent = "Blue: writes. Green: reads. Red cross: a frame that was lost, or a crash. Diamond: durable on a node (blue: by a write, violet: shipped). Shaded: a fault at work. Bars over the lanes: loss windows, from the commit that opens one to what closes it (red; amber where the scenario declares them). A version is counter:writer. Trace " + head.hash.slice(0, 12) + ", build " + head.build + ".";
  }

  if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.classList.add("dark");
  addEventListener("error", (event) => { document.body.dataset.error = event.message; });
  words();
  readAddress();
  if (data.story && data.story.at !== null && location.hash.length < 2) {
    // Open where it went wrong, with the document that it went wrong for.
    view.doc = data.story.doc; view.at = data.story.at; $("doc").value = view.doc || "";
    // From the first thing that went wrong, or the sending of what was lost, to the moment.
    const worth = data.story.lines.filter((line) => BAD.test(line[1]) || / sends v/.test(line[1])).map((line) => line[0]);
    const from = Math.min(data.story.at, ...worth), room = Math.max((data.story.at - from) * 0.3, 2e3);
    look(from - room, data.story.at + room);
  }
  listen();
  draw();
})();
