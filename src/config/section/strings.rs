//! The strings of a table, with facts in them.

use std::sync::Arc;

use super::field::{Check, Field, Secrecy, plain};
use super::table::Section;
use crate::config::document::{Spanned, Value};
use crate::config::facts::Facts;
use crate::config::problem::Severity;
use crate::config::template::{Fact, Template};
use crate::config::text_kind::{Shaped, TextKind};
use crate::config::url_part::is_behind_host;
use crate::model::secrets;

impl<'a> Section<'a> {
    /// The string as a template; `expected` describes it in messages.
    pub(super) fn template(
        &self,
        key: &str,
        spanned: &Spanned,
        secrecy: Secrecy,
        expected: &str,
    ) -> Option<Arc<Template>> {
        let line = spanned.line;
        let template = match &spanned.value {
            Value::Text(text) => self.parsed(key, line, text, secrecy)?,
            Value::Kept(template) if secrecy == Secrecy::Public && template.literal().is_none() => {
                self.problem_at(line, key, "the record has a reference here instead of text");
                return None;
            }
            Value::Kept(template) => template.clone(),
            // A public string never was a credential's name.
            Value::Old(text) => Arc::new(Template::of_old_record(text, secrecy != Secrecy::Public)),
            Value::Withheld => {
                let message = "the secret was in the configuration itself, and is not recorded: undo it by hand";
                self.problem_at(line, key, message);
                return None;
            }
            _ => {
                self.wrong(key, spanned, expected);
                return None;
            }
        };
        if secrecy == Secrecy::Public && template.is_secret() {
            let message = "a credential is not allowed here, where others can see it; a command gets it through \
                           `environment`, a request in `headers`, `password` or its body";
            self.problem_at(line, key, message);
            return None;
        }
        Some(template)
    }

    fn parsed(
        &self,
        key: &str,
        line: usize,
        text: &str,
        secrecy: Secrecy,
    ) -> Option<Arc<Template>> {
        match Template::parse(text) {
            Ok(template) => Some(Arc::new(template)),
            // A message about a fact repeats a part of the text, which is safe only if the text is nothing else.
            Err(_) if secrecy == Secrecy::Secret && !is_one_fact(text) => {
                let message =
                    "contains a `${…}` that is not a fact (write `$${` for a literal `${`)";
                self.problem_at(line, key, message);
                None
            }
            Err(problems) => {
                problems
                    .into_iter()
                    .for_each(|problem| self.problem_at(line, key, problem));
                None
            }
        }
    }

    pub(super) fn field<T: Shaped + 'static>(
        &self,
        key: &str,
        spanned: &Spanned,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Field<T>> {
        self.field_at(T::SHAPE, key, spanned, parse, secrecy)
    }

    fn field_at<T: 'static>(
        &self,
        shape: TextKind,
        key: &str,
        spanned: &Spanned,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Field<T>> {
        let template = self.template(key, spanned, secrecy, "a string")?;
        let key = format!("{}{key}", self.prefix);
        let field = Field {
            key: key.clone(),
            template,
            secrecy,
            shape,
            parse,
        };
        if let Some(literal) = field.literal() {
            if secrecy == Secrecy::Secret {
                secrets::hide(literal);
            }
            if let Err(message) = parse(literal) {
                self.reading.problem(spanned.line, Some(key), message);
                return None;
            }
        } else if let Some(captured) = field.template.captured().next() {
            self.uses_captured(&field.template, spanned.line, &key, secrecy);
            if let Some(message) = misplaced(&field.template, captured, shape) {
                self.reading.problem(spanned.line, Some(key), message);
                return None;
            }
        } else {
            let look = field.clone();
            let look = Box::new(move |facts: &Facts| look.try_get(facts).map(drop));
            self.reading.check(Check {
                line: spanned.line,
                key,
                severity: Severity::Error,
                is_early: false,
                look,
            });
        }
        self.caution_of_secret(&field, spanned.line);
        Some(field)
    }

    /// A string that is parsed as a `T` once its facts are known. Without facts it is parsed now, and a problem
    /// reported.
    pub fn text<T: Shaped + 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Field<T>> {
        self.entry(key)
            .and_then(|spanned| self.field(key, spanned, parse, secrecy))
    }

    /// As [`Section::text`], for public text of another kind than its type implies.
    pub fn text_at<T: 'static>(
        &self,
        shape: TextKind,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<Field<T>> {
        self.entry(key)
            .and_then(|spanned| self.field_at(shape, key, spanned, parse, Secrecy::Public))
    }

