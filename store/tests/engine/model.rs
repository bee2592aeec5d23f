//! What the engine should hold, as plain maps, and a driver that does the same to both.

use std::collections::BTreeMap;
use std::sync::Arc;

use miroir_store::config::{Replica, ShardConfig};
use miroir_store::engine::{Digest, Effect, Engine, Put, Stored};
use miroir_store::error::EngineError;
use miroir_store::id::{DiskId, Epoch, Key, NodeId, Session, ShardId, Version, WriterId};

use crate::disk::Rng;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard {
    pub config: Option<ShardConfig>,
    pub max_counter: u64,
    pub damaged: bool,
    pub documents: BTreeMap<Key, Stored>,
}

/// All shards of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model(pub BTreeMap<ShardId, Shard>);

/// One call that stages something.
#[derive(Clone, Debug)]
pub enum Step {
    Put(ShardId, Key, Version, Option<Arc<[u8]>>),
    Raise(ShardId, u64),
    Install(ShardConfig, bool),
    Drop(ShardId),
    Damage(ShardId),
    /// If the document is a tombstone, it is forgotten.
    Forget(ShardId, Key),
    /// Some documents of the scrub; there is no rot to be found.
    Scrub(usize),
}

pub fn key(n: u64) -> Key {
    Key::new("films", &format!("{n:03}")).expect("a valid key")
}

pub fn version(counter: u64, writer: u128) -> Version {
    Version { counter, writer: WriterId(writer) }
}

pub fn config(shard: ShardId, n: u64) -> ShardConfig {
    let replica = |node| Replica { node: NodeId(node), session: Session(Epoch::FIRST), disk: DiskId(u128::from(n)) };
    let mut config = ShardConfig::initial(shard, 4, vec![replica(0), replica(1), replica(n as u32)]);
    config.epoch = Epoch { generation: 1, n };
    config
}

impl Step {
    /// Puts mostly, over few enough documents that they meet; all else now and then.
    pub fn draw(rng: &mut Rng, clock: &mut u64) -> Step {
        let shard = ShardId(rng.below(3) as u32);
        *clock += 1;
        match rng.below(46) {
            4..=8 => Step::Forget(shard, key(rng.below(60))),
            9 => Step::Scrub(1 + rng.below(50) as usize),
            0 => Step::Raise(shard, *clock + rng.below(5)),
            1 => Step::Install(config(shard, *clock), false),
            2 => Step::Install(config(shard, *clock), true),
            3 if rng.chance(1, 2) => Step::Drop(shard),
            3 => Step::Damage(shard),
            _ => {
                let counter = (*clock).saturating_sub(rng.below(6)).max(1);
                // Mostly small; some times are times of large values, whose groups span many sectors.
                let large = if (*clock / 64).is_multiple_of(4) { 10 } else { 1 };
                let len = match rng.below(60) {
                    n if n < large => 10_000 + rng.below(20_000),
                    n if n < 5 * large => 400 + rng.below(3_000),
                    _ => rng.below(80),
                };
                let byte = (*clock % 251) as u8;
                let value = (!rng.chance(1, 6)).then(|| vec![byte; len as usize].into());
                Step::Put(shard, key(rng.below(60)), version(counter, rng.below(3).into()), value)
            }
        }
    }

    pub fn stage(&self, engine: &mut Engine) -> Result<Option<Put>, EngineError> {
        match self {
            Step::Put(shard, key, version, value) => engine.put(*shard, key, *version, value.clone()).map(Some),
            Step::Raise(shard, counter) => engine.raise_counter(*shard, *counter).map(|()| None),
            Step::Install(config, wipe) => engine.install(config, *wipe).map(|()| None),
            Step::Drop(shard) => engine.drop_copy(*shard).map(|()| None),
            Step::Damage(shard) => engine.mark_damaged(*shard).map(|()| None),
            Step::Forget(shard, key) => {
                if let Some(Stored { version, value: None }) = engine.get(*shard, key)? {
                    let other = Version { counter: version.counter + 1, ..version };
                    assert!(!engine.forget(*shard, key, other)?, "another version is kept");
                    assert!(engine.forget(*shard, key, version)?, "a tombstone of this version goes");
                }
                Ok(None)
            }
            Step::Scrub(budget) => {
                let done = engine.scrub(*budget)?;
                assert!(done.damaged.is_empty() && !done.replaced, "there is no rot: {done:?}");
                Ok(None)
            }
        }
    }
}

