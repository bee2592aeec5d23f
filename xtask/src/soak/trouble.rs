//! What goes wrong in a round: one thing out of all that can. They are dealt in turn, so that as many rounds as there are
//! combinations play each of them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use miroir_sim::dice::{Dice, Random as _};
use miroir_sim::seed::Seed;
use miroir_store::env::Peer;
use miroir_store::id::NodeId;
use miroir_store::migration::Stage;

use crate::cluster::cables::Direction;

/// Who suffers, by the part it plays in the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// A node that holds the shard before and after.
    Stays,
    Joins,
    Leaves,
    Coordinator,
    /// All nodes and the coordinator at once.
    Everybody,
}

/// Which frames a cut keeps back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Both,
    FromIt,
    ToIt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// `kill -9` in a stage; started again a while later.
    Kill(Victim, Stage),
    /// SIGSTOP before the migration starts; SIGCONT when it has come as far as it must without the victim
    /// ([`Trouble::must_come_to`]), or after a while.
    Stop(Victim),
    /// No room before the migration starts, and for a while.
    FullDisk(Victim),
    /// Cut off from all others in a stage, for a while.
    Cut(Victim, Way, Stage),
}

/// The stages in which something can begin to go wrong. Not Activate: it is one commit, behind which the next follows at
/// once, so that whoever looks from outside sees the stage before it or the one after it.
pub const STAGES: [Stage; 4] = [Stage::DualWrite, Stage::Drain, Stage::DeltaPass, Stage::Cleanup];

/// Between which stages something went wrong: the last that the coordinator had logged just before, and just after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub before: Stage,
    pub after: Stage,
}

impl Trouble {
    /// Everything there is, in a fixed order.
    pub fn all() -> Vec<Trouble> {
        use Victim::{Coordinator, Everybody, Joins, Leaves, Stays};
        let kills = [Stays, Joins, Leaves, Coordinator, Everybody]
            .into_iter()
            .flat_map(|victim| STAGES.map(|stage| Trouble::Kill(victim, stage)));
        let stops = [Stays, Joins, Leaves, Coordinator].map(Trouble::Stop);
        let disks = [Stays, Joins, Leaves].map(Trouble::FullDisk);
        let cuts = [Stays, Joins, Leaves, Coordinator].into_iter().flat_map(|victim| {
            [Way::Both, Way::FromIt, Way::ToIt]
                .into_iter()
                .flat_map(move |way| STAGES.map(|stage| Trouble::Cut(victim, way, stage)))
        });
        kills.chain(stops).chain(disks).chain(cuts).collect()
    }

    /// The one of this seed. The order was shuffled once and is the same for all seeds, which go round it: so many seeds in
    /// a row as there are combinations have each exactly once, wherever they begin.
    pub fn of(seed: Seed) -> Trouble {
        let mut all = Trouble::all();
        Dice::new(Seed(0)).stream("deal", 0).shuffle(&mut all);
        all[(seed.0 % all.len() as u64) as usize]
    }

    /// Whether the processes of the round of this seed share a key. Every fourth do; the combinations are not a multiple of
    /// four, so that each of them has its turn.
    pub const fn has_key(seed: Seed) -> bool {
        seed.0.is_multiple_of(4)
    }

    /// The stage in which it is to begin; `None`: before the migration starts.
    pub const fn stage(self) -> Option<Stage> {
        match self {
            Trouble::Kill(_, stage) | Trouble::Cut(_, _, stage) => Some(stage),
            Trouble::Stop(_) | Trouble::FullDisk(_) => None,
        }
    }

    /// How far the migration has to come while the victim stands still: a majority can do without one copy, old or new,
    /// and without the one that leaves until it is to drop what it has.
    pub const fn must_come_to(self) -> Option<Stage> {
        match self {
            Trouble::Stop(Victim::Stays | Victim::Joins) => Some(Stage::Done),
            Trouble::Stop(Victim::Leaves) => Some(Stage::Cleanup),
            _ => None,
        }
    }

    /// Whether it began in the stage it was meant for, and nowhere else.
    pub fn is_met(self, hit: Option<Hit>) -> bool {
        let stage = self.stage().unwrap_or(Stage::Planned);
        hit == Some(Hit { before: stage, after: stage })
    }

    /// What it is called where rounds are counted.
    pub const fn kind(self) -> &'static str {
        match self {
            Trouble::Kill(..) => "kill -9",
            Trouble::Stop(_) => "SIGSTOP",
            Trouble::FullDisk(_) => "full disk",
            Trouble::Cut(..) => "cut links",
        }
    }

    pub const fn victim(self) -> Victim {
        match self {
            Trouble::Kill(victim, _) | Trouble::Stop(victim) | Trouble::FullDisk(victim) | Trouble::Cut(victim, ..) => {
                victim
            }
        }
    }

    /// How long it lasts.
    pub fn lasts(seed: Seed) -> Duration {
        Duration::from_millis(Dice::new(seed).stream("lasts", 0).range(200..=2_500))
    }

    /// Who suffers how: what it is called where stages are counted.
    pub fn row(self) -> (&'static str, String) {
        let victim = self.victim();
        match self {
            Trouble::Cut(_, Way::FromIt, _) => (self.kind(), format!("what {victim} sends")),
            Trouble::Cut(_, Way::ToIt, _) => (self.kind(), format!("what {victim} is sent")),
            _ => (self.kind(), victim.to_string()),
        }
    }
}

