//! Clients of a real cluster that write down what they see, as clients inside the simulator do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use miroir_sim::dice::{Dice, Random as _};
use miroir_sim::history::{History, Op, Outcome as Ended, Version as Hint};
use miroir_store::cli::session::Session;
use miroir_store::cli::settings::Settings;
use miroir_store::id::{Key, Version};
use miroir_store::router::client::Client;
use miroir_store::router::{Outcome, Request};

use crate::cluster::failed;
use crate::exit::Failure;

/// Few enough that clients meet on them, many enough for a copy of several pages.
pub const DOCUMENTS: u64 = 160;
/// Of them, those that are written while the shard moves.
const CONTESTED: u64 = 48;

/// What clients share.
pub struct Load {
    pub history: History,
    began: Instant,
    acked: AtomicU64,
    stop: AtomicBool,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            history: History::default(),
            began: Instant::now(),
            acked: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }
}

impl Load {
    /// Writes acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Has all clients end after the operation that they are in.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// One client: writes, reads and deletes, one operation after the other, until it is told to stop.
    pub fn work(&self, number: u32, settings: Settings, dice: Dice) -> Result<(), Failure> {
        self.with_client(settings, async |client| {
            let mut stream = dice.stream("client", number.into());
            let mut n = 0_u64;
            while !self.stop.load(Ordering::Relaxed) {
                n += 1;
                let document = stream.below(CONTESTED);
                let op = match stream.below(10) {
                    0..=5 => Op::Write { value: format!("{number}-{n}") },
                    6..=8 => Op::Read { value: None },
                    _ => Op::Delete,
                };
                self.call(client, number, document, op).await;
            }
            Ok(())
        })
    }

    /// Writes every document once.
    pub fn fill(&self, number: u32, settings: Settings) -> Result<(), Failure> {
        self.with_client(settings, async |client| {
            for document in 0..DOCUMENTS {
                let op = Op::Write { value: format!("{number}-{document}") };
                self.call(client, number, document, op).await;
            }
            Ok(())
        })
    }

    /// Reads every document once. What cannot be read is an error that names it.
    pub fn read_all(&self, number: u32, settings: Settings) -> Result<(), Failure> {
        self.with_client(settings, async |client| {
            for document in 0..DOCUMENTS {
                if self.call(client, number, document, Op::Read { value: None }).await != Ended::Ok {
                    return Err(Failure::internal(format!(
                        "{} cannot be read after everything is whole",
                        name(document)
                    )));
                }
            }
            Ok(())
        })
    }

    fn with_client(
        &self,
        settings: Settings,
        work: impl AsyncFnOnce(&mut Client) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = built.map_err(|error| Failure::io("start", "a client", &error))?;
        runtime.block_on(async {
            let session = Session::open(settings).await.map_err(failed)?;
            let mut client = session.client().map_err(failed)?;
            let ended = work(&mut client).await;
            session.close().await;
            ended
        })
    }

    async fn call(&self, client: &mut Client, number: u32, document: u64, op: Op) -> Ended {
        let key = Key::new("soak", &name(document)).expect("short names");
        let is_read = matches!(op, Op::Read { .. });
        let request = match &op {
            Op::Read { .. } => Request::Get { key },
            Op::Write { value } => Request::Put { key, value: value.clone().into_bytes().into() },
            Op::Delete => Request::Delete { key },
            Op::Cas { .. } => unreachable!("the store has none"),
        };
        let called = self.history.call(self.now(), number, name(document), op);
        let (ended, version, value) = match client.call(request).await {
            Outcome::Ok { version, value } => (Ended::Ok, Some(version), value),
            Outcome::Rejected => (Ended::Rejected, None, None),
            Outcome::Unknown { version } => (Ended::Unknown, version, None),
            Outcome::TooLong { limit } => unreachable!("values here are far shorter than {limit} bytes"),
        };
        if ended == Ended::Ok && !is_read {
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
        let read = value.filter(|_| is_read).map(|value| String::from_utf8_lossy(&value).into_owned());
        self.history.finish(self.now(), called, ended, read, version.map(hint));
        ended
    }

    /// Waits until clients have written so many more.
    pub fn wait_for_writes(&self, more: u64, limit: Duration) -> Result<(), Failure> {
        let (end, wanted) = (Instant::now() + limit, self.acked() + more);
        while self.acked() < wanted {
            if Instant::now() > end {
                let text = format!("clients are not served: fewer than {more} writes in {} s", limit.as_secs());
                return Err(Failure::internal(text));
            }
            std::thread::sleep(crate::cluster::LOOK);
        }
        Ok(())
    }
}

fn name(document: u64) -> String {
    format!("d{document:03}")
}

fn hint(version: Version) -> Hint {
    Hint { counter: version.counter, writer: version.writer.0 }
}
