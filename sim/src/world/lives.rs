//! What happens to processes, and when: lives begin and end, faults are performed.

use super::{BROKEN, MANUAL, Process, Restart, World};
use crate::dice::Random;
use crate::disk::SimDisk;
use crate::fault::{Act, FaultEngine, Moment, Step};
use crate::panics::Caught;
use crate::process::{Incarnation, ProcessId};
use crate::time::{MILLIS, Nanos};
use crate::trace::Event;

use super::Failure;

impl World {
    pub(super) fn nudge(&self) {
        if let Some(deadline) = self.next_deadline() {
            self.0.timers.nudge(deadline);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        let state = self.state();
        let broken = (!state.broken.is_empty()).then_some(0);
        let restart = state.restarts.first().map(|&(at, _)| at);
        let fault = state.engine.as_ref().and_then(FaultEngine::next_deadline);
        drop(state);
        let others = [broken, restart, fault, self.0.timers.next_deadline(), self.0.fabric.next_deadline()];
        others.into_iter().flatten().min()
    }

    /// Fires everything that is due.
    pub(super) fn work(&self, now: Nanos) {
        if self.something_is_due(now) {
            self.work_on_lives(now);
        }
        self.0.fabric.deliver_due(now);
        self.0.timers.fire_due(now);
    }

    fn something_is_due(&self, now: Nanos) -> bool {
        let state = self.state();
        let fault = state.engine.as_ref().and_then(FaultEngine::next_deadline);
        let restart = state.restarts.first().map(|&(at, _)| at);
        !state.broken.is_empty() || [fault, restart].into_iter().flatten().any(|at| at <= now)
    }

    fn work_on_lives(&self, now: Nanos) {
        loop {
            let broken = self.state().broken.pop();
            let Some((process, key)) = broken else { break };
            self.kill(process, BROKEN, key);
        }
        self.fire_faults(now);
        loop {
            let due = {
                let mut state = self.state();
                match state.restarts.first().copied() {
                    Some(next @ (at, process)) if at <= now => {
                        state.restarts.remove(&next);
                        process
                    }
                    _ => break,
                }
            };
            let ready = {
                let mut state = self.state();
                let it = state.process(due);
                !it.up && it.held_by.is_empty()
            };
            if ready {
                self.begin_life(due);
            }
        }
    }

    pub(super) fn fire_faults(&self, now: Nanos) {
        let steps =
            self.state().engine.as_mut().map(|engine| engine.due(now, self.0.trace.names())).unwrap_or_default();
        for step in steps {
            self.perform(step);
        }
    }

    pub(super) fn perform(&self, step: Step) {
        let Step { fault, id, text, kind, moment, key, act } = step;
        match moment {
            Moment::Begins | Moment::Ends => {
                let begin = moment == Moment::Begins;
                self.0.trace.record(self.now(), Event::Fault { id: id.clone(), text, begin });
            }
            Moment::Turns => {
                let open = matches!(act, Act::Mend { .. });
                self.note(&format!("{id} is {}", if open { "open" } else { "shut" }));
            }
        }
        if moment == Moment::Begins {
            let mut guard = self.state();
            let state = &mut *guard;
            *state.faults.entry(kind.to_owned()).or_default() += 1;
            state.matrix.count(if state.phase.is_empty() { "before" } else { &state.phase }, kind);
        }
        let fabric = &self.0.fabric;
        let disks = |process| self.state().process(process).disks.clone();
        match act {
            Act::Nothing => {}
            Act::Crash { process, wipe } => {
                self.state().process(process).held_by.insert(fault);
                self.kill(process, &format!("fault {id}"), Some(key));
                if wipe {
                    disks(process).iter().for_each(|disk| disk.wipe_for(key));
                }
            }
            Act::ArmCrash { process, after_disk_ops } => {
                disks(process).iter().for_each(|disk| disk.crash_after(after_disk_ops))
            }
            Act::Disarm { process } => disks(process).iter().for_each(SimDisk::disarm),
            Act::Release { process } => {
                let free = {
                    let mut state = self.state();
                    let it = state.process(process);
                    it.held_by.remove(&fault) && it.held_by.is_empty() && !it.up
                };
                if free {
                    self.begin_life(process);
                }
            }
            Act::Pause { process } => self.pause_by(process, fault),
            Act::Resume { process } => self.resume_by(process, fault),
            Act::Cut { links } => links.iter().for_each(|&(from, to)| fabric.cut(from, to)),
            Act::Mend { links } => links.iter().for_each(|&(from, to)| fabric.mend(from, to)),
            Act::Worsen { from, to, loss, delay, bandwidth_mbit, frames } => {
                fabric.worsen(from, to, fault as u64, loss, delay, bandwidth_mbit, frames);
            }
            Act::Relieve { from, to } => fabric.relieve(from, to, fault as u64),
            Act::Clog { from, to } => fabric.clog(from, to),
            Act::Unclog { from, to } => fabric.unclog(from, to),
            Act::Stall { process, by } => disks(process).iter().for_each(|disk| disk.stall(by)),
            Act::Unstall { process, by } => disks(process).iter().for_each(|disk| disk.unstall(by)),
            Act::DiskErrors { process, on } => disks(process).iter().for_each(|disk| disk.set_failing(on)),
            Act::FailSync { process } => disks(process).iter().for_each(SimDisk::fail_next_sync),
            Act::DiskFull { process, full } => disks(process).iter().for_each(|disk| disk.set_full(full)),
            Act::FlipBits { process, count } => {
                for disk in disks(process) {
                    (0..u64::from(count)).for_each(|bit| _ = disk.flip_bit_for(key.wrapping_add(bit << 32)));
                }
            }
            Act::Clock { process, jump_ns, drift_ppm } => {
                self.state().process(process).clock_faults += 1;
                let clock = self.clock(process);
                clock.jump(jump_ns);
                clock.drift(drift_ppm);
            }
            Act::RepairClock { process } => {
                let last = {
                    let mut state = self.state();
                    let it = state.process(process);
                    it.clock_faults = it.clock_faults.saturating_sub(1);
                    it.clock_faults == 0
                };
                if last {
                    self.clock(process).repair();
                }
            }
        }
    }

    pub(super) fn begin_life(&self, process: ProcessId) {
        let now = self.now();
        let (life, node, name) = {
            let mut state = self.state();
            let it = state.process(process);
            if it.boot.is_none() {
                return; // registered, never started: there is nothing to begin
            }
            assert!(!it.up, "a life begins when the last has ended");
            it.number += 1;
            it.up = true;
            it.is_back(now);
            (Incarnation { process, number: it.number }, it.node, self.0.trace.names().name(process))
        };
        self.0.trace.record(self.now(), Event::Start { process, incarnation: life.number });
        self.0.fabric.up(life);
        match node {
            Some(node) => self.0.handle.restart(node),
            None => {
                let node = self.create_node(process, &name);
                self.state().process(process).node = Some(node);
            }
        }
    }

    /// `key` addresses how much of the unsynced writes this takes; without one it is counted per disk.
    pub(super) fn kill(&self, process: ProcessId, why: &str, key: Option<u64>) {
        let now = self.now();
        let (disks, paused, node) = {
            let mut state = self.state();
            let it = state.process(process);
            if !it.up {
                return;
            }
            it.up = false;
            it.goes_away(now);
            let found = (it.disks.clone(), !std::mem::take(&mut it.paused_by).is_empty(), it.node);
            state.broken.retain(|&(broken, _)| broken != process);
            found
        };
        self.0.trace.record(self.now(), Event::Crash { process, why: why.into() });
        self.0.fabric.down(process);
        for disk in disks {
            match key {
                Some(key) => disk.crash_for(key),
                None => disk.crash(),
            };
        }
        if let Some(node) = node {
            if paused {
                self.0.handle.resume(node); // so that its tasks are dropped by the run loop and not inside the executor's lock
            }
            self.0.handle.kill(node);
        }
    }

    /// A life's future has returned, or panicked.
    pub(super) fn life_ended(&self, life: Incarnation, outcome: Result<(), Caught>) {
        let process = life.process;
        if let Err(caught) = outcome {
            let name = self.0.trace.names().name(process).to_string();
            return self.fail(Failure::panic(Some(name), caught));
        }
        if self.life(process) != life || !self.is_up(process) {
            return;
        }
        let broken = self.state().broken.iter().find(|&&(broken, _)| broken == process).copied();
        match broken {
            Some((_, key)) => self.kill(process, BROKEN, key),
            None => self.kill(process, "ended by itself", None),
        }
        let mut state = self.state();
        let it = state.process(process);
        if it.restart == Restart::Auto && it.held_by.is_empty() {
            let delay = self
                .0
                .dice
                .stream("restart", u64::from(process.0))
                .at(u64::from(life.number))
                .range(10 * MILLIS..=200 * MILLIS);
            state.restarts.insert((self.now() + delay, process));
        }
        drop(state);
        self.nudge();
    }

    /// In the middle of a disk operation: the process goes on until its next await, but nobody hears of it any more.
    pub(super) fn disk_broke(&self, process: ProcessId) {
        self.0.fabric.down(process);
        let now = self.now();
        {
            let mut state = self.state();
            let holders =
                state.engine.as_mut().map(|engine| engine.crashed_in_commit(now, process)).unwrap_or_default();
            let none_holds = holders.is_empty();
            state.broken.push((process, holders.first().map(|&(_, key)| key)));
            let it = state.process(process);
            it.held_by.extend(holders.into_iter().map(|(fault, _)| fault));
            if none_holds {
                it.held_by.insert(MANUAL);
            }
        }
        self.nudge();
    }

    pub(super) fn pause_by(&self, process: ProcessId, token: usize) {
        let now = self.now();
        let node = {
            let mut state = self.state();
            let it = state.process(process);
            if !it.up {
                return;
            }
            let running = it.paused_by.is_empty();
            it.paused_by.insert(token);
            it.goes_away(now);
            running.then_some(it.node).flatten()
        };
        if let Some(node) = node {
            self.0.trace.record(self.now(), Event::Pause { process });
            self.0.handle.pause(node);
        }
    }

    pub(super) fn resume_by(&self, process: ProcessId, token: usize) {
        let now = self.now();
        let node = {
            let mut state = self.state();
            let it = state.process(process);
            let freed = it.paused_by.remove(&token) && it.paused_by.is_empty();
            if freed && it.up {
                it.is_back(now);
            }
            freed.then_some(it.node).flatten()
        };
        if let Some(node) = node {
            self.0.trace.record(self.now(), Event::Resume { process });
            self.0.handle.resume(node);
        }
    }
}

impl Process {
    fn goes_away(&mut self, now: Nanos) {
        if self.away.last().is_none_or(|(_, until)| until.is_some()) {
            self.away.push((now, None));
        }
    }

    fn is_back(&mut self, now: Nanos) {
        if let Some((_, until @ None)) = self.away.last_mut() {
            *until = Some(now);
        }
    }
}
