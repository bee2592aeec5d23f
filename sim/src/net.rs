//! The message fabric: encoded frames between processes, over directed links that delay, lose, duplicate and reorder them.
//!
//! It is no stream transport, on purpose: no order, no delivery guarantee, no notice of a broken peer. A frame is judged when it is sent (loss,
//! cut link, dead sender) and when it arrives (a cut since then, receiver down, a clog that holds it). Frames in flight live in one heap ordered by (deadline,
//! sequence); no task is spawned per frame. The decision about a frame is addressed by its ordinal on its link.
//!
//! A frame that was sent to an earlier life of a process reaches the next one: networks do not know about restarts.

mod endpoint;
mod link;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use xxhash_rust::xxh3::xxh3_64;

pub use self::endpoint::{Endpoint, Recv};
pub use self::link::LinkProfile;
use self::link::{Fate, Link, Links, Worse};
use crate::dice::Dice;
use crate::plan::NetworkPlan;
use crate::process::{Incarnation, Names, ProcessId};
use crate::ratio::Ratio;
use crate::sync::lock;
use crate::time::{MICROS, Nanos, Timers};
use crate::trace::{Event, Trace};

/// Why a frame was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The link's dice.
    Loss,
    /// The link was cut when the frame was sent, or at some time while it was in flight.
    Cut,
    /// The receiver was down when it arrived.
    Down,
    /// The sender had died before it sent: a destructor at work, or the rest of a step in which the process crashed.
    Stale,
}

impl Why {
    /// `loss`, `cut`, `n3 is down`, `the sender is dead`.
    pub fn text(self, to: &str) -> Arc<str> {
        match self {
            Why::Loss => "loss".into(),
            Why::Cut => "cut".into(),
            Why::Down => format!("{to} is down").into(),
            Why::Stale => "the sender is dead".into(),
        }
    }

    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Why::Loss => "drop",
            Why::Cut => "drop_cut",
            Why::Down => "drop_down",
            Why::Stale => "drop_stale",
        }
    }
}

/// A lost frame, as shown to the observer.
#[derive(Clone, Copy, Debug)]
pub struct Dropped<'a> {
    /// When.
    pub at: Nanos,
    /// Sender.
    pub from: ProcessId,
    /// Receiver.
    pub to: ProcessId,
    /// The bytes.
    pub frame: &'a [u8],
    /// Why.
    pub why: Why,
}

