//! The checksums that docs/formats.md draws, computed as it draws them and without the engine's code.

use xxhash_rust::xxh3::xxh3_64;

use super::{committed, disk_of};
use crate::disk::TestDisk;

const SECTOR: usize = 512;
const PAYLOAD: usize = 504;
const PAGE: usize = 4096;
const BLOCK: usize = 4608;

/// `xxh3_64` of these parts, one behind another, as it is stored.
fn sum(parts: &[&[u8]]) -> [u8; 8] {
    xxh3_64(&parts.concat()).to_le_bytes()
}

fn disk_id(log: &[u8]) -> &[u8] {
    &log[12..28]
}

/// Compares every sum in a log that ends with its last group; how many groups there are.
fn check_log(log: &[u8]) -> u64 {
    let (disk, generation) = (disk_id(log), &log[28..36]);
    let payload = |index: usize, owner: [&[u8]; 3]| {
        let (payload, found) = log[index * SECTOR..][..SECTOR].split_at(PAYLOAD);
        let [disk, generation, sequence] = owner;
        let place = (index as u64).to_le_bytes();
        assert_eq!(sum(&[disk, generation, sequence, &place, &sum(&[payload])]), found, "sector {index}");
        payload
    };
    payload(0, [&[0; 16], &[0; 8], &[0; 8]]);
    let (mut index, mut groups) = (1, 0_u64);
    while index * SECTOR < log.len() {
        groups += 1;
        let sequence = groups.to_le_bytes();
        let first = payload(index, [disk, generation, &sequence]);
        assert_eq!(first[..8], sequence);
        let length = u32::from_le_bytes(*first[8..].first_chunk().expect("a header")) as usize;
        let end = index + (20 + length).div_ceil(PAYLOAD);
        let group: Vec<u8> =
            (index..end).flat_map(|index| payload(index, [disk, generation, &sequence])).copied().collect();
        let (operations, padding) = group[20..].split_at(length);
        let length = (length as u64).to_le_bytes();
        assert_eq!(sum(&[disk, generation, &sequence, &length, &sum(&[operations])]), group[12..20], "group {groups}");
        assert!(padding.iter().all(|&byte| byte == 0), "group {groups} is padded with zeros");
        index = end;
    }
    groups
}

/// The sum of a page, or of the header that stands in for page 0.
fn page_sum(disk: &[u8], number: u64, page: usize, bytes: &[u8]) -> [u8; 8] {
    let salt = sum(&[disk, &number.to_le_bytes()]);
    sum(&[&salt, &(page as u64).to_le_bytes(), &sum(&[bytes])])
}

/// Compares every sum in a page file; how many pages there are besides the header.
fn check_pages(disk: &[u8], number: u64, file: &[u8]) -> u64 {
    let mut pages = 0;
    for (page, block) in file.chunks_exact(BLOCK).enumerate() {
        let (bytes, found, unused) = if page == 0 {
            (&block[..PAYLOAD], &block[PAYLOAD..SECTOR], &block[SECTOR..])
        } else {
            (&block[..PAGE], &block[PAGE..PAGE + 8], &block[PAGE + 8..])
        };
        assert!(unused.iter().all(|&byte| byte == 0), "page {page}");
        // Room that redb has asked for and not used yet.
        if page > 0 && block.iter().all(|&byte| byte == 0) {
            continue;
        }
        assert_eq!(page_sum(disk, number, page, bytes), found, "page {page}");
        pages += u64::from(page > 0);
    }
    pages
}

#[test]
fn checksums_are_what_they_are_drawn_as() {
    for name in ["log-v2.bin", "configurations-v2.bin"] {
        assert!(check_log(&committed(name)) > 5, "{name}");
    }
    for name in ["disk-v2.image", "configurations-v2.image"] {
        let disk = disk_of(&committed(name));
        let (log, _) = disk.files().into_iter().find(|(name, _)| name.starts_with("log.")).expect("a log");
        let pages = check_pages(disk_id(&disk.bytes(&log)), 1, &disk.bytes("pages.1"));
        assert!(pages > 2, "{name}: {pages} pages");
    }
}

/// Puts another version into the first row of page file 1, and right sums behind it: in every page that has such a row,
/// those that earlier flushes left over among them.
pub fn set_page_version(disk: &TestDisk, log: &str, version: u32) {
    let log = disk.bytes(log);
    let disk_id = disk_id(&log);
    let mut file = disk.bytes("pages.1");
    let mut found = 0;
    for (page, block) in file.chunks_exact_mut(BLOCK).enumerate().skip(1) {
        let rows: Vec<usize> = (0..PAGE - 36)
            .filter(|&at| block[at + 4..at + 20] == *disk_id && sum(&[&block[at..at + 28]]) == block[at + 28..at + 36])
            .collect();
        for &at in &rows {
            block[at..at + 4].copy_from_slice(&version.to_le_bytes());
            let sum = sum(&[&block[at..at + 28]]);
            block[at + 28..at + 36].copy_from_slice(&sum);
        }
        if !rows.is_empty() {
            let sum = page_sum(disk_id, 1, page, &block[..PAGE]);
            block[PAGE..PAGE + 8].copy_from_slice(&sum);
        }
        found += rows.len();
    }
    assert!(found > 0, "a page file has a first row");
    disk.put_bytes("pages.1", &file);
}
