//! The values of `${…}`, looked up when they are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::{env, io};

use super::captured::CapturedValues;
use super::credential::credential;
use super::fact_position::TemplateWriter;
use super::pointer;
use super::template::{Fact, Part, Template};
use super::text_kind::TextKind;
use crate::model::event;
use crate::model::secrets;
use crate::model::trigger::{ComesBack, Diagnosis, Trigger};
use crate::sys::http::encoded;
use crate::sys::sync::Mutex;
use crate::sys::{files, host};

/// Values of facts by their source text: `${ip:eth0}`.
pub type Values = BTreeMap<String, String>;

/// The facts of one run, or of a check of the configuration.
///
/// The machine's own facts (hostname, machine-id, boot-id, ip) are looked up once, or were kept at boot, since their
/// sources may be gone at shutdown. `env`, `file` and `json` are read each time; the value kept at boot is used only if
/// that fails. Credentials are read each time, and never kept.
pub struct Facts {
    diagnosis: Diagnosis,
    run: String,
    progress: Mutex<(event::Result, Vec<String>)>,
    kept: Values,
    found: Mutex<Values>,
    /// Facts that are part of secrets, by their source text.
    secret: Mutex<BTreeSet<String>>,
    /// How the trigger was used.
    asked: AtomicU8,
    captured: CapturedValues,
}

/// How the trigger was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TriggerUse {
    /// It was not used.
    Nothing,
    /// Only whether the machine comes back was used.
    Return,
    /// Its name was put into a text.
    ErrorKind,
}

impl Facts {
    /// Facts of the run `run`.
    pub fn new(diagnosis: impl Into<Diagnosis>, run: impl Into<String>) -> Self {
        let progress = Mutex::new((event::Result::Ok, Vec::new()));
        Facts {
            diagnosis: diagnosis.into(),
            run: run.into(),
            progress,
            kept: Values::new(),
            found: Mutex::default(),
            secret: Mutex::default(),
            asked: AtomicU8::new(TriggerUse::Nothing as u8),
            captured: CapturedValues::default(),
        }
    }

    /// The same facts for another trigger, not used yet.
    pub fn on(&self, trigger: Trigger) -> Facts {
        Facts {
            kept: self.kept.clone(),
            found: Mutex::new(self.found()),
            ..Facts::new(trigger, self.run.clone())
        }
    }

    /// The run's trigger.
    pub fn trigger(&self) -> Trigger {
        self.ask(TriggerUse::ErrorKind);
        self.diagnosis.trigger()
    }

    /// Whether this machine comes back by itself after the run.
    pub fn comes_back(&self) -> ComesBack {
        self.ask(TriggerUse::Return);
        self.diagnosis.comes_back()
    }

    /// How the trigger was used so far.
    pub fn asked(&self) -> TriggerUse {
        match self.asked.load(Ordering::Relaxed) {
            0 => TriggerUse::Nothing,
            1 => TriggerUse::Return,
            _ => TriggerUse::ErrorKind,
        }
    }

    fn ask(&self, asked: TriggerUse) {
        self.asked.fetch_max(asked as u8, Ordering::Relaxed);
    }

    /// The run's ID.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// The same facts, with the values kept at boot.
    pub fn with_kept(self, kept: Values) -> Self {
        Facts { kept, ..self }
    }

    /// Looks up the machine's own facts, even if no template uses them. Unavailable ones are left out.
    pub fn look_at_machine(&self) {
        for fact in [
            Fact::Hostname,
            Fact::MachineId,
            Fact::BootId,
            Fact::Ip(None),
        ] {
            // A template that needs it reports the error.
            let _ = self.of_machine(&fact);
        }
    }

    /// The values looked up so far that may be kept for later: no credentials, nothing that is part of a secret, and
    /// nothing of the run itself.
    pub fn found(&self) -> Values {
        let mut found = self.found.lock().clone();
        found.retain(|name, _| !self.is_secret(name));
        found
    }

    /// Excludes facts that are part of a secret from what is kept for later.
    pub fn keep_secret(&self, template: &Template) {
        let mut secret = self.secret.lock();
        secret.extend(
            template
                .facts()
                .filter(|it| it.is_read())
                .map(Fact::to_string),
        );
    }

