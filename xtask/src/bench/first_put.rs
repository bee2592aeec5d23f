//! How long it takes from nothing to a document that is safe: the commands that a newcomer types.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cluster;
use crate::exit::Failure;

/// Clusters that are started, one after the other.
const CLUSTERS: usize = 5;
const UP: [&str; 6] = ["cluster", "up", "--nodes", "3", "--detach", "--dir"];
const PUT: [&str; 3] = ["put", "movies/1", r#"{"title":"Alien"}"#];

/// Starts clusters in `folder`, each of which gets one put, and says how long it took until that was acknowledged.
pub fn measure(program: &Path, folder: &Path) -> Result<String, Failure> {
    let mut took: Vec<Duration> = Vec::new();
    for number in 0..CLUSTERS {
        let dir = folder.join(format!("first-put-{number}"));
        let name = dir.to_string_lossy();
        let began = Instant::now();
        cluster::miroir(program, &dir, &[&UP[..], &[&name]].concat())?;
        let put = cluster::miroir(program, &dir, &PUT);
        took.push(began.elapsed());
        cluster::miroir(program, &dir, &["cluster", "down", "--dir", &name])?;
        put?;
        fs::remove_dir_all(&dir).map_err(|error| Failure::io("remove", dir.display(), &error))?;
    }
    took.sort();
    let seconds = |took: Duration| format!("{:.2} s", took.as_secs_f64());
    Ok(format!(
        "from `miroir {} DIR` to the acknowledged end of `miroir put`, {CLUSTERS} times: median {}, from {} to {}",
        UP.join(" "),
        seconds(took[CLUSTERS / 2]),
        seconds(took[0]),
        seconds(took[CLUSTERS - 1])
    ))
}
