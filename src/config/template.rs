//! Strings with facts in them: `web-${hostname}`.

use std::fmt;
use std::path::PathBuf;

/// A fact, `${…}`. Its forms:
///
/// - `${hostname}`: the host's name
/// - `${machine-id}`: machine-id(5)
/// - `${boot-id}`: the kernel's id of this boot
/// - `${ip}`: the source address of the default route
/// - `${ip:IFACE}`: the first address of this interface
/// - `${trigger}`: why the run takes place: `poweroff`, `halt`, `reboot`, `kexec`, `soft-reboot` or `stop`
/// - `${run}`: the run's id
/// - `${result}`: how the run went so far: `ok`, `failed` or `cut-short`
/// - `${failed}`: the names of the steps that failed so far, separated by commas
/// - `${env:NAME}`: a variable of the environment
/// - `${file:PATH}`: a file's content, without white space at its end
/// - `${json:PATH#/POINTER}`: the string, number or boolean at a JSON pointer (RFC 6901) in a file, such as cloud-init's instance data
/// - `${credential:NAME}`: a credential, which is never shown
/// - `${step:STEP.NAME}`: what an earlier step of kind `http` has captured under this name (`capture`)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The host's name.
    Hostname,
    /// machine-id(5).
    MachineId,
    /// The kernel's id of this boot.
    BootId,
    /// The source address of the default route, or an interface's first address.
    Ip(Option<String>),
    /// Why the run takes place.
    Trigger,
    /// The run's id.
    Run,
    /// How the run went so far: ok, failed or cut-short.
    Result,
    /// The names of the steps that failed so far, separated by commas.
    Failed,
    /// A variable of the environment.
    Env(String),
    /// A file's content, without white space at its end.
    File(PathBuf),
    /// The value at a JSON pointer (RFC 6901) in a file.
    Json(PathBuf, String),
    /// A credential, which is never shown.
    Credential(String),
    /// What a step has captured: the step, and the name.
    Step(String, String),
}

impl Fact {
    fn parse(text: &str) -> std::result::Result<Fact, String> {
        const SIMPLE: [(&str, Fact); 8] = [
            ("hostname", Fact::Hostname),
            ("machine-id", Fact::MachineId),
            ("boot-id", Fact::BootId),
            ("ip", Fact::Ip(None)),
            ("trigger", Fact::Trigger),
            ("run", Fact::Run),
            ("result", Fact::Result),
            ("failed", Fact::Failed),
        ];
        if let Some((_, fact)) = SIMPLE.iter().find(|(name, _)| *name == text) {
            return Ok(fact.clone());
        }
        let (kind, argument) = text.split_once(':').unwrap_or((text, ""));
        let missing = |what: &str| Err(format!("${{{kind}:…}} needs {what} after the colon"));
        match kind {
            "ip" | "env" | "file" | "credential" if argument.is_empty() => missing("a name"),
            "ip" => Ok(Fact::Ip(Some(argument.to_owned()))),
            "env" => Ok(Fact::Env(argument.to_owned())),
            "file" if argument.starts_with('/') => Ok(Fact::File(argument.into())),
            "file" => Err(format!("the path in ${{{text}}} must be absolute")),
            "json" => match argument.split_once('#') {
                Some((path, pointer))
                    if path.starts_with('/')
                        && (pointer.is_empty() || pointer.starts_with('/')) =>
                {
                    Ok(Fact::Json(path.into(), pointer.to_owned()))
                }
                _ => missing("PATH#/POINTER, with an absolute path,"),
            },
            "credential" if argument.contains('/') || argument == "." || argument == ".." => {
                Err(format!("`{argument}` is not a credential name"))
            }
            "credential" => Ok(Fact::Credential(argument.to_owned())),
            "step" => match argument.rsplit_once('.') {
                Some((step, name)) if !step.is_empty() && !name.is_empty() => {
                    Ok(Fact::Step(step.to_owned(), name.to_owned()))
                }
                _ => missing("STEP.NAME"),
            },
            _ => {
                let known = SIMPLE.iter().map(|(name, _)| *name).chain([
                    "env",
                    "file",
                    "json",
                    "credential",
                    "step",
                ]);
                Err(format!(
                    "unknown fact ${{{text}}}{}",
                    super::suggestion::did_you_mean(kind, known)
                ))
            }
        }
    }

    /// Whether it comes from a file or the environment, and is read each time.
    pub fn is_read(&self) -> bool {
        matches!(self, Fact::Env(_) | Fact::File(_) | Fact::Json(..))
    }

    /// Whether it is known only while a run lasts.
    pub fn is_of_run(&self) -> bool {
        matches!(
            self,
            Fact::Trigger | Fact::Run | Fact::Result | Fact::Failed | Fact::Step(..)
        )
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Hostname => out.write_str("${hostname}"),
            Fact::MachineId => out.write_str("${machine-id}"),
            Fact::BootId => out.write_str("${boot-id}"),
            Fact::Ip(None) => out.write_str("${ip}"),
            Fact::Ip(Some(interface)) => write!(out, "${{ip:{interface}}}"),
            Fact::Trigger => out.write_str("${trigger}"),
            Fact::Run => out.write_str("${run}"),
            Fact::Result => out.write_str("${result}"),
            Fact::Failed => out.write_str("${failed}"),
            Fact::Env(name) => write!(out, "${{env:{name}}}"),
            Fact::File(path) => write!(out, "${{file:{}}}", path.display()),
            Fact::Json(path, pointer) => write!(out, "${{json:{}#{pointer}}}", path.display()),
            Fact::Credential(name) => write!(out, "${{credential:{name}}}"),
            Fact::Step(step, name) => write!(out, "${{step:{step}.{name}}}"),
        }
    }
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Literal(String),
    /// A fact to substitute.
    Fact(Fact),
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Literal(text) => out.write_str(&text.replace("${", "$${")),
            Part::Fact(fact) => fact.fmt(out),
        }
    }
}

