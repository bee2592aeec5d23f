//! Reads gzip(tar) a member at a time, never more of it in memory than a block.
//!
//! ```text
//! file -> Counted -> gzip members, each with its CRC -> Meter (ratio) -> tar headers, content, padding -> Archive
//! ```
//!
//! It pulls: [`Archive::next_member`] goes to the next member, [`Archive::read`] reads its content. Nothing is unpacked. What no
//! dump contains (links, devices, paths that leave the archive, two members of one name) is refused when it is met.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use tar::{EntryType, Header};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::dump::limits::{MAX_MEMBERS, MAX_NAME_RECORD_BYTES, MAX_RATIO, RATIO_FREE_BYTES};
use crate::dump::refusal::{DumpError, Refusal};

const BLOCK: usize = 512;

/// One file in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Without `./` in front.
    pub path: String,
    pub bytes: u64,
    pub is_folder: bool,
}

/// How much of the file has been read; shared with whoever shows progress.
#[derive(Clone, Debug, Default)]
pub struct ReadBytes(Arc<AtomicU64>);

impl ReadBytes {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The compressed bytes: counted, and summed up so that two readings can be compared.
struct Counted<R> {
    inner: R,
    bytes: ReadBytes,
    sum: Xxh3,
    failed: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(out) {
            Ok(read) => {
                self.bytes.0.fetch_add(read as u64, Ordering::Relaxed);
                self.sum.update(&out[..read]);
                Ok(read)
            }
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

/// An archive that is being read.
pub struct Archive<R: Read> {
    input: MultiGzDecoder<BufReader<Counted<R>>>,
    read_bytes: ReadBytes,
    unpacked: u64,
    /// Content of the current member that was not read yet, and the padding behind it.
    left: u64,
    padding: u64,
    names: BTreeSet<u128>,
    members: u64,
    current: String,
    ended: bool,
}

impl<R: Read> Archive<R> {
    /// Looks at the first bytes; the rest is read as it is asked for.
    pub fn open(input: R, read_bytes: ReadBytes) -> Result<Archive<R>, DumpError> {
        let counted = Counted { inner: input, bytes: read_bytes.clone(), sum: Xxh3::new(), failed: false };
        let mut input = BufReader::with_capacity(64 << 10, counted);
        let start = input.fill_buf().map_err(|error| DumpError::Io { what: "read the dump", error })?;
        match start {
            [] => return Err(Refusal::new("the file is empty").into()),
            [0x1f] | [0x1f, 0x8b, ..] => {}
            start if start.get(257..262) == Some(b"ustar") => {
                let reason =
                    "a plain tar, not a dump: dumps are compressed with gzip; use the file as Meilisearch wrote it";
                return Err(Refusal::new(reason).into());
            }
            _ => return Err(Refusal::new("not a dump: it does not begin like a gzip file").into()),
        }
        Ok(Archive {
            input: MultiGzDecoder::new(input),
            read_bytes,
            unpacked: 0,
            left: 0,
            padding: 0,
            names: BTreeSet::new(),
            members: 0,
            current: String::new(),
            ended: false,
        })
    }

    /// Goes to the next member, past what was not read of this one. `None` at the end, when the whole file has been
    /// read and its checksums are right.
    pub fn next_member(&mut self) -> Result<Option<Member>, DumpError> {
        if self.ended {
            return Ok(None);
        }
        self.skip()?;
        let (mut long_name, mut long_size) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                if long_name.is_some() {
                    return Err(self.refuse("a long name without its member"));
                }
                self.finish()?;
                return Ok(None);
            };
            let size = header.entry_size().map_err(|_| self.refuse("a header without a size"))?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    let mut name = self.record(size)?;
                    while name.pop_if(|last| *last == 0).is_some() {}
                    long_name = Some(name);
                }
                EntryType::XHeader => {
                    let record = self.record(size)?;
                    for (key, value) in pax(&record).ok_or_else(|| self.refuse("a PAX record that is none"))? {
                        match key {
                            b"path" => long_name = Some(value.to_vec()),
                            b"size" => {
                                let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                                long_size = Some(text.ok_or_else(|| self.refuse("a PAX size that is no number"))?);
                            }
                            _ => {}
                        }
                    }
                }
                EntryType::XGlobalHeader => drop(self.record(size)?),
                kind @ (EntryType::Regular | EntryType::Continuous | EntryType::Directory) => {
                    let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                    let path = self.clean(&name)?;
                    let bytes = long_size.take().unwrap_or(size);
                    // Archives of old write a folder as a file whose name ends with a slash.
                    let is_folder = kind == EntryType::Directory || name.ends_with(b"/");
                    self.begin(&path, bytes, is_folder)?;
                    return Ok(Some(Member { path, bytes, is_folder }));
                }
                EntryType::Link | EntryType::Symlink | EntryType::GNULongLink => {
                    return Err(self.refuse_name(&header, "is a link; dumps have none"));
                }
                EntryType::Char | EntryType::Block | EntryType::Fifo => {
                    return Err(self.refuse_name(&header, "is a device; dumps have none"));
                }
                _ => return Err(self.refuse_name(&header, "is of a kind that dumps do not have")),
            }
        }
    }

    /// Reads on in the current member; 0 at its end.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, DumpError> {
        let wanted = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.raw(&mut out[..wanted])?;
        if read == 0 {
            return Err(self.refuse("truncated: the file ends inside this member"));
        }
        self.left -= read as u64;
        Ok(read)
    }

    /// The rest of the current member, if it is not larger than `limit`.
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, DumpError> {
        if self.left > limit {
            let reason = format!("{} bytes, where at most {limit} are sensible", self.left);
            return Err(self.refuse(&reason));
        }
        let mut bytes = vec![0; self.left as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    /// A sum over the compressed bytes, once everything was read: the same file has the same.
    pub fn fingerprint(&self) -> u128 {
        self.input.get_ref().get_ref().sum.digest128()
    }

    fn begin(&mut self, path: &str, bytes: u64, is_folder: bool) -> Result<(), DumpError> {
        self.members += 1;
        self.current = path.to_owned();
        if self.members > MAX_MEMBERS {
            return Err(self.refuse(&format!("more than {MAX_MEMBERS} members")));
        }
        if !is_folder && !self.names.insert(xxh3_128(path.as_bytes())) {
            return Err(self.refuse("the second member of this name"));
        }
        self.left = bytes;
        self.padding = (BLOCK as u64 - bytes % BLOCK as u64) % BLOCK as u64;
        Ok(())
    }

    fn skip(&mut self) -> Result<(), DumpError> {
        let mut sink = [0; 16 << 10];
        while self.read(&mut sink)? > 0 {}
        let padding = std::mem::take(&mut self.padding) as usize;
        self.fill(&mut sink[..padding])
    }

    /// The next header; `None` at the mark of the end.
    fn header(&mut self) -> Result<Option<Header>, DumpError> {
        let mut block = [0; BLOCK];
        let first = self.raw(&mut block)?;
        if first == 0 {
            let reason = "truncated: the archive has no end mark, so it was cut between two members";
            return Err(Refusal::new(reason).into());
        }
        self.fill(&mut block[first..])?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(self.refuse("behind it is no tar header: its checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Reads to the end of the file: only there are the last checksums.
    fn finish(&mut self) -> Result<(), DumpError> {
        let mut sink = [0; 16 << 10];
        while self.raw(&mut sink)? > 0 {}
        self.ended = true;
        Ok(())
    }

    /// A record that says something about the next member.
    fn record(&mut self, size: u64) -> Result<Vec<u8>, DumpError> {
        if size > MAX_NAME_RECORD_BYTES {
            let reason =
                format!("behind it is a name record of {size} bytes; at most {MAX_NAME_RECORD_BYTES} are sensible");
            return Err(self.refuse(&reason));
        }
        let mut bytes = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        self.fill(&mut bytes)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), DumpError> {
        let mut filled = 0;
        while filled < out.len() {
            match self.raw(&mut out[filled..])? {
                0 => return Err(self.refuse("truncated: the file ends here")),
                read => filled += read,
            }
        }
        Ok(())
    }

    fn raw(&mut self, out: &mut [u8]) -> Result<usize, DumpError> {
        let read = loop {
            match self.input.read(out) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.input.get_ref().get_ref().failed => {
                    return Err(DumpError::Io { what: "read the dump", error });
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.refuse("truncated: the compressed file ends here"));
                }
                Err(error) => return Err(self.refuse(&format!("corrupt: {error}"))),
            }
        };
        self.unpacked += read as u64;
        if self.unpacked > RATIO_FREE_BYTES && self.unpacked / MAX_RATIO > self.read_bytes.get() {
            let reason = format!("more than {MAX_RATIO} bytes out of one: this is a bomb, not a dump");
            return Err(self.refuse(&reason));
        }
        Ok(read)
    }

    fn clean(&self, name: &[u8]) -> Result<String, DumpError> {
        let refuse = |why: &str| Refusal::in_member(&String::from_utf8_lossy(name), why);
        let text = std::str::from_utf8(name).map_err(|_| refuse("a name that is not UTF-8"))?;
        if text.starts_with('/') {
            return Err(refuse("an absolute path").into());
        }
        if text.contains('\0') {
            return Err(refuse("a name with a NUL byte").into());
        }
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(refuse("a path that leaves the archive").into()),
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }

    fn refuse(&self, reason: &str) -> DumpError {
        Refusal::in_member(&self.current, reason).into()
    }

    fn refuse_name(&self, header: &Header, reason: &str) -> DumpError {
        Refusal::in_member(&String::from_utf8_lossy(&header.path_bytes()), reason).into()
    }
}

/// The fields of a PAX record: `LENGTH KEY=VALUE\n`, one after another.
fn pax(mut record: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut fields = Vec::new();
    while !record.is_empty() {
        let space = record.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&record[..space]).ok()?.parse().ok()?;
        let field = record.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = field.iter().position(|byte| *byte == b'=')?;
        fields.push((&field[..equals], &field[equals + 1..]));
        record = &record[length..];
    }
    Some(fields)
}
