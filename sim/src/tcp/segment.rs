//! What travels between two ends of a connection.
//!
//! ```text
//! segment   'T' | kind u8 | number u64 | at u64 | window u64 | bytes      numbers are little-endian
//! ```

/// No frame of a system under test may begin like this, so that whoever reads traces can tell them apart.
const MAGIC: u8 = b'T';
const HEAD_BYTES: usize = 26;
/// In the kind: sent by whoever dialled.
const FROM_DIALLER: u8 = 0x80;

/// One segment of the connection that its dialler calls `number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub from_dialler: bool,
    pub number: u64,
    pub body: Body,
}

/// Positions count the bytes of one direction of a connection, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A connection is wanted.
    Open,
    /// It may begin.
    Accept,
    /// Bytes from a position on; none asks for a [`Body::Confirm`].
    Data { at: u64, bytes: Vec<u8> },
    /// Nothing comes from this position on.
    End { at: u64 },
    /// Everything before `upto` has arrived; up to `window` there is room. An end counts like one more byte.
    Confirm { upto: u64, window: u64 },
    /// There is no such connection, or not any more.
    Reset,
}

impl Segment {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, at, window, bytes) = match &self.body {
            Body::Open => (0, 0, 0, &[][..]),
            Body::Accept => (1, 0, 0, &[][..]),
            Body::Data { at, bytes } => (2, *at, 0, &bytes[..]),
            Body::End { at } => (3, *at, 0, &[][..]),
            Body::Confirm { upto, window } => (4, *upto, *window, &[][..]),
            Body::Reset => (5, 0, 0, &[][..]),
        };
        let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
        frame.extend([MAGIC, kind | if self.from_dialler { FROM_DIALLER } else { 0 }]);
        frame.extend([self.number, at, window].iter().flat_map(|number| number.to_le_bytes()));
        frame.extend(bytes);
        frame
    }

    /// `None` for a frame that is no segment.
    pub(super) fn decode(frame: &[u8]) -> Option<Segment> {
        let (head, bytes) = frame.split_at_checked(HEAD_BYTES)?;
        let number = |from: usize| u64::from_le_bytes(head[from..from + 8].try_into().expect("eight bytes"));
        let (at, window) = (number(10), number(18));
        let body = match head[1] & !FROM_DIALLER {
            0 => Body::Open,
            1 => Body::Accept,
            2 => Body::Data { at, bytes: bytes.to_vec() },
            3 => Body::End { at },
            4 => Body::Confirm { upto: at, window },
            5 => Body::Reset,
            _ => return None,
        };
        let from_dialler = head[1] & FROM_DIALLER != 0;
        (head[0] == MAGIC).then(|| Segment { from_dialler, number: number(2), body })
    }
}

/// A segment in words; `None` for a frame that is none.
pub fn describe(frame: &[u8]) -> Option<String> {
    let Segment { from_dialler, number, body } = Segment::decode(frame)?;
    let said = match body {
        Body::Open => "open".to_owned(),
        Body::Accept => "accept".to_owned(),
        Body::Data { at, bytes } => format!("bytes {at} to {}", at + bytes.len() as u64),
        Body::End { at } => format!("end at {at}"),
        Body::Confirm { upto, window } => format!("has all before {upto}, has room before {window}"),
        Body::Reset => "reset".to_owned(),
    };
    let end = if from_dialler { "dialler" } else { "door" };
    Some(format!("TCP {}.{} of its {end}: {said}", number >> 32, number & u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read_as_they_were_written() {
        let data = Body::Data { at: 7, bytes: b"seven".to_vec() };
        let confirm = Body::Confirm { upto: 12, window: 99 };
        for body in [Body::Open, Body::Accept, data, Body::End { at: 3 }, confirm, Body::Reset] {
            for from_dialler in [false, true] {
                let segment = Segment { from_dialler, number: 1 << 32 | 5, body: body.clone() };
                assert_eq!(Segment::decode(&segment.encode()), Some(segment));
            }
        }
        assert_eq!(Segment::decode(b"T"), None);
        assert_eq!(Segment::decode(&[b'X'; HEAD_BYTES]), None);
        let data = Segment { from_dialler: true, number: 1 << 32 | 5, body: Body::Data { at: 7, bytes: vec![0; 3] } };
        assert_eq!(describe(&data.encode()).as_deref(), Some("TCP 1.5 of its dialler: bytes 7 to 10"));
    }
}
