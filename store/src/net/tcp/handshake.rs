//! How a connection begins.
//!
//! ```text
//! dialler   "miroir" | transport version u8 | 0 plain, 1 sealed | length u16 | hello
//! door      the same eight bytes                                | length u16 | answer
//! ```
//!
//! Plain, hello and answer are encoded records. Under a key they are the two messages of the Noise pattern
//! `NNpsk0` with the first eight bytes as prologue: the hello opens only under the key, so whoever lacks it is told
//! nothing at all, not even that somebody is there. A hello that was recorded and is played again gets an answer that
//! only its first sender could have used; the door therefore trusts nobody before the first sealed frame, which
//! answers the answer. Keys are fresh in each connection, and a key that leaks later opens no recorded connection.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use snow::HandshakeState;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::noise::noise;
use super::seal::{FrameReader, FrameWriter, Kind, Seal};
use super::sockets::Sockets;
use crate::env::Peer;
use crate::net::key::SharedKey;
use crate::wire::{decode_record, encode_record};

const MAGIC: [u8; 6] = *b"miroir";
/// What this file describes.
const TRANSPORT_VERSION: u8 = 1;
/// More than any hello or answer has.
const MOST_BYTES: usize = 2_048;

/// Why a connection did not come about.
#[derive(Debug, Error)]
pub enum HandshakeError {
    #[error("something that is no process of Miroir is at the other end: it began with `{bytes}`")]
    Stranger { bytes: String },
    #[error(
        "the other end speaks version {found} of the transport, this one {TRANSPORT_VERSION}; upgrade the older one"
    )]
    Version { found: u8 },
    #[error(
        "the other end speaks wire versions {} to {}, this one {} to {}; upgrade one step at a time",
        .theirs.0, .theirs.1, .ours.0, .ours.1
    )]
    Wire { theirs: (u8, u8), ours: (u8, u8) },
    #[error("the other end uses no shared key, this one does; give it the cluster's key_file")]
    NoKey,
    #[error("the other end uses a shared key, this one has none; give it the cluster's key_file")]
    UnknownKey,
    #[error("the other end uses another shared key")]
    WrongKey,
    #[error("the other end belongs to the cluster `{theirs}`, this one to `{ours}`")]
    Cluster { theirs: String, ours: String },
    #[error("{found} is at the other end, not {wanted}; correct the address")]
    Name { found: Peer, wanted: Peer },
    #[error("refused: {why}")]
    Refused { why: String },
    #[error("there are too many connections; one of them has to end first")]
    Full,
    #[error("the handshake was not finished in time")]
    Slow,
    #[error("the other end closed the connection in the handshake, as it does when keys or versions differ")]
    Closed,
    #[error("{0}")]
    Io(io::Error),
    #[error("the address is another machine's, and there is no shared key; set key_file")]
    OtherMachine,
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> HandshakeError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                HandshakeError::Closed
            }
            _ => HandshakeError::Io(error),
        }
    }
}

/// Who is at this end.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) me: Peer,
    pub(super) cluster: &'a str,
    pub(super) key: Option<&'a SharedKey>,
    /// The oldest and the newest wire version that it speaks.
    pub(super) wire: (u8, u8),
    /// Where random numbers come from.
    pub(super) sockets: &'a Arc<dyn Sockets>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    me: Peer,
    /// Whom the dialler means to reach; a client may not know.
    you: Option<Peer>,
    cluster: String,
    /// The oldest and the newest wire version that it speaks.
    wire: (u8, u8),
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// In the oldest version of the dialler: all that a door says that knows no other.
    Welcome {
        me: Peer,
    },
    Refused {
        why: String,
    },
    /// In this version, for a dialler who speaks several.
    WelcomeIn {
        me: Peer,
        wire: u8,
    },
}

/// A connection after its handshake.
pub(super) struct Connection<R, W> {
    pub(super) peer: Peer,
    /// What both ends speak.
    pub(super) wire: u8,
    pub(super) reader: FrameReader<R>,
    pub(super) writer: FrameWriter<W>,
}

fn preamble(key: Option<&SharedKey>) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&MAGIC);
    bytes[6] = TRANSPORT_VERSION;
    bytes[7] = u8::from(key.is_some());
    bytes
}

