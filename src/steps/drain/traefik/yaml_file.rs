//! Finds servers in YAML in block style, with one key or item per line.

use super::entry::{Entry, at_line, depth, leads_there, service, unquoted, unsupported};

/// All servers of all HTTP services.
///
/// # Errors
/// The line that is not supported, and why: anchors, tags, flow style on the path to the servers, and values over several lines.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut walk = Walk::default();
    for (at, line) in text.lines().enumerate() {
        walk.line(at, line.trim_end())
            .map_err(|cause| at_line(at, cause))?;
    }
    walk.leave(0);
    Ok(walk.entries)
}

/// An open key or list item.
struct Frame {
    indent: usize,
    /// `None` for an item.
    key: Option<String>,
    /// Whether it has a value on its own line, and so no children.
    has_value: bool,
}

/// An entry that is still being read.
struct Open {
    entry: Entry,
    /// The number of frames up to its list item.
    depth: usize,
}

#[derive(Default)]
struct Walk {
    frames: Vec<Frame>,
    /// The indentation of the key of a block scalar: lines that are indented further belong to it.
    block: Option<usize>,
    open: Option<Open>,
    entries: Vec<Entry>,
}

impl Walk {
    fn line(&mut self, at: usize, line: &str) -> Result<(), String> {
        let content = line.trim_start_matches(' ');
        let mut indent = line.len() - content.len();
        if content.is_empty() || self.block.is_some_and(|block| indent > block) {
            return Ok(());
        }
        self.block = None;
        if content.starts_with('#') {
            return Ok(());
        }
        if content.starts_with('\t') {
            return Err("tabs in the indentation are not supported".to_owned());
        }
        if content == "---" && self.frames.is_empty() {
            return Ok(());
        }
        if content == "---" || content == "..." || content.starts_with('%') {
            return Err("several documents in one file are not supported".to_owned());
        }
        let is_item = |content: &str| content == "-" || content.starts_with("- ");
        self.step_out(indent, is_item(content));
        if self.frames.last().is_some_and(|it| it.has_value) {
            return Err("a value over several lines is not supported".to_owned());
        }
        let mut content = content;
        while is_item(content) {
            self.item(at, indent);
            let rest = content[1..].trim_start();
            indent += content.len() - rest.len();
            content = rest;
        }
        if let Some(open) = &mut self.open {
            open.entry.lines.end = at + 1;
        }
        match content.is_empty() || content.starts_with('#') {
            true => Ok(()),
            false => self.content(indent, content),
        }
    }

    /// Closes the frames that do not contain a line at this indentation.
    fn step_out(&mut self, indent: usize, is_item: bool) {
        let stays = |it: &Frame| {
            // A list may have the same indentation as its key.
            it.indent < indent || it.indent == indent && is_item && it.key.is_some()
        };
        let depth = self.frames.iter().position(|it| !stays(it));
        self.leave(depth.unwrap_or(self.frames.len()));
    }

    fn leave(&mut self, depth: usize) {
        self.frames.truncate(depth);
        if let Some(open) = self.open.take_if(|it| depth < it.depth) {
            self.entries.push(open.entry);
        }
    }

    /// The current path of keys, with an empty one for a list item.
    fn names(&self) -> Vec<&str> {
        let keys = self.frames.iter().map(|it| it.key.as_deref());
        keys.map(Option::unwrap_or_default).collect()
    }

    fn item(&mut self, at: usize, indent: usize) {
        let service = service(&self.names());
        self.frames.push(Frame {
            indent,
            key: None,
            has_value: false,
        });
        if let Some(service) = service {
            self.open = Some(Open {
                entry: Entry {
                    service,
                    url: String::new(),
                    lines: at..at + 1,
                },
                depth: self.frames.len(),
            });
        }
    }