impl Model {
    /// Does what a step should do; what a put should answer, and the effect the commit should report.
    pub fn apply(&mut self, step: &Step) -> (Option<Put>, Option<Effect>) {
        match step.clone() {
            Step::Put(shard, key, version, value) => {
                let it = self.0.entry(shard).or_default();
                if let Some(held) = it.documents.get(&key).map(|stored| stored.version)
                    && held >= version
                {
                    return (Some(if held == version { Put::Same } else { Put::Older(held) }), None);
                }
                it.max_counter = it.max_counter.max(version.counter);
                it.documents.insert(key.clone(), Stored { version, value });
                (Some(Put::Applied), Some(Effect::Applied { shard, key, version }))
            }
            Step::Raise(shard, counter) => {
                let it = self.0.entry(shard).or_default();
                it.max_counter = it.max_counter.max(counter);
                (None, None)
            }
            Step::Install(config, wipe) => {
                let it = self.0.entry(config.shard).or_default();
                if wipe {
                    *it = Shard::default();
                }
                it.config = Some(config.clone());
                (None, Some(Effect::Installed { config, wiped: wipe }))
            }
            Step::Drop(shard) => {
                let it = self.0.entry(shard).or_default();
                it.documents.clear();
                it.max_counter = 0;
                (None, Some(Effect::Dropped { shard }))
            }
            Step::Damage(shard) => {
                self.0.entry(shard).or_default().damaged = true;
                (None, None)
            }
            Step::Forget(shard, key) => match self.0.get_mut(&shard).and_then(|it| it.documents.remove(&key)) {
                Some(Stored { version, value: None }) => (None, Some(Effect::Forgotten { shard, key, version })),
                Some(held) => {
                    self.0.entry(shard).or_default().documents.insert(key, held);
                    (None, None)
                }
                None => (None, None),
            },
            Step::Scrub(_) => (None, None),
        }
    }

    /// The same, taken from an engine by every way of reading that it has; fails if two of them disagree.
    pub fn of(engine: &Engine) -> Result<Model, EngineError> {
        let mut model = Model::default();
        for (shard, state) in engine.shards() {
            let versions = engine.documents(shard)?;
            let page = engine.page(shard, None, usize::MAX, usize::MAX)?;
            assert!(!page.more);
            let in_page: Vec<(Key, Version)> =
                page.documents.iter().map(|(key, held)| (key.clone(), held.version)).collect();
            assert_eq!(in_page, versions, "{shard}: page and list of documents");
            for (key, held) in &page.documents {
                assert_eq!(engine.get(shard, key)?.as_ref(), Some(held), "{shard} {key}: get and page");
            }
            if let Some(tombstones) = engine.tombstones(shard) {
                let counted = page.documents.iter().filter(|(_, held)| held.value.is_none()).count();
                assert_eq!(tombstones, counted as u64, "{shard}: the tombstones kept up are those in the page");
            }
            let (digest, count) = engine.recount(shard)?;
            assert!(digest == state.digest, "{shard}: the digest kept up is the digest recounted");
            assert_eq!(count, state.documents, "{shard}: the count kept up is the recount");
            assert_eq!(count == 0, digest == Digest::default(), "{shard}: no documents, no digest");
            let documents = page.documents.into_iter().collect();
            let (config, max_counter, damaged) = (state.config.clone(), state.max_counter, state.damaged);
            model.0.insert(shard, Shard { config, max_counter, damaged, documents });
        }
        Ok(model)
    }
}