    /// Whether a fact is known to be part of a secret.
    pub fn is_secret(&self, name: &str) -> bool {
        let secret = self.secret.lock();
        secret.contains(name)
    }

    /// Sets how the run went so far.
    pub fn set_progress(&self, result: event::Result, failed: Vec<String>) {
        *self.progress.lock() = (result, failed);
    }

    /// Makes what a step has captured a fact of this run. A secret is masked in every output from then on.
    pub fn capture(&self, fact: &Fact, value: String, is_secret: bool) {
        self.captured.insert(fact, value, is_secret);
    }

    /// Whether a step has captured it as a secret.
    pub fn is_captured_secret(&self, fact: &Fact) -> bool {
        self.captured.is_secret(fact)
    }

    /// Substitutes the facts in `template`. Credentials are masked in every output from then on.
    ///
    /// # Errors
    /// Every fact that is not available, and why, without values.
    pub fn render(&self, template: &Template) -> Result<String, String> {
        self.put_in(template, |_, value| value)
    }

    /// As [`Facts::render`], for the body of a form (`a=b&c=d`): a fact in a value is encoded. One at the beginning or
    /// after a `&` stands for whole fields, and is not.
    pub fn render_form(&self, template: &Template) -> Result<String, String> {
        self.put_in(template, |before, value| {
            let field = before.rsplit('&').next().unwrap_or_default();
            match field.contains('=') {
                true => encoded(&value),
                false => value,
            }
        })
    }

    /// As [`Facts::render`], for a string whose structure facts must not change. Also returns the fact from a file that
    /// is the host of a URL, or a part of it.
    ///
    /// # Errors
    /// As [`Facts::render`], and every fact that would change the structure.
    pub fn render_at(
        &self,
        shape: TextKind,
        template: &Template,
    ) -> Result<(String, Option<Fact>), String> {
        let (mut filling, mut wrong) = (TemplateWriter::new(shape), Vec::new());
        for part in template.parts() {
            match part {
                Part::Literal(literal) => filling.literal(literal),
                Part::Fact(fact) => {
                    let put = |value: String| filling.fact(fact, &value);
                    wrong.extend(self.value(fact).and_then(put).err());
                }
            }
        }
        match wrong.is_empty() {
            true => filling.finish(),
            false => Err(wrong.join("; ")),
        }
    }

    /// Substitutes facts, with `spell` applied to each value and the text before it.
    fn put_in(
        &self,
        template: &Template,
        spell: impl Fn(&str, String) -> String,
    ) -> Result<String, String> {
        let (mut text, mut missing) = (String::new(), Vec::new());
        for part in template.parts() {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Fact(fact) => match self.value(fact) {
                    Ok(value) => {
                        let value = spell(&text, value);
                        text.push_str(&value);
                    }
                    Err(cause) => missing.push(cause),
                },
            }
        }
        if missing.is_empty() {
            Ok(text)
        } else {
            Err(missing.join("; "))
        }
    }

    /// The value of one fact. A credential is masked in every output from then on.
    ///
    /// # Errors
    /// Why it is not available, without values.
    pub fn value(&self, fact: &Fact) -> Result<String, String> {
        self.look_up(fact)
            .map_err(|cause| format!("{fact} is not available: {cause}"))
    }

    fn look_up(&self, fact: &Fact) -> Result<String, String> {
        let progress = || self.progress.lock();
        match fact {
            Fact::Hostname | Fact::MachineId | Fact::BootId | Fact::Ip(_) => self.of_machine(fact),
            Fact::Env(_) | Fact::File(_) | Fact::Json(..) => self.anew(fact),
            Fact::Trigger => Ok(self.trigger().to_string()),
            Fact::Run => Ok(self.run.clone()),
            Fact::Result => Ok(progress().0.as_str().to_owned()),
            Fact::Failed => Ok(progress().1.join(",")),
            Fact::Step(step, _) => self.captured.get(fact).ok_or_else(|| {
                format!(
                    "the step `{step}` has captured nothing in this run; it failed or was skipped"
                )
            }),
            Fact::Credential(name) => {
                let secret = credential(name)?;
                secrets::hide(&secret);
                Ok(secret)
            }
        }
    }

    fn of_machine(&self, fact: &Fact) -> Result<String, String> {
        let name = fact.to_string();
        if let Some(value) = self.kept.get(&name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.found.lock().get(&name) {
            return Ok(value.clone());
        }
        let value = match fact {
            Fact::MachineId => host::machine_id(),
            Fact::BootId => host::boot_id(),
            Fact::Ip(None) => host::default_address().map(|it| it.to_string()),
            Fact::Ip(Some(interface)) => {
                host::interface_address(interface).map(|it| it.to_string())
            }
            _ => host::hostname(),
        };
        let value = value.map_err(cause)?;
        self.found.lock().insert(name, value.clone());
        Ok(value)
    }

    fn anew(&self, fact: &Fact) -> Result<String, String> {
        let read = match fact {
            Fact::File(path) => files::read(path)
                .map(|text| text.trim_end().to_owned())
                .map_err(cause),
            Fact::Json(path, pointer) => pointer::value_at(path, pointer),
            Fact::Env(name) => env::var(name).map_err(|_| "not set".to_owned()),
            _ => Err("no source".to_owned()),
        };
        let name = fact.to_string();
        match (read, self.kept.get(&name)) {
            (Ok(value), _) => {
                self.found.lock().insert(name, value.clone());
                Ok(value)
            }
            (Err(cause), Some(kept)) => {
                log::warn!("{fact} is not available ({cause}): using the value kept at boot");
                Ok(kept.clone())
            }
            (Err(cause), None) => Err(cause),
        }
    }
}