/// The processes by the parts they play.
#[derive(Clone, Debug)]
pub struct Cast {
    pub stays: NodeId,
    pub joins: NodeId,
    pub leaves: NodeId,
    pub everybody: Vec<Peer>,
}

impl Cast {
    pub fn of(&self, victim: Victim) -> Vec<Peer> {
        match victim {
            Victim::Stays => vec![Peer::Node(self.stays)],
            Victim::Joins => vec![Peer::Node(self.joins)],
            Victim::Leaves => vec![Peer::Node(self.leaves)],
            Victim::Coordinator => vec![Peer::Coordinator],
            Victim::Everybody => self.everybody.clone(),
        }
    }

    /// The parts when the shard moves back.
    pub fn back(self) -> Cast {
        Cast { joins: self.leaves, leaves: self.joins, ..self }
    }

    /// The directions that are cut so that the victim is cut off.
    pub fn directions(&self, victim: Victim, way: Way) -> BTreeSet<Direction> {
        let mut directions = BTreeSet::new();
        for it in self.of(victim) {
            for other in self.everybody.iter().filter(|other| **other != it) {
                if way != Way::ToIt {
                    directions.insert((it, *other));
                }
                if way != Way::FromIt {
                    directions.insert((*other, it));
                }
            }
        }
        directions
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Victim::Stays => "the node that stays",
            Victim::Joins => "the node that joins",
            Victim::Leaves => "the node that leaves",
            Victim::Coordinator => "the coordinator",
            Victim::Everybody => "everybody",
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Kill(victim, stage) => write!(f, "kill -9 {victim} in {stage}"),
            Trouble::Stop(victim) => write!(f, "SIGSTOP {victim}"),
            Trouble::FullDisk(victim) => write!(f, "fill the disk of {victim}"),
            Trouble::Cut(victim, Way::Both, stage) => write!(f, "cut {victim} off in {stage}"),
            Trouble::Cut(victim, Way::FromIt, stage) => write!(f, "cut what {victim} sends in {stage}"),
            Trouble::Cut(victim, Way::ToIt, stage) => write!(f, "cut what {victim} is sent in {stage}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_rounds_have_every_combination_wherever_they_begin() {
        let all: BTreeSet<Trouble> = Trouble::all().into_iter().collect();
        assert_eq!(all.len(), Trouble::all().len(), "each is there once");
        assert!(all.len() <= 100, "{} combinations", all.len());
        for first in [0, 1, 42, 1_000_003] {
            let dealt: BTreeSet<Trouble> =
                (first..first + all.len() as u64).map(|seed| Trouble::of(Seed(seed))).collect();
            assert_eq!(dealt, all, "from seed {first} on");
        }
    }

    #[test]
    fn every_combination_has_its_turn_under_a_key() {
        let rounds = 0..4 * Trouble::all().len() as u64;
        let keyed: BTreeSet<Trouble> =
            rounds.map(Seed).filter(|seed| Trouble::has_key(*seed)).map(Trouble::of).collect();
        assert_eq!(keyed.len(), Trouble::all().len());
    }

    #[test]
    fn a_stage_is_met_only_if_it_lasted_from_before_to_after() {
        let kill = Trouble::Kill(Victim::Joins, Stage::Drain);
        let hit = |before, after| Some(Hit { before, after });
        assert!(kill.is_met(hit(Stage::Drain, Stage::Drain)));
        assert!(!kill.is_met(hit(Stage::Drain, Stage::DeltaPass)));
        assert!(!kill.is_met(hit(Stage::DeltaPass, Stage::DeltaPass)));
        assert!(!kill.is_met(None));
        assert!(Trouble::Stop(Victim::Stays).is_met(hit(Stage::Planned, Stage::Planned)));
    }

    #[test]
    fn a_cut_one_way_leaves_the_other_open() {
        let node = |n| Peer::Node(NodeId(n));
        let everybody = vec![Peer::Coordinator, node(1), node(2), node(3), node(4)];
        let cast = Cast { stays: NodeId(1), joins: NodeId(4), leaves: NodeId(3), everybody };
        let sent = cast.directions(Victim::Joins, Way::FromIt);
        assert!(sent.contains(&(node(4), node(1))) && !sent.contains(&(node(1), node(4))));
        assert_eq!(cast.directions(Victim::Joins, Way::Both).len(), 8);
        assert!(!cast.directions(Victim::Coordinator, Way::Both).contains(&(node(1), node(2))));
    }
}
