//! Configured strings that become values when a step begins.

use std::sync::Arc;

use crate::config::facts::Facts;
use crate::config::template::Template;
use crate::failure::{Failure, Word};
use crate::secrets;
use crate::sys::systemd::is_unit_name;

/// Whether a string may hold a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// It is shown or can be seen by others (a URL, a path, an argv): a credential in it is refused.
    Public,
    /// It may hold a credential.
    MayHold,
    /// It is a secret as a whole, wherever it comes from.
    Secret,
}

/// A configured string that becomes a `T` when a step begins and the facts in it are known.
pub struct Field<T> {
    pub(super) key: String,
    pub(super) template: Arc<Template>,
    pub(super) secrecy: Secrecy,
    pub(super) parse: fn(&str) -> Result<T, String>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        self.taken_as(self.parse)
    }
}

impl<T> Field<T> {
    /// The value, with the facts as they are now.
    ///
    /// # Errors
    /// A `config` failure when a fact or a credential cannot be read, or when what comes out is no `T`.
    pub fn get(&self, facts: &Facts) -> Result<T, Failure> {
        self.try_get(facts)
            .map_err(|cause| Failure::new(Word::Config, format!("key \"{}\"", self.key), cause))
    }

    pub(super) fn try_get(&self, facts: &Facts) -> Result<T, String> {
        let text = facts.render(&self.template)?;
        if self.secrecy == Secrecy::Secret {
            secrets::hide(&text);
        }
        (self.parse)(&text)
    }

    /// The same string, understood as something else.
    pub fn taken_as<U>(&self, parse: fn(&str) -> Result<U, String>) -> Field<U> {
        Field {
            key: self.key.clone(),
            template: self.template.clone(),
            secrecy: self.secrecy,
            parse,
        }
    }

    /// The string as it would have to be written for another day: with the facts put in as they are now, and with the
    /// names of credentials. Of a secret all facts are left as they are, wherever it comes from.
    ///
    /// # Errors
    /// As [`Field::get`].
    pub fn keep(&self, facts: &Facts) -> Result<String, Failure> {
        match self.secrecy {
            Secrecy::Secret => Ok(self.template.to_string()),
            Secrecy::Public | Secrecy::MayHold => {
                facts.render_for_later(&self.template).map_err(|cause| {
                    Failure::new(Word::Config, format!("key \"{}\"", self.key), cause)
                })
            }
        }
    }

    /// The key that it is the value of.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is a secret that stands in the configuration itself.
    pub fn is_plain_secret(&self) -> bool {
        self.secrecy == Secrecy::Secret && self.literal().is_some()
    }

    /// The text, when no fact is in it.
    pub fn literal(&self) -> Option<&str> {
        self.template.literal()
    }
}

type Look = Box<dyn Fn(&Facts) -> Result<(), String>>;

/// A look at one field that can only be taken when facts are known.
pub struct Check {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) look: Look,
}

impl Check {
    /// Takes the look; the problem found, as (line, key, message).
    pub fn look(&self, facts: &Facts) -> Option<(usize, String, String)> {
        (self.look)(facts)
            .err()
            .map(|message| (self.line, self.key.clone(), message))
    }
}

/// The text as it is.
///
/// # Errors
/// None.
pub fn plain(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// An absolute path: systemd runs farewell in `/`, and a relative path would mean another file by hand.
///
/// # Errors
/// When it is not absolute.
pub fn path(text: &str) -> Result<std::path::PathBuf, String> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err(format!("the path `{text}` must be absolute"))
    }
}

/// The name of a systemd unit, with its suffix; see systemd.unit(5).
///
/// # Errors
/// When it is none.
pub fn unit_name(name: &str) -> Result<String, String> {
    if is_unit_name(name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "`{name}` is no name of a unit; write it with its suffix, like app.service"
    ))
}
