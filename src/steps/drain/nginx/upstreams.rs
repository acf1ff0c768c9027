//! Parses the servers of upstreams in an nginx configuration file, and adds or removes `down`.

use std::ops::Range;

/// A `server` directive of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) upstream: String,
    /// Its index among the servers with this address in its upstream.
    pub(super) number: usize,
    /// Its address and parameters, without quotes.
    pub(super) words: Vec<String>,
    /// The offset of the end of its last word.
    end: usize,
    /// The range of the word `down` and the space before it.
    down: Option<Range<usize>>,
}

impl Server {
    pub(super) fn address(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }
}

/// Adds `down` to these servers of the text, unless they are down already.
pub(super) fn take_down(text: &str, servers: &[&Server]) -> String {
    let mut text = text.to_owned();
    for server in servers.iter().rev().filter(|it| !it.is_down()) {
        text.insert_str(server.end, " down");
    }
    text
}

/// Removes `down` from these servers of the text.
pub(super) fn put_back(text: &str, servers: &[&Server]) -> String {
    let mut text = text.to_owned();
    for down in servers.iter().rev().filter_map(|it| it.down.clone()) {
        text.replace_range(down, "");
    }
    text
}

/// All servers of all upstreams, in file order.
///
/// # Errors
/// The line that cannot be parsed, and why.
pub(super) fn servers(text: &str) -> Result<Vec<Server>, String> {
    let mut found: Vec<Server> = Vec::new();
    // The open blocks: the name of an upstream, or `None` for other blocks.
    let mut blocks: Vec<Option<String>> = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    let mut rest = Tokens { text, at: 0 };
    while let Some((at, token)) = rest.next()? {
        let line = || line_of(text, at);
        match token {
            Token::Word(word) => words.push(word),
            Token::Opens => {
                let first = words.first().map_or("", |it| it.value.as_str());
                if first.ends_with("_by_lua_block") {
                    return Err(format!("line {}: Lua code is not supported", line()));
                }
                let name = (first == "upstream").then(|| words.get(1)).flatten();
                blocks.push(name.map(|it| it.value.clone()));
                words.clear();
            }
            Token::Closes => {
                if !words.is_empty() || blocks.pop().is_none() {
                    return Err(format!("line {}: unexpected `}}`", line()));
                }
            }
            Token::Ends => {
                if let Some(Some(upstream)) = blocks.last() {
                    let server = server(&words, upstream, &found)
                        .map_err(|cause| format!("line {}: {cause}", line()))?;
                    found.extend(server);
                }
                words.clear();
            }
        }
    }
    match (blocks.is_empty(), words.is_empty()) {
        (true, true) => Ok(found),
        (false, _) => Err("unexpected end of file: a block is not closed".to_owned()),
        (true, false) => Err("unexpected end of file: `;` is missing".to_owned()),
    }
}

/// Parses a directive of an upstream; `None` if it is not a `server`.
fn server(words: &[Word], upstream: &str, found: &[Server]) -> Result<Option<Server>, String> {
    let Some((directive, words)) = words.split_first() else {
        return Ok(None);
    };
    match directive.value.as_str() {
        "server" => {}
        "include" => {
            return Err(format!(
                "upstream {upstream} has an `include`, which is not supported: not all of its servers are in this file"
            ));
        }
        _ => return Ok(None),
    }
    if words.iter().any(|it| it.is_special) {
        return Err("`$` and `\\` are not supported in a server".to_owned());
    }
    let (Some(address), Some(last)) = (words.first(), words.last()) else {
        return Err("a server has no address".to_owned());
    };
    let is_same = |it: &&Server| it.upstream == upstream && it.address() == address.value;
    let mut pairs = words.windows(2);
    let down = pairs.find(|it| it[1].value == "down");
    let down = down.map(|it| it[0].range.end..it[1].range.end);
    Ok(Some(Server {
        upstream: upstream.to_owned(),
        number: found.iter().filter(is_same).count(),
        words: words.iter().map(|it| it.value.clone()).collect(),
        end: last.range.end,
        down,
    }))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at]
        .iter()
        .filter(|it| **it == b'\n')
        .count()
        + 1
}

struct Word {
    value: String,
    range: Range<usize>,
    /// Whether it contains a variable or an escape.
    is_special: bool,
}

enum Token {
    Word(Word),
    Ends,
    Opens,
    Closes,
}

