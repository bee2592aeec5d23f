// Who holds what at an instant: everything that the ledger says up to it, and a table of it.

const ROWS_AT_MOST = 8;
let remembered = { at: null, state: null };

// `held`: document -> lane -> version. `acked`: document -> the newest version that a client was told is safe. `configs`: shard
// -> its row. `epochs`: shard -> lane -> epoch.
function stateAt(at) {
  if (remembered.at === at) return remembered.state;
  const state = { held: new Map(), acked: new Map(), configs: new Map(), epochs: new Map(), stages: new Map() };
  const inner = (map, key) => { if (!map.has(key)) map.set(key, new Map()); return map.get(key); };
  for (const [when, lane, doc, version, , shard] of data.held) {
    if (when > at) break;
    if (doc >= 0 && version !== null) inner(state.held, doc).set(lane, version);
    else if (doc >= 0) inner(state.held, doc).delete(lane);
    else for (const [of, holders] of state.held) if (shard < 0 || shardOf.get(of) === shard) holders.delete(lane);
  }
  for (const [when, doc, version] of data.acked) {
    if (when > at) break;
    inner(state.held, doc);
    if (!state.acked.has(doc) || isOlder(state.acked.get(doc), version)) state.acked.set(doc, version);
  }
  for (const row of data.configs) if (row[0] <= at) state.configs.set(row[1], row);
  for (const [when, lane, shard, epoch] of data.installed) {
    if (when > at) break;
    if (shard >= 0) inner(state.epochs, shard).set(lane, epoch);
    else for (const epochs of state.epochs.values()) epochs.delete(lane);
  }
  for (const [migration, shard, when, stage] of data.stages) if (when <= at) state.stages.set(migration, [shard, when, stage]);
  remembered = { at, state };
  return state;
}

// The lanes of the nodes that are asked for a shard: a quorum is a majority of every group.
function membersOf(state, shard) {
  const config = state.configs.get(shard);
  return new Set(config ? config[3].flat() : []);
}

// What a node is to a shard, in a word.
function roleOf(state, shard, lane) {
  const config = state.configs.get(shard), name = data.lanes[lane];
  if (!config) return "-";
  if (membersOf(state, shard).has(lane)) return "replica";
  // `DualWrite(n1 -> n2)`, `Stable(n2) leaving(n1)`: the words name those who are not asked, too.
  const [told, leaving] = config[2].split("leaving(");
  const names = (text) => text !== undefined && text.split(/[^a-z0-9]+/).includes(name);
  return names(leaving) ? "leaving" : names(told) && told.includes("->") ? "joining" : "-";
}

// Whether a node lacks what a client was told is safe, although it is asked for it.
function cellOf(state, doc, lane) {
  const version = (state.held.get(doc) || new Map()).get(lane), acked = state.acked.get(doc);
  const asked = membersOf(state, shardOf.get(doc)).has(lane);
  return { version, asked, lacks: asked && acked !== undefined && (version === undefined || isOlder(version, acked)) };
}

// Documents of a shard that its replicas do not hold as acknowledged or not in the same version, those that most of them lack
// first.
function differing(state, shard) {
  const members = [...membersOf(state, shard)], found = [];
  for (const [doc, held] of state.held) {
    if (shardOf.get(doc) !== shard) continue;
    const lacking = members.filter((lane) => cellOf(state, doc, lane).lacks).length;
    if (lacking || new Set(members.map((lane) => held.get(lane))).size > 1) found.push([lacking, doc]);
  }
  return found.sort((a, b) => b[0] - a[0] || a[1] - b[1]).map(([, doc]) => doc);
}

function element(kind, text, className) {
  const it = document.createElement(kind);
  if (text !== undefined) it.textContent = text;
  if (className) it.className = className;
  return it;
}

let shownInstant = "";
function instant() {
  const doc = view.doc ? docOf(view.doc) : -1, key = [view.at, view.doc, view.shard].join();
  if (key === shownInstant) return;
  shownInstant = key;
  const into = $("instant");
  into.replaceChildren();
  if (view.at === null) {
    into.append(element("p", "Click anywhere in the picture to see who holds what at that instant.", "hint"));
    return;
  }
  const state = stateAt(view.at);
  into.append(element("h2", "Who holds what at " + seconds(view.at)));
  const shards = doc >= 0 ? [shardOf.get(doc)] : [...state.configs.keys()].filter(ofShard).sort((a, b) => a - b);
  let equal = [];
  for (const shard of shards) {
    const docs = doc >= 0 ? [doc] : differing(state, shard);
    if (docs.length) into.append(...table(state, shard, docs)); else equal.push("s" + shard);
  }
  if (equal.length) into.append(element("p", "The replicas of " + equal.join(", ") + " hold the same versions, and everything that was acknowledged.", "hint"));
}

function table(state, shard, docs) {
  const config = state.configs.get(shard), members = membersOf(state, shard), epochs = state.epochs.get(shard) || new Map();
  const stages = [...state.stages].filter(([, [of]]) => of === shard).map(([name, [, when, stage]]) => name + " " + stage + " since " + seconds(when));
  const line = element("p", "s" + shard + (config ? ": " + config[2] : "") + (stages.length ? "; " + stages.join(", ") : ""));
  const shown = docs.slice(0, ROWS_AT_MOST);
  const nodes = data.lanes.map((_, n) => n).filter((n) => isNode[n]);
  const it = element("table"), head = it.insertRow();
  const cells = (row, label, cell, last) => {
    row.append(element("th", label));
    nodes.forEach((n) => row.append(cell(n)));
    row.append(element("td", last));
  };
  cells(head, "", (n) => element("th", data.lanes[n], members.has(n) ? "" : "other"), "acknowledged");
  const isDown = (n) => data.down.find(([lane, from, to]) => lane === n && from <= view.at && (to === null || view.at < to));
  cells(it.insertRow(), "role", (n) => element("td", roleOf(state, shard, n) + (isDown(n) ? ", " + isDown(n)[3] : ""), members.has(n) ? "" : "other"), "");
  cells(it.insertRow(), "epoch", (n) => element("td", epochs.get(n) || "-", members.has(n) ? "" : "other"), "");
  for (const doc of shown) {
    const row = it.insertRow();
    cells(row, data.docs[doc], (n) => {
      const { version, asked, lacks } = cellOf(state, doc, n);
      return element("td", version || (asked ? "nothing" : "-"), lacks ? "lacks" : asked ? "" : "other");
    }, state.acked.get(doc) || "never");
    row.cells[0].onclick = () => choose(data.docs[doc]);
    row.cells[0].className = "doc";
  }
  const more = docs.length - shown.length;
  return [line, it, ...(more > 0 ? [element("p", "and " + more + " more documents of s" + shard + " that replicas lack or hold differently", "hint")] : [])];
}
