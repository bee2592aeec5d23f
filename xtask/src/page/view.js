// The view, and the address that names it.

const view = { from: 0, to: data.end, at: null, shard: null, doc: null, frames: true };

function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const instant = (text) => text && (parseFloat(text) * (text.endsWith("ms") ? 1e3 : text.endsWith("us") ? 1 : 1e6));
  if (wanted.has("theme")) document.documentElement.classList.toggle("dark", wanted.get("theme") === "dark");
  view.shard = wanted.has("shard") ? Number(wanted.get("shard")) : null;
  view.doc = wanted.get("doc") || null;
  const at = instant(wanted.get("at"));
  if (at !== null && at !== undefined && !Number.isNaN(at)) {
    const span = instant(wanted.get("span")) || Math.min(data.end, 40e3);
    // Printed times are cut off: what has one of them has happened.
    view.at = at + 0.999;
    look(at - span / 2, at + span / 2);
  }
  $("shard").value = view.shard === null ? "" : String(view.shard);
  $("doc").value = view.doc || "";
}

function writeAddress() {
  const words = new URLSearchParams();
  const at = view.at === null ? (view.from + view.to) / 2 : view.at;
  if (view.at !== null || view.from > 0 || view.to < data.end) {
    words.set("at", (Math.floor(at) / 1e6).toFixed(6) + "s");
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

function choose(doc) {
  view.doc = doc;
  $("doc").value = doc || "";
  changed();
}

// A loss window with what is around it, at the instant when it opens.
function showWindow(window) {
  const to = window.to === null ? data.end : window.to, room = (to - window.from) * 0.3 + 2e3;
  view.at = window.from;
  look(window.from - room, to + room);
  choose(window.doc);
}

let due = false;
function changed() {
  if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); writeAddress(); }); }
}
