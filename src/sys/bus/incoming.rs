//! Messages that arrive, as far as anybody here asks for them.

use serde::de::DeserializeOwned;
use zbus::message::Header;
use zbus::wire::Endian;
use zbus::wire::serialized::{Context, Data};
use zbus::{OwnedVariant, Signature, Type};

use super::Trouble;

/// The longest message that is read; a list of ten thousand jobs is far below it.
const LIMIT: usize = 16 << 20;

/// What a message says before its body: byte order, type, flags, version, body's length, serial number, fields.
type Head = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// The types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody calls a method.
    Call,
    /// The answer to a call.
    Return,
    /// A call went wrong.
    Error,
    /// Something happened.
    Signal,
    /// Of a type that was not known when this was written, to be passed over.
    Other,
}

/// A message, of which only the head was understood.
#[derive(Debug)]
pub(super) struct Incoming {
    /// What it is.
    pub(super) kind: Kind,
    head: Data<'static, 'static>,
    fields: Vec<(u8, OwnedVariant)>,
    body: Data<'static, 'static>,
}

/// Takes the first message off `received`, once it is there as a whole.
///
/// # Errors
/// When what is there is no message.
pub(super) fn take(received: &mut Vec<u8>) -> Result<Option<Incoming>, Trouble> {
    if received.len() < 16 {
        return Ok(None);
    }
    let order = match received[0] {
        b'l' => Endian::Little,
        b'B' => Endian::Big,
        other => return Err(Trouble::Strange(format!("a byte order of {other:#x}"))),
    };
    let number = |at: usize| {
        let bytes = [at, at + 1, at + 2, at + 3].map(|at| received[at]);
        let number = match order {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let (body, fields) = (number(4), number(12));
    if body > LIMIT || fields > LIMIT {
        return Err(Trouble::Strange("an endless message".to_owned()));
    }
    // The body begins at the next multiple of eight.
    let begin = (16 + fields).next_multiple_of(8);
    if received.len() < begin + body {
        return Ok(None);
    }
    let body: Vec<u8> = received.drain(..begin + body).collect();
    let (head, body) = body.split_at(begin);
    let context = Context::new(order, 0);
    let (head, body) = (
        Data::new(head.to_vec(), context),
        Data::new(body.to_vec(), context),
    );
    let (understood, _): (Head, usize) = head.deserialize()?;
    let kind = match understood.1 {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    Ok(Some(Incoming {
        kind,
        head,
        fields: understood.6,
        body,
    }))
}

impl Incoming {
    fn field(&self, code: u8) -> Option<&OwnedVariant> {
        let found = self.fields.iter().find(|(it, _)| *it == code)?;
        Some(&found.1)
    }

    fn text(&self, code: u8) -> &str {
        let text = self.field(code).map(|value| &**value);
        match text {
            Some(zbus::Variant::Str(text)) => text,
            Some(zbus::Variant::ObjectPath(path)) => path,
            _ => "",
        }
    }

    /// The object that it is about; empty when it says none, as are the others.
    pub(super) fn path(&self) -> &str {
        self.text(PATH)
    }

    /// The interface that it is of.
    pub(super) fn interface(&self) -> &str {
        self.text(INTERFACE)
    }

    /// The method that is called, or the signal that is sent.
    pub(super) fn member(&self) -> &str {
        self.text(MEMBER)
    }

    /// Who sent it: on a bus a unique name, or the bus itself.
    pub(super) fn sender(&self) -> &str {
        self.text(SENDER)
    }

    /// Whether it answers the call of this number.
    pub(super) fn answers(&self, serial: u32) -> bool {
        let answered = self.field(REPLY_SERIAL).map(|value| &**value);
        matches!(answered, Some(zbus::Variant::U32(number)) if *number == serial)
    }

    /// The head of a call, for zbus to make an answer to.
    ///
    /// # Errors
    /// When zbus does not understand it.
    pub(super) fn header(&self) -> zbus::Result<Header<'_>> {
        Ok(self.head.deserialize()?.0)
    }

    /// What it says.
    ///
    /// # Errors
    /// `Refused` for an error; `Strange` when it is of another type.
    pub(super) fn read<R: DeserializeOwned + Type>(&self) -> Result<R, Trouble> {
        let signature = match self.field(SIGNATURE).map(|value| &**value) {
            Some(zbus::Variant::Signature(signature)) => signature,
            _ => &Signature::Unit,
        };
        if self.kind == Kind::Error {
            let message = match signature {
                Signature::Str => self.body.deserialize::<String>()?.0,
                _ => String::new(),
            };
            let name = self.text(ERROR_NAME).to_owned();
            return Err(Trouble::Refused(name, message));
        }
        if *signature == *R::SIGNATURE {
            return Ok(self.body.deserialize()?.0);
        }
        // zbus has the arguments of a body as one structure.
        let signature = signature.to_string();
        if R::SIGNATURE.to_string() == format!("({signature})") {
            return Ok(self.body.deserialize()?.0);
        }
        let wanted = R::SIGNATURE;
        Err(Trouble::Strange(format!(
            "{signature} in the place of {wanted}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use zbus::Message;

    use super::*;

    fn call() -> Message {
        Message::method_call("/a/b", "Do")
            .interface("x.Y")
            .destination("x.Z")
            .build(&("one", 2u32))
            .expect("a message")
    }

    #[test]
    fn a_message_is_taken_when_it_is_whole() {
        let bytes = call().data().bytes().to_vec();
        for length in 0..bytes.len() {
            let mut received = bytes[..length].to_vec();
            assert!(take(&mut received).expect("no trouble").is_none());
            assert_eq!(received.len(), length, "it waits for the rest");
        }
        let mut received = [bytes.as_slice(), &bytes, &bytes[..20]].concat();
        for _ in 0..2 {
            let message = take(&mut received).expect("no trouble").expect("whole");
            assert_eq!(message.kind, Kind::Call);
            let says = (message.path(), message.interface(), message.member());
            assert_eq!(says, ("/a/b", "x.Y", "Do"));
            assert_eq!(message.sender(), "");
            let arguments: (String, u32) = message.read().expect("these");
            assert_eq!(arguments, ("one".to_owned(), 2));
            assert!(message.read::<String>().is_err());
            let header = message.header().expect("a head");
            assert_eq!(header.member().map(|it| it.as_str()), Some("Do"));
        }
        assert!(take(&mut received).expect("no trouble").is_none());
    }

    #[test]
    fn what_is_no_message_is_trouble_and_no_more() {
        let whole = call().data().bytes().to_vec();
        let endless = [&[b'l', 1, 0, 1], [0xff; 12].as_slice()].concat();
        assert!(take(&mut endless.clone()).is_err());
        // Whatever is wrong with it.
        for at in 0..whole.len() {
            for wrong in [0, 1, b'B', 0x7f, 0xff] {
                let mut received = whole.clone();
                received[at] = wrong;
                if let Ok(Some(message)) = take(&mut received) {
                    let _ = (message.path(), message.header().is_ok());
                    let _ = message.read::<(String, u32)>();
                }
            }
        }
    }
}
