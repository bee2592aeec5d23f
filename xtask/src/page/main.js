// Drawing, pointing, and the start.

const COLOURS = ["paper", "ink", "faint", "line", "red", "amber", "green", "blue", "violet", "teal", "loss", "grey", "fault", "down"];

function draw() {
  const style = getComputedStyle(document.documentElement);
  for (const colour of COLOURS) ink[colour] = style.getPropertyValue("--" + colour);
  hits = []; drawn = { lines: 0, marks: 0 };
  const began = performance.now();
  timeline(); plots(); seen(); instant(); tell();
  $("range").textContent = seconds(Math.max(0, view.from)) + " to " + seconds(Math.min(data.end, view.to)) + " (" + length(view.to - view.from) + ")";
  // For whoever drives the page without eyes.
  Object.assign(document.body.dataset, { ready: "yes", lines: drawn.lines, marks: drawn.marks, messages: data.messages.length, windows: data.windows.length, from: Math.round(view.from), to: Math.round(view.to), doc: view.doc || "", drew: (performance.now() - began).toFixed(1) });
}

// What lies under the pointer: a lost frame if one is near, then small marks, lines, and what lies behind them.
function near(event, board) {
  const box = board.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const distance = ([x1, y1, x2, y2]) => {
    const dx = x2 - x1, dy = y2 - y1, along = Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
  };
  let best = null, least = Infinity;
  for (const it of hits) {
    if (it.on !== board) continue;
    const isInside = !it.line && x >= it.left && x <= it.right && y >= it.top && y <= it.bottom;
    const far = it.line ? distance(it.line) : isInside ? 0 : Infinity;
    if (far > (it.first ? 8 : 5)) continue;
    // Of two that are meant, the one that takes less room.
    const size = it.line ? 400 + far * 20 : (it.right - it.left) * (it.bottom - it.top);
    const rank = (it.first ? 0 : 1e9) + size;
    if (rank <= least) { least = rank; best = it; }
  }
  return best;
}

function tip(event, text) {
  const it = $("tip");
  it.hidden = !text;
  if (!text) return;
  it.textContent = text;
  it.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - it.offsetWidth - 8)) + "px";
  const below = event.clientY + 16;
  it.style.top = (below + it.offsetHeight > innerHeight ? event.clientY - it.offsetHeight - 10 : below) + "px";
}

function listen() {
  let drag = null;
  for (const id of ["timeline", "plots", "history"]) {
    const board = $(id), at = (event) => view.from + (event.clientX - board.getBoundingClientRect().left - LEFT) / (board.clientWidth - LEFT - RIGHT) * (view.to - view.from);
    board.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8, at(event)); }, { passive: false });
    board.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, from: view.from, to: view.to, moved: false }; board.setPointerCapture(event.pointerId); });
    board.addEventListener("pointermove", (event) => {
      if (drag) {
        const by = (event.clientX - drag.x) / (board.clientWidth - LEFT - RIGHT) * (drag.to - drag.from);
        if (Math.abs(event.clientX - drag.x) > 3) { drag.moved = true; look(drag.from - by, drag.to - by); changed(); }
        return;
      }
      const it = near(event, board);
      board.style.cursor = it && (it.window || it.doc) ? "pointer" : "crosshair";
      tip(event, it ? it.text : seconds(Math.max(0, at(event))));
    });
    board.addEventListener("pointerleave", (event) => tip(event, ""));
    board.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) {
        const it = near(event, board);
        // A window keeps the view: its bar is what was pointed at.
        view.at = it && !it.window ? it.at : at(event);
        if (it && it.window) choose(it.window.doc); else if (it && it.doc) choose(it.doc); else changed();
      }
      drag = null;
    });
  }
  addEventListener("keydown", (event) => {
    if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
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
  $("doc").onchange = () => choose($("doc").value || null);
  // Nothing in the form loads the page again.
  $("controls").onsubmit = (event) => event.preventDefault();
  addEventListener("resize", changed);
  addEventListener("hashchange", () => { readAddress(); changed(); });
}

if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.classList.add("dark");
addEventListener("error", (event) => { document.body.dataset.error = event.message; });
words();
readAddress();
const opening = data.stories[0];
if (opening && opening.at !== null && !/[#&](at|doc|shard)=/.test(location.hash)) {
  // Open where it went wrong, with the document that it went wrong for.
  view.at = opening.at; view.doc = opening.doc; $("doc").value = view.doc || "";
  // From the first thing that went wrong, or the sending of what was lost, to the moment.
  // That a delta pass is skipped may be long before.
  const worth = opening.lines.filter((line) => (BAD.test(line[1]) && !line[1].includes("SKIPPED")) || / sends v/.test(line[1])).map((line) => line[0]);
  const from = Math.min(opening.at, ...worth), room = Math.max((opening.at - from) * 0.3, 2e3);
  look(from - room, opening.at + room);
}
listen();
draw();