fn cause(error: io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, String> {
        let facts = Facts::new(Trigger::Reboot, "r1");
        facts.set_progress(event::Result::Failed, vec!["a".into(), "b".into()]);
        facts.render(&Template::parse(text).expect("a template"))
    }

    #[test]
    fn facts_are_put_in() {
        assert_eq!(
            render("${trigger} ${run} ${result} ${failed}").as_deref(),
            Ok("reboot r1 failed a,b")
        );
        assert_eq!(
            render("${hostname}").as_deref(),
            Ok(host::hostname().expect("a name").as_str())
        );
        assert!(render("${boot-id}").is_ok_and(|id| id.len() == 36));
    }

    #[test]
    fn it_is_known_what_was_made_of_the_trigger() {
        let facts = Facts::new(Trigger::Stop, "r1");
        let render = |text: &str| facts.render(&Template::parse(text).expect("a template"));
        render("${run}").expect("a run");
        assert_eq!(facts.asked(), TriggerUse::Nothing);
        facts.comes_back();
        assert_eq!(facts.asked(), TriggerUse::Return);
        assert_eq!(render("${trigger}").as_deref(), Ok("stop"));
        facts.comes_back();
        assert_eq!(facts.asked(), TriggerUse::ErrorKind);
        let other = facts.on(Trigger::Kexec);
        assert_eq!((other.asked(), other.run()), (TriggerUse::Nothing, "r1"));
    }

    #[test]
    fn facts_in_the_values_of_a_form_are_encoded() {
        let facts = Facts::new(Trigger::Reboot, "r+1");
        facts.set_progress(event::Result::Failed, vec!["a=b&c".into(), "d".into()]);
        for (text, expected) in [
            (
                "run=${run}&failed=x ${failed}&y",
                "run=r%2B1&failed=x a%3Db%26c%2Cd&y",
            ),
            ("${failed}&run=${run}${run}", "a=b&c,d&run=r%2B1r%2B1"),
            ("a=1&${failed}", "a=1&a=b&c,d"),
        ] {
            let template = Template::parse(text).expect("a template");
            assert_eq!(
                facts.render_form(&template).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let message = render("x${env:FAREWELL_NOT_SET}").expect_err("not set");
        assert_eq!(message, "${env:FAREWELL_NOT_SET} is not available: not set");
        assert!(
            render("${file:/no/such}")
                .expect_err("no file")
                .contains("No such file")
        );
        assert!(
            render("${credential:no-such}")
                .expect_err("no file")
                .contains("no file `no-such`")
        );
    }
}
