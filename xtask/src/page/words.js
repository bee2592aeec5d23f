// The words around the picture: what the run is, its stages and windows, the story of a document, what the marks mean.

const WINDOWS_LISTED = 12, OTHERS_LISTED = 20;

function link(text, hash, act) {
  const it = Object.assign(document.createElement("a"), { href: "#" + hash, textContent: text });
  it.onclick = (event) => { event.preventDefault(); act(); };
  return it;
}

function words() {
  const { head } = data, story = data.stories[0];
  $("title").append(head.scenario + " seed " + head.seed + (head.mutant ? ", planted bug " + head.mutant : "") + ": ", element("span", head.verdict, head.verdict !== "pass" ? "bad" : "good"));
  const allowed = head.verdict === "pass" && data.windows.length;
  if (allowed) $("title").append(", with " + (allowed === 1 ? "a loss window" : allowed + " loss windows") + " that the scenario allows");
  $("what").textContent = story ? story.what : head.cause || "Nothing was lost, and everything ended as promised.";
  const shards = [...new Set(data.configs.map((c) => c[1]))].sort((a, b) => a - b);
  for (const shard of shards) $("shard").append(Object.assign(element("option", "s" + shard), { value: shard }));
  documents(story);
  migrations();
  // All of them, whatever document is chosen below.
  for (const window of data.windows.slice(0, WINDOWS_LISTED)) {
    const item = element("li", undefined, window.declared ? "declared" : "");
    item.append(link(window.doc, "doc=" + encodeURIComponent(window.doc), () => showWindow(window)), " of s" + window.shard + ": a read can miss it from " + seconds(window.from) + (window.to === null ? " on, for good" : " to " + seconds(window.to) + ", for " + length(window.to - window.from)));
    item.title = window.text;
    $("windows").append(item);
  }
  if (data.windows.length > WINDOWS_LISTED) $("windows").append(element("li", "and " + (data.windows.length - WINDOWS_LISTED) + " more"));
  $("trace").textContent = "Trace " + head.hash.slice(0, 12) + ", build " + head.build + ".";
}

// Those with something to tell first.
function documents(story) {
  const told = [...new Set([...(story && story.doc ? [story.doc] : []), ...data.windows.map((window) => window.doc)])];
  const groups = [["what went wrong", told], [told.length ? "others" : "", data.docs.filter((doc) => !told.includes(doc)).sort()]];
  for (const [label, docs] of groups) {
    if (!docs.length) continue;
    const group = Object.assign(document.createElement("optgroup"), { label });
    for (const doc of docs) group.append(Object.assign(element("option", doc + (lost.has(doc) ? " (loss window)" : "")), { value: doc }));
    $("doc").append(group);
  }
}

function migrations() {
  for (const migration of new Set(data.stages.map((s) => s[0]))) {
    const of = data.stages.filter((s) => s[0] === migration), item = element("li", migration + " of s" + of[0][1] + ": ");
    of.forEach(([, , at, stage, reason], n) => {
      const it = link(stage, "at=" + (Math.floor(at) / 1e6).toFixed(6) + "s", () => go(at));
      it.title = reason || "";
      item.append(n ? " > " : "", it, " " + seconds(at));
    });
    $("migrations").append(item);
  }
  if (!data.stages.length) $("migrations").append(element("li", "no migration"));
}

// The story of the chosen document if it has one; else that of the run, which says whose it is.
let told;
function tell() {
  const key = view.doc || "";
  if (key === told) return;
  told = key;
  const main = data.stories[0], story = (view.doc && storyOf(view.doc)) || main;
  for (const id of ["story", "about", "rule", "sibling", "others"]) $(id).replaceChildren();
  $("of").textContent = story && story.doc ? "What happened to " + story.doc : "What happened";
  if (view.doc && story && story.doc !== view.doc) {
    const whose = story.doc ? [" This is the story of ", link(story.doc, "doc=" + story.doc, () => choose(story.doc)), "."] : [" This is the story of the run."];
    const windows = data.windows.filter((window) => window.doc === view.doc).length;
    $("about").append(windows ? "For the story of " + view.doc + " ask `cargo xtask explain RUN --doc " + view.doc + "`." : "Nothing that was acknowledged of " + view.doc + " could be missed.", ...whose);
  } else if (story && story !== main) {
    $("about").append(story.what);
  }
  const lines = story ? story.lines : data.stages.map((s) => [s[2], s[0] + " of s" + s[1] + " enters " + s[3]]);
  for (const [at, line] of lines) {
    const item = element("li", undefined, BAD.test(line) ? "bad" : /committed|enters/.test(line) ? "stage" : "");
    item.append(element("time", seconds(at)), line);
    item.onclick = () => go(at);
    $("story").append(item);
  }
  const said = (id, label, text) => { if (text) $(id).append(element("h2", label), text); };
  said("rule", "Which rule would have saved it", story && story.rule);
  said("sibling", "The nearest run that passes", story && story.sibling);
  const others = data.stories.filter((it) => it.doc && it !== story);
  if (others.length) {
    $("others").append(element("h2", "Other stories"));
    others.slice(0, OTHERS_LISTED).forEach((it, n) => $("others").append(n ? ", " : "", link(it.doc, "doc=" + it.doc, () => { view.at = it.at; if (it.at !== null) go(it.at); choose(it.doc); })));
  }
}
