//! Frames: one version byte, then bincode; and durable records, which are encoded by the same rules.
//!
//! This is the only file that names bincode. Decoding is bounded: a frame longer than [`MAX_FRAME_BYTES`], or one that
//! claims to hold more than it does, is an error and never an allocation of what it claims.

use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::WireError;
use crate::wire::Message;

/// Longest frame, in bytes: the largest document and room for its envelope.
pub const MAX_FRAME_BYTES: usize = 24 << 20;

/// The version of the frames. A frame of another version is refused by name.
pub const WIRE_VERSION: u8 = 2;

/// What this program speaks with others, the oldest and the newest: two neighbours use the greatest that both know, so
/// that processes can be replaced by newer ones one at a time.
///
/// Version 2 is frames as they are here. In version 3 a sum stands behind each, so that what was damaged on
/// its way is noticed.
pub const WIRE_VERSIONS: (u8, u8) = (WIRE_VERSION, SUMMED_VERSION);

const SUMMED_VERSION: u8 = 3;

/// The most that a version adds to a frame.
pub const SUM_BYTES: usize = 8;

type Encoding = Configuration<LittleEndian, Fixint, Limit<MAX_FRAME_BYTES>>;

const ENCODING: Encoding =
    config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<MAX_FRAME_BYTES>();

/// The frame of a message.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.push(WIRE_VERSION);
    write_into(&mut frame, message);
    frame
}

/// Reads a frame. Bytes that are no message of this version are an error that says why.
pub fn decode(frame: &[u8]) -> Result<Message, WireError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLong { bytes: frame.len(), limit: MAX_FRAME_BYTES });
    }
    match frame.split_first() {
        None => Err(WireError::Decode("empty frame".to_owned())),
        Some((&WIRE_VERSION, body)) => read_all(body),
        Some((&found, _)) => Err(WireError::Version { found, supported: WIRE_VERSION }),
    }
}

/// A frame as a neighbour reads it who speaks `version`.
pub fn outward(mut frame: Vec<u8>, version: u8) -> Vec<u8> {
    if version >= SUMMED_VERSION {
        let sum = xxh3_64(&frame);
        frame.extend_from_slice(&sum.to_le_bytes());
    }
    frame
}

/// The frame that a neighbour has sent in `version`.
pub fn inward(mut bytes: Vec<u8>, version: u8) -> Result<Vec<u8>, WireError> {
    if version >= SUMMED_VERSION {
        let length = bytes.len().checked_sub(SUM_BYTES);
        let length = length.ok_or_else(|| WireError::Decode("a frame without a sum".to_owned()))?;
        if bytes[length..] != xxh3_64(&bytes[..length]).to_le_bytes() {
            return Err(WireError::Decode("a frame was damaged on its way".to_owned()));
        }
        bytes.truncate(length);
    }
    Ok(bytes)
}

/// The encoding of durable records: the same rules as frames, without the version byte, which their file has.
pub fn encode_record<T: Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    write_into(&mut bytes, record);
    bytes
}

/// Reads a durable record.
pub fn decode_record<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, WireError> {
    read_all(bytes)
}

fn write_into<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    bincode::serde::encode_into_std_write(value, bytes, ENCODING)
        .expect("encoding into memory fails only for types that serde cannot encode, and ours can");
}

fn read_all<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, read) = bincode::serde::decode_from_slice::<T, _>(bytes, ENCODING)
        .map_err(|error| WireError::Decode(error.to_string()))?;
    if read != bytes.len() {
        return Err(WireError::Trailing(bytes.len() - read));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{Epoch, Key, ShardId, Value, Version, WriterId};
    use crate::wire::{Op, Token};

    fn write(value: Option<Value>) -> Message {
        Message::Batch {
            shard: ShardId(3),
            epoch: Epoch { generation: 1, n: 7 },
            ops: vec![(
                Token { operation: 9, attempt: 2 },
                Op::Write {
                    key: Key::new("movies", "7").unwrap(),
                    version: Version { counter: 5, writer: WriterId(6) },
                    chosen_at: Epoch::FIRST,
                    value,
                },
            )],
        }
    }

    #[test]
    fn a_message_survives_the_wire() {
        for message in [write(Some(Value::from(&b"body"[..]))), write(None), Message::GetConfigs] {
            assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }

    /// The bytes are a format: a change here is a new wire version.
    #[test]
    fn golden_bytes() {
        let hex: String = encode(&Message::Behind { shard: ShardId(3), epoch: Epoch { generation: 1, n: 7 } })
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "020300000003000000010000000700000000000000");
    }

    #[test]
    fn a_newer_neighbour_notices_what_was_damaged() {
        let frame = encode(&write(None));
        assert_eq!(outward(frame.clone(), 2), frame, "an older one gets what it knows");
        let sent = outward(frame.clone(), 3);
        assert_eq!(sent.len(), frame.len() + SUM_BYTES);
        assert_eq!(inward(sent.clone(), 3), Ok(frame.clone()));
        for place in 0..sent.len() {
            let mut damaged = sent.clone();
            damaged[place] ^= 4;
            assert!(inward(damaged, 3).is_err(), "byte {place}");
        }
        assert!(inward(sent[..SUM_BYTES - 1].to_vec(), 3).is_err());
    }

    #[test]
    fn foreign_frames_are_named() {
        assert_eq!(decode(&[9, 1, 2]), Err(WireError::Version { found: 9, supported: WIRE_VERSION }));
        let mut frame = encode(&Message::GetConfigs);
        frame.push(0);
        assert_eq!(decode(&frame), Err(WireError::Trailing(1)));
        assert!(matches!(decode(b"\x02GET / HTTP/1.1\r\n\r\n"), Err(WireError::Decode(_))));
        assert!(matches!(decode(&[]), Err(WireError::Decode(_))));
    }

    proptest! {
        /// No bytes panic, and a length that lies does not allocate.
        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = bytes.first_mut() { *first = WIRE_VERSION; }
            let _ = decode(&bytes);
        }

        #[test]
        fn a_cut_frame_is_refused(cut in 1usize..60) {
            let frame = encode(&write(Some(Value::from(&b"body"[..]))));
            prop_assume!(cut < frame.len());
            prop_assert!(decode(&frame[..frame.len() - cut]).is_err());
        }
    }
}
