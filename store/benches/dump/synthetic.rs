//! A V6 dump of one index, as large as one likes, written as it is made.

#![expect(clippy::disallowed_types, reason = "a dump to measure with is a real file")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

/// Numbers that look like chance and are the same in every run (splitmix64).
fn number(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How many documents, and how much text in each.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub documents: u64,
    pub text_bytes: usize,
}

const WORDS: [&str; 16] = [
    "river", "stone", "light", "harbour", "winter", "engine", "letter", "garden", "silver", "window", "thunder",
    "copper", "meadow", "signal", "canyon", "lantern",
];

impl Shape {
    /// A film, as such indexes have them. Ids are in no order of their own.
    pub fn document(self, n: u64) -> String {
        let mut text = String::with_capacity(self.text_bytes + 16);
        let mut word = 0;
        while text.len() < self.text_bytes {
            let draw = number(n * 1_009 + word);
            text.push_str(WORDS[(draw % 16) as usize]);
            text.push_str(if draw.is_multiple_of(7) { ", " } else { " " });
            word += 1;
        }
        text.truncate(self.text_bytes);
        format!(
            r#"{{"id":"{:016x}","title":"Film {n}","year":{},"rating":{}.{},"genres":["{}","{}"],"overview":"{text}"}}"#,
            number(n),
            1950 + n % 75,
            n % 10,
            n % 97,
            WORDS[(n % 16) as usize],
            WORDS[(n / 16 % 16) as usize],
        )
    }

    pub fn write(self, path: &Path) -> io::Result<()> {
        let mut out = GzEncoder::new(BufWriter::new(File::create(path)?), Compression::fast());
        let small: [(&str, &str); 5] = [
            (
                "indexes/films/metadata.json",
                r#"{"uid":"films","primaryKey":"id","createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-01T00:00:00Z"}"#,
            ),
            ("indexes/films/settings.json", "{}"),
            ("tasks/queue.jsonl", ""),
            ("keys.jsonl", ""),
            ("metadata.json", r#"{"dumpVersion":"V6","dbVersion":"1.13.0","dumpDate":"2024-01-01T00:00:00Z"}"#),
        ];
        let bytes = (0..self.documents).map(|n| self.document(n).len() as u64 + 1).sum();
        out.write_all(header("indexes/films/documents.jsonl", bytes).as_bytes())?;
        for n in 0..self.documents {
            out.write_all(self.document(n).as_bytes())?;
            out.write_all(b"\n")?;
        }
        pad(&mut out, bytes)?;
        for (path, content) in small {
            out.write_all(header(path, content.len() as u64).as_bytes())?;
            out.write_all(content.as_bytes())?;
            pad(&mut out, content.len() as u64)?;
        }
        out.write_all(&[0; 1024])?;
        out.finish()?.flush()
    }
}

fn header(path: &str, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(bytes);
    header.set_path(path).expect("a short path");
    header.set_cksum();
    header
}

fn pad(out: &mut impl Write, bytes: u64) -> io::Result<()> {
    out.write_all(&[0; 512][..(512 - (bytes % 512) as usize) % 512])
}