    /// The items of a list; a single value counts as a list of one, an empty list is a problem.
    pub(super) fn items(&self, key: &'static str) -> Option<&'a [Spanned]> {
        let spanned = self.entry(key)?;
        match &spanned.value {
            Value::List(items) if items.is_empty() => {
                self.problem_at(spanned.line, key, "must not be empty");
                None
            }
            Value::List(items) => Some(items.as_slice()),
            _ => Some(std::slice::from_ref(spanned)),
        }
    }

    /// A list of such strings; a single string counts as a list of one, an empty list is a problem.
    pub fn texts<T: Shaped + 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        self.read_all(T::SHAPE, key, parse, secrecy)
    }

    /// As [`Section::texts`], for public text of another kind than its type implies.
    pub fn texts_at<T: 'static>(
        &self,
        shape: TextKind,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
    ) -> Option<Vec<Field<T>>> {
        self.read_all(shape, key, parse, Secrecy::Public)
    }

    /// As [`Section::texts`], for paths and URLs in which `own`, such as `${name}`, is not a fact: the caller replaces
    /// it.
    pub fn texts_naming<T: 'static>(
        &self,
        own: &str,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        let kept = |item: &Spanned| match &item.value {
            Value::Text(text) => Spanned {
                line: item.line,
                value: Value::Text(text.replace(own, &format!("${own}"))),
            },
            _ => item.clone(),
        };
        let items: Vec<Spanned> = self.items(key)?.iter().map(kept).collect();
        let read = |item| self.field_at(TextKind::Url, key, item, parse, secrecy);
        let fields: Vec<_> = items.iter().map(read).collect();
        fields.into_iter().collect()
    }

    fn read_all<T: 'static>(
        &self,
        shape: TextKind,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        let items = self.items(key)?;
        // All items are read, so that every problem is reported, before a missing one makes the result `None`.
        let fields: Vec<_> = items
            .iter()
            .map(|item| self.field_at(shape, key, item, parse, secrecy))
            .collect();
        fields.into_iter().collect()
    }

    /// As [`Section::texts`], with a default, which must be valid.
    pub fn texts_or<T: Shaped + 'static>(
        &self,
        key: &'static str,
        default: &str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        if self.has(key) {
            return self.texts(key, parse, secrecy);
        }
        self.know(key);
        let spanned = Spanned {
            line: self.line,
            value: Value::Text(default.to_owned()),
        };
        Some(vec![self.field(key, &spanned, parse, secrecy)?])
    }

    /// As [`Section::texts`], where a single string is a problem too.
    pub fn list<T: Shaped + 'static>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, String>,
        secrecy: Secrecy,
    ) -> Option<Vec<Field<T>>> {
        let spanned = self.entry(key)?;
        if !matches!(spanned.value, Value::List(_)) {
            self.wrong(key, spanned, "a list of strings");
            return None;
        }
        self.texts(key, parse, secrecy)
    }

    /// A program and its arguments.
    pub fn argv(&self, key: &'static str) -> Option<Vec<Field<String>>> {
        let argv = self.list(key, plain, Secrecy::Public)?;
        let program = argv.first().and_then(Field::literal);
        if program.is_some_and(str::is_empty) {
            self.problem(key, "its first word, the program, must not be empty");
        }
        Some(argv)
    }

    /// A table of strings, in the order of the file: headers, an environment. Empty if the key is missing.
    pub fn map<T: Shaped + 'static>(
        &self,
        key: &'static str,
        check_name: fn(&str) -> Result<(), String>,
        parse: fn(&str) -> Result<T, String>,
        secrecy: impl Fn(&str) -> Secrecy,
    ) -> Vec<(String, Field<T>)> {
        let Some(spanned) = self.entry(key) else {
            return Vec::new();
        };
        let Value::Table(table) = &spanned.value else {
            self.wrong(key, spanned, "a table of strings");
            return Vec::new();
        };
        let read = |(name, line, value): &(String, usize, Spanned)| {
            let key = format!("{key}.{name}");
            if let Err(message) = check_name(name) {
                self.problem_at(*line, &key, message);
            }
            let field = self.field(&key, value, parse, secrecy(name))?;
            Some((name.clone(), field))
        };
        table.entries.iter().filter_map(read).collect()
    }
}

/// Why what a step captures cannot stand there: where a step goes, and what it is about, is known before the run begins.
fn misplaced(template: &Template, captured: &Fact, shape: TextKind) -> Option<String> {
    let where_it_may = match shape {
        TextKind::Text => return None,
        TextKind::Url if is_behind_host(template) => return None,
        TextKind::Url => "in a URL it may stand only in the path or the query",
        TextKind::Path | TextKind::Glob | TextKind::Key | TextKind::Pattern => {
            "it may stand only in plain text, and in the path or the query of a URL"
        }
    };
    Some(format!("{captured} is not allowed here: {where_it_may}"))
}

/// Whether a text is only a fact, or something meant as one.
fn is_one_fact(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(|rest| rest.split_once('}'))
        .is_some_and(|(_, after)| after.is_empty())
}