    /// Reads a key with or without a value, or a scalar list item.
    fn content(&mut self, indent: usize, content: &str) -> Result<(), String> {
        if content.starts_with(['&', '*', '!', '?', '<']) {
            return Err(unsupported(content));
        }
        let Some((key, value)) = key(content) else {
            let is_ours = self
                .open
                .as_ref()
                .is_some_and(|it| it.depth == self.frames.len());
            let is_item = self.frames.last().is_some_and(|it| it.key.is_none());
            if !is_item || is_ours || content.starts_with(['|', '>']) || !is_closed(content) {
                return Err(unsupported(content));
            }
            if let Some(item) = self.frames.last_mut() {
                item.has_value = true;
            }
            return Ok(());
        };
        let value = if value.starts_with('#') { "" } else { value };
        if value.starts_with(['&', '*', '!']) {
            return Err(unsupported(value));
        }
        let is_block = value.starts_with(['|', '>']);
        if is_block {
            self.block = Some(indent);
        } else if !is_closed(value) {
            return Err("a value over several lines is not supported".to_owned());
        }
        let is_own_key = self
            .open
            .as_ref()
            .is_some_and(|it| it.depth == self.frames.len());
        self.frames.push(Frame {
            indent,
            key: Some(key.to_owned()),
            has_value: !value.is_empty(),
        });
        if !value.is_empty() && leads_there(&self.names()) {
            return Err(format!(
                "a value behind `{key}:` is not supported: use block style"
            ));
        }
        match &mut self.open {
            Some(open) if is_own_key && key == "url" => {
                let url = scalar(value).ok_or_else(|| unsupported(value))?;
                open.entry.url = url.to_owned();
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits a line into its key and value.
fn key(content: &str) -> Option<(&str, &str)> {
    if content.starts_with(['"', '\'']) {
        let (key, rest) = unquoted(content)?;
        let value = rest.strip_prefix(':')?;
        return (value.is_empty() || value.starts_with(' ')).then(|| (key, value.trim_start()));
    }
    if content.starts_with(['{', '[', '|', '>', '#', '-']) {
        return None;
    }
    match content.split_once(": ") {
        Some((key, value)) if !key.contains(" #") => Some((key.trim_end(), value.trim_start())),
        _ => content.strip_suffix(':').map(|key| (key, "")),
    }
}

/// Whether a value ends on the same line.
fn is_closed(value: &str) -> bool {
    match value.chars().next() {
        Some('{' | '[') => depth(value) == 0,
        Some('"' | '\'') => ends_quoted(value),
        _ => true,
    }
}

/// Whether a value is a closed quoted string, with at most a comment behind it.
fn ends_quoted(value: &str) -> bool {
    let mut letters = value.char_indices();
    let Some((_, quote)) = letters.next() else {
        return false;
    };
    let mut letters = letters.peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && quote == '"' {
            letters.next();
        } else if letter == quote {
            if quote == '\'' && letters.next_if(|(_, next)| *next == quote).is_some() {
                continue;
            }
            let rest = value[at + 1..].trim_start();
            return rest.is_empty() || rest.starts_with('#');
        }
    }
    false
}

/// A string without quotes and comment.
fn scalar(value: &str) -> Option<&str> {
    if value.starts_with(['"', '\'']) {
        return unquoted(value).map(|(text, _)| text);
    }
    let value = value.split(" #").next().unwrap_or_default().trim_end();
    (!value.is_empty() && !value.starts_with(['{', '[', '|', '>', '@', '`'])).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_however_they_are_indented() {
        let text = "\
---
# all of it
http:
  routers:
    all:
      rule: \"Host(`a`) && PathPrefix(`/x`)\" # one
      entryPoints: [web, 'more']
      tls: {}
      service: app
  services:
    app:
      loadBalancer:
        healthCheck:
          path: /health
        servers:
        - url: \"http://10.0.0.11:8080\"
          # half of it
          weight: 1

        # the other one
        - weight: 2
          url: http://10.0.0.12:8080 # two
    \"other\":
      loadBalancer:
        servers:
          -
            url: 'http://10.0.0.11:8080'
    both:
      weighted:
        services:
          - name: app
tls:
  certificates:
    - certFile: |
        http:
        - url: x
      keyFile: /x
";
        let found = entries(text).expect("understood");
        let seen: Vec<_> = found
            .iter()
            .map(|it| (it.service.as_str(), it.url.as_str(), it.lines.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                ("app", "http://10.0.0.11:8080", 15..18),
                ("app", "http://10.0.0.12:8080", 20..22),
                ("other", "http://10.0.0.11:8080", 25..27),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        let servers = "http:\n  services:\n    app:\n      loadBalancer:\n        servers:\n";
        for (text, said) in [
            ("http: {services: {}}\n", "line 1: a value behind `http:`"),
            ("http:\n  services: &all\n", "line 2: `&all`"),
            ("http:\n  services:\n    <<: *all\n", "line 3: `<<: *all`"),
            ("http:\n\tservices:\n", "line 2: tabs"),
            ("a: 1\n---\nb: 2\n", "line 2: several documents"),
            ("a: \"x\n  y\"\n", "line 1: a value over several lines"),
            ("a: x\n  y\n", "line 2: a value over several lines"),
            ("a: [x,\n  y]\n", "line 1: a value over several lines"),
            ("a\n", "line 1: `a`"),
            (
                &format!("{servers}          - {{url: x}}\n"),
                "line 6: `{url: x}`",
            ),
            (
                &format!("{servers}          - url: \"a\\x\"\n"),
                "line 6: `\"a\\x\"`",
            ),
            (&format!("{servers}          - *one\n"), "line 6: `*one`"),
        ] {
            let told = entries(text).expect_err(text);
            assert!(told.contains(said), "{text}: {told}");
        }
    }
}
