//! Warnings of `check` and `start` about secrets in the configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::field::{Check, Field, Look, Secrecy};
use super::table::Section;
use crate::config::problem::Severity;
use crate::config::template::Fact;

/// A shorter secret is likely to occur in other text.
const SHORTEST: usize = 8;

impl Section<'_> {
    /// Warns of a secret in the configuration itself, and of a short one.
    pub(super) fn caution_of_secret<T: 'static>(&self, field: &Field<T>, line: usize) {
        if !field.is_secret() {
            return;
        }
        let add = |is_early: bool, look: Look| {
            self.reading.check(Check {
                line,
                key: field.key.clone(),
                severity: Severity::Warning,
                is_early,
                look,
            });
        };
        let is_plain = field.is_plain_secret();
        if is_plain && field.literal() != Some("") {
            let file = self.reading.file.to_owned();
            add(true, Box::new(move |_| Err(in_plain_text(&file))));
        }
        let (template, secrecy) = (field.template.clone(), field.secrecy);
        add(
            is_plain,
            Box::new(move |facts| {
                let credentials: Vec<&Fact> = (template.facts())
                    .filter(|it| matches!(it, Fact::Credential(_)))
                    .collect();
                let secrets: Vec<String> = match (credentials.is_empty(), secrecy) {
                    (true, Secrecy::Secret) => facts.render(&template).into_iter().collect(),
                    _ => (credentials.into_iter())
                        .filter_map(|it| facts.value(it).ok())
                        .collect(),
                };
                match secrets.iter().any(|it| is_short(it)) {
                    true => Err(format!(
                        "the secret has fewer than {SHORTEST} characters: it is easy to guess, and wherever its characters \
                         stand in the output of a run, {} is shown instead",
                        crate::model::secrets::MASK
                    )),
                    false => Ok(()),
                }
            }),
        );
    }

    /// Warns of a secret in plain text in a key that is not secret as a whole.
    pub fn caution_of_plain_text(&self, key: &str) {
        let file = self.reading.file.to_owned();
        self.caution(key, true, move |_| Err(in_plain_text(&file)));
    }
}

/// Whether it is short, not counting a scheme such as `Bearer`. An empty text is not a secret.
fn is_short(secret: &str) -> bool {
    let bare = secret.trim().rsplit(' ').next().unwrap_or_default();
    (1..SHORTEST).contains(&bare.chars().count())
}

fn in_plain_text(file: &Path) -> String {
    let advice = "this is a secret in plain text: put it into a file in /etc/credstore (mode 0600) and write \
                  ${credential:NAME}";
    let mode = fs::metadata(file).map(|it| it.permissions().mode() & 0o777);
    match mode {
        Ok(mode) if mode & 0o004 != 0 => {
            let file = file.display();
            format!(
                "{advice}; every user of this machine can read it (mode {mode:04o}): chmod o= {file}"
            )
        }
        _ => advice.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_short_without_the_word_before_it() {
        for short in ["x", "Bearer abc", "1234567", "Bearer  abc ", "äöüäöüä"] {
            assert!(is_short(short), "{short}");
        }
        for long in ["", " ", "12345678", "Bearer 12345678"] {
            assert!(!is_short(long), "{long}");
        }
    }
}
