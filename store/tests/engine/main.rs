//! The engine against a disk that forgets, tears, fills up, fails and rots.
//!
//! `disk` is that disk; `model` is what the engine should hold, as plain maps, and the driver that does the same to
//! both. Each of the other files attacks one promise.

mod accident;
mod cost;
mod crashes;
mod disk;
mod failures;
mod fuzz;
mod golden;
mod model;
mod reads;
mod reconcile;
mod rot;
mod row_cache;
mod scrub;
mod space;
mod tried;
