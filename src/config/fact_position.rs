//! What the value of a fact may be, depending on its position in a path, a URL or a name.

use std::ops::Range;

use super::template::Fact;
use super::text_kind::TextKind;
use super::url_part::{UrlPart, is_of_file, url_part};
use crate::sys::http::{encoded, strictly_encoded};
use crate::sys::{file_trust, files};

/// A text into which facts are substituted.
pub struct TemplateWriter {
    shape: TextKind,
    text: String,
    /// The ranges of substituted values, and whether one begins the text.
    filled: Vec<Range<usize>>,
    host: Option<Fact>,
}

impl TemplateWriter {
    /// An empty text of this kind.
    pub fn new(shape: TextKind) -> TemplateWriter {
        TemplateWriter {
            shape,
            text: String::new(),
            filled: Vec::new(),
            host: None,
        }
    }

    /// Adds literal text.
    pub fn literal(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds the value of a fact.
    ///
    /// # Errors
    /// Why the value is not allowed there, in one sentence without the value.
    pub fn fact(&mut self, fact: &Fact, value: &str) -> Result<(), String> {
        let refused = |why: &str| format!("{fact} is not allowed here: {why}");
        let spelled = match self.shape {
            TextKind::Text => Ok(value.to_owned()),
            TextKind::Glob if value.contains('\\') => Err("its value contains a `\\`".to_owned()),
            TextKind::Pattern | TextKind::Glob if value.contains(['*', '?', '[', ']']) => {
                Err("its value is a pattern, and must be a plain name".to_owned())
            }
            _ if self.is_path() => self.in_path(fact, value),
            TextKind::Url => self.in_url(fact, value),
            _ => Ok(value.to_owned()),
        };
        let spelled = spelled.map_err(|why| refused(&why))?;
        let from = self.text.len();
        self.text.push_str(&spelled);
        self.filled.push(from..self.text.len());
        Ok(())
    }

    fn in_path(&self, fact: &Fact, value: &str) -> Result<String, String> {
        let is_several = value.contains('/');
        let begins =
            self.text.is_empty() && (self.shape == TextKind::Key || value.starts_with('/'));
        match is_several {
            true if begins => whole(fact)?,
            true => return Err(PART.to_owned()),
            false => {}
        }
        match value.contains('\0') {
            true => Err("its value contains a zero byte".to_owned()),
            false => Ok(value.to_owned()),
        }
    }

    /// Whether it is a path, if a URL is possible too.
    fn is_path(&self) -> bool {
        match self.shape {
            TextKind::Url => self.text.starts_with('/'),
            shape => matches!(shape, TextKind::Path | TextKind::Key | TextKind::Glob),
        }
    }

    fn in_url(&mut self, fact: &Fact, value: &str) -> Result<String, String> {
        let part = url_part(&self.text);
        if matches!(part, UrlPart::Begin | UrlPart::Authority) && is_of_file(fact) {
            self.host = Some(fact.clone());
        }
        match part {
            UrlPart::Begin => {
                whole(fact)?;
                Ok(value.to_owned())
            }
            UrlPart::Scheme => Err("a fact cannot be part of the scheme".to_owned()),
            UrlPart::Authority if value.contains(['/', '?', '#', '@', '\\', '%']) => {
                Err("its value must be only a host or a port".to_owned())
            }
            UrlPart::Authority => Ok(value.to_owned()),
            UrlPart::Socket if self.text.ends_with("://") && value.starts_with('/') => {
                whole(fact)?;
                let parts: Vec<String> = value.split('/').map(socket_part).collect();
                Ok(parts.join("/"))
            }
            UrlPart::Socket if value.contains('/') => Err(PART.to_owned()),
            UrlPart::Socket => Ok(socket_part(value)),
            UrlPart::Path | UrlPart::Query => Ok(encoded(value)),
        }
    }

    /// The text, and the fact from a file that is its host or a part of it.
    ///
    /// # Errors
    /// One sentence, if a fact changes the structure of the text.
    pub fn finish(self) -> Result<(String, Option<Fact>), String> {
        match self.shape {
            _ if self.is_path() => self.check_parts(0, self.text.len())?,
            TextKind::Url => {
                let begin = self.text.find("://").map_or(0, |at| at + "://".len());
                let path = self.text[begin..].find('/').map(|at| begin + at);
                let end = self.text.find('?').unwrap_or(self.text.len());
                if let Some(path) = path.filter(|it| *it < end) {
                    self.check_parts(path + 1, end)?;
                }
                let is_cut = |it: &Range<usize>| {
                    let value = &self.text[it.clone()];
                    it.start == 0 && it.end < self.text.len() && value.contains(['?', '#'])
                };
                if self.filled.iter().any(is_cut) {
                    let why = "a fact with a query must be the whole URL";
                    return Err(why.to_owned());
                }
            }
            _ => {}
        }
        Ok((self.text, self.host))
    }

    /// Checks the segments that contain facts.
    fn check_parts(&self, from: usize, to: usize) -> Result<(), String> {
        let mut begin = from;
        for part in self.text[from..to].split('/') {
            let (at, end) = (begin, begin + part.len());
            begin = end + 1;
            let mut touching = (self.filled.iter()).filter(|it| it.start <= end && it.end >= at);
            let Some(first) = touching.next() else {
                continue;
            };
            let is_whole = first.start == 0;
            let plain = part.replace("%2e", ".").replace("%2E", ".");
            match plain.as_str() {
                ".." => return Err("with its facts it contains `..`".to_owned()),
                "" | "." if !is_whole => {
                    return Err("a fact leaves the part between two slashes empty".to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

const PART: &str = "its value contains a `/`, but it fills one part between slashes; only a fact that begins a path may be \
                    several";

/// Checks that a fact may be a whole path or URL: only sources that no other user can write.
fn whole(fact: &Fact) -> Result<(), String> {
    match fact {
        // A file that others could have written is not used.
        Fact::Env(_) | Fact::Credential(_) => Ok(()),
        Fact::File(path) | Fact::Json(path, _) => {
            let path = path.clone();
            files::within(files::PATIENCE, move || {
                Ok(file_trust::trusted_or_missing(&path))
            })
            .unwrap_or_else(|error| Err(error.to_string()))
        }
        _ => Err("only ${env:…}, ${file:…}, ${json:…} and ${credential:…} may begin it".to_owned()),
    }
}

/// Encodes a segment of a socket's path, which a colon would end.
fn socket_part(text: &str) -> String {
    strictly_encoded(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::facts::{Facts, Values};
    use crate::config::template::Template;
    use crate::model::trigger::Trigger;

    /// `text` with the value in the place of `${env:F}`, or of whatever `fact` is.
    fn filled(shape: TextKind, text: &str, fact: &str, value: &str) -> Result<String, String> {
        let kept = Values::from([(fact.to_owned(), value.to_owned())]);
        let facts = Facts::new(Trigger::Stop, "r1").with_kept(kept);
        let template = Template::parse(&text.replace("FACT", fact)).expect("a template");
        facts.render_at(shape, &template).map(|(text, _)| text)
    }

    /// Not there, below a directory that only root can write to.
    const FILE: &str = "${file:/etc/farewell-no-such-file}";

    #[test]
    fn a_fact_of_a_glob_has_no_wildcard_and_leads_nowhere_else() {
        let glob = |value| filled(TextKind::Glob, "/var/log/FACT/*.log", FILE, value);
        assert_eq!(glob("app").as_deref(), Ok("/var/log/app/*.log"));
        for value in ["*", "a?", "[a]", "\\*", "**", "..", "../../root", "/root"] {
            assert!(glob(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_fact_fills_one_part_of_a_path() {
        for fact in [FILE, "${env:FAREWELL_NOT_SET}"] {
            let path = |text, value| filled(TextKind::Path, text, fact, value);
            assert_eq!(
                path("/m/FACT.json", "web-1").as_deref(),
                Ok("/m/web-1.json")
            );
            assert_eq!(path("FACT/m", "/srv/a").as_deref(), Ok("/srv/a/m"));
            assert_eq!(path("FACT", "/srv/a").as_deref(), Ok("/srv/a"));
            assert_eq!(path("/a/../b/FACT", "..x").as_deref(), Ok("/a/../b/..x"));
            for (text, value) in [
                ("/m/FACT", "../victim"),
                ("/m/FACT", "/etc/passwd"),
                ("/m/FACT", ".."),
                ("/m/FACT", "."),
                ("/m/FACT", ""),
                ("/m/FACT/x", ""),
                ("/m/.FACT/x", "."),
                ("/m/FACT./x", "."),
                ("/m/FACTFACT/x", "."),
                ("/m/FACT", "a\0b"),
                ("FACT", "/srv/../etc"),
                ("FACT/x", "/srv/.."),
                ("FACT./x", "/srv/."),
            ] {
                let message = path(text, value).expect_err(text);
                let is_silent = value.len() < 5 || !message.contains(value);
                assert!(is_silent, "{text} {value:?}: {message}");
            }
        }
    }

    #[test]
    fn only_what_nobody_else_writes_begins_a_path() {
        let directory = std::env::temp_dir().join(format!("farewell-shape-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("made");
        let file = directory.join("root");
        std::fs::write(&file, "/srv/a").expect("written");
        let template = Template::parse(&format!("${{file:{}}}/x", file.display())).expect("good");
        let facts = Facts::new(Trigger::Stop, "r1");
        let render = || {
            facts
                .render_at(TextKind::Path, &template)
                .map(|(text, _)| text)
        };
        assert_eq!(render().as_deref(), Ok("/srv/a/x"));
        let set = |path: &std::path::Path, mode| {
            let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("set");
        };
        set(&file, 0o666);
        let message = render().expect_err("writable");
        assert!(message.contains("(mode 0666): chmod o-w"), "{message}");
        set(&file, 0o600);
        set(&directory, 0o777);
        assert!(render().is_err());
        set(&directory, 0o1777);
        assert!(render().is_ok());
        std::fs::remove_dir_all(&directory).expect("removed");
        // A machine's own facts are names.
        assert!(filled(TextKind::Path, "FACT", "${hostname}", "/etc").is_err());
    }

    #[test]
    fn a_fact_fills_one_place_of_a_url() {
        for fact in [FILE, "${env:FAREWELL_NOT_SET}"] {
            let url = |text, value| filled(TextKind::Url, text, fact, value);
            for (text, value, whole) in [
                ("FACT", "https://h:1/a/b?c=d", "https://h:1/a/b?c=d"),
                ("FACT/v1", "http://h/base", "http://h/base/v1"),
                ("http://FACT:8500", "10.0.0.1", "http://10.0.0.1:8500"),
                ("http://FACT/x", "h:80", "http://h:80/x"),
                ("http://h:FACT/x", "80", "http://h:80/x"),
                (
                    "http://h/a/FACT/x",
                    "b/../c?d=e",
                    "http://h/a/b%2F..%2Fc%3Fd%3De/x",
                ),
                ("http://h/?a=FACT&b", "x&c=d#", "http://h/?a=x%26c%3Dd%23&b"),
                ("http://h?a=/FACT", "../x", "http://h?a=/..%2Fx"),
                ("http://h/a?FACT", "b=c", "http://h/a?b%3Dc"),
                ("unix://FACT:/v1", "/run/a b:c", "unix:///run/a%20b%3Ac:/v1"),
                ("unix:///run/FACT.sock:/x", "a", "unix:///run/a.sock:/x"),
                (
                    "unix:///run/a.sock:/FACT",
                    "a/b",
                    "unix:///run/a.sock:/a%2Fb",
                ),
            ] {
                assert_eq!(url(text, value).as_deref(), Ok(whole), "{text} {value}");
            }
            for (text, value) in [
                ("http://FACT:8500", "evil/"),
                ("http://FACT", "evil?x"),
                ("http://FACT@h/", "a@evil/#"),
                ("http://h.FACT/x", "a#"),
                ("FACT://h/", "http://evil/?"),
                ("FACT/x", "http://h/?a"),
                ("hFACT//h", "ttp:"),
                ("FACT", "http://h/a/../b"),
                ("http://h/FACT/x", ".."),
                ("http://h/FACT", ""),
                ("http://h/%2eFACT/", "."),
                ("unix:///run/FACT/a.sock", ".."),
                ("unix:///run/FACT", "a/b"),
                // A path where a URL could stand is a path, whatever is in it.
                ("/srv/a?b/FACT", ".."),
                ("/srv/FACT", "a/b"),
            ] {
                assert!(url(text, value).is_err(), "{text} {value}");
            }
        }
        assert!(filled(TextKind::Url, "FACT/", "${hostname}", "http://h").is_err());
    }

    #[test]
    fn a_fact_is_one_part_of_a_key_and_never_a_pattern() {
        let key = |text, value| filled(TextKind::Key, text, FILE, value);
        assert_eq!(key("members/FACT", "i-1").as_deref(), Ok("members/i-1"));
        assert_eq!(key("FACT/x", "a/b").as_deref(), Ok("a/b/x"));
        for (text, value) in [
            ("m/FACT", ""),
            ("m/FACT/", "a/b"),
            ("m/FACT", ".."),
            ("FACT", "a/.."),
        ] {
            assert!(key(text, value).is_err(), "{text} {value}");
        }
        let unit = |value| filled(TextKind::Pattern, "app@FACT.service", FILE, value);
        assert_eq!(unit("1").as_deref(), Ok("app@1.service"));
        for value in ["*", "?", "[a-z]", "1*"] {
            assert!(unit(value).is_err(), "{value}");
        }
    }
}