/// A string with facts in it, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Parses `text`; `$${` is a literal `${`.
    ///
    /// # Errors
    /// One sentence for each unknown or unfinished fact.
    pub fn parse(text: &str) -> std::result::Result<Template, Vec<String>> {
        let (mut parts, mut problems, mut literal, mut rest) =
            (Vec::new(), Vec::new(), String::new(), text);
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$${") {
                literal.push_str("${");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("${") {
                let Some(end) = after.find('}') else {
                    problems.push(
                        "`${` without a closing `}` (write `$${` for a literal `${`)".to_owned(),
                    );
                    rest = "";
                    break;
                };
                match Fact::parse(&after[..end]) {
                    Ok(fact) => {
                        if !literal.is_empty() {
                            parts.push(Part::Literal(std::mem::take(&mut literal)));
                        }
                        parts.push(Part::Fact(fact));
                    }
                    Err(problem) => problems.push(problem),
                }
                rest = &after[end + 1..];
            } else {
                literal.push('$');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if problems.is_empty() {
            Ok(Template { parts })
        } else {
            Err(problems)
        }
    }

    /// A template of these parts, whose literal text is not parsed.
    pub fn of(parts: Vec<Part>) -> Template {
        Template { parts }
    }

    /// A string of a record of the first format, in which runs wrote `${` as `$${`, or as it came from a peer, so that
    /// nothing in it counts as a fact. Only if the string may be secret and is just `${credential:NAME}`, it is the
    /// credential's name.
    pub fn of_old_record(text: &str, may_be_secret: bool) -> Template {
        let inner = text.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
        let inner = inner.filter(|it| !it.contains('}'));
        let fact = inner.map(Fact::parse).and_then(std::result::Result::ok);
        let part = match fact {
            Some(fact @ Fact::Credential(_)) if may_be_secret => Part::Fact(fact),
            _ => Part::Literal(text.replace("$${", "${")),
        };
        Template { parts: vec![part] }
    }

    /// Its parts in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.parts.iter().filter_map(|part| match part {
            Part::Fact(fact) => Some(fact),
            Part::Literal(_) => None,
        })
    }

    /// What steps have captured, among the facts in it.
    pub fn captured(&self) -> impl Iterator<Item = &Fact> {
        self.facts().filter(|it| matches!(it, Fact::Step(..)))
    }

    /// The same, with an `x` in place of what steps capture: its shape, before a run.
    pub fn without_captured(&self) -> Template {
        let part = |part: &Part| match part {
            Part::Fact(Fact::Step(..)) => Part::Literal("x".to_owned()),
            part => part.clone(),
        };
        Template::of(self.parts.iter().map(part).collect())
    }

    /// Whether it contains a credential.
    pub fn is_secret(&self) -> bool {
        self.facts().any(|fact| matches!(fact, Fact::Credential(_)))
    }

    /// The text, if it contains no facts.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// The source text.
impl fmt::Display for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| part.fmt(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_and_dollars_kept() {
        let template =
            Template::parse("a-${hostname}-$5-$${x}-${json:/run/i.json#/a/b}").expect("good");
        assert_eq!(
            template.parts(),
            [
                Part::Literal("a-".into()),
                Part::Fact(Fact::Hostname),
                Part::Literal("-$5-${x}-".into()),
                Part::Fact(Fact::Json("/run/i.json".into(), "/a/b".into())),
            ]
        );
        assert_eq!(
            Template::parse("plain").expect("good").literal(),
            Some("plain")
        );
        assert_eq!(Template::parse("").expect("good").literal(), Some(""));
        for text in ["a-${hostname}-$5-$${x}", "$$${a", "${credential:c}"] {
            assert_eq!(Template::parse(text).expect("good").to_string(), text);
        }
    }

    #[test]
    fn an_old_record_holds_text_and_names_of_credentials() {
        let credential = Part::Fact(Fact::Credential("c".into()));
        let read = |text: &str, may| Template::of_old_record(text, may).parts;
        assert_eq!(read("${credential:c}", true), [credential]);
        for (text, may, is) in [
            ("${credential:c}", false, "${credential:c}"),
            ("Bearer ${credential:c}", true, "Bearer ${credential:c}"),
            (
                "${credential:a}${credential:b}",
                true,
                "${credential:a}${credential:b}",
            ),
            ("${credential:../x}", true, "${credential:../x}"),
            ("${file:/etc/shadow}", true, "${file:/etc/shadow}"),
            ("x$${file:/etc/shadow}", true, "x${file:/etc/shadow}"),
            ("$$${x", false, "$${x"),
            ("", true, ""),
        ] {
            assert_eq!(read(text, may), [Part::Literal(is.into())], "{text}");
        }
    }

    #[test]
    fn every_wrong_fact_is_told() {
        let problems = Template::parse("${hostnme} ${env:} ${file:x} ${credential:../x} ${open")
            .expect_err("bad");
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(
            problems[0].contains("did you mean `hostname`?"),
            "{problems:?}"
        );
    }
}
