//! Configured strings that are parsed when a step begins.

use std::sync::Arc;

use super::recorded_template::source;
use crate::config::facts::Facts;
use crate::config::problem::Severity;
use crate::config::template::{Fact, Part, Template};
use crate::config::text_kind::TextKind;
use crate::config::url_part;
use crate::model::error::{ErrorKind, Failure};
use crate::model::intent::{Datum, Piece};
use crate::model::secrets;
use crate::sys::systemd::is_unit_name;

/// Whether a string may contain a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// It is shown or visible to others (a URL, a path, an argv): a credential in it is refused.
    Public,
    /// It may contain a credential.
    MayHold,
    /// It is a secret as a whole, whatever its source.
    Secret,
}

/// A configured string that is parsed as a `T` when a step begins and its facts are known.
pub struct Field<T> {
    pub(super) key: String,
    pub(super) template: Arc<Template>,
    pub(super) secrecy: Secrecy,
    pub(super) shape: TextKind,
    pub(super) parse: fn(&str) -> Result<T, String>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        self.taken_as(self.parse)
    }
}

impl<T> Field<T> {
    /// The value with the current facts.
    ///
    /// # Errors
    /// A `config` failure if a fact or credential cannot be read, or the text cannot be parsed as a `T`.
    pub fn get(&self, facts: &Facts) -> Result<T, Failure> {
        self.try_get(facts).map_err(|cause| self.failure(cause))
    }

    /// The value of a form's body (`a=b&c=d`), with facts encoded.
    pub fn get_form(&self, facts: &Facts) -> Result<T, Failure> {
        let text = facts.render_form(&self.template);
        text.and_then(|text| self.understood(text))
            .map_err(|cause| self.failure(cause))
    }

    fn failure(&self, cause: String) -> Failure {
        Failure::new(ErrorKind::Config, format!("key \"{}\"", self.key), cause)
    }

    pub(super) fn try_get(&self, facts: &Facts) -> Result<T, String> {
        self.try_get_from(facts).map(|(value, _)| value)
    }

    fn try_get_from(&self, facts: &Facts) -> Result<(T, Option<Fact>), String> {
        if self.secrecy == Secrecy::Secret {
            facts.keep_secret(&self.template);
        }
        let (text, host) = facts.render_at(self.shape, &self.template)?;
        Ok((self.understood(text)?, host))
    }

    /// As [`Field::get`]; also returns the fact from a file that is the host of a URL, or a part of it.
    pub fn get_from(&self, facts: &Facts) -> Result<(T, Option<Fact>), Failure> {
        self.try_get_from(facts)
            .map_err(|cause| self.failure(cause))
    }

    /// The source text, with the facts' names in it.
    pub fn written(&self) -> String {
        self.template.to_string()
    }

    fn understood(&self, text: String) -> Result<T, String> {
        if self.secrecy == Secrecy::Secret {
            secrets::hide(&text);
        }
        (self.parse)(&text)
    }

    /// The same string, parsed as something else.
    pub fn taken_as<U>(&self, parse: fn(&str) -> Result<U, String>) -> Field<U> {
        Field {
            key: self.key.clone(),
            template: self.template.clone(),
            secrecy: self.secrecy,
            shape: self.shape,
            parse,
        }
    }

    /// The string as a record keeps it for an undo. A public string becomes text, with the current facts. In a string
    /// that may be secret, facts from credentials, files and the environment stay references, to be read again; a
    /// secret in the configuration itself is not recorded.
    pub fn keep(&self, facts: &Facts) -> Result<Datum, Failure> {
        self.try_keep(facts).map_err(|cause| self.failure(cause))
    }

    fn try_keep(&self, facts: &Facts) -> Result<Datum, String> {
        if self.secrecy == Secrecy::Public {
            let (text, _) = facts.render_at(self.shape, &self.template)?;
            return Ok(Datum::Text(text));
        }
        // Another process undoes it, which has captured nothing.
        if self
            .template
            .captured()
            .any(|it| facts.is_captured_secret(it))
        {
            return Ok(Datum::Reference(Vec::new()));
        }
        let piece = |part: &Part| match part {
            Part::Literal(text) => Ok(Piece::Text(text.clone())),
            Part::Fact(fact) => match source(fact) {
                Some(source) => Ok(Piece::From(source)),
                None => facts.value(fact).map(Piece::Text),
            },
        };
        let pieces: Vec<_> = (self.template.parts().iter().map(piece)).collect::<Result<_, _>>()?;
        let refers = pieces.iter().any(|it| matches!(it, Piece::From(_)));
        Ok(match self.secrecy {
            _ if refers => Datum::Reference(pieces),
            Secrecy::Secret => Datum::Reference(Vec::new()),
            Secrecy::Public | Secrecy::MayHold => Datum::Text(facts.render(&self.template)?),
        })
    }

    /// As [`Field::get`], with an `x` in place of what steps capture: good for its shape alone, before a run.
    pub fn get_ahead(&self, facts: &Facts) -> Result<T, Failure> {
        let template = Arc::new(self.template.without_captured());
        let ahead = Field {
            template,
            ..self.clone()
        };
        ahead.get(facts)
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// The fact from a file that is the host of a URL or a part of it, as far as the template shows.
    pub fn host_fact(&self) -> Option<&Fact> {
        url_part::host_fact(&self.template)
    }

    /// Whether it is a secret, or contains a credential.
    pub fn is_secret(&self) -> bool {
        self.secrecy == Secrecy::Secret || self.template.is_secret()
    }

    /// Whether it is a secret in the configuration itself.
    pub fn is_plain_secret(&self) -> bool {
        self.secrecy == Secrecy::Secret && self.literal().is_some()
    }

    /// The text, if it contains no fact.
    pub fn literal(&self) -> Option<&str> {
        self.template.literal()
    }
}

pub(super) type Look = Box<dyn Fn(&Facts) -> Result<(), String>>;

/// A check of one field that may need facts.
pub struct Check {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) severity: Severity,
    /// Whether it needs no fact, so that it works on a build machine.
    pub(super) is_early: bool,
    pub(super) look: Look,
}

impl Check {
    /// Whether it works without the facts of the later machine.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// The severity of what it finds.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// Runs the check, and returns a problem as (line, key, message).
    pub fn run(&self, facts: &Facts) -> Option<(usize, String, String)> {
        (self.look)(facts)
            .err()
            .map(|message| (self.line, self.key.clone(), message))
    }
}

/// Accepts any text.
pub fn plain(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Accepts any text but the empty one.
pub fn non_empty(text: &str) -> Result<String, String> {
    match text {
        "" => Err("must not be empty".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// Accepts an absolute path: systemd runs farewell in `/`, and a relative path would mean another file by hand.
pub fn path(text: &str) -> Result<std::path::PathBuf, String> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err(format!("the path `{text}` must be absolute"))
    }
}

/// Accepts the name of a systemd unit, with its suffix; see systemd.unit(5).
pub fn unit_name(name: &str) -> Result<String, String> {
    if is_unit_name(name) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "`{name}` is not a unit name; write it with its suffix, like app.service"
    ))
}
