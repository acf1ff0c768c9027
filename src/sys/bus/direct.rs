//! The talk with a peer at the other end of a socket, without a bus in between, as PID 1 has one.
//!
//! zbus makes the calls and reads the values, but cannot hold this conversation: PID 1 signs its answers there as
//! `org.freedesktop.systemd1`, and zbus takes no sender but the unique names that a bus gives out. It is a short one: a
//! call, and its answer. See the D-Bus Specification, "Message Protocol" and "Authentication Protocol".

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::wire::Endian;
use zbus::wire::serialized::{Context, Data};
use zbus::{DynamicType, Message, OwnedVariant, Signature, Type};

use super::Trouble;
use crate::deadline::Deadline;

/// The longest answer that is read; a list of ten thousand jobs is far below it.
const LIMIT: usize = 16 << 20;

/// The longest line of the handshake.
const LINE: usize = 1 << 10;

/// Between two tries to get into the queue of a peer that is busy.
const PAUSE: Duration = Duration::from_millis(20);

/// What a message says before its body: byte order, type, flags, version, body's length, serial number, fields.
type Head = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const SIGNATURE: u8 = 8;

/// A connection to one peer.
#[derive(Debug)]
pub struct Direct(UnixStream);

impl Direct {
    /// Connects, and proves who this process is.
    ///
    /// A message that PID 1 reads together with the end of the handshake is stuck until the next one. So our side of it
    /// goes out in one write, and nothing follows before the answer is there.
    ///
    /// # Errors
    /// When nobody listens there, or it does not answer in time.
    pub fn connect(path: &Path, deadline: Deadline) -> Result<Direct, Trouble> {
        let mut direct = Direct(open(path, deadline)?);
        let user = geteuid().to_string();
        let user: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        direct.write(
            format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes(),
            deadline,
        )?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            direct.read(&mut byte, deadline)?;
            line.extend(byte);
            if line.len() > LINE {
                return Err(Trouble::Strange("the handshake has no end".to_owned()));
            }
        }
        if line.starts_with(b"OK ") {
            return Ok(direct);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        Err(Trouble::NoConnection(format!("not let in: {line}")))
    }

