// The run, and what is known of it beforehand. Rows are described in page.rs, which writes them.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// Cut off and not rounded, as everywhere else.
const seconds = (us) => (Math.floor(us) / 1e6).toFixed(6) + " s";
const length = (us) => us >= 1e6 ? (us / 1e6).toFixed(3) + " s" : us >= 1e3 ? (us / 1e3).toFixed(3) + " ms" : us.toFixed(1) + " us";

// What the words of a story shout.
const BAD = /MISSES|OPENS|LOST|BACK|WITHOUT|EARLY|IMPOSSIBLE|SKIPPED/;

const docOf = (name) => data.docs.indexOf(name);
const isNode = data.lanes.map((name) => /^n\d+$/.test(name));
const lost = new Set(data.windows.map((window) => window.doc));
const storyOf = (doc) => data.stories.find((story) => story.doc === doc);

const slowest = data.messages.reduce((most, m) => Math.max(most, m[1] === null ? 0 : m[1] - m[0]), 0);
const longest = data.ops.reduce((most, o) => Math.max(most, (o[1] === null ? data.end : o[1]) - o[0]), 0);
// How long a frame takes that arrives, to draw where one that was lost would have been.
const usual = (() => {
  const took = data.messages.filter((m) => m[4] === 0).map((m) => m[1] - m[0]).sort((a, b) => a - b);
  return took.length ? took[took.length >> 1] : 500;
})();

// The shard of each document, as far as anybody held it or was told that it is safe.
const shardOf = new Map();
for (const [, , doc, , , shard] of data.held) if (doc >= 0) shardOf.set(doc, shard);
for (const [, doc, , shard] of data.acked) shardOf.set(doc, shard);

// The first place whose first column is not below `at`.
function first(rows, at) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][0] < at) low = middle + 1; else high = middle;
  }
  return low;
}

// `v12:ab03` is 12 and `ab03`: the order of versions is the order of writes.
function isOlder(one, other) {
  const [a, b] = [one, other].map((version) => version.slice(1).split(":"));
  return Number(a[0]) < Number(b[0]) || (a[0] === b[0] && a[1] < b[1]);
}

// What the nodes did with one document: [at, lane, version or null, what brought or took it], only where something changed.
const courses = new Map();
function courseOf(doc) {
  if (courses.has(doc)) return courses.get(doc);
  const course = [], shard = shardOf.get(doc), has = new Map(), opened = new Map();
  const lose = (lane, at, by) => { course.push([at, lane, null, by]); has.delete(lane); };
  // A node that starts lists what it has in the same instant: only what it does not list is gone.
  const settle = (until) => {
    for (const [lane, [at, by]] of opened) if (at < until) { lose(lane, at, by); opened.delete(lane); }
  };
  for (const [at, lane, of, version, by, on] of data.held) {
    settle(at);
    if (of === doc) {
      const restarted = opened.delete(lane), before = has.get(lane);
      if (version === null) { if (before) lose(lane, at, by); continue; }
      has.set(lane, version);
      if (!restarted || before !== version) course.push([at, lane, version, by]);
    } else if (of < 0 && has.has(lane) && (on < 0 || on === shard)) {
      if (on < 0) opened.set(lane, [at, by]); else lose(lane, at, by);
    }
  }
  settle(Infinity);
  course.sort((a, b) => a[0] - b[0]);
  courses.set(doc, course);
  return course;
}