fn check_preamble(found: [u8; 8], key: Option<&SharedKey>) -> Result<(), HandshakeError> {
    if found[..6] != MAGIC {
        return Err(HandshakeError::Stranger { bytes: found.escape_ascii().to_string() });
    }
    if found[6] != TRANSPORT_VERSION {
        return Err(HandshakeError::Version { found: found[6] });
    }
    match (found[7], key) {
        (0, None) | (1, Some(_)) => Ok(()),
        (0, Some(_)) => Err(HandshakeError::NoKey),
        _ => Err(HandshakeError::UnknownKey),
    }
}

/// The dialler's side. `you`: whom the caller means to reach.
pub(super) async fn dial<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut reader: R,
    mut writer: W,
    identity: Identity<'_>,
    you: Option<Peer>,
) -> Result<Connection<R, W>, HandshakeError> {
    let begin = preamble(identity.key);
    let mut state = identity.key.map(|key| noise(key, identity.sockets, &begin).build_initiator().expect("complete"));
    let hello = Hello { me: identity.me, you, cluster: identity.cluster.to_owned(), wire: identity.wire };
    let mut bytes = begin.to_vec();
    bytes.extend(with_length(&wrap(state.as_mut(), &encode_record(&hello))?));
    writer.write_all(&bytes).await?;
    writer.flush().await?;

    let mut found = [0; 8];
    reader.read_exact(&mut found).await?;
    check_preamble(found, identity.key)?;
    let answer = read_with_length(&mut reader).await?;
    let answer = unwrap(state.as_mut(), &answer)?;
    let (peer, wire) = match decode_record(&answer).map_err(|_| stranger(&answer))? {
        Answer::Welcome { me } => (me, identity.wire.0),
        Answer::WelcomeIn { me, wire } => (me, wire),
        Answer::Refused { why } => return Err(HandshakeError::Refused { why }),
    };
    if !(identity.wire.0..=identity.wire.1).contains(&wire) {
        return Err(HandshakeError::Wire { theirs: (wire, wire), ours: identity.wire });
    }
    if let Some(wanted) = you.filter(|wanted| *wanted != peer) {
        return Err(HandshakeError::Name { found: peer, wanted });
    }
    let mut connection = connection(peer, wire, reader, writer, state);
    // Proves to the door that this end is alive and has the key.
    connection.writer.write(Kind::Heartbeat, &[]).await?;
    connection.writer.flush().await?;
    Ok(connection)
}

/// The door's side. `place`: takes a place for who comes in, if there is one; it is his as long as he stays.
pub(super) async fn answer<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, P>(
    mut reader: R,
    mut writer: W,
    identity: Identity<'_>,
    place: impl FnOnce(Peer) -> Option<P>,
) -> Result<(Connection<R, W>, P), HandshakeError> {
    let mut found = [0; 8];
    reader.read_exact(&mut found).await?;
    check_preamble(found, identity.key)?;
    let mut state = identity.key.map(|key| noise(key, identity.sockets, &found).build_responder().expect("complete"));
    let hello = read_with_length(&mut reader).await?;
    let hello = unwrap(state.as_mut(), &hello)?;
    let hello: Hello = decode_record(&hello).map_err(|_| stranger(&hello))?;

    let accepted = accept(&hello, identity).and_then(|wire| Ok((wire, place(hello.me).ok_or(HandshakeError::Full)?)));
    let answer = match &accepted {
        Ok(_) if hello.wire.0 == hello.wire.1 => Answer::Welcome { me: identity.me },
        Ok((wire, _)) => Answer::WelcomeIn { me: identity.me, wire: *wire },
        Err(error) => Answer::Refused { why: error.to_string() },
    };
    let mut bytes = preamble(identity.key).to_vec();
    bytes.extend(with_length(&wrap(state.as_mut(), &encode_record(&answer))?));
    writer.write_all(&bytes).await?;
    writer.flush().await?;
    let (wire, place) = accepted?;
    let mut connection = connection(hello.me, wire, reader, writer, state);
    match connection.reader.head().await? {
        (Kind::Heartbeat, _) => Ok((connection, place)),
        (kind, _) => Err(HandshakeError::Refused { why: format!("a {kind:?} came before the handshake was over") }),
    }
}