    /// Calls a method and returns what it answers. Whatever else arrives meanwhile is passed over.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub fn call<A, R>(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &A,
        deadline: Deadline,
    ) -> Result<R, Trouble>
    where
        A: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let call = Message::method_call(path, method)
            .interface(interface)
            .build(arguments)?;
        let serial = call.primary_header().serial_num().get();
        self.write(call.data().bytes(), deadline)?;
        loop {
            let answer = self.answer(deadline)?;
            let is_ours = answer
                .field(REPLY_SERIAL)
                .and_then(|it| u32::try_from(it).ok());
            if is_ours == Some(serial) {
                return answer.value();
            }
        }
    }

    fn answer(&mut self, deadline: Deadline) -> Result<Answer, Trouble> {
        let mut bytes = vec![0; 16];
        self.read(&mut bytes, deadline)?;
        let order = match bytes[0] {
            b'l' => Endian::Little,
            b'B' => Endian::Big,
            other => return Err(Trouble::Strange(format!("a byte order of {other:#x}"))),
        };
        let number = |at: usize| {
            let bytes: [u8; 4] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            let number = match order {
                Endian::Little => u32::from_le_bytes(bytes),
                Endian::Big => u32::from_be_bytes(bytes),
            };
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let (body, fields) = (number(4), number(12));
        if body > LIMIT || fields > LIMIT {
            return Err(Trouble::Strange("an endless answer".to_owned()));
        }
        // The body begins at the next multiple of eight.
        let head = (16 + fields).next_multiple_of(8);
        bytes.resize(head + body, 0);
        self.read(&mut bytes[16..], deadline)?;
        let body = bytes.split_off(head);
        let context = Context::new(order, 0);
        let (head, _): (Head, usize) = Data::new(bytes, context).deserialize()?;
        Ok(Answer {
            kind: head.1,
            fields: head.6,
            body: Data::new(body, context),
        })
    }

    fn write(&mut self, bytes: &[u8], deadline: Deadline) -> Result<(), Trouble> {
        let left = deadline.left().ok_or(Trouble::TimedOut)?;
        self.0.set_write_timeout(Some(left)).map_err(broken)?;
        // Calls are small: either all of it fits into the socket's buffer, or the peer does not read at all.
        self.0.write_all(bytes).map_err(broken)
    }

    fn read(&mut self, mut bytes: &mut [u8], deadline: Deadline) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            let left = deadline.left().ok_or(Trouble::TimedOut)?;
            self.0.set_read_timeout(Some(left)).map_err(broken)?;
            match self.0.read(bytes) {
                Ok(0) => return Err(Trouble::NoConnection("closed by the peer".to_owned())),
                Ok(length) => bytes = &mut bytes[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }
}

/// An answer, of which only the head was understood.
struct Answer {
    kind: u8,
    fields: Vec<(u8, OwnedVariant)>,
    body: Data<'static, 'static>,
}

impl Answer {
    fn field(&self, code: u8) -> Option<OwnedVariant> {
        let found = self.fields.iter().find(|(it, _)| *it == code)?;
        found.1.try_clone().ok()
    }

    fn value<R: DeserializeOwned + Type>(&self) -> Result<R, Trouble> {
        let signature = self
            .field(SIGNATURE)
            .and_then(|it| Signature::try_from(it).ok())
            .unwrap_or(Signature::Unit);
        match self.kind {
            METHOD_RETURN if signature == *R::SIGNATURE => Ok(self.body.deserialize()?.0),
            METHOD_RETURN => Err(Trouble::Strange(format!(
                "{signature} in the place of {}",
                R::SIGNATURE
            ))),
            ERROR => {
                let name = self.field(ERROR_NAME);
                let name = name.and_then(|it| String::try_from(it).ok());
                let message = match signature {
                    Signature::Str => self.body.deserialize::<String>()?.0,
                    _ => String::new(),
                };
                Err(Trouble::Refused(name.unwrap_or_default(), message))
            }
            other => Err(Trouble::Strange(format!("an answer of type {other}"))),
        }
    }
}

/// connect(2), which waits for ever where the peer's queue is full, unless it must not wait at all.
fn open(path: &Path, deadline: Deadline) -> Result<UnixStream, Trouble> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let unreachable = |errno: Errno| Trouble::NoConnection(format!("{}: {errno}", path.display()));
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(unreachable)?;
    let address = UnixAddr::new(path).map_err(unreachable)?;
    loop {
        match connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EAGAIN | Errno::EINTR) => {
                let left = deadline.left().ok_or(Trouble::TimedOut)?;
                thread::sleep(PAUSE.min(left));
            }
            Err(errno) => return Err(unreachable(errno)),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(broken)?;
    Ok(stream)
}

