//! Splits received bytes into messages, with bounded memory.

use zbus::wire::Endian;

use super::BusError;
use super::message::{Incoming, Kind};

/// The longest reply or signal that a client reads; a list of ten thousand jobs is far below it.
const LONGEST: usize = 16 << 20;

/// The longest message that a service reads, and the longest call that either side reads: our calls are much shorter.
pub const LONGEST_CALL: usize = 8 << 10;

/// The longest message that the D-Bus Specification allows; see "Message Format".
const LONGEST_OF_ALL: usize = 128 << 20;

/// The length of the fixed part of a message: everything up to and including the length of its fields.
const BEGIN: usize = 16;

/// Which side of a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It calls, and reads long replies.
    Client,
    /// It is called, by anybody.
    Service,
}

/// Received bytes that were not taken yet. It never holds more than the longest message that its side reads and the
/// bytes fed last: longer messages are discarded as they arrive.
#[derive(Debug)]
pub struct Intake {
    side: Side,
    received: Vec<u8>,
    /// How many bytes still to come belong to a discarded message.
    unwanted: usize,
}

impl Intake {
    /// Nothing has arrived yet.
    pub fn new(side: Side) -> Intake {
        Intake {
            side,
            received: Vec::new(),
            unwanted: 0,
        }
    }

    /// Adds received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let thrown = self.unwanted.min(bytes.len());
        self.unwanted -= thrown;
        self.received.extend_from_slice(&bytes[thrown..]);
    }

    /// Takes the first line of the handshake, without its end, once it is complete.
    ///
    /// # Errors
    /// If it has no end within `limit` bytes.
    pub fn line(&mut self, limit: usize) -> Result<Option<Vec<u8>>, BusError> {
        match self.received.windows(2).position(|two| two == b"\r\n") {
            Some(end) => {
                let mut line: Vec<u8> = self.received.drain(..end + 2).collect();
                line.truncate(end);
                Ok(Some(line))
            }
            None if self.received.len() > limit => Err(BusError::Unexpected(
                "a line of the handshake is too long".to_owned(),
            )),
            None => Ok(None),
        }
    }

    /// Takes the first message, once it is complete. Of a message that is longer than this side reads only the head is
    /// taken, or nothing if the head is too long as well.
    ///
    /// # Errors
    /// If the bytes are not a message, or are a reply that is too long.
    pub fn take(&mut self) -> Result<Option<Incoming>, BusError> {
        while let Some(measures) = measures(&self.received)? {
            let limit = measures.limit(self.side);
            let is_whole = measures.whole() <= limit;
            if !is_whole && self.side == Side::Client && measures.kind.is_answer() {
                return Err(BusError::Unexpected(
                    "an answer longer than a client reads".to_owned(),
                ));
            }
            if is_whole && self.received.len() < measures.whole() {
                return Ok(None);
            }
            if measures.head > limit {
                self.throw_away(measures.whole());
                continue;
            }
            if self.received.len() < measures.head {
                return Ok(None);
            }
            let head: Vec<u8> = self.received.drain(..measures.head).collect();
            let body = match is_whole {
                true => Some(self.received.drain(..measures.body).collect()),
                false => {
                    self.throw_away(measures.body);
                    None
                }
            };
            return Incoming::of((measures.order, measures.kind), head, body).map(Some);
        }
        Ok(None)
    }

    /// Discards this many bytes, received or still to come.
    fn throw_away(&mut self, bytes: usize) {
        let here = bytes.min(self.received.len());
        self.received.drain(..here);
        self.unwanted = bytes - here;
    }
}

/// The lengths in the fixed part of a message.
struct Measures {
    order: Endian,
    kind: Kind,
    /// The length of everything before the body.
    head: usize,
    body: usize,
}

impl Measures {
    fn whole(&self) -> usize {
        self.head + self.body
    }

    fn limit(&self, side: Side) -> usize {
        match (side, self.kind) {
            (Side::Service, _) | (_, Kind::Call | Kind::Other) => LONGEST_CALL,
            (Side::Client, Kind::Return | Kind::Error | Kind::Signal) => LONGEST,
        }
    }
}

