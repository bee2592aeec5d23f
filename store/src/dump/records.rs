//! Cuts a member into its documents: lines, or the elements of one JSON array (what V2 kept of unfinished updates).
//!
//! One record is in memory at a time. The text of a document stays as it is, up to white space around it; line breaks
//! inside an element of an array, which can only be white space, become blanks, so that a document is always one line.

use std::io::Read;

use crate::dump::archive::Archive;
use crate::dump::refusal::{DumpError, Refusal};

/// How a member holds its documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Lines,
    /// One array, unless it does not begin like one: then lines.
    Array,
}

/// Bytes that are read one after another.
pub trait Bytes {
    /// Fills some of `out`; 0 at the end.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DumpError>;
}

impl<R: Read> Bytes for Archive<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DumpError> {
        Archive::read(self, out)
    }
}

impl Bytes for &[u8] {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DumpError> {
        Ok(Read::read(self, out).expect("memory can be read"))
    }
}

/// The documents of the current member of an archive, one after another.
pub struct Records {
    member: String,
    framing: Framing,
    limit: usize,
    chunk: Vec<u8>,
    /// What of `chunk` is not used yet.
    at: usize,
    filled: usize,
    record: Vec<u8>,
    /// Lines that have begun, or elements that have ended.
    number: u64,
    array: Array,
    ended: bool,
}

/// How far into an array we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Array {
    #[default]
    Before,
    /// Of an element: how many brackets are open, and whether a string is, whose next byte is escaped or not.
    Inside {
        depth: u32,
        string: bool,
        escaped: bool,
        wants_element: bool,
    },
    Behind,
}

impl Records {
    /// `limit`: the largest record, in bytes.
    pub fn new(member: &str, framing: Framing, limit: usize) -> Records {
        Records {
            member: member.to_owned(),
            framing,
            limit,
            chunk: vec![0; 64 << 10],
            at: 0,
            filled: 0,
            record: Vec::new(),
            number: 0,
            array: Array::Before,
            ended: false,
        }
    }

    /// The next record and its number, counted from 1; `None` behind the last. Blank lines are counted and passed over.
    pub fn next(&mut self, archive: &mut impl Bytes) -> Result<Option<(u64, &[u8])>, DumpError> {
        loop {
            self.record.clear();
            let found = match self.framing {
                Framing::Lines => self.line(archive)?,
                Framing::Array => self.element(archive)?,
            };
            if !found {
                return Ok(None);
            }
            let trimmed = self.record.trim_ascii();
            if !trimmed.is_empty() {
                let start = trimmed.as_ptr() as usize - self.record.as_ptr() as usize;
                return Ok(Some((self.number, &self.record[start..start + trimmed.len()])));
            }
        }
    }

    fn refill(&mut self, archive: &mut impl Bytes) -> Result<bool, DumpError> {
        if self.at == self.filled {
            (self.at, self.filled) = (0, archive.read(&mut self.chunk)?);
        }
        Ok(self.filled > 0)
    }

    fn line(&mut self, archive: &mut impl Bytes) -> Result<bool, DumpError> {
        if self.ended {
            return Ok(false);
        }
        self.number += 1;
        loop {
            if !self.refill(archive)? {
                self.ended = true;
                return Ok(!self.record.is_empty());
            }
            let waiting = &self.chunk[self.at..self.filled];
            let end = memchr::memchr(b'\n', waiting);
            self.record.extend_from_slice(&waiting[..end.unwrap_or(waiting.len())]);
            self.at += end.map_or(waiting.len(), |end| end + 1);
            if self.record.len() > self.limit {
                return Err(self.too_long());
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    fn element(&mut self, archive: &mut impl Bytes) -> Result<bool, DumpError> {
        loop {
            if !self.refill(archive)? {
                return match self.array {
                    Array::Inside { .. } => Err(self.refuse("the array does not end")),
                    _ => Ok(false),
                };
            }
            let byte = self.chunk[self.at];
            match &mut self.array {
                Array::Before if byte.is_ascii_whitespace() => self.at += 1,
                Array::Before if byte == b'[' => {
                    self.at += 1;
                    self.array = Array::Inside { depth: 0, string: false, escaped: false, wants_element: false };
                }
                Array::Before => {
                    self.framing = Framing::Lines;
                    return self.line(archive);
                }
                Array::Behind if byte.is_ascii_whitespace() => self.at += 1,
                Array::Behind => return Err(self.refuse("something behind the end of the array")),
                Array::Inside { depth, string, escaped, wants_element } => {
                    self.at += 1;
                    if *string {
                        match byte {
                            _ if *escaped => *escaped = false,
                            b'\\' => *escaped = true,
                            b'"' => *string = false,
                            _ => {}
                        }
                    } else {
                        match byte {
                            b'"' => *string = true,
                            b'{' | b'[' => *depth += 1,
                            b',' if *depth == 0 => {
                                *wants_element = true;
                                if self.record.trim_ascii().is_empty() {
                                    return Err(self.refuse("an element is missing"));
                                }
                                self.number += 1;
                                return Ok(true);
                            }
                            b']' if *depth == 0 => {
                                let wants_element = *wants_element;
                                self.array = Array::Behind;
                                let is_empty = self.record.trim_ascii().is_empty();
                                if is_empty && wants_element {
                                    return Err(self.refuse("an element is missing"));
                                }
                                if !is_empty {
                                    self.number += 1;
                                    return Ok(true);
                                }
                                continue;
                            }
                            b'}' | b']' => *depth = depth.saturating_sub(1),
                            _ => {}
                        }
                    }
                    self.record.push(if byte == b'\n' || byte == b'\r' { b' ' } else { byte });
                    if self.record.len() > self.limit {
                        return Err(self.too_long());
                    }
                }
            }
        }
    }

    fn too_long(&self) -> DumpError {
        self.refuse(&format!("larger than {} bytes", self.limit))
    }

    fn refuse(&self, reason: &str) -> DumpError {
        let begun = u64::from(matches!(self.array, Array::Inside { .. }));
        // What is wrong with a record has a line, what is wrong with the archive has none.
        Refusal::at(&self.member, (self.number + begun).max(1), reason).into()
    }
}