fn broken(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Trouble::TimedOut,
        _ => Trouble::NoConnection(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use zbus::ObjectPath;
    use zbus::wire::{NATIVE_ENDIAN, Variant, to_bytes};

    use super::*;
    use crate::deadline::Reason;

    /// A stand-in for PID 1, which signs as PID 1 does, and what it answers to each call with.
    fn stand_in(name: &str, answers: Vec<Vec<u8>>) -> PathBuf {
        let path = std::env::temp_dir().join(format!("farewell-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a peer");
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).expect("the handshake");
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(
                said.starts_with("\0AUTH EXTERNAL ") && said.ends_with("\r\nBEGIN\r\n"),
                "{said:?}"
            );
            stream
                .write_all(b"OK 1234567890abcdef\r\n")
                .expect("written");
            for answer in answers {
                let length = stream.read(&mut buffer).expect("a call");
                let serial = u32::from_le_bytes(buffer[8..12].try_into().expect("four"));
                assert!(length > 16 && buffer[0] == b'l');
                let mut answer = answer;
                // Where `message` has left the place for it.
                let place = answer
                    .windows(4)
                    .rposition(|it| it == 0xdead_beef_u32.to_le_bytes());
                if let Some(at) = place {
                    answer[at..at + 4].copy_from_slice(&serial.to_le_bytes());
                }
                // In two parts, as a stream may.
                stream.write_all(&answer[..7]).expect("written");
                stream.write_all(&answer[7..]).expect("written");
            }
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        path
    }

    fn message<B: Serialize + DynamicType>(
        kind: u8,
        signature: &str,
        more: Option<&str>,
        body: &B,
    ) -> Vec<u8> {
        let context = Context::new(NATIVE_ENDIAN, 0);
        let body = to_bytes(context, body).expect("a body");
        let mut fields: Vec<(u8, Variant<'_>)> = vec![
            (REPLY_SERIAL, Variant::from(0xdead_beef_u32)),
            (7, Variant::from("org.freedesktop.systemd1")),
            (
                SIGNATURE,
                Variant::from(Signature::try_from(signature).expect("one")),
            ),
        ];
        if let Some(name) = more {
            fields.push((ERROR_NAME, Variant::from(name)));
        }
        let length = u32::try_from(body.bytes().len()).expect("short");
        let head = (b'l', kind, 0u8, 1u8, length, 1u32, fields);
        let mut bytes = to_bytes(context, &head).expect("a head").bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(body.bytes());
        bytes
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(30), Reason::Attempt)
    }

    #[test]
    fn answers_are_taken_from_a_peer_that_signs_with_a_name() {
        let signal = message(4, "s", None, &"something else");
        let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/7").expect("a path");
        let error = "org.freedesktop.systemd1.NoSuchUnit";
        let answers = vec![
            [signal, message(METHOD_RETURN, "o", None, &job)].concat(),
            message(METHOD_RETURN, "v", None, &Variant::from("running")),
            message(ERROR, "s", Some(error), &"Unit x.service not loaded."),
            message(METHOD_RETURN, "u", None, &7u32),
        ];
        let path = stand_in("direct", answers);
        let mut direct = Direct::connect(&path, soon()).expect("connected");
        let mut call = |method: &str| -> Result<zbus::OwnedObjectPath, Trouble> {
            direct.call("/x", "x.Y", method, &("a", 1u32), soon())
        };
        assert_eq!(call("Stop").expect("an answer").as_str(), job.as_str());
        let value: OwnedVariant = direct
            .call("/x", "x.Y", "Get", &(), soon())
            .expect("an answer");
        assert_eq!(String::try_from(value).expect("text"), "running");
        let refused: Result<(), Trouble> = direct.call("/x", "x.Y", "Stop", &(), soon());
        let trouble = refused.expect_err("an error");
        assert!(trouble.is(error));
        assert_eq!(trouble.to_string(), "Unit x.service not loaded.");
        let strange: Result<String, Trouble> = direct.call("/x", "x.Y", "Z", &(), soon());
        assert!(matches!(strange, Err(Trouble::Strange(_))), "{strange:?}");
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_peer_that_does_not_answer_costs_its_deadline() {
        let path = stand_in("silent", Vec::new());
        let mut direct = Direct::connect(&path, soon()).expect("connected");
        let little = Deadline::after(Duration::from_millis(50), Reason::Attempt);
        let nothing: Result<(), Trouble> = direct.call("/x", "x.Y", "Z", &(), little);
        assert_eq!(nothing, Err(Trouble::TimedOut));
        std::fs::remove_file(&path).expect("removed");
        let nobody = Direct::connect(&path, soon()).map(drop);
        assert!(
            matches!(nobody, Err(Trouble::NoConnection(_))),
            "{nobody:?}"
        );
    }
}