/// The lengths of the message at the start of `received`, once its fixed part is there.
fn measures(received: &[u8]) -> Result<Option<Measures>, BusError> {
    let Some(begin) = received.first_chunk::<BEGIN>() else {
        return Ok(None);
    };
    let order = match begin[0] {
        b'l' => Endian::Little,
        b'B' => Endian::Big,
        other => return Err(BusError::Unexpected(format!("a byte order of {other:#x}"))),
    };
    let number = |at: usize| {
        let bytes = [at, at + 1, at + 2, at + 3].map(|at| begin[at]);
        let number = match order {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (body, fields) = (number(4), number(12));
    if body > LONGEST_OF_ALL || fields > LONGEST_OF_ALL {
        return Err(BusError::Unexpected(
            "a message longer than D-Bus allows".to_owned(),
        ));
    }
    Ok(Some(Measures {
        order,
        kind: Kind::of(begin[1]),
        // The body begins at the next multiple of eight.
        head: (BEGIN + fields).next_multiple_of(8),
        body,
    }))
}

#[cfg(test)]
mod tests {
    use zbus::message::{self, Message};

    use super::*;

    fn call() -> Message {
        Message::method_call("/a/b", "Do")
            .interface("x.Y")
            .destination("x.Z")
            .build(&("one", 2u32))
            .expect("a message")
    }

    fn intake(side: Side, bytes: &[u8]) -> Intake {
        let mut intake = Intake::new(side);
        intake.feed(bytes);
        intake
    }

    /// A message with a body of about so many bytes, and then a short one.
    fn long(message: message::Builder<'_>, length: usize) -> Vec<u8> {
        let long = message.build(&("x".repeat(length),)).expect("a message");
        [long.data().bytes(), call().data().bytes()].concat()
    }

    #[test]
    fn a_message_is_taken_when_it_is_whole() {
        let bytes = call().data().bytes().to_vec();
        for length in 0..bytes.len() {
            let mut begun = intake(Side::Service, &bytes[..length]);
            assert!(begun.take().expect("no trouble").is_none());
            assert_eq!(begun.received.len(), length, "it waits for the rest");
        }
        let mut arrived = intake(Side::Service, &[&bytes, &bytes, &bytes[..20]].concat());
        for _ in 0..2 {
            let message = arrived.take().expect("no trouble").expect("whole");
            assert_eq!((message.kind, message.is_too_long), (Kind::Call, false));
            let says = (message.path(), message.interface(), message.member());
            assert_eq!(says, ("/a/b", "x.Y", "Do"));
            assert_eq!(message.sender(), "");
            let arguments: (String, u32) = message.read().expect("these");
            assert_eq!(arguments, ("one".to_owned(), 2));
            assert!(message.read::<String>().is_err());
            let header = message.header().expect("a head");
            assert_eq!(header.member().map(|it| it.as_str()), Some("Do"));
        }
        assert!(arrived.take().expect("no trouble").is_none());
    }

    #[test]
    fn what_is_too_long_is_thrown_away_as_it_arrives() {
        let to = |path: String| Message::method_call(path, "GetAll");
        let short = "/a".to_owned();
        let endless = format!("/{}", "a".repeat(1 << 20));
        // Its head is known unless that is too long itself.
        for (side, path, is_known) in [
            (Side::Service, &short, true),
            (Side::Client, &short, true),
            (Side::Service, &endless, false),
        ] {
            let bytes = long(to(path.clone()), 1 << 20);
            let mut arriving = Intake::new(side);
            let mut taken = Vec::new();
            for chunk in bytes.chunks(4096) {
                arriving.feed(chunk);
                taken.extend(std::iter::from_fn(|| arriving.take().expect("no trouble")));
                assert!(arriving.received.len() < LONGEST_CALL);
            }
            assert!(arriving.received.capacity() <= 4 * LONGEST_CALL);
            let taken: Vec<(&str, bool)> = taken
                .iter()
                .map(|it| (it.member(), it.is_too_long))
                .collect();
            let cut = is_known.then_some(("GetAll", true));
            let expected: Vec<_> = cut.into_iter().chain([("Do", false)]).collect();
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn a_client_reads_long_signals_and_answers() {
        let signal = || Message::signal("/a", "x.Y", "Done");
        let mut asked = intake(Side::Client, &long(signal(), 1 << 20));
        let message = asked.take().expect("no trouble").expect("whole");
        assert_eq!((message.kind, message.is_too_long), (Kind::Signal, false));
        let bytes = long(signal(), 1 << 20);
        let mut serving = intake(Side::Service, &bytes);
        let message = serving.take().expect("no trouble").expect("whole");
        assert_eq!((message.kind, message.is_too_long), (Kind::Signal, true));
        // One that it waits for is not passed over in silence.
        let call = call();
        let answer = Message::method_return(&call.header());
        let mut answered = intake(Side::Client, &long(answer, LONGEST));
        assert!(matches!(answered.take(), Err(BusError::Unexpected(_))));
    }

    #[test]
    fn what_is_no_message_is_trouble_and_no_more() {
        let whole = call().data().bytes().to_vec();
        let endless = [&[b'l', 1, 0, 1], [0xff; 12].as_slice()].concat();
        assert!(intake(Side::Service, &endless).take().is_err());
        // Whatever is wrong with it.
        for at in 0..whole.len() {
            for wrong in [0, 1, b'B', 0x7f, 0xff] {
                let mut received = whole.clone();
                received[at] = wrong;
                if let Ok(Some(message)) = intake(Side::Service, &received).take() {
                    let _ = (message.path(), message.header().is_ok());
                    let _ = message.read::<(String, u32)>();
                }
            }
        }
    }
}