/// Who says a hello, for whoever passes connections on between processes and has their key. `bytes`: the first of a
/// connection, up to the end of the hello.
#[cfg(not(madsim))]
pub fn dialler(bytes: &[u8], key: Option<&SharedKey>) -> Result<Peer, HandshakeError> {
    let sockets: Arc<dyn Sockets> = Arc::new(super::os::OsSockets);
    let (begin, hello) = bytes.split_first_chunk::<8>().ok_or(HandshakeError::Closed)?;
    check_preamble(*begin, key)?;
    let mut state = key.map(|key| noise(key, &sockets, begin).build_responder().expect("complete"));
    let hello = unwrap(state.as_mut(), hello.get(2..).ok_or(HandshakeError::Closed)?)?;
    let hello: Hello = decode_record(&hello).map_err(|_| stranger(&hello))?;
    Ok(hello.me)
}

/// The wire version for the sender of this hello, or why the door does not open to him.
fn accept(hello: &Hello, identity: Identity<'_>) -> Result<u8, HandshakeError> {
    let (theirs, ours) = (hello.wire, identity.wire);
    let wire = if mutant!("M57") { ours.1 } else { theirs.1.min(ours.1) };
    if wire < theirs.0.max(ours.0) {
        return Err(HandshakeError::Wire { theirs, ours });
    }
    if hello.cluster != identity.cluster {
        let theirs: String = hello.cluster.chars().take(64).collect();
        return Err(HandshakeError::Cluster { theirs, ours: identity.cluster.to_owned() });
    }
    if let Some(wanted) = hello.you.filter(|wanted| *wanted != identity.me) {
        return Err(HandshakeError::Name { found: identity.me, wanted });
    }
    if hello.me == identity.me {
        let why = format!("this is {} already; give each process a number of its own", identity.me);
        return Err(HandshakeError::Refused { why });
    }
    Ok(wire)
}

fn connection<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    peer: Peer,
    wire: u8,
    reader: R,
    writer: W,
    state: Option<HandshakeState>,
) -> Connection<R, W> {
    let seals = state.map(|state| Seal::pair(state.into_stateless_transport_mode().expect("the handshake is over")));
    let (inward, outward) = seals.map_or((None, None), |(one, other)| (Some(one), Some(other)));
    Connection { peer, wire, reader: FrameReader::new(reader, inward), writer: FrameWriter::new(writer, outward) }
}

fn wrap(state: Option<&mut HandshakeState>, bytes: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let Some(state) = state else { return Ok(bytes.to_vec()) };
    let mut sealed = vec![0; MOST_BYTES];
    let length = state.write_message(bytes, &mut sealed).map_err(|_| HandshakeError::WrongKey)?;
    sealed.truncate(length);
    Ok(sealed)
}

fn unwrap(state: Option<&mut HandshakeState>, bytes: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let Some(state) = state else { return Ok(bytes.to_vec()) };
    let mut opened = vec![0; MOST_BYTES];
    let length = state.read_message(bytes, &mut opened).map_err(|_| HandshakeError::WrongKey)?;
    opened.truncate(length);
    Ok(opened)
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("names of clusters are short");
    [&length.to_le_bytes()[..], bytes].concat()
}

async fn read_with_length<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Vec<u8>, HandshakeError> {
    let mut length = [0; 2];
    reader.read_exact(&mut length).await?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > MOST_BYTES {
        return Err(HandshakeError::Stranger { bytes: format!("a hello of {length} bytes") });
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn stranger(bytes: &[u8]) -> HandshakeError {
    HandshakeError::Stranger { bytes: bytes.iter().take(16).copied().collect::<Vec<u8>>().escape_ascii().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accident::fuzz_records;
    use crate::id::NodeId;

    /// What an end says before anybody knows who it is.
    #[test]
    fn any_bytes_are_a_greeting_or_refused() {
        let hello = |you| Hello { me: Peer::Node(NodeId(1)), you, cluster: "films".to_owned(), wire: (2, 3) };
        fuzz_records("greetings of diallers", &[hello(None), hello(Some(Peer::Coordinator))]);
        let me = Peer::Client(7);
        let refused = Answer::Refused { why: "another cluster".to_owned() };
        fuzz_records("greetings of doors", &[Answer::Welcome { me }, refused, Answer::WelcomeIn { me, wire: 3 }]);
    }
}
