//! By when anti-entropy has to end a loss window: what it promises is not only that windows close, but when.
//!
//! Passes over a shard begin one period apart, or as soon as the last has ended. The first pass that begins after a window
//! has opened reads whoever holds the version, and is verified on a majority of those who lacked it. So the window is
//! closed when that pass has finished, and the pass begins at most one period later. What delays it is known: the coordinator
//! was dead or paused, and counts its period anew; it waited for its disk when the pass became due; a commit made the shard's
//! pass void; a replica was being readmitted, and no pass is made meanwhile. How long a pass takes is not judged here: one
//! that waits for a dead node waits.
//!
//! Shards share the passes that may be under way at once: with more shards than that, when a pass begins is not judged, but
//! what it has left open is.

use miroir_sim::disk::LONG_WAIT;
use miroir_sim::history::Operation;
use miroir_sim::oracle::durable::Window;
use miroir_sim::time::{MILLIS, Nanos, in_seconds};
use miroir_store::coordinator::Options;
use miroir_store::id::ShardId;

use super::{Finding, opened_by_skipping, violation};
use crate::audit::{Books, Turn};
use crate::cluster::Cluster;

/// The windows of skipped delta passes that lasted too long; the first of them.
pub(super) fn judge(it: &Cluster, windows: &[Window], books: &Books, history: &[Operation]) -> Option<Finding> {
    let options = Options::default();
    let shared = it.plan.cluster.shards as usize > options.anti_entropy_passes;
    let coordinator = it.directory.coordinator();
    let away = it.world.away(coordinator).into_iter().map(|(from, to)| Delay::anew(from, to.unwrap_or(Nanos::MAX)));
    let waits = it.world.long_waits(coordinator).into_iter().map(|(from, to)| Delay { from, to, anew: false });
    let absences: Vec<Delay> = away.chain(waits).collect();
    let period = if shared { Nanos::MAX } else { it.plan.cluster.anti_entropy_period_ms * MILLIS };
    let pace = Pace { period, look: options.resend + LONG_WAIT };
    windows.iter().filter(|window| opened_by_skipping(window, books, history)).find_map(|window| {
        let shard = ShardId(window.shard);
        let delays = delays(books, shard, &absences);
        let turns = books.turns.get(&shard).map_or(&[][..], Vec::as_slice);
        let due = due(window.opened_at, turns, &delays, pace);
        let closed = window.closed_at.unwrap_or(Nanos::MAX);
        (closed > due).then(|| {
            let text =
                format!("open for longer than anti-entropy takes, which was until {}: {window}", in_seconds(due));
            violation("durable", text).of_kind("a loss window was open for longer than anti-entropy takes").at(due)
        })
    })
}

/// How often passes begin, and how often at least the coordinator looks whether one is due: it sleeps no longer than it waits
/// for answers, after waits for its disk that are too short to be known one by one.
#[derive(Clone, Copy)]
struct Pace {
    period: Nanos,
    look: Nanos,
}

/// What puts the passes over a shard off, from when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delay {
    from: Nanos,
    to: Nanos,
    /// The period is counted anew from its end. If not, it is a wait for the disk: the coordinator looked what is due as it
    /// began to wait, and does so again when it has waited.
    anew: bool,
}

impl Delay {
    const fn anew(from: Nanos, to: Nanos) -> Delay {
        Delay { from, to, anew: true }
    }
}

/// What puts the passes over a shard off: that the coordinator stands still, and what is done to the shard.
fn delays(books: &Books, shard: ShardId, absences: &[Delay]) -> Vec<Delay> {
    let commits: Vec<_> = books.config_log.iter().filter(|(_, config)| config.shard == shard).collect();
    let ends = commits.iter().skip(1).map(|(at, _)| *at).chain([Nanos::MAX]);
    let spans = commits.iter().zip(ends).map(|((at, config), end)| {
        // A commit is an instant, unless it begins a readmission.
        Delay::anew(*at, if config.recovering.is_empty() { *at } else { end })
    });
    let mut delays: Vec<Delay> = spans.chain(absences.iter().copied()).collect();
    delays.sort_unstable();
    delays
}