/// nginx's lexer: quotes and `#` are special only at the beginning of a word.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Result<Option<(usize, Token)>, String> {
        loop {
            let begin = self.at;
            let Some(byte) = self.peek() else {
                return Ok(None);
            };
            self.at += 1;
            let token = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'#' => {
                    let length = self.text[self.at..].find('\n');
                    self.at = length.map_or(self.text.len(), |it| self.at + it);
                    continue;
                }
                b';' => Token::Ends,
                b'{' => Token::Opens,
                b'}' => Token::Closes,
                b'"' | b'\'' => Token::Word(self.quoted(byte)?),
                _ => {
                    self.at = begin;
                    Token::Word(self.word())
                }
            };
            return Ok(Some((begin, token)));
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<Word, String> {
        let begin = self.at - 1;
        let line = line_of(self.text, begin);
        loop {
            match self.peek() {
                None => return Err(format!("line {line}: unterminated quote")),
                Some(b'\\') => self.at += 2,
                Some(byte) if byte == quote => break,
                Some(_) => self.at += 1,
            }
        }
        let value = self.text[begin + 1..self.at].to_owned();
        self.at += 1;
        match self.peek() {
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(Word {
                is_special: value.contains(['\\', '$']),
                value,
                range: begin..self.at,
            }),
            Some(_) => Err(format!(
                "line {line}: unexpected text after a quoted string"
            )),
        }
    }

    fn word(&mut self) -> Word {
        let begin = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b';' => break,
                b'\\' => self.at += 1,
                b'$' if self.text[self.at..].starts_with("${") => self.at += 1,
                b'{' => break,
                _ => {}
            }
            self.at += 1;
        }
        self.at = self.at.min(self.text.len());
        let value = self.text[begin..self.at].to_owned();
        Word {
            is_special: value.contains(['\\', '$']),
            value,
            range: begin..self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(servers: &'a [Server], address: &str) -> Vec<&'a Server> {
        servers
            .iter()
            .filter(|it| it.address() == address)
            .collect()
    }

    #[test]
    fn the_word_is_put_in_and_taken_out_again_byte_for_byte() {
        let text = "\
# server a:1; is a comment\n\
map $uri $x { default \"server a:1;\"; ~^/\\{ 1; }\n\
upstream web {\n\tleast_conn;\n    server a:1  weight=2 # two\n  ;server b:1;\r\n  server \"a:1\" backup;server a:1 down;\n}\n\
upstream 'other' { server a:1; keepalive 8; }\n\
server { listen 80; location ~ \"^/${x}/a{1}\" { proxy_pass http://web; } }\n";
        let found = servers(text).expect("understood");
        let ours = of(&found, "a:1");
        let seen: Vec<_> = ours
            .iter()
            .map(|it| (it.upstream.as_str(), it.number))
            .collect();
        assert_eq!(seen, [("web", 0), ("web", 1), ("web", 2), ("other", 0)]);
        let out = take_down(text, &ours);
        assert!(out.contains("server a:1  weight=2 down # two\n  ;"));
        assert!(out.contains("server \"a:1\" backup down;server a:1 down;"));
        assert!(out.contains("upstream 'other' { server a:1 down; keepalive"));
        let found = servers(&out).expect("understood");
        let mut ours = of(&found, "a:1");
        assert!(ours.iter().all(|it| it.is_down()));
        ours.retain(|it| (it.upstream.as_str(), it.number) != ("web", 2));
        assert_eq!(put_back(&out, &ours), text);
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        for (text, said) in [
            (
                "upstream a {\n include x;\n}",
                "line 2: upstream a has an `include`",
            ),
            ("upstream a { server b:1; ", "a block is not closed"),
            ("}\n", "line 1: unexpected `}`"),
            ("upstream a { server \"b:1; }", "line 1: unterminated quote"),
            (
                "upstream a { server \"b:1\"x; }",
                "line 1: unexpected text after a quoted",
            ),
            (
                "upstream a {\n\nserver $b; }",
                "line 3: `$` and `\\` are not supported",
            ),
            (
                "upstream a { server b\\:1; }",
                "line 1: `$` and `\\` are not supported",
            ),
            ("upstream a { server; }", "a server has no address"),
            ("worker_processes 2", "`;` is missing"),
            ("access_by_lua_block { x = '}' }", "line 1: Lua code"),
        ] {
            let told = servers(text).expect_err(text);
            assert!(told.contains(said), "{text}: {told}");
        }
    }
}
