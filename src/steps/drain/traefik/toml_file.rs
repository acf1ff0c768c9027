//! Finds servers in TOML, each with its own header `[[http.services.NAME.loadBalancer.servers]]`.

use super::entry::{Entry, at_line, depth, leads_there, service, unquoted, unsupported};

/// All servers of all HTTP services.
///
/// # Errors
/// The line that is not supported, and why.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let mut walk = Walk::default();
    for (at, line) in text.lines().enumerate() {
        walk.line(at, line.trim())
            .map_err(|cause| at_line(at, cause))?;
    }
    walk.entries.extend(walk.open);
    Ok(walk.entries)
}

#[derive(Default)]
struct Walk {
    table: Vec<String>,
    /// The number of open brackets of an array.
    depth: i64,
    open: Option<Entry>,
    entries: Vec<Entry>,
}

impl Walk {
    fn line(&mut self, at: usize, line: &str) -> Result<(), String> {
        if line.contains("\"\"\"") || line.contains("'''") {
            return Err("a multi-line string is not supported".to_owned());
        }
        if self.depth == 0 && (line.is_empty() || line.starts_with('#')) {
            return Ok(());
        }
        let is_header = self.depth == 0 && line.starts_with('[');
        if is_header {
            self.header(at, line)?;
        } else if self.depth > 0 {
            self.depth += depth(line);
        } else {
            self.key(line)?;
        }
        if let Some(entry) = &mut self.open {
            entry.lines.end = at + 1;
        }
        Ok(())
    }

    fn header(&mut self, at: usize, line: &str) -> Result<(), String> {
        let is_list = line.starts_with("[[");
        let (opens, closes) = if is_list { ("[[", "]]") } else { ("[", "]") };
        let names = line.strip_prefix(opens).and_then(names);
        let (names, rest) = names.ok_or_else(|| unsupported(line))?;
        let rest = rest.strip_prefix(closes).map(str::trim_start);
        if rest.is_none_or(|it| !it.is_empty() && !it.starts_with('#')) {
            return Err(unsupported(line));
        }
        self.entries.extend(self.open.take());
        let is_inside = names.len() > 5 && service(&names[..5]).is_some();
        match service(&names) {
            Some(service) if is_list => {
                self.open = Some(Entry {
                    service,
                    url: String::new(),
                    lines: at..at + 1,
                });
            }
            None if !(is_inside || is_list && leads_there(&names)) => {}
            _ => return Err(unsupported(line)),
        }
        self.table = names;
        Ok(())
    }

    fn key(&mut self, line: &str) -> Result<(), String> {
        let (key, rest) = names(line).ok_or_else(|| unsupported(line))?;
        let value = rest.strip_prefix('=').ok_or_else(|| unsupported(line))?;
        let value = value.trim_start();
        let whole: Vec<&String> = self.table.iter().chain(&key).collect();
        if leads_there(&whole) {
            return Err(format!(
                "an inline value of {} is not supported: use table headers",
                key.join(".")
            ));
        }
        self.depth = depth(value);
        if let Some(entry) = &mut self.open
            && key == ["url"]
        {
            let url = unquoted(value).ok_or_else(|| unsupported(value))?;
            url.0.clone_into(&mut entry.url);
        }
        Ok(())
    }
}

/// Splits a line into a dotted key and the rest.
fn names(text: &str) -> Option<(Vec<String>, &str)> {
    let (mut names, mut rest) = (Vec::new(), text.trim_start());
    loop {
        let (name, after) = match rest.starts_with(['"', '\'']) {
            true => unquoted(rest)?,
            false => {
                let is_bare = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
                let end = rest.find(|it| !is_bare(it)).unwrap_or(rest.len());
                (end > 0).then(|| rest.split_at(end))?
            }
        };
        names.push(name.to_owned());
        let after = after.trim_start();
        match after.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None => return Some((names, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_with_all_their_lines() {
        let text = "\
# all of it
[http.routers.all]
  rule = \"Host(`a`)\"
  entryPoints = [
    \"web\", # [
  ]
[http.services.app.loadBalancer.healthCheck]
  path = '/health'
[[http.services.app.loadBalancer.servers]]
  # half of it
  url = \"http://10.0.0.11:8080\" # one
  weight = 1

# the other one
[[ http . services.\"app\".loadBalancer.servers ]]
  weight = 2
  url = 'http://10.0.0.12:8080'
[tls.stores]
";
        let found = entries(text).expect("understood");
        let seen: Vec<_> = found
            .iter()
            .map(|it| (it.service.as_str(), it.url.as_str(), it.lines.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                ("app", "http://10.0.0.11:8080", 8..12),
                ("app", "http://10.0.0.12:8080", 14..17),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        for (text, said) in [
            (
                "http = {services = {}}\n",
                "line 1: an inline value of http is",
            ),
            (
                "[http.services]\napp.loadBalancer = {}\n",
                "line 2: an inline value of app.loadBalancer",
            ),
            (
                "[http.services.app.loadBalancer]\nservers = [{url = \"x\"}]\n",
                "line 2: an inline value of servers",
            ),
            (
                "[http.services.app.loadBalancer.servers]\n",
                "line 1: `[http.services.app",
            ),
            ("[[http.services]]\n", "line 1: `[[http.services]]`"),
            (
                "[[http.services.a.loadBalancer.servers]]\nurl = \"a\\x\"\n",
                "line 2: `\"a\\x\"`",
            ),
            (
                "[[http.services.a.loadBalancer.servers]]\n[http.services.a.loadBalancer.servers.b]\n",
                "line 2: `[http",
            ),
            ("a = \"\"\"\n", "line 1: a multi-line string"),
            ("[http\n", "line 1: `[http`"),
            ("http\n", "line 1: `http`"),
        ] {
            let told = entries(text).expect_err(text);
            assert!(told.contains(said), "{text}: {told}");
        }
    }
}
