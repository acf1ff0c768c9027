//! `capture`: values of an answer that later steps use as facts.

use crate::clients::http::cut;
use crate::config::facts::Facts;
use crate::config::pointer;
use crate::config::section::Section;
use crate::config::template::Fact;
use crate::model::error::{ErrorKind, Failure};
use crate::model::secrets;
use crate::step::CapturedName;
use crate::sys::http::Answer;

/// What a step captures, in the order of the file.
pub(super) struct Captures(Vec<Capture>);

struct Capture {
    fact: Fact,
    name: String,
    pointer: String,
    is_secret: bool,
}

impl Captures {
    pub(super) fn read(section: &Section<'_>) -> Captures {
        // A step without a usable name is none that a fact can name.
        let step = section.word_elsewhere("name").unwrap_or_default();
        let tables = section.tables("capture");
        if section.has("capture") && tables.is_empty() {
            section.problem("capture", "must name what is captured");
        }
        let captures = tables.into_iter().filter_map(|(name, table)| {
            if !is_name(&name) {
                let message = "a name is letters, digits, `-` and `_`";
                section.problem("capture", format!("`{name}`: {message}"));
            }
            let pointer = table.required("pointer", |table, key| table.word(key));
            if (pointer.as_ref()).is_some_and(|it| !it.is_empty() && !it.starts_with('/')) {
                table.problem("pointer", "a JSON pointer is empty or begins with `/`");
            }
            let is_secret = table.boolean("secret").unwrap_or(false);
            table.finish();
            Some(Capture {
                fact: Fact::Step(step.clone(), name.clone()),
                name,
                pointer: pointer?,
                is_secret,
            })
        });
        Captures(captures.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> Vec<CapturedName> {
        let name = |it: &Capture| CapturedName {
            name: it.name.clone(),
            is_secret: it.is_secret,
        };
        self.0.iter().map(name).collect()
    }

    /// Makes the values in an answer facts of this run: all of them, or none.
    pub(super) fn take(&self, answer: &Answer, facts: &Facts) -> Result<(), Failure> {
        for (capture, value) in self.values(answer)? {
            facts.capture(&capture.fact, value, capture.is_secret);
        }
        Ok(())
    }

    /// What a run would capture of this answer, in words; nothing becomes a fact.
    pub(super) fn rehearse(&self, answer: &Answer) -> Result<String, Failure> {
        let names: Vec<_> = (self.values(answer)?.into_iter())
            .map(|(capture, _)| format!("`{}`", capture.name))
            .collect();
        Ok(match names.is_empty() {
            true => String::new(),
            false => format!(", with {} to capture", names.join(", ")),
        })
    }

    fn values(&self, answer: &Answer) -> Result<Vec<(&Capture, String)>, Failure> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(failure) = cut(answer) {
            return Err(failure);
        }
        let text = String::from_utf8_lossy(&answer.body);
        let value = |capture| {
            let value = pointer::value_in(&text, pointer_of(capture)).map_err(|cause| {
                let (name, pointer) = (&capture.name, &capture.pointer);
                let cause = format!("nothing to capture as `{name}` at {pointer:?}: {cause}");
                Failure::new(ErrorKind::Protocol, answer.url.clone(), cause)
            })?;
            // At once: the next failure may have the answer in it.
            if capture.is_secret {
                secrets::hide(&value);
            }
            Ok((capture, value))
        };
        self.0.iter().map(value).collect()
    }
}

fn pointer_of(capture: &Capture) -> &str {
    &capture.pointer
}

fn is_name(name: &str) -> bool {
    let is_good = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
    !name.is_empty() && name.chars().all(is_good)
}