/// Told of every lost frame. It may use the fabric.
pub type DropObserver = Box<dyn FnMut(&Dropped<'_>) + Send>;

/// The network of a run. Clones are the same network.
#[derive(Clone)]
pub struct Fabric(Arc<Shared>);

struct Shared {
    timers: Timers,
    trace: Trace,
    dice: Dice,
    state: Mutex<State>,
    on_drop: Mutex<Option<DropObserver>>,
}

struct State {
    default: LinkProfile,
    ports: Vec<Port>,
    links: Links,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    /// Arrived at a clogged link, in the order of arrival.
    held: Vec<InFlight>,
    sequence: u64,
    frames: u64,
    duplicates: u64,
    drops: BTreeMap<Why, u64>,
}

#[derive(Default)]
struct Port {
    /// The life that may send and receive; none while down.
    alive: Option<u32>,
    /// Sender, number and bytes of each frame that waits.
    inbox: Vec<(ProcessId, u64, Vec<u8>)>,
    receiver: Option<Waker>,
    /// No fault touches its links.
    trusted: bool,
}

struct InFlight {
    deadline: Nanos,
    sequence: u64,
    id: u64,
    from: ProcessId,
    to: ProcessId,
    cuts_ever: u32,
    frame: Vec<u8>,
}

impl InFlight {
    fn order(&self) -> (Nanos, u64) {
        (self.deadline, self.sequence)
    }
}

impl PartialEq for InFlight {
    fn eq(&self, other: &InFlight) -> bool {
        self.order() == other.order()
    }
}

impl Eq for InFlight {}

impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &InFlight) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlight {
    fn cmp(&self, other: &InFlight) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Fabric {
    /// A network without processes. Links named in the plan get their profiles when their processes are added.
    pub fn new(timers: Timers, trace: Trace, dice: Dice, plan: &NetworkPlan) -> Fabric {
        let state = State {
            default: LinkProfile::from_plan(plan),
            ports: Vec::new(),
            links: Links::default(),
            in_flight: BinaryHeap::new(),
            held: Vec::new(),
            sequence: 0,
            frames: 0,
            duplicates: 0,
            drops: BTreeMap::new(),
        };
        Fabric(Arc::new(Shared { timers, trace, dice, state: Mutex::new(state), on_drop: Mutex::new(None) }))
    }

    fn names(&self) -> &Names {
        self.0.trace.names()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// Tells `observer` of every lost frame; replaces the last one.
    pub fn on_drop(&self, observer: impl FnMut(&Dropped<'_>) + Send + 'static) {
        *lock(&self.0.on_drop) = Some(Box::new(observer));
    }

    /// The profile of links that have none of their own.
    pub fn default_profile(&self) -> LinkProfile {
        self.state().default.clone()
    }

    /// Changes that profile, for frames sent from now on.
    pub fn set_default_profile(&self, profile: LinkProfile) {
        self.state().default = profile;
    }

    /// Gives one directed link its own profile, for frames sent from now on; `None` goes back to the default.
    pub fn set_link(&self, from: ProcessId, to: ProcessId, profile: Option<LinkProfile>) {
        self.with_link(from, to, |link, _| link.profile = profile);
    }

    /// Makes all links of `process` faultless and immune to cuts: for operators and observers, who are not under test.
    pub fn trust(&self, process: ProcessId) {
        self.state().port(process).trusted = true;
    }

    /// Cuts the directed link; what is in flight is lost. Cuts are counted: each needs its own [`Fabric::mend`].
    pub fn cut(&self, from: ProcessId, to: ProcessId) {
        self.with_link(from, to, |link, _| {
            link.cuts += 1;
            link.cuts_ever += 1;
        });
    }

    /// Takes one cut back.
    pub fn mend(&self, from: ProcessId, to: ProcessId) {
        self.with_link(from, to, |link, _| link.cuts = link.cuts.saturating_sub(1));
    }

    /// Cuts every link between the two sides, both ways.
    pub fn partition(&self, a: &[ProcessId], b: &[ProcessId]) {
        for (&a, &b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    /// Takes [`Fabric::partition`] of the same sides back.
    pub fn mend_partition(&self, a: &[ProcessId], b: &[ProcessId]) {
        for (&a, &b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
            self.mend(a, b);
            self.mend(b, a);
        }
    }

    /// True if the directed link is cut now.
    pub fn is_cut(&self, from: ProcessId, to: ProcessId) -> bool {
        self.state().links.get(from, to).is_some_and(|link| link.cuts > 0)
    }

    /// Makes a link worse under a token: at least this loss, of at most so many frames (0: no limit), this delay on top, at most
    /// this bandwidth (0: no limit), until [`Fabric::relieve`] with the same token.
    #[expect(clippy::too_many_arguments, reason = "a link, and what is worse about it")]
    pub fn worsen(
        &self,
        from: ProcessId,
        to: ProcessId,
        token: u64,
        loss: Ratio,
        delay: Nanos,
        bandwidth_mbit: u64,
        frames: u64,
    ) {
        let frames_left = (frames > 0).then_some(frames);
        self.with_link(from, to, |link, _| link.worse.push(Worse { token, loss, delay, bandwidth_mbit, frames_left }));
    }

    /// Takes [`Fabric::worsen`] back.
    pub fn relieve(&self, from: ProcessId, to: ProcessId, token: u64) {
        self.with_link(from, to, |link, _| link.worse.retain(|worse| worse.token != token));
    }

    /// Clogs a directed link: what is in flight, or sent from now on, waits at its end until [`Fabric::unclog`]. Counted like cuts.
    pub fn clog(&self, from: ProcessId, to: ProcessId) {
        self.with_link(from, to, |link, _| link.clogs += 1);
    }

    /// Takes one clog back. After the last one, everything that has waited arrives, in its order.
    pub fn unclog(&self, from: ProcessId, to: ProcessId) {
        let free = self.with_link(from, to, |link, _| {
            link.clogs = link.clogs.saturating_sub(1);
            link.clogs == 0
        });
        if free {
            self.release(|frame| frame.from == from && frame.to == to);
        }
    }

    /// Lets waiting frames arrive now.
    fn release(&self, which: impl Fn(&InFlight) -> bool) {
        let now = self.0.timers.now();
        let mut state = self.state();
        let (free, held): (Vec<_>, Vec<_>) = std::mem::take(&mut state.held).into_iter().partition(which);
        state.held = held;
        let any = !free.is_empty();
        for frame in free {
            state.push(InFlight { deadline: now, ..frame });
        }
        drop(state);
        if any {
            self.0.timers.nudge(now);
        }
    }

    /// Ends every cut, clog and worsening, and all loss, duplication and holding back, of the default and of every link.
    pub fn heal(&self) {
        let mut state = self.state();
        state.default = state.default.healed();
        for link in state.links.values_mut() {
            link.cuts = 0;
            link.clogs = 0;
            link.worse.clear();
            link.profile = link.profile.as_ref().map(LinkProfile::healed);
        }
        drop(state);
        self.release(|_| true);
    }

    fn with_link<T>(&self, from: ProcessId, to: ProcessId, change: impl FnOnce(&mut Link, &LinkProfile) -> T) -> T {
        let mut state = self.state();
        let State { links, default, .. } = &mut *state;
        let link = links.get_or_make(self.0.dice, from, to);
        change(link, default)
    }

    /// Begins a life of a process: from now on it can send and receive.
    pub fn up(&self, life: Incarnation) {
        let mut state = self.state();
        let port = state.port(life.process);
        assert!(port.inbox.is_empty(), "an inbox does not survive a crash");
        port.alive = Some(life.number);
    }

    /// Ends the life of a process: its inbox is lost, its endpoints are dead.
    pub fn down(&self, process: ProcessId) {
        let (inbox, receiver) = {
            let mut state = self.state();
            let port = state.port(process);
            port.alive = None;
            (std::mem::take(&mut port.inbox), port.receiver.take())
        };
        drop(receiver);
        let at = self.0.timers.now();
        for (from, id, frame) in inbox {
            self.dropped(at, from, process, id, &frame, Why::Down);
        }
    }

    /// The way in and out for one life of a process.
    pub fn endpoint(&self, life: Incarnation) -> Endpoint {
        Endpoint { fabric: self.clone(), life }
    }

    /// Frames in flight, those that a clog holds included.
    pub fn in_flight(&self) -> usize {
        let state = self.state();
        state.in_flight.len() + state.held.len()
    }

    /// When the next frame arrives.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.state().in_flight.peek().map(|Reverse(next)| next.deadline)
    }

    /// Events so far by name: `send`, `duplicate`, `drop`, `drop_cut`, `drop_down`, `drop_stale`.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let state = self.state();
        let own = [("send", state.frames), ("duplicate", state.duplicates)];
        let drops = state.drops.iter().map(|(why, &count)| (why.name(), count));
        own.into_iter().filter(|&(_, count)| count > 0).chain(drops).collect()
    }

    /// Delivers every frame whose deadline has passed.
    pub fn deliver_due(&self, now: Nanos) {
        let mut guard = self.state();
        loop {
            let state = &mut *guard;
            match state.in_flight.peek() {
                Some(Reverse(next)) if next.deadline <= now => {}
                _ => return,
            }
            let Some(Reverse(message)) = state.in_flight.pop() else { return };
            let InFlight { id, from, to, cuts_ever, .. } = message;
            let trusted = state.port(from).trusted || state.port(to).trusted;
            let link = state.links.get(from, to);
            let cut = link.is_some_and(|link| link.cuts > 0 || link.cuts_ever != cuts_ever) && !trusted;
            if !cut && !trusted && link.is_some_and(|link| link.clogs > 0) {
                state.held.push(message);
                continue;
            }
            let port = state.port(to);
            if cut || port.alive.is_none() {
                drop(guard);
                let why = if cut { Why::Cut } else { Why::Down };
                self.dropped(now, from, to, id, &message.frame, why);
                guard = self.state();
                continue;
            }
            self.0.trace.record_frame(now, Event::Deliver { from, to, id }, &message.frame);
            port.inbox.push((from, id, message.frame));
            if let Some(receiver) = port.receiver.take() {
                drop(guard);
                receiver.wake();
                guard = self.state();
            }
        }
    }

    fn send(&self, life: Incarnation, to: ProcessId, frame: Vec<u8>) {
        let now = self.0.timers.now();
        let from = life.process;
        let mut guard = self.state();
        let state = &mut *guard;
        let id = state.frames;
        state.frames += 1;
        let event = Event::Send { from, to, id, len: frame.len() as u32, hash: xxh3_64(&frame) };
        self.0.trace.record_frame(now, event, &frame);
        let trusted = from == to || state.port(from).trusted || state.port(to).trusted;
        if state.port(from).alive != Some(life.number) {
            drop(guard);
            return self.dropped(now, from, to, id, &frame, Why::Stale);
        }
        let link = state.links.get_or_make(self.0.dice, from, to);
        let fate = if trusted {
            Fate::Arrives { at: now + state.default.latency_min.max(MICROS), twice_at: None }
        } else {
            link.decide(&state.default, now, frame.len())
        };
        let (cut, cuts_ever) = (link.cuts > 0 && !trusted, link.cuts_ever);
        match fate {
            _ if cut => {
                drop(guard);
                self.dropped(now, from, to, id, &frame, Why::Cut);
            }
            Fate::Lost => {
                drop(guard);
                self.dropped(now, from, to, id, &frame, Why::Loss);
            }
            Fate::Arrives { at, twice_at } => {
                if let Some(deadline) = twice_at {
                    state.duplicates += 1;
                    state.push(InFlight { deadline, sequence: 0, id, from, to, cuts_ever, frame: frame.clone() });
                }
                state.push(InFlight { deadline: at, sequence: 0, id, from, to, cuts_ever, frame });
                drop(guard);
                self.0.timers.nudge(at);
            }
        }
    }

    fn dropped(&self, at: Nanos, from: ProcessId, to: ProcessId, id: u64, frame: &[u8], why: Why) {
        let text = why.text(&self.names().name(to));
        self.0.trace.record_frame(at, Event::Drop { from, to, id, why: text }, frame);
        *self.state().drops.entry(why).or_default() += 1;
        // Outside the lock while it runs: the observer may use the fabric.
        let observer = lock(&self.0.on_drop).take();
        if let Some(mut observer) = observer {
            observer(&Dropped { at, from, to, frame, why });
            lock(&self.0.on_drop).get_or_insert(observer);
        }
    }
}

impl State {
    fn port(&mut self, process: ProcessId) -> &mut Port {
        if self.ports.len() <= process.index() {
            self.ports.resize_with(process.index() + 1, Port::default);
        }
        &mut self.ports[process.index()]
    }

    fn push(&mut self, mut message: InFlight) {
        message.sequence = self.sequence;
        self.sequence += 1;
        self.in_flight.push(Reverse(message));
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fabric({} in flight)", self.in_flight())
    }
}

#[cfg(test)]
mod tests;