/// By when a window that opened at `opened` has to be closed. `turns` and `delays` are in order.
fn due(opened: Nanos, turns: &[Turn], delays: &[Delay], pace: Pace) -> Nanos {
    let period = pace.period.saturating_add(pace.look);
    let mut due = opened.saturating_add(period);
    let put_off = |due: Nanos, since: Nanos| {
        let by = |due: Nanos, delay: &Delay| {
            let (from, then) = match delay.anew {
                true => (delay.from, period),
                // What was due when it began is no later for it.
                false => (delay.from.saturating_add(pace.look).saturating_add(1), pace.look),
            };
            if from <= due && delay.to >= since { due.max(delay.to.saturating_add(then)) } else { due }
        };
        delays.iter().fold(due, by)
    };
    // One that is under way runs to its end, and the next begins behind it: when the coordinator looks the next time.
    let running = turns.iter().rev().find(|turn| turn.began < opened);
    if let Some(ended) = running.and_then(|turn| turn.ended).filter(|ended| *ended > opened) {
        due = due.max(ended.saturating_add(pace.look).saturating_add(1));
    }
    for turn in turns.iter().filter(|turn| turn.began >= opened) {
        due = put_off(due, opened);
        match turn.ended {
            _ if turn.began > due => return due,
            Some(ended) => return ended,
            // It became void at some time after it had begun; another one follows.
            None => {
                let void = delays.iter().find(|delay| delay.anew && delay.to >= turn.began);
                due = due.max(void.map_or(turn.began, |delay| delay.to).saturating_add(period));
            }
        }
    }
    put_off(due, opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { period: 90, look: 10 };

    fn turn(began: Nanos, ended: Option<Nanos>) -> Turn {
        Turn { began, ended }
    }

    #[test]
    fn a_window_is_closed_by_the_first_pass_that_began_after_it_had_opened() {
        let turns = [turn(50, Some(60)), turn(150, Some(170)), turn(250, Some(260))];
        assert_eq!(due(100, &turns, &[], PACE), 170);
        assert_eq!(due(155, &turns, &[], PACE), 260, "the pass under way may have read before");
        assert_eq!(due(300, &turns, &[], PACE), 400, "no pass began");
    }

    #[test]
    fn a_pass_that_is_left_out_is_late() {
        assert_eq!(due(100, &[turn(50, Some(60)), turn(450, Some(470))], &[], PACE), 200);
    }

    #[test]
    fn who_was_away_counts_the_period_anew() {
        let turns = [turn(150, None), turn(490, Some(510))];
        assert_eq!(due(100, &turns, &[Delay::anew(160, 400)], PACE), 510);
        assert_eq!(due(100, &turns, &[], PACE), 250, "the second began too late without a reason");
        assert_eq!(due(100, &turns, &[Delay::anew(160, 300)], PACE), 400, "and too late after that one");
        assert_eq!(due(100, &[turn(390, Some(430))], &[Delay::anew(90, 300)], PACE), 430);
        assert_eq!(due(100, &[], &[Delay::anew(90, Nanos::MAX)], PACE), Nanos::MAX);
    }

    #[test]
    fn who_waited_for_its_disk_begins_what_is_due_at_once() {
        let wait = |from, to| Delay { from, to, anew: false };
        assert_eq!(due(100, &[turn(305, Some(320))], &[wait(150, 300)], PACE), 320);
        assert_eq!(due(100, &[turn(350, Some(360))], &[wait(150, 300)], PACE), 310, "and not a period later");
        assert_eq!(due(100, &[turn(195, Some(205))], &[wait(110, 150)], PACE), 205, "nothing was due meanwhile");
        assert_eq!(due(100, &[turn(250, Some(260))], &[wait(110, 150)], PACE), 200);
        assert_eq!(due(100, &[turn(505, Some(520))], &[wait(195, 500)], PACE), 200, "it was due before the wait");
        let chain = [wait(150, 300), wait(300, 550)];
        assert_eq!(due(100, &[turn(560, Some(570))], &chain, PACE), 310, "it had a look between the two");
        let behind_another = [turn(50, Some(400)), turn(620, Some(650))];
        assert_eq!(due(100, &behind_another, &[wait(400, 610)], PACE), 650);
        // It dies as it wakes, and the next life counts anew.
        let delays = [wait(150, 300), Delay::anew(300, 400)];
        assert_eq!(due(100, &[turn(490, Some(510))], &delays, PACE), 510);
    }

    #[test]
    fn a_pass_that_takes_long_puts_the_next_one_off() {
        assert_eq!(due(100, &[turn(50, Some(400)), turn(410, Some(420))], &[], PACE), 420);
    }
}
